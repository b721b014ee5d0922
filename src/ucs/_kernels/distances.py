"""Distances to nuclei that follow the nuclei's shape (paper, equation 11 and text: the scaled softmask).

An elongated nucleus usually belongs to an elongated cell. The vector from a pixel to a point of the nucleus is
therefore split along the axes of the nucleus' ellipse; the component along the major axis is multiplied by ``k`` and
the component along the minor axis divided by ``k``, with ``k = (b / a) ** strength`` for half-axes ``a >= b``.
Distances to circles do not change; the more elongated a nucleus, the nearer are pixels beyond its tips. (Read
literally, the paper's factor, the root of the eccentricity, divides by zero for a circle and does nothing for a
needle.) The distance of a pixel is the smallest to any pixel of the nucleus. The ellipse has the second moments of the
nucleus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.lattice import boxes_by_block
from ucs._kernels.measure import add_pixel, second_moments
from ucs._utils.parallel import in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 128
"""Side in pixels of the blocks that threads take: nuclei that reach several blocks are processed again in each."""


@dataclass(frozen=True)
class NearestNuclei:
    """Distances from each pixel to the nuclei around it, ``(h, w)`` each.

    Attributes
    ----------
    owner
        int32, the nearest nucleus within reach, 0 where there is none; ties go to the lower id.
    distance
        float32, stretched distance in pixels from its nearest pixel centre; 0 in nuclei, ``inf`` without an owner.
    second
        float32, the same for the second nearest nucleus.
    """

    owner: NDArray[np.int32]
    distance: NDArray[np.float32]
    second: NDArray[np.float32]


def nucleus_axes(nuclei: NDArray[np.int32], n: int, *, strength: float) -> NDArray[np.float64]:
    """Return ``(n + 1, 3)``: cosine and sine of the long axis against the columns, and the factor ``k``, by id.

    Parameters
    ----------
    nuclei
        ``(h, w)`` ids 0..n.
    n
        The highest id.
    strength
        Exponent of ``b / a``; 0 gives plain distances.
    """
    sums = np.zeros((n + 1, 6))
    _raw_moments(nuclei, sums)
    sums[:, 0] = np.maximum(sums[:, 0], 1)  # absent ids
    columns, rows, mixed = second_moments(sums)
    half, spread = (columns + rows) / 2, np.hypot((columns - rows) / 2, mixed)
    angle = 0.5 * np.arctan2(2 * mixed, columns - rows)
    ratio = np.sqrt(np.maximum(half - spread, 1 / 12) / np.maximum(half + spread, 1 / 12))  # b / a
    return np.stack([np.cos(angle), np.sin(angle), ratio**strength], axis=1)


@njit(cache=True, nogil=True)
def _raw_moments(nuclei: NDArray, sums: NDArray) -> None:
    # About the first pixel of each nucleus: sums of squares of large coordinates would lose the small differences.
    first = np.full((len(sums), 2), -1, dtype=np.int64)
    for i in range(nuclei.shape[0]):
        for j in range(nuclei.shape[1]):
            c = nuclei[i, j]
            if c == 0:
                continue
            if first[c, 0] < 0:
                first[c, 0], first[c, 1] = i, j
            add_pixel(sums, c, float(j - first[c, 1]), float(i - first[c, 0]))


def nearest_nuclei(
    nuclei: NDArray[np.int32], boxes: NDArray[np.int64], axes: NDArray[np.float64], *, reach: int
) -> NearestNuclei:
    """Find the nearest and the second nearest nucleus of each pixel.

    Parameters
    ----------
    nuclei
        ``(h, w)`` ids 1..n, 0 elsewhere.
    boxes
        ``(n + 1, 4)`` of :func:`ucs._kernels.lattice.bounding_boxes`.
    axes
        Of :func:`nucleus_axes`.
    reach
        Plain distance in pixels up to which a nucleus is seen.
    """
    h, w = nuclei.shape
    block_rows, block_columns = -(-h // BLOCK), -(-w // BLOCK)
    start, ids = boxes_by_block(boxes, reach, BLOCK, block_rows, block_columns)
    owner = nuclei.copy()
    distance = np.where(nuclei > 0, np.float32(0), np.float32(np.inf))
    second = np.full((h, w), np.inf, dtype=np.float32)
    in_threads(
        _nearest_in_blocks, len(start) - 1, nuclei, boxes, axes, int(reach), block_columns, start, ids, owner, distance,
        second,
    )  # fmt: skip
    return NearestNuclei(owner, distance, second)


@njit(cache=True, nogil=True)
def _nearest_in_blocks(
    first: int,
    stop: int,
    nuclei: NDArray,
    boxes: NDArray,
    axes: NDArray,
    reach: int,
    block_columns: int,
    start: NDArray,
    ids: NDArray,
    owner: NDArray,
    nearest: NDArray,
    second: NDArray,
) -> None:
    h, w = nuclei.shape
    for k in range(first, stop):
        top, left = (k // block_columns) * BLOCK, (k % block_columns) * BLOCK
        bottom, right = min(top + BLOCK, h), min(left + BLOCK, w)
        for c in ids[start[k] : start[k + 1]]:  # ascending: the lower id wins ties
            row0, row1 = max(boxes[c, 0] - reach, top), min(boxes[c, 2] + reach, bottom)
            column0, column1 = max(boxes[c, 1] - reach, left), min(boxes[c, 3] + reach, right)
            if row1 <= row0 or column1 <= column0:
                continue
            distance = np.empty((row1 - row0, column1 - column0), dtype=np.float32)
            stretched_distance(nuclei, boxes[c], c, axes[c], row0, column0, distance, reach)
            for i in range(row0, row1):
                for j in range(column0, column1):
                    d = distance[i - row0, j - column0]
                    if nuclei[i, j] > 0 or d == np.inf:
                        continue
                    if d < nearest[i, j]:
                        second[i, j] = nearest[i, j]
                        nearest[i, j] = d
                        owner[i, j] = c
                    elif d < second[i, j]:
                        second[i, j] = d


@njit(cache=True, nogil=True)
def stretched_distance(
    nuclei: NDArray, box: NDArray, nucleus: int, axes: NDArray, row0: int, column0: int, out: NDArray, reach: int
) -> None:
    """Write the stretched distance to one nucleus into ``out``: 0 inside it, ``inf`` beyond ``reach`` (plain distance).

    Parameters
    ----------
    nuclei
        ``(h, w)`` ids.
    box
        ``row0, column0, row1, column1`` of the nucleus.
    nucleus
        Its id.
    axes
        ``(3,)`` of :func:`nucleus_axes`.
    row0, column0
        Pixel at which ``out`` begins.
    out
        ``(a, b)`` float32, overwritten.
    reach
        In pixels.
    """
    edge = _edge_pixels(nuclei, box, nucleus)
    cosine, sine, k = axes[0], axes[1], axes[2]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            y, x = row0 + i, column0 + j
            inside = box[0] <= y < box[2] and box[1] <= x < box[3]
            if inside and nuclei[y, x] == nucleus:
                out[i, j] = 0.0
                continue
            to_box_y, to_box_x = max(box[0] - y, y - box[2] + 1, 0), max(box[1] - x, x - box[3] + 1, 0)
            if to_box_y * to_box_y + to_box_x * to_box_x > reach * reach:
                out[i, j] = np.inf
                continue
            plain, best = 1 << 60, np.inf
            for e in range(len(edge)):
                dy, dx = edge[e, 0] - y, edge[e, 1] - x
                plain = min(plain, dy * dy + dx * dx)
                along, across = (dx * cosine + dy * sine) * k, (dy * cosine - dx * sine) / k
                best = min(best, along * along + across * across)
            out[i, j] = np.sqrt(best) if plain <= reach * reach else np.inf


@njit(cache=True, nogil=True)
def _edge_pixels(nuclei: NDArray, box: NDArray, nucleus: int) -> NDArray:
    """List the pixels of a nucleus with a 4-neighbour outside it: the nearest pixel is always one of them."""
    h, w = nuclei.shape
    out = np.empty(((box[2] - box[0]) * (box[3] - box[1]), 2), dtype=np.int64)
    n = 0
    for i in range(box[0], box[2]):
        for j in range(box[1], box[3]):
            if nuclei[i, j] != nucleus:
                continue
            if (
                i == 0 or j == 0 or i == h - 1 or j == w - 1
                or nuclei[i - 1, j] != nucleus or nuclei[i + 1, j] != nucleus
                or nuclei[i, j - 1] != nucleus or nuclei[i, j + 1] != nucleus
            ):  # fmt: skip
                out[n, 0], out[n, 1] = i, j
                n += 1
    return out[:n]
