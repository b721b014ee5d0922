"""Per-cell measurements of a label raster, in exact integer sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


def moments(labels: NDArray, n: int) -> NDArray[np.int64]:
    """Return per id 1..n: pixels, and the sums of x, y, x*x, y*y, x*y over them; ``(n, 6)`` int64.

    ``x`` is the column, ``y`` the row of a pixel (whole numbers; its centre lies 0.5 further).
    """
    out = np.zeros((n + 1, 6), dtype=np.int64)
    _moments(labels, out)
    return out[1:]


@njit(cache=True, nogil=True)
def _moments(labels: NDArray, out: NDArray) -> None:
    h, w = labels.shape
    for i in range(h):
        for j in range(w):
            c = labels[i, j]
            if c > 0:
                out[c, 0] += 1
                out[c, 1] += j
                out[c, 2] += i
                out[c, 3] += j * j
                out[c, 4] += i * i
                out[c, 5] += i * j


def centroids(moments_: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``(n, 2)`` centroids ``(x, y)`` in pixels, pixel centres at +0.5; NaN for an id without pixels."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return moments_[:, 1:3] / moments_[:, :1] + 0.5


def eccentricities(moments_: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``(n,)`` eccentricities of the ellipses with the same second moments.

    0 for a circle, towards 1 for a line. Each pixel counts as a unit square (second moment 1/12), so that a row of
    pixels has a width.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        area = moments_[:, 0].astype(np.float64)
        mean_x, mean_y = moments_[:, 1] / area, moments_[:, 2] / area
        xx = moments_[:, 3] / area - mean_x**2 + 1 / 12
        yy = moments_[:, 4] / area - mean_y**2 + 1 / 12
        xy = moments_[:, 5] / area - mean_x * mean_y
        root = np.sqrt(4 * xy**2 + (xx - yy) ** 2)
        major, minor = (xx + yy + root) / 2, (xx + yy - root) / 2
        return np.sqrt(np.clip(1 - minor / major, 0, 1))


def mean_probabilities(labels: NDArray, probability: NDArray[np.uint8], n: int) -> NDArray[np.float64]:
    """Return ``(n,)`` means over each cell's pixels of a probability given in 1/255; NaN for an id without pixels."""
    total = np.zeros(n + 1, dtype=np.int64)
    pixels = np.zeros(n + 1, dtype=np.int64)
    _sum_probabilities(labels, probability, total, pixels)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total[1:] / (255.0 * pixels[1:])


@njit(cache=True, nogil=True)
def _sum_probabilities(labels: NDArray, probability: NDArray, total: NDArray, pixels: NDArray) -> None:
    h, w = labels.shape
    for i in range(h):
        for j in range(w):
            c = labels[i, j]
            if c > 0:
                total[c] += probability[i, j]
                pixels[c] += 1
