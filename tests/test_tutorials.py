"""The tutorials run from the first line to the last."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.py"))


def test_there_are_tutorials():
    assert TUTORIALS


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(tutorial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("squidpy")
    pytest.importorskip("spatialdata_plot")
    plt.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(tutorial))
    plt.close("all")
