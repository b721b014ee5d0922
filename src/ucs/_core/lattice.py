"""Fixed blocks anchored at the grid's origin, and which nuclei reach which block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def bounding_boxes(labels: NDArray, n: int) -> NDArray:
    """Return ``(n + 1, 4)`` int64 boxes ``row0, column0, row1, column1`` by id; an absent id (and 0) has ``row1 == 0``.

    Parameters
    ----------
    labels
        ``(h, w)`` ids 0..n.
    n
        The highest id.
    """
    h, w = labels.shape
    boxes = np.zeros((n + 1, 4), dtype=np.int64)
    for i in range(h):
        for j in range(w):
            c = labels[i, j]
            if c == 0:
                continue
            if boxes[c, 2] == 0:
                boxes[c] = np.array([i, j, i + 1, j + 1])
            else:
                boxes[c, 1] = min(boxes[c, 1], j)
                boxes[c, 2] = i + 1
                boxes[c, 3] = max(boxes[c, 3], j + 1)
    return boxes


@njit(cache=True, nogil=True)
def boxes_by_block(
    boxes: NDArray, reach: int, block: int, n_block_rows: int, n_block_columns: int
) -> tuple[NDArray, NDArray]:
    """List, for each block of the lattice, the boxes that come within ``reach`` pixels of it, by ascending id.

    Returns
    -------
    ``(start, ids)``: the ids of block ``k = block_row * n_block_columns + block_column`` are ``ids[start[k]:start[k + 1]]``.
    """
    n_blocks = n_block_rows * n_block_columns
    start = np.zeros(n_blocks + 1, dtype=np.int64)
    ids = np.empty(0, dtype=np.int64)
    position = start
    for counting in (True, False):
        if not counting:
            start = np.cumsum(start)
            ids = np.empty(start[-1], dtype=np.int64)
            position = start.copy()
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
