from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from ucs._evaluation.detection import detection
from ucs.metrics import mecr

MARKERS = {"T": ["A", "B"], "tumour": ["C"], "fibroblast": ["B", "D"]}


def slow_mecr(table, markers):
    """Look at every pair of genes in every cell."""
    types = {gene: {t for t, genes in markers.items() if gene in genes} for gene in table}
    rates = {}
    for a, b in itertools.combinations([gene for gene in table if types[gene]], 2):
        if types[a] & types[b]:
            continue
        both = sum(x > 0 and y > 0 for x, y in zip(table[a], table[b], strict=True))
        either = sum(x > 0 or y > 0 for x, y in zip(table[a], table[b], strict=True))
        rates[a, b] = both / either if either else np.nan
    return rates


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int64, (6, 5), elements=st.integers(0, 2)))
def test_rates_equal_looking_at_every_cell(counts):
    table = pd.DataFrame(counts, columns=list("ABCDE"))
    expected = slow_mecr(table, MARKERS)
    found = mecr(table, MARKERS)
    assert [(p.gene_1, p.gene_2) for p in found.pairs.itertuples()] == list(expected)
    np.testing.assert_allclose(found.pairs["rate"], list(expected.values()))
    if np.isfinite(list(expected.values())).any():
        assert found.rate == pytest.approx(np.nanmean(list(expected.values())))
    else:
        assert np.isnan(found.rate)
    assert found.n_cells == 6


def test_by_hand_and_in_all_forms():
    table = pd.DataFrame({"A": [3, 1, 0, 0], "B": [0, 0, 0, 1], "C": [0, 2, 5, 0]}, index=list("wxyz"))
    expected = 1 / 3 / 2  # A and C: one cell of three; B and C never
    markers = {"T": ["A", "B"], "tumour": ["C"]}
    long = pd.DataFrame({"cell_type": ["T", "T", "tumour"], "gene": ["A", "B", "C"]})
    wide = pd.DataFrame([[1, 1, 0], [0, 0, 1]], index=["T", "tumour"], columns=list("ABC"))
    forms = [table, AnnData(table), AnnData(sparse.csr_matrix(table), var=pd.DataFrame(index=list("ABC")))]
    for form, given_markers in itertools.product(forms, [markers, long, wide, wide.astype(bool)]):
        assert mecr(form, given_markers).rate == pytest.approx(expected)


def test_at_one_depth_the_expectation_is_that_of_random_thinning():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (40, 6))
    table = pd.DataFrame(counts, columns=list("ABCDEF"))
    markers = {"x": ["A", "B"], "y": ["C"], "z": ["D"]}
    found = mecr(table, markers, depth=5)
    enough = counts[counts.sum(axis=1) >= 5]
    assert found.n_cells == len(enough)
    both, either = np.zeros(1), np.zeros(1)
    for _ in range(4000):
        kept = rng.binomial(enough, (5 / enough.sum(axis=1))[:, None]) > 0
        both += (kept[:, 0] & kept[:, 2]).sum()
        either += (kept[:, 0] | kept[:, 2]).sum()
    row = found.pairs.set_index(["gene_1", "gene_2"]).loc["A", "C"]
    assert row["n_both"] == pytest.approx(both.item() / 4000, rel=0.02)
    assert row["n_either"] == pytest.approx(either.item() / 4000, rel=0.02)


def test_depth_takes_out_what_more_transcripts_of_the_same_kind_do():
    """Twice as deep cells of the same composition: the plain rate rises, that at one depth stays."""
    rng = np.random.default_rng(1)
    means = rng.gamma(2.0, 0.5, (400, 8))
    shallow, deep = (pd.DataFrame(rng.poisson(k * means), columns=list("ABCDEFGH")) for k in (2, 8))
    markers = {"x": ["A", "B"], "y": ["C", "D"]}
    assert mecr(deep, markers).rate > 1.2 * mecr(shallow, markers).rate
    rates = [mecr(table, markers, depth=6).rate for table in (shallow, deep)]
    assert rates[0] == pytest.approx(rates[1], rel=0.1)


def test_mixing_cells_raises_the_rate():
    rng = np.random.default_rng(2)
    pure = np.zeros((100, 4), int)
    pure[:50, :2], pure[50:, 2:] = rng.poisson(3, (50, 2)), rng.poisson(3, (50, 2))
    mixed = pure + np.roll(pure, 50, axis=0) * (rng.random((100, 1)) < 0.3)
    markers = {"x": ["A", "B"], "y": ["C", "D"]}
    rates = [mecr(pd.DataFrame(c, columns=list("ABCD")), markers).rate for c in (pure, mixed)]
    assert rates[0] == 0
    assert 0.1 < rates[1] < 0.4


def test_detection_is_exact_at_its_ends():
    counts = sparse.csr_array(np.array([[3.0, 1.0, 0.0], [10.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    found = detection(counts, 4)  # the first cell has 4: it is kept as it is; the last has too few
    np.testing.assert_allclose(found.toarray()[0], [1, 1, 0])
    np.testing.assert_allclose(found.toarray()[1], [1 - 0.6**10, 0, 0])
    assert found.shape == (2, 3)
    np.testing.assert_array_equal(detection(counts).toarray(), counts.toarray() > 0)


def test_markers_of_a_reference():
    cells = pd.DataFrame({"A": [5, 3, 0, 0, 0, 0], "B": [0, 0, 4, 1, 0, 0], "C": [1, 1, 1, 1, 1, 1]})
    for k in range(7):
        cells[f"X{k}"] = 1
    reference = AnnData(cells, obs=pd.DataFrame({"type": list("aabbcc")}, index=cells.index.astype(str)))
    table = cells[["A", "B", *cells.columns[2:]]]
    found = mecr(table, reference=reference, type_key="type")
    assert found.pairs[["gene_1", "gene_2", "rate"]].to_numpy().tolist() == [["A", "B", 0.0]]


def test_bad_input(caplog):
    table = pd.DataFrame({"A": [3, 1], "B": [0, 1], "C": [0, 2]})
    with pytest.raises(TypeError, match="neither is given"):
        mecr(table)
    with pytest.raises(TypeError, match="both are given"):
        mecr(table, MARKERS, reference=table)
    with pytest.raises(ValueError, match="1 of 2 types have a marker among the 3 genes .* 1 of 2 markers: 'Z'"):
        mecr(table, {"x": ["A"], "y": ["Z"]})
    with pytest.raises(ValueError, match="No two markers are exclusive"):
        mecr(table, {"x": ["A", "B"], "y": ["B", "A"]})
    with pytest.raises(ValueError, match="No cell has depth=50"):
        mecr(table, {"x": ["A"], "y": ["B"]}, depth=50)
    with pytest.raises(ValueError, match="depth=-1"):
        mecr(table, {"x": ["A"], "y": ["B"]}, depth=-1)
    caplog.clear()
    mecr(table, {"x": ["A"], "y": ["B", "Z"], "none": ["Q"]})
    assert "2 of 4 markers are not in the table: 'Q', 'Z'" in caplog.text
    assert "1 of 3 types have no marker in the table: 'none'" in caplog.text
