"""Where training looks for background: far from every nucleus and with few transcripts (paper, equations 7 and 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._utils.parallel import in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAPER_KERNEL = 10
"""Side of the paper's dilation kernel in pixels."""

PAPER_ITERATIONS = 4
"""How often the paper dilates the nuclei."""

_LARGEST_LIMIT = 255  # its square and one more fit into 16 bits


def squared_distance(nuclei: NDArray, limit: int) -> NDArray[np.uint16]:
    """Return the squared distance from each pixel centre to the nearest nucleus pixel centre, in pixels, ``(h, w)``.

    Distances above ``limit`` (at most 255) are given as ``limit ** 2 + 1``; 0 on nuclei.
    """
    if not 0 <= limit <= _LARGEST_LIMIT:
        msg = f"limit={limit} must lie between 0 and {_LARGEST_LIMIT} pixels."
        raise ValueError(msg)
    vertical = np.full(nuclei.shape, limit + 1, dtype=np.uint16)
    in_threads(_vertical, nuclei.shape[1], nuclei, vertical)
    out = np.empty(nuclei.shape, dtype=np.uint16)
    in_threads(_horizontal, nuclei.shape[0], vertical, limit, out)
    return out


@njit(cache=True, nogil=True)
def _vertical(left: int, right: int, nuclei: NDArray, out: NDArray) -> None:
    h = len(nuclei)
    for i in range(h):
        for j in range(left, right):
            if nuclei[i, j] > 0:
                out[i, j] = 0
            elif i > 0 and out[i - 1, j] + 1 < out[i, j]:
                out[i, j] = out[i - 1, j] + 1
    for i in range(h - 2, -1, -1):
        for j in range(left, right):
            if out[i + 1, j] + 1 < out[i, j]:
                out[i, j] = out[i + 1, j] + 1


@njit(cache=True, nogil=True)
def _horizontal(first: int, stop: int, vertical: NDArray, limit: int, out: NDArray) -> None:
    w = vertical.shape[1]
    for i in range(first, stop):
        for j in range(w):
            best = np.int64(limit) * limit + 1
            v = np.int64(vertical[i, j])
            best = min(best, v * v)
            for dx in range(1, limit + 1):
                if dx * dx >= best:
                    break
                if j - dx >= 0:
                    v = np.int64(vertical[i, j - dx])
                    best = min(best, dx * dx + v * v)
                if j + dx < w:
                    v = np.int64(vertical[i, j + dx])
                    best = min(best, dx * dx + v * v)
            out[i, j] = best


def beyond_distance(nuclei: NDArray, distance: float) -> NDArray[np.bool_]:
    """Return the pixels whose centre is farther than ``distance`` pixels from every nucleus pixel's, ``(h, w)``.

    Raises
    ------
    ValueError
        If the distance is negative or more than 255 pixels.
    """
    if not 0 <= distance <= _LARGEST_LIMIT:
        msg = f"distance={distance} pixels must lie between 0 and {_LARGEST_LIMIT}: shorten it or take larger pixels."
        raise ValueError(msg)
    limit = min(int(np.ceil(distance)) + 1, _LARGEST_LIMIT)
    return squared_distance(nuclei, limit) > distance * distance


def beyond_paper_dilation(nuclei: NDArray) -> NDArray[np.bool_]:
    """Return the pixels outside the nuclei dilated as in the paper: a 10 x 10 kernel, 4 times, ``(h, w)``.

    A kernel of even side has no centre: its anchor is element (5, 5), and a pixel is set if one is set under the kernel
    that is laid on it by the anchor (OpenCV's ``dilate``). One dilation therefore reaches 5 pixels down and right, 4
    up and left.
    """
    down = PAPER_ITERATIONS * (PAPER_KERNEL // 2)
    up = PAPER_ITERATIONS * (PAPER_KERNEL - 1 - PAPER_KERNEL // 2)
    near = _spread(nuclei > 0, down, up)
    return ~_spread(near.T, down, up).T


def _spread(mask: NDArray[np.bool_], down: int, up: int) -> NDArray[np.bool_]:
    """Dilate along the first axis: a pixel is set if one is set between ``down`` before it and ``up`` behind it."""
    h = len(mask)
    total = np.zeros((h + 1, *mask.shape[1:]), dtype=np.int32)
    np.cumsum(mask, axis=0, out=total[1:])
    rows = np.arange(h)
    return total[np.minimum(rows + up + 1, h)] > total[np.maximum(rows - down, 0)]
