"""Signed distances to one nucleus, and the softmask made of them (paper, equation 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@njit(cache=True, nogil=True, inline="never")
def signed_distance(
    nuclei: NDArray, box: NDArray, nucleus: int, row0: int, column0: int, out: NDArray, reach: float
) -> None:
    """Write the signed distance to the boundary of one nucleus into ``out``; beyond ``reach`` it is ``-inf``.

    The boundary runs between pixels: outside, the distance is that to the nearest pixel centre of the nucleus less 0.5;
    inside, it is positive, the distance to the nearest pixel centre that is not of the nucleus less 0.5. ``reach`` is
    compared with the distance between pixel centres. Exact Euclidean distances, in pixels.

    Parameters
    ----------
    nuclei
        ``(h, w)`` nucleus ids.
    box
        ``row0, column0, row1, column1`` of the nucleus.
    nucleus
        Its id.
    row0, column0
        Pixel of the raster at which ``out`` begins.
    out
        ``(a, b)`` float64, overwritten.
    reach
        Distance in pixels up to which the result is wanted.
    """
    top, left, bottom, right = box[0], box[1], box[2], box[3]
    a, b = out.shape
    width = right - left
    far = 1 << 40
    # Vertical distance to the nucleus in each of its columns, for each row of `out`.
    vertical = np.empty((a, width), dtype=np.int64)
    for j in range(width):
        for i in range(a):
            row = row0 + i
            best = far
            if top <= row < bottom and nuclei[row, left + j] == nucleus:
                best = 0
            vertical[i, j] = best
    _vertical_distances(nuclei, nucleus, top, left, bottom, row0, vertical, far)
    limit = reach * reach
    for i in range(a):
        for j in range(b):
            column = column0 + j
            best = far
            for k in range(width):
                v = vertical[i, k]
                if v < far:
                    dx = column - (left + k)
                    d2 = dx * dx + v * v
                    best = min(best, d2)
            if best == 0:
                out[i, j] = _depth(nuclei, nucleus, top, left, bottom, right, row0 + i, column)
            elif best <= limit:
                out[i, j] = 0.5 - np.sqrt(best)
            else:
                out[i, j] = -np.inf


@njit(cache=True, nogil=True)
def _vertical_distances(
    nuclei: NDArray, nucleus: int, top: int, left: int, bottom: int, row0: int, vertical: NDArray, far: int
) -> None:
    """Complete ``vertical``; both sweeps start outside the nucleus, which ``out`` may cut in two."""
    a, width = vertical.shape
    for j in range(width):
        last = -far
        for row in range(min(top, row0), row0 + a):
            if top <= row < bottom and nuclei[row, left + j] == nucleus:
                last = row
            if row >= row0 and last > -far:
                vertical[row - row0, j] = min(vertical[row - row0, j], row - last)
        last = far
        for row in range(max(bottom, row0 + a) - 1, row0 - 1, -1):
            if top <= row < bottom and nuclei[row, left + j] == nucleus:
                last = row
            if row < row0 + a and last < far:
                vertical[row - row0, j] = min(vertical[row - row0, j], last - row)


@njit(cache=True, nogil=True)
def _depth(nuclei: NDArray, nucleus: int, top: int, left: int, bottom: int, right: int, row: int, column: int) -> float:
    """Distance of a nucleus pixel to the nearest pixel outside the nucleus, less 0.5."""
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


@njit(cache=True, nogil=True)
def sigmoid(x: float) -> float:
    """Logistic function without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + np.exp(-x))
    e = np.exp(x)
    return e / (1.0 + e)


@njit(cache=True, nogil=True)
def softmask(distance: float, tau: float) -> float:
    """Softmask of a signed distance (paper, equation 2): ``sigmoid(d / tau)``."""
    return sigmoid(distance / tau)
