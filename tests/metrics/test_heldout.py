from __future__ import annotations

import numpy as np
import pytest

import ucs
from ucs.metrics import Tissue, expand_nuclei, gene_halves, heldout_purity


@pytest.fixture(scope="module")
def sdata():
    return ucs.datasets.simulate(width_um=140, height_um=140, n_genes=60, seed=0)


def test_halves_are_of_equal_abundance_and_follow_the_seed():
    genes = [f"g{k}" for k in range(101)]
    weight = np.random.default_rng(0).lognormal(0, 1, 101)
    one, other = gene_halves(genes, weight, seed=1)
    assert sorted(one + other) == sorted(genes)
    assert abs(len(one) - len(other)) == 1
    share = weight[[int(name[1:]) for name in one]].sum() / weight.sum()
    assert share == pytest.approx(0.5, abs=0.06)
    assert gene_halves(genes, weight, seed=1) == (one, other)
    assert gene_halves(genes, weight, seed=2) != (one, other)


def test_too_few_genes_are_refused():
    with pytest.raises(ValueError, match="3 genes given: four are needed"):
        gene_halves(["A", "B", "C"])


def test_a_method_sees_one_half_and_is_measured_by_the_other(sdata):
    seen = []

    def grow(part):
        seen.append(set(Tissue(part, resolution=1.0).genes))
        return {str(um): expand_nuclei("nucleus_labels", um, sdata=part) for um in (1, 4, 12)}

    tissue = Tissue(sdata, resolution=1.0)
    table = heldout_purity(tissue, grow, nuclei_key="nucleus_labels", n_splits=2)
    assert [len(one) for one in seen] == [30] * 4
    assert seen[0] | seen[1] == seen[2] | seen[3] == set(tissue.genes)
    assert seen[0] != seen[2]
    assert list(table.index) == ["1", "4", "12"]
    assert table["capture"].is_monotonic_increasing
    assert table["spurious_coexpression"].idxmin() == "1"  # the wider two are alike within their error
    assert (table[["error_by_splits", "error_by_cells"]] > 0).all(axis=None)


def test_true_cells_add_little_to_nuclei(sdata):
    tissue = Tissue(sdata, resolution=1.0)
    row = heldout_purity(tissue, lambda part: part["true_cells"], nuclei_key="nucleus_labels", n_splits=1).loc["cells"]
    assert np.isnan(row["error_by_splits"])
    assert abs(row["spurious_excess"]) < 0.2
