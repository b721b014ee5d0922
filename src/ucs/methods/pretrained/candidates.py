"""The two nearest nuclei of each place on the net's grid, measured to the fine mask.

The net works on square pixels of about 1 um, each of ``factor`` x ``factor`` pixels of the raster. Distances run from
the centre of a net pixel to the nuclei as they are on the raster, so they are finer than the net's pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.distances import edge_pixels
from ucs._kernels.lattice import boxes_by_block
from ucs._utils.parallel import in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

REACH_UM = 30.0
"""Plain distance up to which a nucleus is a candidate owner."""

_FACTORS = (1, 2, 3, 4, 6)  # divide the lattice of blocks (96 px) into whole bins of 8 net pixels
_BLOCK = 32  # net pixels


def net_factor(um_per_px: float) -> int:
    """Return how many pixels of the raster a net pixel has on each side: the net's pixels are near to 1 um."""
    return min(_FACTORS, key=lambda factor: abs(np.log(factor * um_per_px)))


@dataclass(frozen=True)
class Candidates:
    """Candidate owners of net pixels.

    Attributes
    ----------
    owner
        ``(2, h, w)`` int32: the nearest and the second nearest nucleus within reach, 0 for none. Ties go to the lower
        id.
    distance
        ``(2, h, w)`` float32, stretched distance in um to the nucleus' border; 0 in the nucleus, ``inf`` for none.
    """

    owner: NDArray[np.int32]
    distance: NDArray[np.float32]


def find_candidates(
    nuclei: NDArray[np.int32], boxes: NDArray[np.int64], axes: NDArray[np.float64], *, factor: int, um_per_px: float
) -> Candidates:
    """Find the two nearest nuclei of each net pixel.

    Parameters
    ----------
    nuclei
        ``(h, w)`` ids on the raster; its corner lies on the grid of net pixels.
    boxes, axes
        As for :func:`ucs._kernels.distances.nearest_nuclei`.
    factor
        Side of a net pixel in pixels.
    um_per_px
        Side of a pixel of the raster in um.
    """
    h, w = -(-nuclei.shape[0] // factor), -(-nuclei.shape[1] // factor)
    reach = REACH_UM / um_per_px
    rows, columns = -(-h // _BLOCK), -(-w // _BLOCK)
    start, ids = boxes_by_block(boxes, int(np.ceil(reach)), _BLOCK * factor, rows, columns)
    ids = _near_ones_first(start, ids, boxes, factor, (h, w), columns)
    owner = np.zeros((2, h, w), dtype=np.int32)
    distance = np.full((2, h, w), np.inf, dtype=np.float32)
    in_threads(
        _find_in_blocks, len(start) - 1, nuclei, boxes, axes, factor, float(reach), columns, start, ids, owner, distance
    )
    distance *= np.float32(um_per_px)
    return Candidates(owner, distance)


def _near_ones_first(
    start: NDArray[np.int64], ids: NDArray[np.int64], boxes: NDArray, factor: int, shape: tuple[int, int], columns: int
) -> NDArray[np.int64]:
    """Return the nuclei of each block in the order of their distance, so that far ones need not be measured."""
    block = np.repeat(np.arange(len(start) - 1), np.diff(start))
    away = np.zeros(len(ids))
    for axis, place in enumerate((block // columns, block % columns)):
        first = place * _BLOCK
        middle = (first + np.minimum(first + _BLOCK, shape[axis])) * factor / 2
        away += ((boxes[ids, axis] + boxes[ids, axis + 2]) / 2 - middle) ** 2
    return ids[np.lexsort((away, block))]


@njit(cache=True, nogil=True)
def _find_in_blocks(
    first: int,
    stop: int,
    nuclei: NDArray,
    boxes: NDArray,
    axes: NDArray,
    factor: int,
    reach: float,
    block_columns: int,
    start: NDArray,
    ids: NDArray,
    owner: NDArray,
    distance: NDArray,
) -> None:
    _, h, w = owner.shape
    half = (factor - 1) / 2
    for k in range(first, stop):
        top, left = (k // block_columns) * _BLOCK, (k % block_columns) * _BLOCK
        bottom, right = min(top + _BLOCK, h), min(left + _BLOCK, w)
        here = ids[start[k] : start[k + 1]]
        for n in range(len(here)):
            c = here[n]
            edge = edge_pixels(nuclei, boxes[c], c)
            cosine, sine, shrink = axes[c, 0], axes[c, 1], axes[c, 2]
            for i in range(top, bottom):
                y = i * factor + half
                to_box_y = max(boxes[c, 0] - y, y - boxes[c, 2] + 1, 0.0)
                if to_box_y > reach:
                    continue
                for j in range(left, right):
                    x = j * factor + half
                    to_box_x = max(boxes[c, 1] - x, x - boxes[c, 3] + 1, 0.0)
                    to_box = np.sqrt(to_box_y * to_box_y + to_box_x * to_box_x)
                    if to_box > reach or shrink * to_box - 0.5 > distance[1, i, j]:
                        continue
                    row, column = min(int(y), nuclei.shape[0] - 1), min(int(x), nuclei.shape[1] - 1)
                    if nuclei[row, column] == c:
                        found = 0.0
                    else:
                        plain, best = np.inf, np.inf
                        for e in range(len(edge)):
                            dy, dx = edge[e, 0] - y, edge[e, 1] - x
                            plain = min(plain, dy * dy + dx * dx)
                            along, across = (dx * cosine + dy * sine) * shrink, (dy * cosine - dx * sine) / shrink
                            best = min(best, along * along + across * across)
                        if plain > reach * reach:
                            continue
                        found = max(np.sqrt(best) - 0.5, 0.0)
                    _enter(owner, distance, i, j, c, np.float32(found))


@njit(cache=True, nogil=True)
def _enter(owner: NDArray, distance: NDArray, i: int, j: int, nucleus: int, found: np.float32) -> None:
    """Enter a nucleus among the two nearest; ties go to the lower id."""
    if found < distance[0, i, j] or (found == distance[0, i, j] and nucleus < owner[0, i, j]):
        owner[1, i, j], distance[1, i, j] = owner[0, i, j], distance[0, i, j]
        owner[0, i, j], distance[0, i, j] = nucleus, found
    elif found < distance[1, i, j] or (found == distance[1, i, j] and nucleus < owner[1, i, j]):
        owner[1, i, j], distance[1, i, j] = nucleus, found
