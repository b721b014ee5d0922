"""Refinement of cells: closed, connected with their nucleus, without holes and overlaps.

Each step processes one cell at a time, on a state that other cells do not change in that step. The result therefore
does not depend on the order of the cells or the number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.components import flood
from ucs._utils.parallel import in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

ELLIPSE = np.array(
    [[0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]], dtype=np.bool_
)
"""The 5 x 5 ellipse with which cells are closed."""

CLOSINGS = 2
"""Number of dilations of the closing, followed by as many erosions."""

_CELLS_AT_ONCE = 4096  # bounds the memory of their masks


def refine_cells(labels: NDArray[np.int32], nuclei: NDArray[np.int32], boxes: NDArray[np.int64]) -> NDArray[np.int32]:
    """Refine every cell (METHOD: close with a 5 x 5 ellipse twice, add the nucleus, keep its component, fill holes).

    Parameters
    ----------
    labels
        ``(h, w)`` decisions, ids 1..n or 0; a pixel of a nucleus carries its own id.
    nuclei
        ``(h, w)`` nucleus ids 1..n.
    boxes
        ``(n + 1, 4)`` bounding boxes of ``labels`` (not of the nuclei).

    Returns
    -------
    ``(h, w)`` int32. A cell is 4-connected if its nucleus is; a pixel that two closings claim goes to the nearer
    nucleus, then to the lower id; a pixel of another cell is never taken; a hole that holds another cell stays.
    """
    refined = labels.copy()
    n = len(boxes) - 1
    for first in range(1, n + 1, _CELLS_AT_ONCE):
        stop = min(first + _CELLS_AT_ONCE, n + 1)
        _close_group(labels, nuclei, boxes, first, stop, refined)
    margin = ELLIPSE.shape[0] // 2 * CLOSINGS
    in_threads(_keep_parts_with_nucleus, n, refined, nuclei, boxes, margin)
    in_threads(_fill_holes, n, refined, boxes, margin)
    return refined


def influence(largest: int) -> int:
    """Return the largest distance at which one pixel can influence another in :func:`refine_cells`.

    A hole may be filled depending on a neighbour's component, which may be kept depending on a claim of a third cell's
    closing: the influence spans three cells.

    Parameters
    ----------
    largest
        Longest side in pixels of the bounding box of any cell before refinement.
    """
    return 3 * (largest + ELLIPSE.shape[0] // 2 * CLOSINGS * 2 + 1)


def _close_group(labels: NDArray, nuclei: NDArray, boxes: NDArray, first: int, stop: int, refined: NDArray) -> None:
    margin = ELLIPSE.shape[0] // 2 * CLOSINGS
    sizes = boxes[first:stop, 2:] - boxes[first:stop, :2]
    sizes = np.where(sizes.min(axis=1, keepdims=True) > 0, sizes + 2 * margin, 0)
    offset = np.concatenate([[0], np.cumsum(sizes[:, 0] * sizes[:, 1])])
    closed = np.zeros(offset[-1], dtype=np.bool_)
    in_threads(_close_cells, stop - first, labels, boxes, first, offset, closed, margin)
    _merge_claims(labels, nuclei, boxes, first, stop, offset, closed, margin, refined)


@njit(cache=True, nogil=True)
def _close_cells(
    k0: int, k1: int, labels: NDArray, boxes: NDArray, first: int, offset: NDArray, closed: NDArray, margin: int
) -> None:
    for k in range(k0, k1):
        c = first + k
        if offset[k + 1] == offset[k]:
            continue
        row0, column0 = boxes[c, 0] - margin, boxes[c, 1] - margin
        h, w = boxes[c, 2] + margin - row0, boxes[c, 3] + margin - column0
        mask = np.zeros((h, w), dtype=np.bool_)
        for i in range(boxes[c, 0], boxes[c, 2]):
            for j in range(boxes[c, 1], boxes[c, 3]):
                mask[i - row0, j - column0] = labels[i, j] == c
        for step in range(2 * CLOSINGS):
            mask = _morph(mask, step < CLOSINGS)
        for i in range(h):
            for j in range(w):
                closed[offset[k] + i * w + j] = mask[i, j]


@njit(cache=True, nogil=True)
def _morph(mask: NDArray, dilate: bool) -> NDArray:  # noqa: FBT001 - a kernel
    """Dilate or erode by the ellipse; what lies outside the array is not set."""
    h, w = mask.shape
    out = np.empty((h, w), dtype=np.bool_)
    for i in range(h):
        for j in range(w):
            value = not dilate
            for a in range(5):
                for b in range(5):
                    y, x = i + a - 2, j + b - 2
                    is_set = 0 <= y < h and 0 <= x < w and mask[y, x]
                    if ELLIPSE[a, b] and is_set == dilate:
                        value = dilate
            out[i, j] = value
    return out


@njit(cache=True, nogil=True)
def _merge_claims(
    labels: NDArray,
    nuclei: NDArray,
    boxes: NDArray,
    first: int,
    stop: int,
    offset: NDArray,
    closed: NDArray,
    margin: int,
    refined: NDArray,
) -> None:
    """Give the background pixels that closings claim to the cell with the nearer nucleus."""
    h, w = labels.shape
    for k in range(stop - first):
        c = first + k
        if offset[k + 1] == offset[k]:
            continue
        row0, column0 = boxes[c, 0] - margin, boxes[c, 1] - margin
        width = boxes[c, 3] + margin - column0
        for p in range(offset[k + 1] - offset[k]):
            i, j = row0 + p // width, column0 + p % width
            if not closed[offset[k] + p] or i < 0 or j < 0 or i >= h or j >= w or labels[i, j] != 0:
                continue
            other = int(refined[i, j])
            if other == 0 or _squared_distance(nuclei, boxes[c], c, i, j) < _squared_distance(
                nuclei, boxes[other], other, i, j
            ):
                refined[i, j] = c


@njit(cache=True, nogil=True)
def _squared_distance(nuclei: NDArray, box: NDArray, nucleus: int, row: int, column: int) -> int:
    """Squared distance from a pixel to the nearest pixel of a nucleus (its cell's box holds it)."""
    best = 1 << 60
    for i in range(box[0], box[2]):
        for j in range(box[1], box[3]):
            if nuclei[i, j] == nucleus:
                best = min(best, (i - row) ** 2 + (j - column) ** 2)
    return best


@njit(cache=True, nogil=True)
def _keep_parts_with_nucleus(
    first: int, stop: int, labels: NDArray, nuclei: NDArray, boxes: NDArray, margin: int
) -> None:
    """Remove, per cell, the 4-connected parts that hold no pixel of its nucleus."""
    h, w = labels.shape
    for c in range(first + 1, stop + 1):
        if boxes[c, 2] == 0:
            continue
        row0, column0 = max(boxes[c, 0] - margin, 0), max(boxes[c, 1] - margin, 0)
        row1, column1 = min(boxes[c, 2] + margin, h), min(boxes[c, 3] + margin, w)
        height, width = row1 - row0, column1 - column0
        mask = np.empty((height, width), dtype=np.bool_)
        parts = np.zeros((height, width), dtype=np.int32)
        stack = np.empty(height * width, dtype=np.int64)
        for i in range(height):
            for j in range(width):
                mask[i, j] = labels[row0 + i, column0 + j] == c
        part = 0
        for i in range(height):
            for j in range(width):
                if mask[i, j] and parts[i, j] == 0 and nuclei[row0 + i, column0 + j] == c:
                    part += 1
                    flood(mask, parts, part, i, j, stack)
        for i in range(height):
            for j in range(width):
                if mask[i, j] and parts[i, j] == 0:
                    labels[row0 + i, column0 + j] = 0


@njit(cache=True, nogil=True)
def _fill_holes(first: int, stop: int, labels: NDArray, boxes: NDArray, margin: int) -> None:
    """Fill the holes of each cell that hold background only.

    A hole is a 4-connected part of what is not the cell that does not reach the border of the cell's surroundings.
    Holes of different cells that hold background only never overlap, so the cells may be treated at the same time.
    """
    h, w = labels.shape
    for c in range(first + 1, stop + 1):
        if boxes[c, 2] == 0:
            continue
        row0, column0 = boxes[c, 0] - margin - 1, boxes[c, 1] - margin - 1
        height, width = boxes[c, 2] + margin + 1 - row0, boxes[c, 3] + margin + 1 - column0
        other = np.empty((height, width), dtype=np.bool_)
        for i in range(height):
            for j in range(width):
                y, x = row0 + i, column0 + j
                other[i, j] = y < 0 or x < 0 or y >= h or x >= w or labels[y, x] != c
        parts = np.zeros((height, width), dtype=np.int32)
        stack = np.empty(height * width, dtype=np.int64)
        part = 0
        for i in range(height):
            for j in range(width):
                if other[i, j] and parts[i, j] == 0:
                    part += 1
                    flood(other, parts, part, i, j, stack)
        if part == 1:  # the outside, of which the first pixel is: the outermost ring lies beyond the cell
            continue
        stays = np.zeros(part + 1, dtype=np.bool_)  # for the outside, and if there is a pixel of another cell in it
        stays[0] = stays[1] = True
        for i in range(max(-row0, 0), min(height, h - row0)):
            for j in range(max(-column0, 0), min(width, w - column0)):
                if labels[row0 + i, column0 + j] != 0:
                    stays[parts[i, j]] = True
        for i in range(height):
            for j in range(width):
                if not stays[parts[i, j]]:
                    labels[row0 + i, column0 + j] = c
