"""Kernels over the entries of a sparse map, row by row: nothing is sorted anew.

To keep some entries, one of a pair counts them in each row, the other writes them once their places are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def count_features(
    first: int, stop: int, row_start: NDArray, column: NDArray, feature: NDArray, number: NDArray, n_kept: NDArray
) -> None:
    """Count the entries of features whose new number is not negative."""
    for r in range(first, stop):
        n = 0
        for i in range(row_start[r], row_start[r + 1]):
            n += number[feature[i]] >= 0
        n_kept[r] = n


@njit(cache=True, nogil=True)
def write_features(
    first: int,
    stop: int,
    row_start: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    number: NDArray,
    out_start: NDArray,
    out_column: NDArray,
    out_feature: NDArray,
    out_count: NDArray,
) -> None:
    """Write the entries of features whose new number is not negative, under this number."""
    for r in range(first, stop):
        out = out_start[r]
        for i in range(row_start[r], row_start[r + 1]):
            new = number[feature[i]]
            if new >= 0:
                out_column[out] = column[i]
                out_feature[out] = new
                out_count[out] = count[i]
                out += 1


@njit(cache=True, nogil=True)
def count_pixels(
    first: int, stop: int, row_start: NDArray, column: NDArray, feature: NDArray, mask: NDArray, n_kept: NDArray
) -> None:
    """Count the entries of pixels where a mask is true."""
    for r in range(first, stop):
        n = 0
        for i in range(row_start[r], row_start[r + 1]):
            n += mask[r, column[i]]
        n_kept[r] = n


@njit(cache=True, nogil=True)
def write_pixels(
    first: int,
    stop: int,
    row_start: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    mask: NDArray,
    out_start: NDArray,
    out_column: NDArray,
    out_feature: NDArray,
    out_count: NDArray,
) -> None:
    """Write the entries of pixels where a mask is true."""
    for r in range(first, stop):
        out = out_start[r]
        for i in range(row_start[r], row_start[r + 1]):
            if mask[r, column[i]]:
                out_column[out] = column[i]
                out_feature[out] = feature[i]
                out_count[out] = count[i]
                out += 1


@njit(cache=True, nogil=True)
def write_ranges(
    bounds: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    column0: int,
    out_column: NDArray,
    out_feature: NDArray,
    out_count: NDArray,
) -> None:
    """Write the entries ``bounds[i, 0]:bounds[i, 1]`` of each row, columns counted from ``column0``."""
    out = 0
    for i in range(len(bounds)):
        for k in range(bounds[i, 0], bounds[i, 1]):
            out_column[out] = column[k] - column0
            out_feature[out] = feature[k]
            out_count[out] = count[k]
            out += 1


@njit(cache=True, nogil=True)
def row_ranges(
    row_start: NDArray, column: NDArray, n_rows: int, row0: int, column0: int, column1: int, bounds: NDArray
) -> int:
    """Write the first entry and the one behind the last in columns ``[column0, column1)`` of rows from ``row0`` on."""
    n = 0
    for i in range(len(bounds)):
        r = row0 + i
        if r < 0 or r >= n_rows:
            bounds[i, 0] = 0
            bounds[i, 1] = 0
            continue
        start, stop = row_start[r], row_start[r + 1]
        bounds[i, 0] = start + np.searchsorted(column[start:stop], column0)
        bounds[i, 1] = start + np.searchsorted(column[start:stop], column1)
        n += bounds[i, 1] - bounds[i, 0]
    return n


@njit(cache=True, nogil=True)
def fill_window(
    bounds: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    column0: int,
    width: int,
    pixel_start: NDArray,
    out_feature: NDArray,
    out_count: NDArray,
) -> None:
    """Write the entries within bounds of rows as a CSR matrix over the pixels of a window."""
    n = 0
    for i in range(len(bounds)):
        for k in range(bounds[i, 0], bounds[i, 1]):
            pixel_start[i * width + column[k] - column0 + 1] += 1
            out_feature[n] = feature[k]
            out_count[n] = count[k]
            n += 1
    for p in range(len(pixel_start) - 1):
        pixel_start[p + 1] += pixel_start[p]


@njit(cache=True, nogil=True)
def window_totals(
    first: int,
    stop: int,
    row_start: NDArray,
    column: NDArray,
    count: NDArray,
    row0: int,
    column0: int,
    out: NDArray,
) -> None:
    """Add up the counts of the rows ``row0 + first`` to ``row0 + stop`` per pixel."""
    n_rows, w = len(row_start) - 1, out.shape[1]
    for i in range(first, stop):
        r = row0 + i
        if 0 <= r < n_rows:
            for k in range(row_start[r], row_start[r + 1]):
                j = column[k] - column0
                if 0 <= j < w:
                    out[i, j] += count[k]
