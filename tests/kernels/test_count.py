"""Counts per label, against a matrix that is filled one transcript after the other."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasters import random_map, random_nuclei
from scipy import sparse

from ucs._kernels import count
from ucs._kernels.count import count_in_labels, row_sums, split_columns, sum_entries


def by_hand(label, feature, number, n, n_features):
    out = np.zeros((n, n_features), dtype=np.int64)
    for c, f, k in zip(label, feature, number, strict=True):
        if c > 0:
            out[c - 1, f] += k
    return out


def assert_canonical(matrix):
    assert isinstance(matrix, sparse.csr_matrix)
    assert (matrix.data.dtype, matrix.indices.dtype, matrix.indptr.dtype) == (np.int32,) * 3
    assert (matrix.data > 0).all()
    for row in range(matrix.shape[0]):
        assert (np.diff(matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]) > 0).all()
    assert matrix.has_canonical_format
    assert len(matrix.data) == len(matrix.indices) == matrix.indptr[-1]


@given(st.data(), st.integers(0, 5), st.integers(1, 40), st.sampled_from([1, 3, 10**6]))
def test_sums_of_entries_are_those_by_hand(data, n, n_features, least):
    """In one pass over all labels, or in several over some of them."""

    def entries():
        m = data.draw(st.integers(0, 30))
        highs = (n, n_features - 1, 3)
        return tuple(data.draw(hnp.arrays(np.int32, m, elements=st.integers(0, high))) for high in highs)

    pieces = [entries() for _ in range(data.draw(st.integers(0, 3)))]
    with mock.patch.object(count, "_LEAST_ENTRIES", least):
        matrix = sum_entries(lambda: pieces, n, n_features)
    assert_canonical(matrix)
    together = [np.concatenate([piece[k] for piece in pieces] or [np.zeros(0, int)]) for k in range(3)]
    np.testing.assert_array_equal(matrix.toarray(), by_hand(*together, n, n_features))


@pytest.mark.parametrize("entries_at_once", [1, 50, 10**6])
@pytest.mark.parametrize("chunk", [None, 16, 100])
def test_counts_in_labels(entries_at_once, chunk, monkeypatch):
    """In memory and on disk, with many features and with few; few are looked through, of many those met are sorted."""
    monkeypatch.setattr(count, "ENTRIES_AT_ONCE", entries_at_once)
    monkeypatch.setattr(count, "_LEAST_ENTRIES", entries_at_once)
    labels = random_nuclei(1, (70, 50), 20)
    n = int(labels.max())
    raster = labels if chunk is None else zarr.create_array({}, data=labels, chunks=(chunk, chunk))
    for n_features in (3, 5000):
        transcripts = random_map(0, labels.shape, n_features, 3000)
        label = labels[transcripts.rows(), transcripts.column]
        matrix = count_in_labels(transcripts, raster, n)
        assert_canonical(matrix)
        expected = by_hand(label, transcripts.feature, transcripts.count, n, n_features)
        np.testing.assert_array_equal(matrix.toarray(), expected)
        assert matrix.sum() == transcripts.count[label > 0].sum() > 100
        np.testing.assert_array_equal(row_sums(matrix), expected.sum(axis=1))
        np.testing.assert_array_equal(row_sums(matrix, 2), expected[:, :2].sum(axis=1))


def test_no_transcripts_and_no_labels():
    transcripts = random_map(0, (5, 6), 4, 0)
    assert count_in_labels(transcripts, np.ones((5, 6), dtype=np.int32), 2).nnz == 0
    assert count_in_labels(random_map(0, (5, 6), 4, 9), np.zeros((5, 6), dtype=np.int32), 0).shape == (0, 4)


def test_bad_input():
    transcripts = random_map(0, (5, 6), 4, 50)
    with pytest.raises(ValueError, match=r"The labels have \(6, 5\) pixels, the transcripts lie on \(5, 6\)"):
        count_in_labels(transcripts, np.ones((6, 5), dtype=np.int32), 1)
    with pytest.raises(ValueError, match="within 0 and n = 1, but there is one of 2"):
        count_in_labels(transcripts, np.full((5, 6), 2, dtype=np.int32), 1)


@pytest.mark.parametrize("n", [0, 1, 4, 7])
def test_split_columns(n):
    dense = np.random.default_rng(n).integers(0, 3, (9, 7))
    first, others = split_columns(sparse.csr_matrix(dense), n)
    np.testing.assert_array_equal(first.toarray(), dense[:, :n])
    np.testing.assert_array_equal(others.toarray(), dense[:, n:])
    assert first.nnz == np.count_nonzero(dense[:, :n])
