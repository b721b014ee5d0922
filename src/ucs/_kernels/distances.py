"""Distances to nuclei that follow the nuclei's shape (paper, equation 11 and text: the scaled softmask).

An elongated nucleus usually belongs to an elongated cell. The vector from a pixel to a point of the nucleus is
therefore split along the axes of the nucleus' ellipse; the component along the major axis is multiplied by ``k`` and
the component along the minor axis divided by ``k``, with ``k = (b / a) ** strength`` for half-axes ``a >= b``.
Distances to circles do not change; the more elongated a nucleus, the nearer are pixels beyond its tips. The distance of
a pixel is the smallest to any pixel of the nucleus. The ellipse has the second moments of the nucleus (paper: the
smallest ellipse that holds it, which one stray pixel changes).

Read literally, the paper's factor is the root of the eccentricity, ``k = sqrt(e)`` with ``e = sqrt(1 - (b / a) ** 2)``.
It divides by zero for a circle and does nothing for a needle, the opposite of what the text describes.
:data:`LITERAL` asks for it; nuclei with ``e`` below 0.1 (``b / a`` above 0.995) then count as circles, ``k = 1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.labels.ids import renumber
from ucs._kernels.labels.measure import add_pixel, second_moments
from ucs._kernels.labels.windows import Window, smallest_window
from ucs._kernels.lattice import boxes_by_block
from ucs._utils.parallel import in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 128
"""Side in pixels of the blocks that threads take: nuclei that reach several blocks are processed again in each."""

LITERAL = "literal"
"""Asks :func:`nucleus_axes` for the paper's factor as it is written."""

_CIRCLE = 0.1  # eccentricity below which the literal factor is not used


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


def nucleus_axes(nuclei: NDArray[np.int32], n: int, *, strength: float | str) -> NDArray[np.float64]:
    """Return ``(n + 1, 3)``: cosine and sine of the long axis against the columns, and the factor ``k``, by id.

    Parameters
    ----------
    nuclei
        ``(h, w)`` ids 0..n.
    n
        The highest id.
    strength
        Exponent of ``b / a``; 0 gives plain distances. :data:`LITERAL` gives the root of the eccentricity.
    """
    sums = np.zeros((n + 1, 6))
    _raw_moments(nuclei, sums)
    sums[:, 0] = np.maximum(sums[:, 0], 1)  # absent ids
    columns, rows, mixed = second_moments(sums)
    half, spread = (columns + rows) / 2, np.hypot((columns - rows) / 2, mixed)
    angle = 0.5 * np.arctan2(2 * mixed, columns - rows)
    ratio = np.sqrt(np.maximum(half - spread, 1 / 12) / np.maximum(half + spread, 1 / 12))  # b / a
    if strength == LITERAL:
        eccentricity = np.sqrt(1 - ratio**2)
        factor = np.where(eccentricity < _CIRCLE, 1.0, np.sqrt(eccentricity))
    else:
        factor = ratio ** float(strength)
    return np.stack([np.cos(angle), np.sin(angle), factor], axis=1)


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


def window_with_nuclei(
    core: Window, nuclei: NDArray[np.int32], boxes: NDArray[np.int64], axes: NDArray[np.float64], reach: int
) -> Window:
    """Return the part of the raster that the distances in a core depend on.

    By the stretched distance, the nearest pixel of a long nucleus may lie farther away than the one that is within
    reach: that distance is at most reach / k, and at least k times the plain one.
    """
    window = core.grown(reach).clipped(nuclei.shape)
    held = renumber(nuclei[window.slices], len(boxes) - 1)[0][1:]
    parts = [window]
    for box, k in zip(boxes[held].tolist(), axes[held, 2].tolist(), strict=True):
        part = Window(*box).meet(core.grown(math.ceil(reach / k**2)))
        if part != part.meet(window):
            parts.append(part)
    return smallest_window(parts)


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
    edge = edge_pixels(nuclei, box, nucleus)
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
def edge_pixels(nuclei: NDArray, box: NDArray, nucleus: int) -> NDArray:
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


