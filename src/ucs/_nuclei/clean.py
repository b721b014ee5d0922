"""Cleaning of labels, each on its own: opened, reduced to the largest component, filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.components import flood
from ucs._kernels.labels.ids import densify
from ucs._kernels.lattice import bounding_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def clean_labels(labels: NDArray, radius: int) -> NDArray:
    """Return labels, each opened by a disc, reduced to its largest component, and filled.

    Parameters
    ----------
    labels
        ``(h, w)`` integers, 0 = background.
    radius
        Radius of the disc in pixels; 0 for no opening.

    Returns
    -------
    Labels of the same type. Each label is processed on its own, so their order does not matter; pixels of other labels
    in its holes are kept. Components are 4-connected; of equally large ones the first in raster order is kept. A label
    that the opening removes is dropped.
    """
    dense, ids = densify(labels)
    out = np.zeros(labels.shape, dtype=np.int32)
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = np.argwhere(rows**2 + columns**2 <= radius**2) - radius
    _clean(dense, bounding_boxes(dense, len(ids)), disc.astype(np.int64), radius + 1, out)
    return np.concatenate([np.zeros(1, dtype=labels.dtype), ids.astype(labels.dtype)])[out]


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
    """Return the union of the discs that fit into a mask, whose margin must be wider than the disc."""
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
    """Reduce a mask to its largest component with holes filled, in place; its margin must be empty."""
    part = np.zeros(mask.shape, dtype=np.int32)
    n, largest, size = 0, 0, 0
    stack = np.empty(mask.size, dtype=np.int64)
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            if mask[i, j] and part[i, j] == 0:
                n += 1
                flooded = flood(mask, part, n, i, j, stack)
                if flooded > size:
                    largest, size = n, flooded
    if n == 0:
        return
    outside = part != largest
    around = np.zeros(mask.shape, dtype=np.int32)
    flood(outside, around, 1, 0, 0, stack)
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            mask[i, j] = around[i, j] == 0
