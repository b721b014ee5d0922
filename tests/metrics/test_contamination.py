from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from ucs.metrics import neighbour_contamination

MARKERS = {"x": ["A", "B", "I"], "y": ["E", "F", "I"], "z": ["H"]}
GENES = list("ABCDEFGHI")


def tissue(seed, leak=0.0, n=150):
    """Cells of three types; a share of their transcripts comes from each cell within 12 um."""
    rng = np.random.default_rng(seed)
    types = rng.choice(["x", "y", "z"], n)
    means = {"x": [9, 9, 5, 5, 0, 0, 0, 0, 5], "y": [1, 0, 5, 5, 9, 9, 0, 0, 5], "z": [0, 0, 5, 5, 0, 0, 0, 9, 0]}
    counts = rng.poisson(np.array([means[one] for one in types])).astype(float)
    place = rng.uniform(0, 200, (n, 2))
    near = (np.linalg.norm(place[:, None] - place[None], axis=-1) < 12) & ~np.eye(n, dtype=bool)
    counts = counts + rng.poisson(leak * near @ counts)
    table = AnnData(counts, obs=pd.DataFrame({"type": types}, index=[f"c{k}" for k in range(n)]))
    table.var_names, table.obsm["spatial"] = GENES, place
    return table


def slow(table, within, least):
    """The definition, pair by pair and cell by cell."""
    types, place, counts = table.obs["type"].to_numpy(), table.obsm["spatial"], table.to_df()
    rows = []
    for a in MARKERS:
        for b in MARKERS:
            genes = sorted(set(MARKERS[b]) - set(MARKERS[a]))
            shares = {True: [], False: []}
            for i in np.flatnonzero(types == a):
                beside = any(np.hypot(*(place[i] - place[j])) <= within for j in np.flatnonzero(types == b))
                shares[beside].append(counts.iloc[i][genes].sum() / counts.iloc[i].sum())
            if a != b and min(map(len, shares.values())) >= least:
                beside, apart = (np.mean(shares[key]) for key in (True, False))
                rows.append((a, b, beside, apart, beside - apart, len(shares[True]), len(shares[False])))
    return rows


def test_equals_the_definition():
    table = tissue(0, leak=0.1)
    found = neighbour_contamination(table, MARKERS, "type", within_um=15, min_cells=5)
    expected = slow(table, 15, 5)
    assert len(expected) == 6
    assert [tuple(row[:2]) for row in found.per_pair.to_numpy()] == [row[:2] for row in expected]
    np.testing.assert_allclose(found.per_pair.iloc[:, 2:].to_numpy(float), [row[2:] for row in expected])
    assert found.excess == pytest.approx(np.average([row[4] for row in expected], weights=[row[5] for row in expected]))


def test_it_grows_with_what_comes_from_neighbours():
    excess = [
        np.mean([neighbour_contamination(tissue(seed, leak), MARKERS, "type").excess for seed in range(4)])
        for leak in (0, 0.03, 0.1)
    ]
    assert abs(excess[0]) < 0.005
    assert excess[0] + 0.005 < excess[1] < excess[2] - 0.02


def test_cells_without_types_or_transcripts_do_not_count():
    table = tissue(1, leak=0.1)
    found = neighbour_contamination(table, MARKERS, "type", min_cells=5)
    more = AnnData(np.vstack([table.X, table.X[:5], np.zeros((5, 9))]))
    more.var_names = GENES
    types = [*table.obs["type"], *[None] * 5, *["x"] * 5]
    place = np.vstack([table.obsm["spatial"], table.obsm["spatial"][:5] + 1, np.full((5, 2), 999.0)])
    again = neighbour_contamination(more, MARKERS, types, positions=place, min_cells=5)
    pd.testing.assert_frame_equal(again.per_pair, found.per_pair)


def test_no_pair():
    assert np.isnan(neighbour_contamination(tissue(2), MARKERS, "type", min_cells=1000).excess)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": np.zeros((3, 2))}, r"shape \(3, 2\).*n_cells = 150"),
        ({"within_um": 0}, "within_um"),
        ({"min_cells": 0}, "min_cells"),
        ({"types": ["x"]}, "types has 1 entries"),
        ({"markers": {"x": ["A"]}}, "types"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        neighbour_contamination(tissue(0), **{"markers": MARKERS, "types": "type", **change})


def test_positions_are_needed():
    table = tissue(0)
    del table.obsm["spatial"]
    with pytest.raises(ValueError, match="positions="):
        neighbour_contamination(table, MARKERS, "type")
