"""Canonical order of transcripts: by row, column and feature, equal ones summed.

A counting sort by row over all segments puts one number for column and feature in its row; a radix sort within rows
does the rest. Beyond what comes in and goes out, 4 bytes are held per transcript (8 if they have counts, 4 more where
columns and features together need more than 32 bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._utils.parallel import in_threads, n_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Entries = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]

_LARGEST_PIECE = 1 << 20  # transcripts that one thread takes at a time, so that all threads end at about the same time
_GROUPS_PER_THREAD = 8  # so that all threads end at about the same time
# Keys of a row, up to which insertion is faster than a radix sort.
_INSERTION = 48
# Keys of a row, up to which digits have 8 bits: clearing and summing a longer histogram would take longer than sorting.
_SHORT = 1500
# Bits of a digit otherwise: its histogram of 32 KiB fits into the first-level cache.
_LONGEST_DIGIT = 12


@dataclass(frozen=True, eq=False)
class Segment:
    """Transcripts in any order.

    Attributes
    ----------
    row, column
        ``(n,)`` int32, counted from ``row0`` and ``column0`` of the raster, which may be negative.
    feature
        ``(n,)`` uint16 or int32, index into ``number``.
    number
        ``(k,)`` int32, the feature of the raster that each stands for.
    count
        ``(n,)`` int32, or None for one each.
    row0, column0
        In pixels of the raster.
    """

    row: NDArray[np.int32]
    column: NDArray[np.int32]
    feature: NDArray[np.integer]
    number: NDArray[np.int32]
    count: NDArray[np.int32] | None
    row0: int = 0
    column0: int = 0

    def split(self) -> list[Segment]:
        """Return the segment in pieces of moderate size, as views."""
        return [
            Segment(
                self.row[at],
                self.column[at],
                self.feature[at],
                self.number,
                None if self.count is None else self.count[at],
                self.row0,
                self.column0,
            )
            for at in (slice(i, i + _LARGEST_PIECE) for i in range(0, len(self.row), _LARGEST_PIECE))
        ]


def sort_segments(segments: list[Segment], *, shape: tuple[int, int], n_features: int) -> Entries:
    """Bring transcripts into canonical order and sum equal ones.

    Parameters
    ----------
    segments
        All transcripts. The list is empty afterwards: each segment is freed as soon as it has been used.
    shape
        ``(height, width)`` of the raster.
    n_features
        Number of features.

    Returns
    -------
    ``(row_start, column, feature, count)`` as in :class:`ucs._kernels.transcripts.TranscriptMap`.
    """
    feature_bits = _bits(n_features)
    key_bits = _bits(shape[1]) + feature_bits
    has_count = any(segment.count is not None for segment in segments)
    groups = _share_out([piece for segment in segments for piece in segment.split()])
    segments.clear()
    cursor = np.zeros((len(groups), shape[0]), dtype=np.int64)
    in_threads(_count_rows_of_groups, len(groups), groups, cursor)
    row_start = np.zeros(shape[0] + 1, dtype=np.int64)
    np.cumsum(cursor.sum(axis=0), out=row_start[1:])
    cursor[:] = row_start[:-1] + np.cumsum(cursor, axis=0) - cursor
    n = int(row_start[-1])
    key = np.empty(n, dtype=np.uint32 if key_bits <= 32 else np.uint64)
    key_count = np.empty(n if has_count else 0, dtype=np.int32)
    in_threads(_scatter_groups, len(groups), groups, feature_bits, cursor, key, key_count)
    n_distinct = np.zeros(shape[0], dtype=np.int64)
    in_threads(sort_rows, shape[0], row_start, key, key_count, key_bits, n_distinct)
    out_start = np.zeros(shape[0] + 1, dtype=np.int64)
    np.cumsum(n_distinct, out=out_start[1:])
    column, feature, count = (np.empty(int(out_start[-1]), dtype=np.int32) for _ in range(3))
    in_threads(_sum_rows, shape[0], row_start, key, key_count, feature_bits, out_start, column, feature, count)
    return out_start, column, feature, count


def _bits(n: int) -> int:
    """Return the number of bits of the numbers below ``n``."""
    return max(n - 1, 0).bit_length()


def _share_out(segments: list[Segment]) -> list[list[Segment]]:
    """Return groups of segments, several per thread, with about the same number of transcripts."""
    ends = np.cumsum([len(segment.row) for segment in segments])
    groups: list[list[Segment]] = [[] for _ in range(min(n_threads() * _GROUPS_PER_THREAD, len(segments)))]
    for segment, end in zip(segments, ends, strict=True):
        groups[min(int((end - 1) * len(groups) // max(ends[-1], 1)), len(groups) - 1)].append(segment)
    return groups


def _count_rows_of_groups(first: int, stop: int, groups: list[list[Segment]], in_row: NDArray[np.int64]) -> None:
    for g in range(first, stop):
        for segment in groups[g]:
            _count_rows(segment.row, segment.row0, in_row[g])


def _scatter_groups(
    first: int,
    stop: int,
    groups: list[list[Segment]],
    feature_bits: int,
    cursor: NDArray[np.int64],
    key: NDArray,
    key_count: NDArray[np.int32],
) -> None:
    none = np.zeros(0, dtype=np.int32)
    for g in range(first, stop):
        groups[g].reverse()
        while groups[g]:
            one = groups[g].pop()  # freed after its turn
            count = none if one.count is None else one.count
            _scatter(
                one.row, one.column, one.feature, one.number, count, one.row0, one.column0, feature_bits,
                cursor[g], key, key_count,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _count_rows(row: NDArray, row0: int, in_row: NDArray) -> None:
    for i in range(len(row)):
        in_row[row[i] + row0] += 1


@njit(cache=True, nogil=True)
def _scatter(
    row: NDArray,
    column: NDArray,
    feature: NDArray,
    number: NDArray,
    count: NDArray,
    row0: int,
    column0: int,
    feature_bits: int,
    cursor: NDArray,
    key: NDArray,
    key_count: NDArray,
) -> None:
    for i in range(len(row)):
        r = row[i] + row0
        to = cursor[r]
        cursor[r] = to + 1
        key[to] = (np.uint64(column[i] + column0) << np.uint64(feature_bits)) | np.uint64(number[feature[i]])
        if len(key_count) > 0:
            key_count[to] = count[i] if len(count) > 0 else 1


@njit(cache=True, nogil=True)
def _sum_rows(
    first: int,
    stop: int,
    row_start: NDArray,
    key: NDArray,
    key_count: NDArray,
    feature_bits: int,
    out_start: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
) -> None:
    mask = (np.int64(1) << feature_bits) - 1
    with_count = len(key_count) > 0
    for r in range(first, stop):
        out = out_start[r] - 1
        for i in range(row_start[r], row_start[r + 1]):
            one = key_count[i] if with_count else np.int32(1)
            if i > row_start[r] and key[i] == key[i - 1]:
                count[out] += one
            else:
                out += 1
                column[out] = np.int64(key[i]) >> feature_bits
                feature[out] = np.int64(key[i]) & mask
                count[out] = one


@njit(cache=True, nogil=True)
def sort_rows(
    first: int, stop: int, row_start: NDArray, key: NDArray, key_count: NDArray, key_bits: int, n_distinct: NDArray
) -> None:
    """Sort the keys of each row together with their counts, and count the different keys.

    Parameters
    ----------
    first, stop
        Rows to sort.
    row_start
        ``(n_rows + 1,)`` start of each row.
    key, key_count
        Keys and counts of all rows; no counts if all are 1.
    key_bits
        Keys are below ``2**key_bits``.
    n_distinct
        Output: number of different keys of each row.
    """
    longest = 0
    for r in range(first, stop):
        longest = max(longest, row_start[r + 1] - row_start[r])
    other = np.empty(longest, dtype=key.dtype)
    other_count = np.empty(longest if len(key_count) > 0 else 0, dtype=np.int32)
    histogram = np.empty(1 << _LONGEST_DIGIT, dtype=np.int64)
    for r in range(first, stop):
        start, stop_row = row_start[r], row_start[r + 1]
        if stop_row - start <= _INSERTION:
            _insertion_sort(key, key_count, start, stop_row)
        else:
            _radix_sort(key, key_count, start, stop_row, key_bits, other, other_count, histogram)
        n = 0
        for i in range(start, stop_row):
            if i == start or key[i] != key[i - 1]:
                n += 1
        n_distinct[r] = n


@njit(cache=True, nogil=True)
def _insertion_sort(key: NDArray, key_count: NDArray, start: int, stop: int) -> None:
    with_count = len(key_count) > 0
    for i in range(start + 1, stop):
        one = key[i]
        n = key_count[i] if with_count else 0
        j = i
        while j > start and key[j - 1] > one:
            key[j] = key[j - 1]
            if with_count:
                key_count[j] = key_count[j - 1]
            j -= 1
        key[j] = one
        if with_count:
            key_count[j] = n


@njit(cache=True, nogil=True)
def _radix_sort(
    key: NDArray,
    key_count: NDArray,
    start: int,
    stop: int,
    key_bits: int,
    other: NDArray,
    other_count: NDArray,
    histogram: NDArray,
) -> None:
    n = stop - start
    row_key, row_count = key[start:stop], key_count[start:stop]  # that of no counts is empty, too
    longest = 8 if n < _SHORT else _LONGEST_DIGIT
    n_digits = max((key_bits + longest - 1) // longest, 1)
    digit_bits = (key_bits + n_digits - 1) // n_digits
    for digit in range(n_digits):
        shift = digit * digit_bits
        if digit % 2 == 0:
            _sort_by_digit(row_key, row_count, other, other_count, n, shift, digit_bits, histogram)
        else:
            _sort_by_digit(other, other_count, row_key, row_count, n, shift, digit_bits, histogram)
    if n_digits % 2 == 1:
        for i in range(n):
            row_key[i] = other[i]
        for i in range(len(row_count)):
            row_count[i] = other_count[i]


@njit(cache=True, nogil=True)
def _sort_by_digit(
    key: NDArray,
    key_count: NDArray,
    to_key: NDArray,
    to_count: NDArray,
    n: int,
    shift: int,
    digit_bits: int,
    histogram: NDArray,
) -> None:
    mask = (np.int64(1) << digit_bits) - 1
    for d in range(mask + 1):
        histogram[d] = 0
    for i in range(n):
        histogram[(np.int64(key[i]) >> shift) & mask] += 1
    place = np.int64(0)
    for d in range(mask + 1):
        place, histogram[d] = place + histogram[d], place
    with_count = len(key_count) > 0
    for i in range(n):
        value = (np.int64(key[i]) >> shift) & mask
        to = histogram[value]
        histogram[value] = to + 1
        to_key[to] = key[i]
        if with_count:
            to_count[to] = key_count[i]
