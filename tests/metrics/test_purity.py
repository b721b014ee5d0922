from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from ucs.metrics import negative_marker_purity

GENES = list("ABCDEFGHIJ")


def reference_cells(seed=0, n=40):
    """Type x has A to D, type y has E to H, both have I and J."""
    rng = np.random.default_rng(seed)
    means = np.array([[3.0] * 4 + [0] * 4 + [2, 2], [0] * 4 + [3.0] * 4 + [2, 2]])
    counts = rng.poisson(np.repeat(means, n, axis=0))
    obs = pd.DataFrame({"type": np.repeat(["x", "y"], n)}, index=[f"c{k}" for k in range(2 * n)])
    return AnnData(counts.astype(float), obs=obs, var=pd.DataFrame(index=GENES))


def slow_purity(table, types, reference, reference_types, limit):
    """The definition with loops over dense frames."""

    def frames(counts, labels):
        mean = counts.groupby(labels).mean()
        return mean / mean.sum(axis=0), (counts > 0).groupby(labels).mean()

    scores = []
    for observed, expected in zip(frames(table, types), frames(reference, reference_types), strict=True):
        excess = [
            (observed.loc[t, g], expected.loc[t, g])
            for t in expected.index
            for g in expected.columns
            if expected.loc[t, g] < limit and np.isfinite(observed.loc[t, g])
        ]
        scores.append(1 - max(0, np.mean([o for o, _ in excess]) - np.mean([e for _, e in excess])))
    return scores


@pytest.mark.parametrize("seed", range(3))
def test_purity_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    reference, table = reference_cells(), reference_cells(seed + 1)
    table.X = table.X + table.X[::-1] * (rng.random((80, 1)) < 0.4)
    table.X[:, 1] = 0  # a gene without counts in the table
    found = negative_marker_purity(table, "type", reference=reference, type_key="type")
    types = table.obs["type"].to_numpy()
    expected = slow_purity(table.to_df(), types, reference.to_df(), reference.obs["type"].to_numpy(), 0.005)
    assert found.reads == pytest.approx(expected[0])
    assert found.cells == pytest.approx(expected[1])


def test_by_hand():
    """Of the transcripts of A, 8 of 10 are in x and 2 in y, where the reference has none."""
    reference = pd.DataFrame({"A": [10.0, 0.0], "B": [0.0, 30.0]}, index=["x", "y"])
    counts = pd.DataFrame({"A": [8, 0, 2, 0], "B": [0, 0, 5, 5]})
    found = negative_marker_purity(counts, ["x", "x", "y", "y"], reference=reference, min_cells=2)
    assert found.reads == pytest.approx(1 - (0.2 + 0.0) / 2)
    assert np.isnan(found.cells)
    assert found.per_type["reads"].to_dict() == {"x": 1.0, "y": pytest.approx(0.8)}
    assert found.per_type[["n_cells", "n_genes"]].to_numpy().tolist() == [[2, 1], [2, 1]]


def test_negative_markers_in_place_of_a_reference():
    counts = pd.DataFrame({"A": [8, 0, 2, 0], "B": [0, 0, 5, 5]})
    types = ["x", "x", "y", "y"]
    found = negative_marker_purity(counts, types, negative_markers={"x": ["B"], "y": ["A"]}, min_cells=2)
    assert found.reads == pytest.approx(0.9)
    assert found.cells == pytest.approx(1 - (0 + 0.5) / 2)
    wide = pd.DataFrame([[0, 1], [1, 0]], index=["x", "y"], columns=["A", "B"])
    assert negative_marker_purity(counts, types, negative_markers=wide, min_cells=2).reads == found.reads


def test_clean_cells_are_pure_and_contamination_shows():
    reference = reference_cells()
    clean, mixed = reference_cells(5), reference_cells(5)
    mixed.X = clean.X + clean.X[::-1]
    scores = [negative_marker_purity(c, "type", reference=reference, type_key="type") for c in (clean, mixed)]
    assert scores[0].reads == scores[0].cells == 1
    assert scores[1].reads == pytest.approx(0.5, abs=0.05)
    assert scores[1].cells < 0.2


def test_types_can_be_transferred():
    reference, table = reference_cells(), reference_cells(3)
    given = negative_marker_purity(table, "type", reference=reference, type_key="type")
    found = negative_marker_purity(table, reference=reference, type_key="type")
    assert found.reads == pytest.approx(given.reads, abs=0.02)


def test_bad_input():
    reference, table = reference_cells(), reference_cells(3)
    with pytest.raises(TypeError, match="either reference= or negative_markers="):
        negative_marker_purity(table, "type")
    with pytest.raises(ValueError, match="0 types have 100 cells or more .* 'x \\(40\\)'"):
        negative_marker_purity(table, "type", reference=reference, type_key="type", min_cells=100)
    with pytest.raises(ValueError, match="1 types have 10 cells or more"):
        negative_marker_purity(table, ["x"] * 40 + ["z"] * 40, reference=reference, type_key="type")
    with pytest.raises(ValueError, match="no negative pair"):
        negative_marker_purity(table, "type", reference=pd.DataFrame(50.0, ["x", "y"], GENES))
    with pytest.raises(ValueError, match="Cell types are needed"):
        negative_marker_purity(table, negative_markers={"x": ["B"]})
