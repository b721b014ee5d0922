"""Transcripts counted per label, into a sparse matrix, in bounded memory.

A first pass counts the entries of each label. Further passes, each for a range of labels, write the entries of the
range and sum equal ones label by label, in place. Beside the result, memory holds the entries of one range only.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.bands import bands
from ucs._kernels.entries import row_runs
from ucs._kernels.transcripts import ENTRIES_AT_ONCE
from ucs._utils.pages import own_pages
from ucs._utils.parallel import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from ucs._kernels.bands import Raster
    from ucs._kernels.transcripts import TranscriptMap

    Entries = tuple[NDArray, NDArray, NDArray]

__all__ = ["count_in_labels", "row_sums", "split_columns", "sum_entries"]

_LEAST_ENTRIES = 4_000_000  # of a range of labels: fewer take less memory than another pass is worth

MOST_RANGES = 5
"""Ranges of labels where labels are cheap to read again: each range is a pass over all labels."""


def count_in_labels(
    transcripts: TranscriptMap, labels: Raster, n: int, *, most_ranges: int = MOST_RANGES
) -> csr_matrix:
    """Return the counts of each feature in each label of a raster.

    Parameters
    ----------
    transcripts
        Map of transcripts.
    labels
        ``(h, w)`` ids 0..n on the same raster, 0 = none; in memory or on disk.
    n
        Number of labels.
    most_ranges
        See :func:`sum_entries`; labels are read again for each range.

    Returns
    -------
    ``(n, n_features)`` int32, label ``k + 1`` in row ``k``; sorted, without explicit zeros.

    Raises
    ------
    ValueError
        If the two rasters differ in shape, or a label is above ``n``.
    """
    if tuple(labels.shape) != tuple(transcripts.shape):
        msg = f"The labels have {labels.shape} pixels, the transcripts lie on {transcripts.shape}."
        raise ValueError(msg)
    entries = partial(_entries_by_band, transcripts, labels)
    return sum_entries(entries, n, transcripts.n_features, most_ranges=most_ranges)


def _entries_by_band(transcripts: TranscriptMap, labels: Raster) -> Iterator[Entries]:
    for row0, band in bands(labels):
        for first, stop in row_runs(transcripts.row_start[row0 : row0 + len(band) + 1], ENTRIES_AT_ONCE):
            row_start = transcripts.row_start[row0 + first : row0 + stop + 1]
            entries = slice(int(row_start[0]), int(row_start[-1]))
            if entries.start == entries.stop:
                continue
            label = np.empty(entries.stop - entries.start, dtype=band.dtype)
            column, feature, count = (
                array[entries] for array in (transcripts.column, transcripts.feature, transcripts.count)
            )
            in_threads(_look_up, stop - first, band[first:stop], row_start, column, label)
            yield label, feature, count
            transcripts.release(row0 + first, row0 + stop)


def sum_entries(
    pieces: Callable[[], Iterable[Entries]], n: int, n_features: int, *, most_ranges: int = MOST_RANGES
) -> csr_matrix:
    """Return the sum of counts per label and feature.

    Parameters
    ----------
    pieces
        Function that yields entries: labels 0..n (0 is ignored), features and counts, in any order, with repeats. It is
        called once, and again for each range of labels.
    n, n_features
        Number of labels and of features.
    most_ranges
        Upper bound of the number of ranges of labels: more ranges need less memory.

    Returns
    -------
    ``(n, n_features)`` int32, label ``k + 1`` in row ``k``; sorted, without explicit zeros.

    Raises
    ------
    ValueError
        If a label is above ``n``.
    """
    from scipy.sparse import csr_matrix

    start = np.zeros(n + 2, dtype=np.int64)
    for label, _, count in pieces():
        if not _count_entries(label, count, start[1:]):
            msg = f"Labels must lie within 0 and n = {n}, but there is one of {label.max()}."
            raise ValueError(msg)
    np.cumsum(start, out=start)  # label c has the entries start[c]:start[c + 1]
    n_left = np.zeros(n, dtype=np.int64)
    feature_of, count_of = (np.empty(0, dtype=np.int32) for _ in range(2))
    for first, stop in _ranges_of_labels(start[1:], most_ranges):
        features, counts = _sum_range(pieces, first, stop, start[first + 1 : stop + 2], n_features, n_left[first:stop])
        n_before = len(feature_of)
        for array, more in ((feature_of, features), (count_of, counts)):
            array.resize(n_before + len(more), refcheck=False)  # without a copy of what is large
            array[n_before:] = more
        del features, counts, more  # before room is made for the next
    index = np.int32 if len(feature_of) <= np.iinfo(np.int32).max else np.int64  # SciPy wants one type for both
    row_start = np.concatenate([[0], np.cumsum(n_left)]).astype(index)
    matrix = csr_matrix((count_of, feature_of.astype(index, copy=False), row_start), shape=(n, n_features), copy=False)
    matrix.has_canonical_format = True
    return matrix


def _ranges_of_labels(start: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows, whose entries begin at ``start``, with about equally many entries."""
    n, total = len(start) - 1, int(start[-1])
    n_ranges = min(most, max(1, total // _LEAST_ENTRIES))
    cuts = np.searchsorted(start, np.arange(1, n_ranges) * (total / n_ranges))
    edges = [0, *np.clip(cuts, 0, n).tolist(), n]
    return ((first, stop) for first, stop in itertools.pairwise(edges) if start[stop] > start[first])


def _sum_range(
    pieces: Callable[[], Iterable[Entries]],
    first: int,
    stop: int,
    start: NDArray[np.int64],
    n_features: int,
    n_left: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return features and counts of the rows ``first`` to ``stop``; write the number of each row to ``n_left``.

    ``start`` has the start of each row, and the end of the last.
    """
    start = start - start[0]
    feature_of, count_of = (own_pages(int(start[-1]), np.int32) for _ in range(2))
    position = start[:-1].copy()
    for label, feature, count in pieces():
        _fill(label, feature, count, first, position, feature_of, count_of)
    in_threads(_sum_equal, stop - first, start, n_features, feature_of, count_of, n_left)
    n_entries = _close_gaps(start, n_left, feature_of, count_of)
    return feature_of[:n_entries], count_of[:n_entries]


def row_sums(matrix: csr_matrix, n_columns: int | None = None) -> NDArray[np.int64]:
    """Return the sum of each row over its first ``n_columns``, all if None, without a copy of the matrix."""
    out = np.zeros(matrix.shape[0], dtype=np.int64)
    n_columns = matrix.shape[1] if n_columns is None else n_columns
    _row_sums(matrix.indptr, matrix.indices, matrix.data, n_columns, out)
    return out


@njit(cache=True, nogil=True)
def _look_up(first: int, stop: int, labels: NDArray, row_start: NDArray, column: NDArray, out: NDArray) -> None:
    for i in range(first, stop):
        for e in range(row_start[i] - row_start[0], row_start[i + 1] - row_start[0]):
            out[e] = labels[i, column[e]]


@njit(cache=True, nogil=True)
def _count_entries(label: NDArray, count: NDArray, n_entries: NDArray) -> bool:
    """Count the entries of each label; return False if a label is above the highest."""
    for e in range(len(label)):
        c = label[e]
        if c > 0 and count[e] > 0:
            if c >= len(n_entries):
                return False
            n_entries[c] += 1
    return True


@njit(cache=True, nogil=True)
def _fill(
    label: NDArray,
    feature: NDArray,
    count: NDArray,
    first: int,
    position: NDArray,
    feature_of: NDArray,
    count_of: NDArray,
) -> None:
    for e in range(len(label)):
        row = np.int64(label[e]) - 1 - first
        if 0 <= row < len(position) and count[e] > 0:
            p = position[row]
            feature_of[p] = feature[e]
            count_of[p] = count[e]
            position[row] = p + 1


@njit(cache=True, nogil=True)
def _sort(values: NDArray) -> None:
    """Sort values in place, by Shell's method: NumPy's takes seconds to compile."""
    n, gap = len(values), 1
    while gap < n // 9:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, n):
            one, j = values[i], i
            while j >= gap and values[j - gap] > one:
                values[j] = values[j - gap]
                j -= gap
            values[j] = one
        gap //= 3


@njit(cache=True, nogil=True)
def _sum_equal(
    first: int, stop: int, start: NDArray, n_features: int, feature_of: NDArray, count_of: NDArray, n_left: NDArray
) -> None:
    """Sort and sum the entries of each label in place, and write the number that is left."""
    total = np.zeros(n_features, dtype=np.int32)
    for k in range(first, stop):
        feature, count = feature_of[start[k] : start[k + 1]], count_of[start[k] : start[k + 1]]
        n = 0
        for e in range(len(feature)):
            f = feature[e]
            if total[f] == 0:
                feature[n] = f
                n += 1
            total[f] += count[e]
        if 16 * n > n_features:  # so many that scanning all features is faster than sorting
            n = 0
            for f in range(n_features):
                if total[f] != 0:
                    feature[n] = f
                    n += 1
        else:
            _sort(feature[:n])
        for e in range(n):
            count[e] = total[feature[e]]
            total[feature[e]] = 0
        n_left[k] = n


@njit(cache=True, nogil=True)
def _close_gaps(start: NDArray, n_left: NDArray, feature_of: NDArray, count_of: NDArray) -> int:
    to = 0
    for k in range(len(n_left)):
        for e in range(start[k], start[k] + n_left[k]):
            feature_of[to] = feature_of[e]
            count_of[to] = count_of[e]
            to += 1
    return to


@njit(cache=True, nogil=True)
def _row_sums(row_start: NDArray, column: NDArray, value: NDArray, n_columns: int, out: NDArray) -> None:
    for i in range(len(out)):
        for e in range(row_start[i], row_start[i + 1]):
            if column[e] < n_columns:
                out[i] += value[e]


def split_columns(matrix: csr_matrix, n: int) -> tuple[csr_matrix, csr_matrix]:
    """Return the first ``n`` columns and the others; ``matrix`` is overwritten, so that nothing is held twice."""
    from scipy.sparse import csr_matrix

    if n == matrix.shape[1]:
        return matrix, csr_matrix((matrix.shape[0], 0), dtype=matrix.dtype)
    others = matrix[:, n:].tocsr()
    kept = _keep_first(matrix.indptr, matrix.indices, matrix.data, n)
    entries = (matrix.data[:kept], matrix.indices[:kept], matrix.indptr)
    return csr_matrix(entries, shape=(matrix.shape[0], n)), others


@njit(cache=True, nogil=True)
def _keep_first(indptr: NDArray, indices: NDArray, data: NDArray, n: int) -> int:
    """Move the entries of the first columns to the front, in place; return their number."""
    kept, start = 0, indptr[0]
    for row in range(len(indptr) - 1):
        stop = indptr[row + 1]
        for k in range(start, stop):
            if indices[k] < n:
                indices[kept], data[kept] = indices[k], data[k]
                kept += 1
        start = stop
        indptr[row + 1] = kept
    return kept
