"""Baseline segmentations that every method has to beat: nuclei grown by a distance, and limited Voronoi regions.

The nearest nucleus is found exactly, in two passes. The first keeps, for every pixel, the nearest nucleus pixel of its
own column; the second goes along the row, outwards from the pixel, and stops as soon as the horizontal distance alone
exceeds the best distance found. Distances are compared as whole numbers (squared, in pixels), so that ties are ties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numba import njit

from ucs._evaluation.arguments import checked_image, checked_side, tissue_for

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._evaluation.tissue import Tissue

_FAR = np.int64(2**31 - 1)  # no nucleus in this column: more than any distance within it


@overload
def expand_nuclei(nuclei: str, radius: float, *, um_per_px: None = None, sdata: SpatialData | Tissue) -> DataArray: ...
@overload
def expand_nuclei(
    nuclei: ArrayLike, radius: float, *, um_per_px: float | None = None, sdata: None = None
) -> NDArray[np.integer]: ...
def expand_nuclei(
    nuclei: ArrayLike | str,
    radius: float,
    *,
    um_per_px: float | None = None,
    sdata: SpatialData | Tissue | None = None,
) -> NDArray[np.integer] | DataArray:
    """Grow nuclei by ``radius``: each pixel within this distance of a nucleus goes to the nearest nucleus.

    Parameters
    ----------
    nuclei
        Label image ``(H, W)``, integers, 0 = background; or the key of labels or shapes of ``sdata``.
    radius
        Largest distance between pixel centres in um, itself included. ``inf`` divides the whole image among the nuclei;
        0 returns the nuclei.
    um_per_px
        Side of a pixel of the label image in um; 1 if None. Not with a key.
    sdata
        Object, or :class:`Tissue`, that has the key.

    Returns
    -------
    Label image ``(H, W)`` of the type of ``nuclei``; for a key a labels element on the raster of :class:`Tissue`, to be
    added to the object (``sdata["grown"] = ...``), with the original ids if they are integers. A pixel at the same
    distance from several nuclei goes to the lowest id; pixels of nuclei keep theirs.

    Raises
    ------
    ValueError
        If ``nuclei`` is no 2D array of ids, ``radius`` is negative or NaN, or ``um_per_px`` is not positive.
    TypeError
        If a key is given without ``sdata``, or an array with it.

    Examples
    --------
    >>> import numpy as np
    >>> nuclei = np.array([[0, 1, 0, 0, 0, 2]])
    >>> expand_nuclei(nuclei, 1)
    array([[1, 1, 1, 0, 2, 2]])
    >>> expand_nuclei(nuclei, np.inf)
    array([[1, 1, 1, 1, 2, 2]])
    """
    return _baseline(_grown, nuclei, radius, um_per_px, sdata)


@overload
def voronoi_cells(nuclei: str, radius: float, *, um_per_px: None = None, sdata: SpatialData | Tissue) -> DataArray: ...
@overload
def voronoi_cells(
    nuclei: ArrayLike, radius: float, *, um_per_px: float | None = None, sdata: None = None
) -> NDArray[np.integer]: ...
def voronoi_cells(
    nuclei: ArrayLike | str,
    radius: float,
    *,
    um_per_px: float | None = None,
    sdata: SpatialData | Tissue | None = None,
) -> NDArray[np.integer] | DataArray:
    """Return Voronoi cells: each pixel within ``radius`` of the centroid of a nucleus goes to the nearest centroid.

    Unlike :func:`expand_nuclei` this ignores size and shape of the nuclei, as programs do that start from centroids.

    Parameters
    ----------
    nuclei, um_per_px, sdata
        As in :func:`expand_nuclei`.
    radius
        Largest distance from the pixel that holds the centroid, in um; ``inf`` for no limit.

    Returns
    -------
    As :func:`expand_nuclei`. Pixels of nuclei keep their id at any distance from the centroid. If several nuclei have
    their centroid in one pixel, the region around it goes to the lowest id.

    Raises
    ------
    ValueError, TypeError
        As :func:`expand_nuclei`.

    Examples
    --------
    >>> import numpy as np
    >>> voronoi_cells(np.array([[1, 1, 1, 0, 0, 0, 2]]), 2)
    array([[1, 1, 1, 1, 2, 2, 2]])
    """
    return _baseline(_regions, nuclei, radius, um_per_px, sdata)


def _baseline(
    method: Any, nuclei: ArrayLike | str, radius: float, um_per_px: float | None, sdata: SpatialData | Tissue | None
) -> NDArray[np.integer] | DataArray:
    """Check the arguments and apply a method to the array, or to the element on its raster."""
    if not radius >= 0:
        raise ValueError(f"radius={radius} given: it must be 0 or more (in um; inf for no limit).")
    tissue, side = tissue_for(nuclei, sdata), checked_side(um_per_px, sdata)
    if tissue is not None:
        return _element(method, str(nuclei), radius, tissue)
    labels = checked_image(nuclei, "nuclei")
    grown: NDArray[np.integer] = method(np.ascontiguousarray(labels), _reach(labels, radius, side))
    return grown


def _element(method: Any, key: str, radius: float, tissue: Tissue) -> DataArray:
    labels, ids, um_per_px = tissue.cells(key)
    grown = method(labels, _reach(labels, radius, um_per_px))
    if ids.dtype.kind in "iu":
        grown = np.concatenate([np.zeros(1, ids.dtype), ids])[grown]
    return tissue.element(grown)


def _reach(labels: NDArray[np.integer], radius: float, um_per_px: float) -> np.int64:
    """Return the squared radius in pixels."""
    height, width = labels.shape
    # The margin makes up for rounding: a radius of 0.3 um must reach the third pixel of 0.1 um.
    return np.int64(min(float(height**2 + width**2), (radius / um_per_px) ** 2 * (1 + 1e-9)))


def _grown(labels: NDArray[np.integer], reach: np.int64) -> NDArray[np.integer]:
    grown: NDArray[np.integer] = _expand(labels, reach)
    return grown


def _regions(labels: NDArray[np.integer], reach: np.int64) -> NDArray[np.integer]:
    from ucs._kernels.labels.ids import densify
    from ucs._kernels.labels.measure import centroids, moments

    dense, ids = densify(labels)
    column, row = np.floor(centroids(moments(dense, len(ids)))).astype(np.int64).T
    seeds = np.zeros_like(labels)
    centre, first = np.unique(row * labels.shape[1] + column, return_index=True)  # ids ascend: the first is the lowest
    seeds.flat[centre] = ids[first]
    return np.where(labels > 0, labels, _expand(seeds, reach))


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
