"""The segmentation that every method has to beat: nuclei grown by a fixed distance.

The nearest nucleus is found exactly, in two passes. The first keeps, for every pixel, the nearest nucleus pixel of its
own column; the second goes along the row, outwards from the pixel, and stops as soon as the horizontal distance alone
exceeds the best distance found. Distances are compared as whole numbers (squared, in pixels), so that ties are ties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs.metrics._match import checked_ids

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_FAR = np.int64(2**31 - 1)  # further than any two pixels of one column


def expand_nuclei(nuclei: ArrayLike, radius: float, *, um_per_px: float = 1.0) -> NDArray[np.integer]:
    """Grow every nucleus by ``radius``: each pixel within reach goes to the nearest nucleus.

    Parameters
    ----------
    nuclei
        Label image ``(H, W)``, integers, 0 = background.
    radius
        How far to grow, in um, between pixel centres; the limit itself is included. ``inf`` gives the Voronoi regions
        of the nuclei, and 0 the nuclei.
    um_per_px
        Side of a pixel in um.

    Returns
    -------
    Label image ``(H, W)`` of the type of ``nuclei``. A pixel equally near to several nuclei goes to the lowest id;
    pixels of nuclei keep theirs.

    Raises
    ------
    ValueError
        ``nuclei`` is not a two-dimensional array of ids, or a length is negative, zero (``um_per_px``) or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> nuclei = np.array([[0, 1, 0, 0, 0, 2]])
    >>> expand_nuclei(nuclei, 1)
    array([[1, 1, 1, 0, 2, 2]])
    >>> expand_nuclei(nuclei, np.inf)
    array([[1, 1, 1, 1, 2, 2]])
    """
    labels = checked_ids(nuclei, "nuclei")
    if labels.ndim != 2:
        raise ValueError(f"nuclei has shape {labels.shape}: a label image (height, width) is needed.")
    if not radius >= 0:
        raise ValueError(f"radius={radius} given: it must be 0 or more (in um; inf for no limit).")
    if not 0 < um_per_px < np.inf:
        raise ValueError(f"um_per_px={um_per_px} given: the side of a pixel in um must be positive and finite.")
    height, width = labels.shape
    diagonal = height**2 + width**2
    # The margin lets a radius such as 0.3 um reach the third pixel of 0.1 um.
    reach = min(float(diagonal), (radius / um_per_px) ** 2 * (1 + 1e-9))
    return _expand(np.ascontiguousarray(labels), np.int64(reach))


@njit(cache=True, nogil=True)
def _nearest_in_column(labels: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.integer]]:
    """Return the vertical distance (H, W) to the nearest nucleus pixel of the column, and its id."""
    height, width = labels.shape
    distance = np.empty((height, width), np.int32)
    nearest = np.zeros_like(labels)
    gap = np.full(width, _FAR, np.int64)
    above = np.zeros(width, labels.dtype)
    for i in range(height):
        for j in range(width):
            if labels[i, j]:
                above[j], gap[j] = labels[i, j], 0
            elif gap[j] < _FAR:
                gap[j] += 1
            distance[i, j], nearest[i, j] = gap[j], above[j]
    gap[:] = _FAR
    below = above
    for i in range(height - 1, -1, -1):
        for j in range(width):
            if labels[i, j]:
                below[j], gap[j] = labels[i, j], 0
            elif gap[j] < _FAR:
                gap[j] += 1
            if gap[j] < distance[i, j] or (gap[j] == distance[i, j] and below[j] < nearest[i, j]):
                distance[i, j], nearest[i, j] = gap[j], below[j]
    return distance, nearest


@njit(cache=True, nogil=True)
def _expand(labels: NDArray[np.integer], reach: np.int64) -> NDArray[np.integer]:
    """Give each background pixel the id of the nearest nucleus pixel within ``reach`` (squared, in pixels)."""
    height, width = labels.shape
    distance, nearest = _nearest_in_column(labels)
    out = labels.copy()
    for i in range(height):
        for j in range(width):
            if labels[i, j]:
                continue
            best, owner = reach, labels[i, j]
            step = 0
            while step * step <= best and (step <= j or step < width - j):
                for column in (j - step, j + step):
                    if column < 0 or column >= width or distance[i, column] == _FAR:
                        continue
                    vertical = np.int64(distance[i, column])
                    squared = vertical * vertical + step * step
                    candidate = nearest[i, column]
                    if squared < best or (squared == best and (owner == 0 or candidate < owner)):
                        best, owner = squared, candidate
                step += 1
            out[i, j] = owner
    return out
