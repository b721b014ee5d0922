from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ucs.methods.clusters.profiles import composition_axes, group_by_composition


def kinds_of_nuclei(n=120, n_genes=400, *, depth=60, seed=0):
    """Counts of nuclei of three kinds, each with ten genes of its own among many, and which kind each is."""
    random = np.random.default_rng(seed)
    shares = np.tile(random.lognormal(0, 1, n_genes), (3, 1))
    for k in range(3):
        shares[k, 10 * k : 10 * k + 10] *= 12
    shares /= shares.sum(axis=1, keepdims=True)
    kind = random.integers(0, 3, n)
    return sparse.csr_matrix(np.stack([random.multinomial(depth, shares[k]) for k in kind]).astype(float)), kind


def test_axes_are_those_of_correspondence_analysis():
    counts, _ = kinds_of_nuclei(60, 50)
    dense = counts.toarray()
    expected = np.outer(dense.sum(axis=1), dense.sum(axis=0)) / dense.sum()
    of_gene = dense.sum(axis=0)
    variance = np.outer(dense.sum(axis=1), of_gene + of_gene.mean()) / dense.sum()
    residuals = (dense - expected) / np.sqrt(variance)
    left, length, _ = np.linalg.svd(residuals)
    made = composition_axes(counts, 2, np.random.default_rng(0))
    assert made.shape == (60, 2)
    # Up to their signs.
    np.testing.assert_allclose(np.abs(made), np.abs(left[:, :2] * length[:2]), atol=1e-3 * length[0])


def test_kinds_among_many_genes_are_grouped():
    counts, kind = kinds_of_nuclei()
    group = group_by_composition(counts, 3, np.random.default_rng(0))
    right = sum(np.bincount(kind[group == g]).max(initial=0) for g in range(3))
    assert right > 0.95 * len(kind)


def test_order_of_genes_does_not_matter():
    counts, _ = kinds_of_nuclei()
    other = counts[:, np.random.default_rng(1).permutation(counts.shape[1])]
    one, again = (group_by_composition(c, 4, np.random.default_rng(0)) for c in (counts, other))
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (2, 3), (50, 2)])
def test_few_genes_or_nuclei(shape):
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(3, shape) + 1.0)
    group = group_by_composition(counts, 4, np.random.default_rng(0))
    assert group.shape == (shape[0],)
    assert set(group) <= set(range(4))


def test_nuclei_that_are_all_alike():
    group = group_by_composition(sparse.csr_matrix(np.ones((30, 5))), 3, np.random.default_rng(0))
    assert group.shape == (30,)
