"""Cells of simulated tissue are better than expanded nuclei; figures are in benchmarks/accuracy/RESULTS.md."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from calls import segment
from scenes import labels_of

import ucs
from ucs._read.sample import find_source, prepare


@pytest.mark.parametrize("method", ["pretrained", pytest.param("density", marks=pytest.mark.slow)])
def test_beats_every_expansion(method, monkeypatch):
    """Not by a hair."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    sys.modules.pop("benchmarks", None)  # another of that name may be installed
    tissue = ucs.datasets.simulate(width_um=200, height_um=200, seed=1)
    result = segment(tissue, method=method)
    from benchmarks.accuracy.__main__ import expansions, score, truth_on_grid

    sample = prepare(tissue, find_source(tissue, resolution=result["ucs_table"].uns["ucs"]["parameters"]["resolution"]))
    truth = truth_on_grid(tissue, sample)
    best = expansions(truth, tissue, sample)[0]
    ours = score("ucs", labels_of(result), truth, tissue, sample)
    assert ours["F1@0.5"] > best["F1@0.5"]
    assert ours["F1@0.7"] > best["F1@0.7"] + 0.15
    assert ours["transcript F1"] > best["transcript F1"] + 0.02
