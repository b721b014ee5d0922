from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ucs.methods.cell_types import types_by_markers, types_by_profiles


@pytest.fixture
def made():
    """Nuclei of three types, 40 genes, 4 markers each; the first gene is abundant everywhere."""
    random = np.random.default_rng(0)
    level = random.gamma(1.0, 1.0, 40)
    level[0] = 40
    is_marker = np.zeros((3, 40), dtype=bool)
    for k in range(3):
        is_marker[k, 1 + 4 * k : 5 + 4 * k] = True
    is_marker[2, 0] = True
    level[1:13] = 0.7
    share = level * np.where(is_marker, 10, 1)
    share /= share.sum(axis=1, keepdims=True)
    types = random.integers(0, 3, 200)
    counts = np.array([random.multinomial(60, share[k]) for k in types])
    return csr_matrix(counts), is_marker, share, types


def test_markers(made):
    counts, is_marker, _, types = made
    probability = types_by_markers(counts, is_marker)
    assert probability.shape == (200, 4)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert (probability.argmax(axis=1) == types).mean() > 0.9


def test_without_a_gene_that_is_no_marker(made):
    counts, is_marker, _, types = made
    marks = is_marker.any(axis=0)
    probability = types_by_markers(counts[:, marks].tocsr(), is_marker[:, marks])
    assert np.isfinite(probability).all()
    assert (probability.argmax(axis=1) == types).mean() > 0.9


def test_profiles_are_those_of_a_plain_sum(made):
    counts, _, share, types = made
    probability = types_by_profiles(counts, 7 * share)
    mixed = 0.9 * share + 0.1 * share.mean(axis=0)
    mixed = 0.999 * mixed + 0.001 / 40
    log = (counts.toarray()[:, None, :] * np.log(mixed)).sum(axis=2)
    expected = np.exp(log) / np.exp(log).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probability, expected, atol=1e-12)
    assert (probability.argmax(axis=1) == types).mean() > 0.97


def test_rows_without_transcripts(made):
    counts, is_marker, share, _ = made
    counts = csr_matrix(np.vstack([counts.toarray(), np.zeros(40, dtype=int)]))
    np.testing.assert_allclose(types_by_profiles(counts, share)[-1], 1 / 3)
    assert np.isfinite(types_by_markers(counts, is_marker)).all()
    assert np.isfinite(types_by_markers(csr_matrix((3, 40)), is_marker)).all()
