"""Smooth outlines: borders moved off the pixel edges, the same from both sides and without crossings.

Positions belong to pixel corners, not to cells. A corner on a border moves by less than half a pixel in x and in y, so
pixel edges without a common corner stay apart, and edges with one meet there alone: borders cross nowhere, and what
was valid along pixel edges is valid after. The way of a corner follows from the labels within :data:`HALO` pixels.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ucs._kernels.labels.windows import Window

__all__ = ["HALO", "smooth_rings"]

_STEPS = 10  # towards the mean of the neighbours; flattens steps that are up to about ten pixels apart
HALO = _STEPS + 1
"""How far around a window labels bear on the outlines in it, in pixels."""

_REACH = 0.45  # pixels in x and in y; centres of pixels, half a pixel from the edges, stay on their side


def smooth_rings(
    coordinates: NDArray,
    ring_offsets: NDArray,
    labels: NDArray,
    present: NDArray[np.bool_],
    window: Window,
    shape: tuple[int, ...],
) -> tuple[NDArray, NDArray]:
    """Return rings along pixel edges with their corners moved, and with fewer of them.

    All points of a border take half a step towards the mean of their two or three neighbours along borders, ten times;
    one long step back undoes the shrinkage to first order. Points where four borders meet stay, and so do the ends of
    the raster. Of the points between two labels every second is left out, on both sides the same, if the pixel whose
    corner it is keeps its centre and no other border is near.

    Parameters
    ----------
    coordinates, ring_offsets
        Rings as from :func:`ucs._kernels.labels.outline.trace_window` with ``every=True``.
    labels
        ``(h, w)`` labels in `window`, which reaches :data:`HALO` beyond the rings, or to the ends of the raster.
    present
        ``(n + 1,)`` which labels count; the others are background.
    window
        Its place on the raster.
    shape
        Height and width of the raster.
    """
    state = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2), dtype=np.int32)
    state[1:-1, 1:-1] = np.where(present[labels], labels, 0)
    number, neighbours, at = _border(state)
    place = at + np.array([window.row0, window.column0])
    fixed = (neighbours >= 0).all(axis=1) | (place == 0).any(axis=1) | (place == np.array(shape[:2])).any(axis=1)
    move = _relaxed(neighbours, fixed)
    kept = _kept(neighbours, fixed, move, at, place.sum(axis=1) % 2 == 0, number)
    return _mapped(coordinates, ring_offsets, number, move, kept, window.row0, window.column0)


# Neighbours of a pixel corner: above, left, right, below.
_ROW = np.array([-1, 0, 0, 1])
_COLUMN = np.array([0, -1, 1, 0])


@njit(cache=True, nogil=True)
def _border(state: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Number the pixel corners on borders: by place, -1 elsewhere; their neighbours, -1 if none; their places."""
    h, w = state.shape[0] - 1, state.shape[1] - 1
    number = np.full((h, w), -1, dtype=np.int32)
    n = 0
    for i in range(h):
        for j in range(w):
            a, b, c, d = state[i, j], state[i, j + 1], state[i + 1, j], state[i + 1, j + 1]
            if a != b or a != c or a != d:
                number[i, j] = n
                n += 1
    neighbours, at = np.full((n, 4), -1, dtype=np.int32), np.empty((n, 2), dtype=np.int64)
    for i in range(h):
        for j in range(w):
            p = number[i, j]
            if p < 0:
                continue
            at[p, 0], at[p, 1] = i, j
            a, b, c, d = state[i, j], state[i, j + 1], state[i + 1, j], state[i + 1, j + 1]
            if a != b:
                neighbours[p, 0] = number[i - 1, j] if i > 0 else -1
            if a != c:
                neighbours[p, 1] = number[i, j - 1] if j > 0 else -1
            if b != d:
                neighbours[p, 2] = number[i, j + 1] if j < w - 1 else -1
            if c != d:
                neighbours[p, 3] = number[i + 1, j] if i < h - 1 else -1
    return number, neighbours, at


@njit(cache=True, nogil=True)
def _relaxed(neighbours: NDArray, fixed: NDArray) -> NDArray:
    """Return how far each point moves, in rows and columns."""
    n = len(fixed)
    move, new = np.zeros((n, 2)), np.zeros((n, 2))
    for step in range(_STEPS + 1):
        weight = 0.5 if step < _STEPS else -0.5 * _STEPS
        for p in range(n):
            if fixed[p]:
                continue
            rows, columns, degree = 0.0, 0.0, 0
            for k in range(4):
                q = neighbours[p, k]
                if q >= 0:
                    rows += _ROW[k] + move[q, 0]
                    columns += _COLUMN[k] + move[q, 1]
                    degree += 1
            if degree > 0:
                new[p, 0] = move[p, 0] + weight * (rows / degree - move[p, 0])
                new[p, 1] = move[p, 1] + weight * (columns / degree - move[p, 1])
        move, new = new, move
    for p in range(n):
        move[p, 0] = min(max(move[p, 0], -_REACH), _REACH)
        move[p, 1] = min(max(move[p, 1], -_REACH), _REACH)
    return move


@njit(cache=True, nogil=True)
def _kept(
    neighbours: NDArray, fixed: NDArray, move: NDArray, at: NDArray, even: NDArray, number: NDArray
) -> NDArray[np.bool_]:
    """Return which points stay vertices. The neighbours of one that is left out do, as they are even."""
    kept = np.ones(len(fixed), dtype=np.bool_)
    for p in range(len(fixed)):
        first, last, degree = -1, -1, 0
        for k in range(4):
            if neighbours[p, k] >= 0:
                first, last, degree = (k if degree == 0 else first), k, degree + 1
        if even[p] or degree != 2:
            continue
        if first + last == 3:  # straight on
            kept[p] = False
            continue
        row, column = _ROW[first] + _ROW[last], _COLUMN[first] + _COLUMN[last]
        if fixed[p] or number[at[p, 0] + row, at[p, 1] + column] >= 0:
            continue
        a, b = neighbours[p, first], neighbours[p, last]
        y0, x0 = _ROW[first] + move[a, 0], _COLUMN[first] + move[a, 1]
        y1, x1 = _ROW[last] + move[b, 0], _COLUMN[last] + move[b, 1]
        centre = (x1 - x0) * (row / 2 - y0) - (y1 - y0) * (column / 2 - x0)
        beyond = (x1 - x0) * (row - y0) - (y1 - y0) * (column - x0)
        kept[p] = centre * beyond <= 0
    return kept


@njit(cache=True, nogil=True)
def _mapped(
    coordinates: NDArray, offsets: NDArray, number: NDArray, move: NDArray, kept: NDArray, row0: int, column0: int
) -> tuple[NDArray, NDArray]:
    """Return rings of moved points, closed again where the first one is left out."""
    out, new_offsets, n = np.empty((len(coordinates), 2)), np.zeros(len(offsets), dtype=np.int64), 0
    for ring in range(len(offsets) - 1):
        start = n
        for k in range(offsets[ring], offsets[ring + 1] - 1):
            x, y = coordinates[k, 0], coordinates[k, 1]
            p = number[int(y) - row0, int(x) - column0]
            if kept[p]:
                out[n, 0], out[n, 1] = x + move[p, 1], y + move[p, 0]
                n += 1
        out[n, 0], out[n, 1] = out[start, 0], out[start, 1]
        n += 1
        new_offsets[ring + 1] = n
    return out[:n], new_offsets
