"""Watershed of a landscape in which the label of a pixel depends on a bounded neighbourhood only.

In a flooding watershed the label of a pixel may depend on pixels at any distance. Here a pixel belongs to the peak at
the end of its path of steepest ascent, and to none if the path has more than ``reach`` steps. The basin of a pixel is
thus determined by the landscape within ``reach`` pixels, and the extent of a whole basin by that within ``2 * reach``
pixels: windows with such a margin agree in their overlaps, and nothing has to be stitched.

All rasters are windows ``(h, w)`` of a larger one; ids are 1..n in the raster order of the peaks, 0 = none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from ucs._kernels.labels.measure import add_pixel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DIAGONAL = np.float32(np.sqrt(0.5))


class Basins(NamedTuple):
    """Basins of a window: ``(h, w)`` int32 ids, and row and column of the peak of each id, ``(n,)`` int64."""

    labels: NDArray[np.int32]
    row: NDArray[np.int64]
    column: NDArray[np.int64]


class Contacts(NamedTuple):
    """Pixel edges that two ids share: lower and higher id, and the lower value of the two pixels in two rasters."""

    low: NDArray[np.int32]
    high: NDArray[np.int32]
    value: NDArray[np.float32]
    landscape: NDArray[np.float32]


@njit(cache=True, nogil=True)
def block_means(image: NDArray, side: int) -> NDArray[np.float32]:
    """Return the means of ``side x side`` blocks of a raster ``(h, w)``; blocks at the far edges may be smaller.

    Sums are in double precision and in a fixed order, so that the mean of a block does not depend on the window.
    """
    h, w = image.shape
    out = np.empty(((h + side - 1) // side, (w + side - 1) // side), dtype=np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total, n = 0.0, 0
            for y in range(i * side, min((i + 1) * side, h)):
                for x in range(j * side, min((j + 1) * side, w)):
                    total += image[y, x]
                    n += 1
            out[i, j] = total / n
    return out


@njit(cache=True, nogil=True)
def normalise(
    image: NDArray[np.float32],
    background: NDArray[np.float32],
    level: NDArray[np.float32],
    row0: int,
    column0: int,
    side: int,
) -> NDArray[np.float32]:
    """Return ``(image - background) / level``, not below 0, the two being interpolated from blocks of the whole raster.

    Parameters
    ----------
    image
        Window ``(h, w)`` whose first pixel is ``(row0, column0)`` of the raster.
    background, level
        Values at the centres of blocks of ``side x side`` pixels; bilinear between them, constant beyond.
    row0, column0
        First pixel of the window in the raster.
    side
        Side of a block in pixels.
    """
    h, w = image.shape
    n_rows, n_columns = background.shape
    out = np.empty((h, w), dtype=np.float32)
    for i in range(h):
        y = min(max((row0 + i + 0.5) / side - 0.5, 0.0), n_rows - 1.0)
        y0 = int(y)
        y1, fy = min(y0 + 1, n_rows - 1), y - y0
        for j in range(w):
            x = min(max((column0 + j + 0.5) / side - 0.5, 0.0), n_columns - 1.0)
            x0 = int(x)
            x1, fx = min(x0 + 1, n_columns - 1), x - x0
            a, b, c, d = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
            low = a * background[y0, x0] + b * background[y0, x1] + c * background[y1, x0] + d * background[y1, x1]
            high = a * level[y0, x0] + b * level[y0, x1] + c * level[y1, x0] + d * level[y1, x1]
            out[i, j] = max((image[i, j] - low) / high, 0.0)
    return out


def ascend(landscape: NDArray[np.float32], *, reach: int, minimum: float) -> Basins:
    """Return the basins of the peaks of a landscape.

    Parameters
    ----------
    landscape
        Heights ``(h, w)``.
    reach
        Pixels further than this many steps from their peak are 0.
    minimum
        Basins of peaks below this height are 0, though they keep their ids.
    """
    labels = np.zeros(landscape.shape, dtype=np.int32)
    row, column = _follow(_steepest(landscape), landscape, reach, np.float32(minimum), labels)
    return Basins(labels, row, column)


@njit(cache=True, nogil=True)
def _steepest(landscape: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return for each pixel the flat index of the neighbour up the steepest slope, or its own if it is a peak.

    On a plateau it is the first neighbour of the same height that precedes in raster order, so there are no cycles.
    """
    h, w = landscape.shape
    towards = np.empty(h * w, dtype=np.int32)
    for i in range(h):
        for j in range(w):
            here = i * w + j
            towards[here] = here
            steepest, level = np.float32(0.0), -1
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    y, x = i + di, j + dj
                    if (di == 0 and dj == 0) or y < 0 or x < 0 or y >= h or x >= w:
                        continue
                    slope = landscape[y, x] - landscape[i, j]
                    if di != 0 and dj != 0:
                        slope *= _DIAGONAL
                    if slope > steepest:
                        steepest = slope
                        towards[here] = y * w + x
                    elif slope == 0 and level < 0 and y * w + x < here:
                        level = y * w + x
            if steepest == 0 and level >= 0:
                towards[here] = level
    return towards


