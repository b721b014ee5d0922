from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from ucs._evaluation.detection import found_together
from ucs._evaluation.rasters import CellRaster
from ucs._evaluation.tissue import Tissue
from ucs.metrics import expand_nuclei, spurious_coexpression
from ucs.metrics._spurious import CountsByHalf, _cooccurrence, _exclusive_pairs


def tissue_tables(n=400, seed=0, mixing=0.0, depth=1.0):
    """Two types with ten genes of their own and ten common ones, 400 x 400 um; nuclei and cells of one composition."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    means = np.full((n, 30), 0.5)
    means[np.arange(n)[:, None], 10 * kind[:, None] + np.arange(10)] = 2.0
    means[np.arange(n)[:, None], 10 * (1 - kind[:, None]) + np.arange(10)] = 0.02
    positions = rng.uniform(0, 400, (n, 2))
    names = pd.DataFrame(index=[f"G{k}" for k in range(30)])
    nuclei = AnnData(rng.poisson(means), var=names, obsm={"spatial": positions})
    with_neighbours = means + mixing * means[rng.permutation(n)]
    cells = AnnData(rng.poisson(2 * depth * with_neighbours), var=names, obsm={"spatial": positions})
    return cells, nuclei


def test_cells_of_one_composition_with_their_nuclei_have_no_excess():
    for seed in range(3):
        found = spurious_coexpression(*tissue_tables(seed=seed))
        assert abs(found.excess) < 0.05
        assert found.cells < 0.4  # exclusive genes hardly meet


def test_mixing_shows_and_more_mixing_more():
    scores = [spurious_coexpression(*tissue_tables(mixing=mixing)).excess for mixing in (0, 0.2, 0.5, 1)]
    assert scores == sorted(scores)
    assert scores[1] > 0.1
    assert scores[3] > 0.4


def test_depth_alone_does_not_show():
    shallow, deep = (spurious_coexpression(*tissue_tables(depth=depth)) for depth in (0.7, 4))
    assert abs(deep.excess - shallow.excess) < 0.05


def test_genes_of_the_cytoplasm_do_not_count_against_cells():
    cells, nuclei = tissue_tables()
    rng = np.random.default_rng(1)
    cells.X[:, ::3] += rng.poisson(4 * cells.X[:, ::3])  # far more of some genes, where they are anyway
    assert abs(spurious_coexpression(cells, nuclei).excess) < 0.06


def test_nuclei_against_themselves_have_none():
    _, nuclei = tissue_tables()
    found = spurious_coexpression(nuclei, nuclei)
    assert found.excess == 0
    assert found.n_pairs <= 1000
    totals = np.asarray(nuclei.X.sum(axis=1)).ravel()
    assert found.depth == np.quantile(totals, 0.25)


def test_pairs_and_sums_equal_loops():
    rng = np.random.default_rng(4)
    counts = rng.poisson(0.8, (60, 7))
    counts[:30, 0] = counts[30:, 1] = counts[::2, 2] = counts[1::2, 3] = 0
    matrix = sparse.csr_array(counts.astype(float))
    together = (counts > 0).T.astype(int) @ (counts > 0)
    np.testing.assert_allclose(found_together((matrix > 0).astype(float)), together)
    scores = {}
    for a in range(7):
        for b in range(a + 1, 7):
            expected = together[a, a] * together[b, b] / 60
            if expected >= 1:
                scores[a, b] = (together[a, b] - expected) / np.sqrt(expected)
    best = [pair for pair in sorted(scores, key=scores.get)[:3] if scores[pair] <= -1]
    assert best
    first, second = _exclusive_pairs(matrix, 3)
    assert [scores[pair] for pair in zip(first, second, strict=True)] == pytest.approx([scores[pair] for pair in best])
    half = np.arange(60) % 2
    met, by_chance = _cooccurrence(CountsByHalf(matrix, half), 1, (first, second), 1e-9)
    # At next to no depth the chance to be found is x k / N.
    q = 1e-9 * counts[half == 1] / counts[half == 1].sum(axis=1, keepdims=True)
    assert met == pytest.approx(sum((q[:, a] * q[:, b]).sum() for a, b in zip(first, second, strict=True)), rel=1e-3)
    expected = sum(q[:, a].sum() * q[:, b].sum() / len(q) for a, b in zip(first, second, strict=True))
    assert by_chance == pytest.approx(expected, rel=1e-3)


def test_true_cells_look_cleaner_than_wide_expansions(simulated):
    """The order that truth demands, on simulated tissue and without using the truth."""
    tissue = Tissue(simulated, resolution=1.0)
    nuclei, truth = tissue.cells("nucleus_labels"), tissue.cells("true_cells")
    of_nuclei = tissue.table_of(nuclei)

    def excess(labels):
        return spurious_coexpression(tissue.table_of(CellRaster(labels, nuclei.ids, 1.0)), of_nuclei).excess

    wide = excess(expand_nuclei(nuclei.labels, 12.0))
    true = spurious_coexpression(tissue.table_of(truth), of_nuclei).excess
    assert true < wide
    assert excess(nuclei.labels) == 0
    by_key = spurious_coexpression("true_cells", "nucleus_labels", sdata=tissue)
    assert by_key.excess == pytest.approx(true)


def test_bad_input():
    cells, nuclei = tissue_tables()
    with pytest.raises(ValueError, match=r"table has no obsm\['spatial'\]"):
        spurious_coexpression(AnnData(cells.X, var=cells.var), nuclei)
    other = cells.copy()
    other.var_names = [f"H{k}" for k in range(30)]
    with pytest.raises(ValueError, match="share 0 genes"):
        spurious_coexpression(other, nuclei)
    with pytest.raises(ValueError, match="A half of the tissue has .* nuclei, 20 are needed"):
        spurious_coexpression(cells, nuclei[:15])
    with pytest.raises(ValueError, match="n_pairs=0"):
        spurious_coexpression(cells, nuclei, n_pairs=0)
    with pytest.raises(ValueError, match="depth=0"):
        spurious_coexpression(cells, nuclei, depth=0)


def test_genes_in_another_order_are_brought_together():
    cells, nuclei = tissue_tables(mixing=0.5)
    expected = spurious_coexpression(cells, nuclei)
    found = spurious_coexpression(cells, nuclei[:, ::-1])
    assert found.excess == pytest.approx(expected.excess, abs=1e-12)
