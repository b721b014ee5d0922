"""Fixed blocks anchored at the origin of the grid, bounding boxes, and the boxes near each block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.transcripts import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BLOCK = 96
"""Side in pixels of the blocks on which networks are run.

Convolution libraries choose their arithmetic by the shape of the input. All blocks therefore have the same shape and
lie on one lattice anchored at the origin of the grid, so that the result of a pixel depends on the data only."""


def count_blocks(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of rows and columns of blocks that cover a raster."""
    return -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)


def bounding_boxes(labels: NDArray, n: int) -> NDArray[np.int64]:
    """Return the bounding box of each id.

    Parameters
    ----------
    labels
        ``(h, w)`` integer ids 0..n, 0 = background.
    n
        The highest id.

    Returns
    -------
    ``(n + 1, 4)`` int64: ``row0, column0, row1, column1`` with the ends excluded; zeros for an absent id (and 0).

    Raises
    ------
    ValueError
        If the labels are no integer raster, or an id is below 0 or above n.
    """
    check_raster(labels)
    boxes = np.zeros((n + 1, 4), dtype=np.int64)
    if not _bounding_boxes(labels, boxes):
        msg = f"Labels must lie within 0 and n = {n}, but range from {labels.min()} to {labels.max()}."
        raise ValueError(msg)
    return boxes


def check_raster(labels: NDArray) -> None:
    """Raise ValueError if labels are not a 2-D integer raster."""
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        msg = f"labels must be a 2-D integer raster, not {labels.ndim}-D {labels.dtype}."
        raise ValueError(msg)


@njit(cache=True, nogil=True)
def _bounding_boxes(labels: NDArray, boxes: NDArray) -> bool:
    """Enter each id into the boxes; return False if one has no row there."""
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            c = np.int64(labels[i, j])
            if c == 0:
                continue
            if c < 0 or c >= len(boxes):
                return False
            if boxes[c, 2] == 0:
                boxes[c, 0], boxes[c, 1], boxes[c, 3] = i, j, j + 1
            boxes[c, 1] = min(boxes[c, 1], j)
            boxes[c, 2] = i + 1
            boxes[c, 3] = max(boxes[c, 3], j + 1)
    return True


@njit(cache=True, nogil=True)
def boxes_by_block(
    boxes: NDArray, reach: int, block: int, n_block_rows: int, n_block_columns: int
) -> tuple[NDArray, NDArray]:
    """Return, for each block of the lattice, the ids with a box within ``reach`` pixels of it, ascending.

    Returns
    -------
    ``(start, ids)``: the ids of block ``k = block_row * n_block_columns + block_column`` are ``ids[start[k]:start[k
    + 1]]``.
    """
    n_blocks = n_block_rows * n_block_columns
    start = np.zeros(n_blocks + 1, dtype=np.int64)
    ids = np.empty(0, dtype=np.int64)
    position = np.zeros(n_blocks + 1, dtype=np.int64)
    for counting in (True, False):
        if not counting:
            for k in range(n_blocks):
                start[k + 1] += start[k]
                position[k + 1] = start[k + 1]
            ids = np.empty(start[n_blocks], dtype=np.int64)
        for c in range(1, len(boxes)):
            if boxes[c, 2] == 0:
                continue
            for block_row in range(
                max(0, (boxes[c, 0] - reach) // block), min(n_block_rows, (boxes[c, 2] - 1 + reach) // block + 1)
            ):
                for block_column in range(
                    max(0, (boxes[c, 1] - reach) // block), min(n_block_columns, (boxes[c, 3] - 1 + reach) // block + 1)
                ):
                    k = block_row * n_block_columns + block_column
                    if counting:
                        start[k + 1] += 1
                    else:
                        ids[position[k]] = c
                        position[k] += 1
    return start, ids


def tiles_of(shape: tuple[int, int], side: int) -> Iterator[Window]:
    """Yield the tiles that cover a raster, row by row; their corners lie on the lattice, ``side`` is rounded up to it.

    Parameters
    ----------
    shape
        Of the raster.
    side
        In pixels.
    """
    side = -(-side // BLOCK) * BLOCK
    for row0 in range(0, shape[0], side):
        for column0 in range(0, shape[1], side):
            yield Window(row0, column0, row0 + side, column0 + side).clipped(shape)