@njit(cache=True, nogil=True)
def _follow(
    towards: NDArray[np.int32],
    landscape: NDArray[np.float32],
    reach: int,
    minimum: np.float32,
    labels: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    h, w = labels.shape
    flat, height = labels.ravel(), landscape.ravel()
    steps = np.zeros(h * w, dtype=np.int32)
    n = 0
    for p in range(h * w):
        if towards[p] == p:
            n += 1
            flat[p] = n
    row, column = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    high = np.zeros(n + 1, dtype=np.bool_)
    for p in range(h * w):
        if flat[p] > 0:
            row[flat[p] - 1], column[flat[p] - 1] = p // w, p % w
            high[flat[p]] = height[p] >= minimum
    path = np.empty(h * w, dtype=np.int32)
    for p in range(h * w):
        length, q = 0, p
        while flat[q] == 0:
            path[length] = q
            length += 1
            q = towards[q]
        for k in range(length - 1, -1, -1):
            flat[path[k]], steps[path[k]] = flat[q], steps[q] + 1
            q = path[k]
    for p in range(h * w):
        if steps[p] > reach or not high[flat[p]]:
            flat[p] = 0
    return row, column


@njit(cache=True, nogil=True)
def basin_quantiles(
    labels: NDArray[np.int32], n: int, values: NDArray[np.float32], core: NDArray[np.bool_], quantile: float
) -> NDArray[np.float32]:
    """Return a quantile of the values of each id within ``core``, ``(n + 1,)``; 0 for ids without pixels there."""
    first = np.zeros(n + 2, dtype=np.int64)
    flat, inside, value = labels.ravel(), core.ravel(), values.ravel()
    for p in range(flat.size):
        if inside[p]:
            first[flat[p] + 1] += 1
    first = np.cumsum(first)
    sorted_values = np.empty(first[n + 1], dtype=np.float32)
    place = first[: n + 1].copy()
    for p in range(flat.size):
        if inside[p]:
            sorted_values[place[flat[p]]] = value[p]
            place[flat[p]] += 1
    out = np.zeros(n + 1, dtype=np.float32)
    for k in range(1, n + 1):
        size = first[k + 1] - first[k]
        if size > 0:
            part = np.sort(sorted_values[first[k] : first[k + 1]])
            out[k] = part[int(quantile * (size - 1) + 0.5)]
    return out


@njit(cache=True, nogil=True)
def keep_above(labels: NDArray[np.int32], values: NDArray[np.float32], limits: NDArray[np.float32]) -> None:
    """Set to 0, in place, the pixels whose value is not above the limit of their id, ``limits`` being ``(n + 1,)``."""
    flat, value = labels.ravel(), values.ravel()
    for p in range(flat.size):
        if flat[p] > 0 and not value[p] > limits[flat[p]]:
            flat[p] = 0


@njit(cache=True, nogil=True)
def sums(labels: NDArray[np.int32], n: int, row0: int, column0: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sums for the moments of each id 0..n, and its box.

    Parameters
    ----------
    labels
        Window ``(h, w)`` whose first pixel is ``(row0, column0)`` of the raster.
    n
        Highest id.
    row0, column0
        First pixel of the window in the raster.

    Returns
    -------
    ``(n + 1, 6)`` number of pixels and sums of x, y, x*x, y*y, x*y, and ``(n + 1, 4)`` lowest row, lowest column,
    highest row, highest column, all in pixels of the raster. Sums and boxes of windows can be combined.
    """
    total = np.zeros((n + 1, 6), dtype=np.int64)
    box = np.empty((n + 1, 4), dtype=np.int64)
    box[:, :2], box[:, 2:] = np.iinfo(np.int64).max, -1
    h, w = labels.shape
    for i in range(h):
        y = row0 + i
        for j in range(w):
            k = labels[i, j]
            if k == 0:
                continue
            x = column0 + j
            add_pixel(total, k, x, y)
            box[k, 0], box[k, 1] = min(box[k, 0], y), min(box[k, 1], x)
            box[k, 2], box[k, 3] = max(box[k, 2], y), max(box[k, 3], x)
    return total, box


def contacts(
    labels: NDArray[np.int32],
    values: NDArray[np.float32],
    landscape: NDArray[np.float32],
    own: tuple[int, int, int, int],
) -> Contacts:
    """Return the pixel edges between different ids to the right of and below the pixels that a window owns.

    Parameters
    ----------
    labels, values, landscape
        Window ``(h, w)``.
    own
        First row and column, and those after the last, of the pixels it owns. Windows that share out the pixels of a
        raster share out the edges.
    """
    n = _contacts(labels, values, landscape, own, np.empty((0, 2), np.int32), np.empty((0, 2), np.float32))
    ids, heights = np.empty((n, 2), dtype=np.int32), np.empty((n, 2), dtype=np.float32)
    _contacts(labels, values, landscape, own, ids, heights)
    return Contacts(ids[:, 0], ids[:, 1], heights[:, 0], heights[:, 1])


@njit(cache=True, nogil=True)
def _contacts(
    labels: NDArray[np.int32],
    values: NDArray[np.float32],
    landscape: NDArray[np.float32],
    own: tuple[int, int, int, int],
    ids: NDArray[np.int32],
    heights: NDArray[np.float32],
) -> int:
    h, w = labels.shape
    n, fill = 0, len(ids) > 0
    for i in range(own[0], own[2]):
        for j in range(own[1], own[3]):
            a = labels[i, j]
            if a == 0:
                continue
            for step in range(2):
                y, x = i + step, j + 1 - step
                if y >= h or x >= w or labels[y, x] == 0 or labels[y, x] == a:
                    continue
                if fill:
                    b = labels[y, x]
                    ids[n, 0], ids[n, 1] = min(a, b), max(a, b)
                    heights[n, 0] = min(values[i, j], values[y, x])
                    heights[n, 1] = min(landscape[i, j], landscape[y, x])
                n += 1
    return n
