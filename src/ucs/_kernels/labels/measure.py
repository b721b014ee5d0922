"""Per-cell measurements of a label raster, in exact integer sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numba import njit

from ucs._kernels.bands import bands
from ucs._kernels.lattice import check_raster

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.bands import Raster


@dataclass(frozen=True)
class Measures:
    """Measurements of each label from one pass over a raster.

    Attributes
    ----------
    moments
        ``(n, 6)`` int64 of ids 1..n: pixels, and the sums of x, y, x*x, y*y, x*y over them. ``x`` is the column, ``y``
        the row of a pixel (whole numbers; its centre lies 0.5 further).
    boxes
        ``(n + 1, 4)`` int64 by id: ``row0, column0, row1, column1`` with the ends excluded; zeros for an absent id, 0.
    total
        ``(n,)`` int64 sums of a second raster over the pixels of ids 1..n; zeros without a second raster.
    """

    moments: NDArray[np.int64]
    boxes: NDArray[np.int64]
    total: NDArray[np.int64]

    def mean(self) -> NDArray[np.float64]:
        """Return the means of the second raster divided by 255, ``(n,)``; NaN for an id without pixels."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total / (255.0 * self.moments[:, 0])


def measure(labels: Raster, n: int, values: Raster | None = None) -> Measures:
    """Measure all labels in one pass in bounded memory.

    Parameters
    ----------
    labels
        ``(h, w)`` integer ids 0..n, 0 = background; in memory or on disk.
    n
        The highest id.
    values
        ``(h, w)`` whole numbers to be summed.

    Raises
    ------
    ValueError
        If the labels are no integer raster, or an id is below 0 or above n.
    """
    check_raster(cast("NDArray", labels))
    boxes = np.zeros((n + 1, 4), dtype=np.int64)
    sums = np.zeros((n + 1, 7), dtype=np.int64)
    none = np.zeros((0, 0), dtype=np.uint8)
    for row0, band in bands(labels):
        of_band = none if values is None else np.asarray(values[row0 : row0 + len(band)])
        if not _measure(band, of_band, row0, boxes, sums):
            msg = f"Labels must lie within 0 and n = {n}, but there are some from {band.min()} to {band.max()}."
            raise ValueError(msg)
    return Measures(sums[1:, :6], boxes, sums[1:, 6])


@njit(cache=True, nogil=True)
def _measure(labels: NDArray, values: NDArray, row0: int, boxes: NDArray, sums: NDArray) -> bool:
    """Add the pixels of a band and their values, if any; return False if an id is out of range."""
    h, w = labels.shape
    with_values = values.size > 0
    for i in range(h):
        y = row0 + i
        for j in range(w):
            c = np.int64(labels[i, j])
            if c == 0:
                continue
            if c < 0 or c >= len(boxes):
                return False
            add_pixel(sums, c, j, y)
            if with_values:
                sums[c, 6] += values[i, j]
            if boxes[c, 2] == 0:
                boxes[c, 0], boxes[c, 1], boxes[c, 3] = y, j, j + 1
            boxes[c, 1] = min(boxes[c, 1], j)
            boxes[c, 2] = y + 1
            boxes[c, 3] = max(boxes[c, 3], j + 1)
    return True


@njit(cache=True, nogil=True)
def add_pixel(sums: NDArray, label: int | np.integer, x: float, y: float) -> None:
    """Add a pixel to the six sums of a label: pixels, x, y, x*x, y*y, x*y."""
    sums[label, 0] += 1
    sums[label, 1] += x
    sums[label, 2] += y
    sums[label, 3] += x * x
    sums[label, 4] += y * y
    sums[label, 5] += x * y


def second_moments(sums: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the variances of x and of y and their covariance, ``(n,)`` each, from sums ``(n, 6)``.

    Each pixel counts as a unit square, whose own second moment is 1/12, so that a row of pixels has a width. Sums about
    a point near the label lose fewer digits than sums about a far origin.
    """
    area = sums[:, 0].astype(np.float64)
    mean_x, mean_y = sums[:, 1] / area, sums[:, 2] / area
    xx = sums[:, 3] / area - mean_x**2 + 1 / 12
    yy = sums[:, 4] / area - mean_y**2 + 1 / 12
    return xx, yy, sums[:, 5] / area - mean_x * mean_y


def moments(labels: Raster, n: int) -> NDArray[np.int64]:
    """Return per id 1..n: pixels, and the sums of x, y, x*x, y*y, x*y over them, ``(n, 6)``; see :class:`Measures`."""
    return measure(labels, n).moments


def centroids(moments_: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``(n, 2)`` centroids ``(x, y)`` in pixels, pixel centres at +0.5; NaN for an id without pixels."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return moments_[:, 1:3] / moments_[:, :1] + 0.5


def eccentricities(moments_: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``(n,)`` eccentricities of the ellipses with the same second moments.

    0 for a circle, towards 1 for a line.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        xx, yy, xy = second_moments(moments_)
        root = np.sqrt(4 * xy**2 + (xx - yy) ** 2)
        major, minor = (xx + yy + root) / 2, (xx + yy - root) / 2
        return np.sqrt(np.clip(1 - minor / major, 0, 1))
