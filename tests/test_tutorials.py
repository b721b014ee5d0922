"""The tutorials run from the first line to the last."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.py"))
IN_GATE = ("samples_and_cores",)


def test_there_are_tutorials():
    assert {path.stem for path in TUTORIALS} > set(IN_GATE)


def cases():
    """The tutorials; all but a short one on demand, as all of them are run whenever the documentation is built."""
    for path in TUTORIALS:
        yield pytest.param(path, id=path.stem, marks=[] if path.stem in IN_GATE else pytest.mark.slow)


@pytest.mark.parametrize("tutorial", cases())
def test_tutorial_runs(tutorial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("squidpy")
    pytest.importorskip("spatialdata_plot")
    plt.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(tutorial))
    plt.close("all")
