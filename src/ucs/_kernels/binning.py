"""Positions to pixels, in one pass over the rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

BORDER_TOLERANCE = 1e-6
"""Positions up to this distance before a border of pixels, in pixels, count as beyond it.

Positions and centres of pixels lie on borders of other pixels where resolutions are multiples of each other. Rounding,
in a quotient or in a chain of affines, moves them by some 1e-12 pixels to either side, and floor would shift whole
columns by one pixel. The tolerance is far above that, even for global coordinates, and far below anything visible."""


@njit(cache=True, nogil=True)
def extent(x: NDArray, y: NDArray, kept: NDArray) -> tuple[int, float, float, float, float]:
    """Return the number of rows kept, and their smallest x and y and largest x and y."""
    n = 0
    x0 = y0 = np.inf
    x1 = y1 = -np.inf
    for i in range(len(x)):
        if kept[i]:
            n += 1
            x0 = min(x0, np.float64(x[i]))
            y0 = min(y0, np.float64(y[i]))
            x1 = max(x1, np.float64(x[i]))
            y1 = max(y1, np.float64(y[i]))
    return n, x0, y0, x1, y1


@njit(cache=True, nogil=True)
def bin_positions(
    x: NDArray,
    y: NDArray,
    code: NDArray,
    kept: NDArray,
    step: float,
    row0: int,
    column0: int,
    row: NDArray,
    column: NDArray,
    feature: NDArray,
) -> None:
    """Write the pixel of each kept row, counted from ``(row0, column0)``, and its code.

    The same arithmetic as :func:`ucs._read.grid.pixel_index`.
    """
    n = 0
    for i in range(len(x)):
        if kept[i]:
            row[n] = np.int64(np.floor(np.float64(y[i]) / step + BORDER_TOLERANCE)) - row0
            column[n] = np.int64(np.floor(np.float64(x[i]) / step + BORDER_TOLERANCE)) - column0
            feature[n] = code[i]
            n += 1


@njit(cache=True, nogil=True)
def group_by_tile(
    row: NDArray,
    column: NDArray,
    feature: NDArray,
    number: NDArray,
    count: NDArray,
    row0: int,
    column0: int,
    side: int,
    width: int,
    n_across: int,
    tile_start: NDArray,
    out_pixel: NDArray,
    out_feature: NDArray,
    out_count: NDArray,
) -> None:
    """Put transcripts in the order of tiles of ``side`` pixels, ``n_across`` of them in a row.

    The first tile begins ``row0`` rows and ``column0`` columns before the transcripts, and tiles end after ``width``
    columns. Features are numbered by ``number``, and those below 0 are left out. The pixel is counted within the tile,
    row by row; where each tile starts is written to ``tile_start``.
    """
    tile_start[:] = 0
    n_rows, n_columns = (len(tile_start) - 1) // n_across * side, n_across * side
    tile_row, tile_column = np.arange(n_rows) // side, np.arange(n_columns) // side
    for i in range(len(row)):
        if number[feature[i]] >= 0:
            tile_start[tile_row[row[i] + row0] * n_across + tile_column[column[i] + column0] + 1] += 1
    for t in range(len(tile_start) - 1):
        tile_start[t + 1] += tile_start[t]
    cursor = tile_start.copy()
    for i in range(len(row)):
        if number[feature[i]] >= 0:
            r, c = row[i] + row0, column[i] + column0
            a, b = tile_row[r], tile_column[c]
            t = a * n_across + b
            to = cursor[t]
            cursor[t] = to + 1
            out_pixel[to] = (r - a * side) * min(side, width - b * side) + c - b * side
            out_feature[to] = number[feature[i]]
            if len(out_count) > 0:
                out_count[to] = count[i]


@njit(cache=True, nogil=True)
def add_counts(pixel: NDArray, feature: NDArray, count: NDArray, first: int, out: NDArray) -> None:
    """Add transcripts of the features ``first, first + 1, ...`` to their counts ``(features, pixels)``."""
    for i in range(len(pixel)):
        f = np.int64(feature[i]) - first
        if 0 <= f < len(out):
            out[f, pixel[i]] += count[i] if len(count) > 0 else 1


@njit(cache=True, nogil=True)
def group_by_band(
    row: NDArray,
    column: NDArray,
    feature: NDArray,
    number: NDArray,
    count: NDArray,
    row0: int,
    height: int,
    band_start: NDArray,
    out_row: NDArray,
    out_column: NDArray,
    out_feature: NDArray,
    out_count: NDArray,
) -> None:
    """Sort transcripts by bands of ``height`` rows, the first of which begins ``row0`` rows above row 0.

    Features are renumbered by ``number``; the start of each band is written to ``band_start``.
    """
    band_start[:] = 0
    for i in range(len(row)):
        band_start[(row[i] + row0) // height + 1] += 1
    for b in range(len(band_start) - 1):
        band_start[b + 1] += band_start[b]
    cursor = band_start.copy()
    for i in range(len(row)):
        b = (row[i] + row0) // height
        to = cursor[b]
        cursor[b] = to + 1
        out_row[to] = row[i]
        out_column[to] = column[i]
        out_feature[to] = number[feature[i]]
        if len(out_count) > 0:
            out_count[to] = count[i]
