"""Labels made compact, each on its own: opened, reduced to the largest part, filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.ids import densify

if TYPE_CHECKING:
    from numpy.typing import NDArray


def clean_labels(labels: NDArray, radius: int) -> NDArray:
    """Return labels of which each was opened by a disc, reduced to its largest part, and filled.

    Parameters
    ----------
    labels
        ``(h, w)`` integers, 0 = background.
    radius
        Of the disc in pixels, 0 for none.

    Returns
    -------
    Labels of the same type. Every label is treated as if it were alone, so the order does not matter; pixels of others
    that lie in its holes stay theirs. Parts are connected by edges; of equal parts, the first in raster order stays. A
    label that the opening leaves nothing of is gone.
    """
    dense, ids = densify(labels)
    out = np.zeros(labels.shape, dtype=np.int32)
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = np.argwhere(rows**2 + columns**2 <= radius**2) - radius
    _clean(dense, _boxes(dense, len(ids)), disc.astype(np.int64), radius + 1, out)
    return np.concatenate([np.zeros(1, dtype=labels.dtype), ids.astype(labels.dtype)])[out]


@njit(cache=True, nogil=True)
def _boxes(labels: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """Return first row and column of each id 1..n and those after the last, ``(n + 1, 4)``."""
    h, w = labels.shape
    box = np.zeros((n + 1, 4), dtype=np.int64)
    box[:, 0], box[:, 1] = h, w
    for i in range(h):
        for j in range(w):
            k = labels[i, j]
            if k > 0:
                box[k, 0], box[k, 1] = min(box[k, 0], i), min(box[k, 1], j)
                box[k, 2], box[k, 3] = max(box[k, 2], i + 1), max(box[k, 3], j + 1)
    return box


@njit(cache=True, nogil=True)
def _clean(
    labels: NDArray[np.int32],
    boxes: NDArray[np.int64],
    disc: NDArray[np.int64],
    margin: int,
    out: NDArray[np.int32],
) -> None:
    for k in range(1, len(boxes)):
        top, left, bottom, right = boxes[k]
        h, w = bottom - top, right - left
        mask = np.zeros((h + 2 * margin, w + 2 * margin), dtype=np.bool_)
        for i in range(h):
            for j in range(w):
                mask[i + margin, j + margin] = labels[top + i, left + j] == k
        if len(disc) > 1:
            mask = _open(mask, disc, margin)
        _fill_largest(mask)
        for i in range(h):
            for j in range(w):
                here = labels[top + i, left + j]
                if mask[i + margin, j + margin] and (here == k or here == 0):
                    out[top + i, left + j] = k


@njit(cache=True, nogil=True)
def _open(mask: NDArray[np.bool_], disc: NDArray[np.int64], margin: int) -> NDArray[np.bool_]:
    """Return the union of the discs that fit into a mask, whose margin is wider than the disc."""
    h, w = mask.shape
    out = np.zeros_like(mask)
    for i in range(margin, h - margin):
        for j in range(margin, w - margin):
            fits = mask[i, j]
            for d in range(len(disc)):
                if not fits:
                    break
                fits = mask[i + disc[d, 0], j + disc[d, 1]]
            if fits:
                for d in range(len(disc)):
                    out[i + disc[d, 0], j + disc[d, 1]] = True
    return out


@njit(cache=True, nogil=True)
def _fill_largest(mask: NDArray[np.bool_]) -> None:
    """Reduce a mask to its largest part, holes included, in place; its margin is empty."""
    part = np.zeros(mask.shape, dtype=np.int32)
    n, largest, size = 0, 0, 0
    stack = np.empty((mask.size, 2), dtype=np.int64)
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            if mask[i, j] and part[i, j] == 0:
                n += 1
                flooded = _flood(mask, part, stack, i, j, n)
                if flooded > size:
                    largest, size = n, flooded
    if n == 0:
        return
    outside = part != largest
    around = np.zeros(mask.shape, dtype=np.int32)
    _flood(outside, around, stack, 0, 0, 1)
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            mask[i, j] = around[i, j] == 0


@njit(cache=True, nogil=True)
def _flood(
    mask: NDArray[np.bool_], part: NDArray[np.int32], stack: NDArray[np.int64], row: int, column: int, value: int
) -> int:
    """Give a value to the part of a mask that a pixel belongs to, and return its size."""
    part[row, column] = value
    stack[0, 0], stack[0, 1] = row, column
    waiting, size = 1, 0
    while waiting > 0:
        waiting -= 1
        i, j = stack[waiting, 0], stack[waiting, 1]
        size += 1
        for step in range(4):
            y = i + (step == 0) - (step == 1)
            x = j + (step == 2) - (step == 3)
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and part[y, x] == 0:
                part[y, x] = value
                stack[waiting, 0], stack[waiting, 1] = y, x
                waiting += 1
    return size
