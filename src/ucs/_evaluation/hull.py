"""Exact sizes of the convex hulls of labels.

The hull of a label is that of its pixel centres, and its size the number of pixels whose centres lie in it or on its
border. A label that is as convex as a raster allows is as large as its hull (hulls of pixels as squares would make
every disc look hollow). The size follows from area and border of the hull by Pick's theorem; no hull is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.lattice import bounding_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NO_COLUMN = np.int32(2**31 - 1)  # first column of a row without pixels: above all columns


def hull_sizes(labels: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """Return ``(n,)`` the number of pixels in the convex hull of each id 1..n; 0 for an id without pixels."""
    boxes = bounding_boxes(labels, n)
    # Only the first and the last column of a cell in each row matter; all cells' rows are stored one after another.
    offset = np.concatenate([[0], np.cumsum(boxes[:, 2] - boxes[:, 0])])
    first = np.full(offset[-1], _NO_COLUMN, dtype=np.int32)
    last = np.full(offset[-1], -1, dtype=np.int32)
    _row_ends(labels, boxes, offset, first, last)
    out = np.zeros(n + 1, dtype=np.int64)
    _hulls(offset, first, last, out)
    return out[1:]


@njit(cache=True, nogil=True)
def _row_ends(labels: NDArray, boxes: NDArray, offset: NDArray, first: NDArray, last: NDArray) -> None:
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            c = labels[i, j]
            if c > 0:
                k = offset[c] + i - boxes[c, 0]
                first[k] = min(first[k], j)
                last[k] = max(last[k], j)


@njit(cache=True, nogil=True)
def _hulls(offset: NDArray, first: NDArray, last: NDArray, out: NDArray) -> None:
    longest = 0
    for c in range(1, len(out)):
        longest = max(longest, offset[c + 1] - offset[c])
    x, y = np.empty(longest, np.int64), np.empty(longest, np.int64)
    for c in range(1, len(out)):
        start, stop = offset[c], offset[c + 1]
        if stop == start:
            continue
        right, on_right = _side(last, 1, start, stop, x, y)
        left, on_left = _side(first, -1, start, stop, x, y)
        top, bottom = last[start] - first[start], last[stop - 1] - first[stop - 1]
        # Pick: twice the number of points = twice the area + points on the border + 2.
        out[c] = (right - left + on_right + on_left + top + bottom + 2) // 2


@njit(cache=True, nogil=True)
def _side(ends: NDArray, side: int, start: int, stop: int, x: NDArray, y: NDArray) -> tuple[int, int]:
    """Follow one side of a hull downwards (1: the right one, -1: the left).

    Returns
    -------
    Twice the signed area between it and the y axis, and the number of steps between whole-numbered points on it.
    """
    n = 0
    for k in range(start, stop):
        if ends[k] < 0 or ends[k] == _NO_COLUMN:  # a row without pixels of this cell
            continue
        column, row = np.int64(ends[k]), k - start
        while n >= 2:
            turn = (x[n - 1] - x[n - 2]) * (row - y[n - 2]) - (y[n - 1] - y[n - 2]) * (column - x[n - 2])
            if turn * side > 0:
                break
            n -= 1
        x[n], y[n] = column, row
        n += 1
    twice = steps = 0
    for k in range(1, n):
        twice += (x[k] + x[k - 1]) * (y[k] - y[k - 1])
        steps += _greatest_divisor(abs(x[k] - x[k - 1]), y[k] - y[k - 1])
    return twice, steps


@njit(cache=True, nogil=True)
def _greatest_divisor(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a