@njit(cache=True, nogil=True, inline="never")
def signed_distance(
    nuclei: NDArray, box: NDArray, nucleus: int, axes: NDArray, row0: int, column0: int, out: NDArray, reach: float
) -> None:
    """Write the signed distance to the boundary of one nucleus into ``out``; beyond ``reach`` it is ``-inf``.

    The boundary runs between pixels: outside, the distance is minus that to the nearest pixel centre of the nucleus, in
    the measure of ``axes``, plus 0.5; inside, it is the plain distance to the nearest pixel centre that is not of the
    nucleus less 0.5. ``reach`` is compared with the plain distance between pixel centres. Exact, in pixels.

    Parameters
    ----------
    nuclei
        ``(h, w)`` nucleus ids.
    box
        ``row0, column0, row1, column1`` of the nucleus.
    nucleus
        Its id.
    axes
        ``(3,)`` of :func:`nucleus_axes`.
    row0, column0
        Pixel of the raster at which ``out`` begins.
    out
        ``(a, b)`` float64, overwritten.
    reach
        Distance in pixels up to which the result is wanted.
    """
    runs = _column_runs(nuclei, box, nucleus)
    n = len(runs)
    vertical = np.empty(n, dtype=np.int64)  # squared, from a row to each run
    limit = reach * reach
    is_plain = axes[2] == 1.0
    for i in range(out.shape[0]):
        y = row0 + i
        for r in range(n):
            v = max(runs[r, 1] - y, y - runs[r, 2], 0)
            vertical[r] = v * v
        for j in range(out.shape[1]):
            x = column0 + j
            plain = np.int64(1) << 60
            for r in range(n):
                dx = runs[r, 0] - x
                plain = min(plain, dx * dx + vertical[r])
            if plain == 0:
                out[i, j] = _depth(nuclei, nucleus, box, y, x)
            elif plain > limit:
                out[i, j] = -np.inf
            elif is_plain:
                out[i, j] = 0.5 - np.sqrt(plain)
            else:
                out[i, j] = 0.5 - _stretched_to_runs(runs, axes, y, x)


@njit(cache=True, nogil=True)
def _column_runs(nuclei: NDArray, box: NDArray, nucleus: int) -> NDArray:
    """List the runs of pixels of a nucleus along its columns: ``(n, 3)`` column, first and last row."""
    out = np.empty(((box[3] - box[1]) * ((box[2] - box[0] + 1) // 2), 3), dtype=np.int64)
    n = 0
    for j in range(box[1], box[3]):
        inside = False
        for i in range(box[0], box[2]):
            if nuclei[i, j] != nucleus:
                inside = False
                continue
            if not inside:
                out[n, 0], out[n, 1] = j, i
                n += 1
            out[n - 1, 2] = i
            inside = True
    return out[:n]


@njit(cache=True, nogil=True)
def _stretched_to_runs(runs: NDArray, axes: NDArray, y: int, x: int) -> float:
    """Return the distance in the measure of ``axes`` from a pixel to the nearest one of some runs."""
    cosine, sine, k = axes[0], axes[1], axes[2]
    # The squared distance is xx dx^2 + 2 xy dx dy + yy dy^2, along a column a parabola: one of the two pixels about its
    # lowest point is the nearest, or the end of the run next to it.
    xx = (k * cosine) ** 2 + (sine / k) ** 2
    yy = (k * sine) ** 2 + (cosine / k) ** 2
    xy = (k * k - 1 / (k * k)) * cosine * sine
    slope = -xy / yy
    best = np.inf
    for r in range(len(runs)):
        dx = float(runs[r, 0] - x)
        first, last = float(runs[r, 1] - y), float(runs[r, 2] - y)
        below = np.floor(slope * dx)
        for dy in (min(max(below, first), last), min(max(below + 1, first), last)):
            best = min(best, xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy)
    return np.sqrt(best)


@njit(cache=True, nogil=True)
def _depth(nuclei: NDArray, nucleus: int, box: NDArray, row: int, column: int) -> float:
    """Distance of a nucleus pixel to the nearest pixel outside the nucleus, less 0.5."""
    top, left, bottom, right = box[0], box[1], box[2], box[3]
    best = 1 << 40
    for k in range(left - 1, right + 1):
        dx = (k - column) * (k - column)
        if dx >= best:
            continue
        for r in range(top - 1, bottom + 1):
            inside = left <= k < right and top <= r < bottom and nuclei[r, k] == nucleus
            if not inside:
                dy = r - row
                best = min(best, dx + dy * dy)
    return np.sqrt(best) - 0.5
