"""Many short arrays of numbers of few bits, each sorted by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INSERTION = 48  # rows up to this length are sorted by insertion,
_SHORT = 1500  # up to this by bytes: to clear and add up a longer histogram would take longer than to sort them
_LONGEST_DIGIT = 12  # bits: the histogram of a digit stays in the fastest cache


@njit(cache=True, nogil=True)
def sort_rows(
    first: int, stop: int, row_start: NDArray, key: NDArray, key_count: NDArray, key_bits: int, n_distinct: NDArray
) -> None:
    """Sort the keys of each row, their counts with them, and count how many differ.

    Parameters
    ----------
    first, stop
        Rows to sort.
    row_start
        Where each begins.
    key, key_count
        Keys and counts of all rows; no counts at all if all are 1.
    key_bits
        The keys are below ``2**key_bits``.
    n_distinct
        Different keys of each row, to be written.
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
    longest = 8 if n < _SHORT else _LONGEST_DIGIT
    n_digits = max((key_bits + longest - 1) // longest, 1)
    digit_bits = (key_bits + n_digits - 1) // n_digits
    for digit in range(n_digits):
        shift = digit * digit_bits
        if digit % 2 == 0:
            _sort_by_digit(key, key_count, start, other, other_count, 0, n, shift, digit_bits, histogram)
        else:
            _sort_by_digit(other, other_count, 0, key, key_count, start, n, shift, digit_bits, histogram)
    if n_digits % 2 == 1:
        key[start:stop] = other[:n]
        if len(key_count) > 0:
            key_count[start:stop] = other_count[:n]


@njit(cache=True, nogil=True)
def _sort_by_digit(
    key: NDArray,
    key_count: NDArray,
    start: int,
    to_key: NDArray,
    to_count: NDArray,
    to_start: int,
    n: int,
    shift: int,
    digit_bits: int,
    histogram: NDArray,
) -> None:
    mask = (np.int64(1) << digit_bits) - 1
    histogram[: mask + 1] = 0
    for i in range(n):
        histogram[(np.int64(key[start + i]) >> shift) & mask] += 1
    place = np.int64(to_start)
    for d in range(mask + 1):
        place, histogram[d] = place + histogram[d], place
    with_count = len(key_count) > 0
    for i in range(n):
        value = (np.int64(key[start + i]) >> shift) & mask
        to = histogram[value]
        histogram[value] = to + 1
        to_key[to] = key[start + i]
        if with_count:
            to_count[to] = key_count[start + i]
