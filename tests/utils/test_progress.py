from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from numba import njit
from tqdm import tqdm

from ucs._utils import progress
from ucs._utils.compiled import compile_seconds, where_kept
from ucs._utils.log import logger, to_terminal
from ucs._utils.progress import Stages


def run(stages: Stages) -> None:
    with stages.stage("total"), stages.stage("cells", unit="tile") as update:
        update(1, 2)
        update(2, 2)


def test_where_no_bar_can_be_drawn_a_stage_is_a_line(caplog, capfd):
    stages = Stages(progress=True)
    run(stages)
    assert [record.getMessage() for record in caplog.records] == ["cells: 0.0 s."]
    assert "tile" not in capfd.readouterr().err
    assert list(stages.seconds) == ["cells", "compile", "total"]


def test_without_progress_nothing_is_said(caplog, capfd):
    run(Stages(progress=False))
    assert caplog.records == []
    assert capfd.readouterr().err == ""


def test_a_bar_in_a_terminal(monkeypatch, capsys, caplog):
    monkeypatch.setattr(progress, "_bar", lambda: tqdm)
    run(Stages(progress=True))
    assert "cells" in capsys.readouterr().err
    assert caplog.records == []


@pytest.mark.parametrize(
    ("widgets", "kernel", "drawn"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_bars_of_a_notebook_need_widgets(monkeypatch, widgets, kernel, drawn):
    ipython = ModuleType("IPython")
    config = {"IPKernelApp": {}} if kernel else {}
    ipython.get_ipython = lambda: SimpleNamespace(config=config)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    of_notebook = ModuleType("tqdm.notebook")
    of_notebook.tqdm = object()
    monkeypatch.setitem(sys.modules, "tqdm.notebook", of_notebook)
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda _: object() if widgets else None)
    assert progress._bar() is (of_notebook.tqdm if drawn else None)


def test_compiling_is_no_part_of_a_stage(monkeypatch, caplog):
    compiled = iter([0.0, 0.0, 20.0, 20.0])  # at the starts of two stages, and at their ends
    monkeypatch.setattr(progress, "compile_seconds", lambda: next(compiled))
    stages = Stages(progress=True)
    run(stages)
    assert stages.seconds["compile"] == 20
    assert stages.seconds["cells"] == 0
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["cells: 0.0 s.", "Compiled for this machine: 20.0 s, kept for later runs."]


def test_compiling_is_timed_once_for_all_that_is_called():
    before = compile_seconds()

    @njit
    def inner(values):
        return values[0]

    @njit
    def outer(values):
        return inner(values) + 1

    assert outer(np.ones(2)) == 2
    compiled = compile_seconds()
    assert compiled > before
    outer(np.ones(3))
    assert compile_seconds() == compiled


def test_a_long_wait_is_announced_once(monkeypatch, caplog):
    monkeypatch.setattr("ucs._utils.compiled._WORTH_SAYING", compile_seconds())

    @njit
    def changed(values):
        return values + 1

    changed(1)
    changed(1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "Compiling for this machine: it takes about a minute, once."
    ]


def test_what_is_not_kept_is_said(monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/tmp/ucs-numba-1234")
    assert "name a lasting folder in NUMBA_CACHE_DIR" in where_kept()


def test_lines_of_the_command_line_are_in_its_words(capsys):
    with to_terminal(lambda message: message.replace("threshold=", "--threshold")):
        logger.warning("a lower %s gives larger cells", "threshold=")
    assert capsys.readouterr().err == "WARNING  a lower --threshold gives larger cells\n"
