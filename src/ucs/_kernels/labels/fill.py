"""Polygons to labels: fill polygons on a raster at sub-pixel precision.

A pixel belongs to a polygon if and only if its centre lies inside. An edge crosses the rows of the half-open interval
between its ends, and the span between two crossings holds its left end and not its right one, so that polygons which
share an edge share its pixels out without gap or overlap, in whatever order and direction they are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fill_polygons"]


def fill_polygons(
    coordinates: NDArray,
    ring_offsets: NDArray,
    polygon_offsets: NDArray,
    ids: NDArray,
    shape: tuple[int, int],
) -> NDArray:
    """Labels of the pixels whose centres lie inside the polygons.

    Inside is even-odd over all rings of a geometry, so holes and the parts of a multi-part geometry need no mark of
    their own. Where polygons overlap, the one given first wins. What lies outside the raster is clipped.

    Parameters
    ----------
    coordinates
        Vertices, shape (n_vertices, 2), as (x, y) in pixel units of the raster: pixel (i, j) covers
        [j, j + 1) x [i, i + 1).
    ring_offsets
        Shape (n_rings + 1,): ring r has the vertices ``ring_offsets[r]:ring_offsets[r + 1]``. Rings may be closed or
        left open.
    polygon_offsets
        Shape (n_polygons + 1,): polygon p has the rings ``polygon_offsets[p]:polygon_offsets[p + 1]``, those of all
        its parts. ``shapely.to_ragged_array`` returns the offsets (rings, polygons) for polygons, but (rings, parts,
        geometries) as soon as there is a multi-polygon; pass ``parts[geometries]`` then.
    ids
        Label of each polygon, shape (n_polygons,), positive; the same id may come more than once.
    shape
        (rows, columns) of the raster.

    Returns
    -------
    Labels, int32, of the given shape, 0 = in no polygon.

    Raises
    ------
    ValueError
        If the arrays do not fit together, a coordinate is not finite or an id does not fit a label.
    """
    coordinates, ring_offsets, polygon_offsets, ids = _checked(coordinates, ring_offsets, polygon_offsets, ids)
    labels = np.zeros(shape, dtype=np.int32)
    if labels.size and len(ids):
        _fill(coordinates, ring_offsets, polygon_offsets, ids, labels)
    return labels


def _checked(
    coordinates: NDArray, ring_offsets: NDArray, polygon_offsets: NDArray, ids: NDArray
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Contiguous arrays of the types that the kernel takes, or an error: it indexes without looking."""
    coordinates = np.ascontiguousarray(coordinates, dtype=np.float64).reshape(-1, 2)
    ring_offsets = np.ascontiguousarray(ring_offsets, dtype=np.int64)
    polygon_offsets = np.ascontiguousarray(polygon_offsets, dtype=np.int64)
    ids = np.asarray(ids)
    if len(polygon_offsets) != len(ids) + 1:
        raise ValueError(f"{len(ids)} ids need {len(ids) + 1} polygon_offsets, {len(polygon_offsets)} were given.")
    for name, offsets, limit in (
        ("ring_offsets", ring_offsets, len(coordinates)),
        ("polygon_offsets", polygon_offsets, len(ring_offsets) - 1),
    ):
        if len(offsets) == 0 or offsets[0] < 0 or offsets[-1] > limit or np.any(np.diff(offsets) < 0):
            raise ValueError(f"{name} must be non-empty, must not decrease and must stay within 0 and {limit}.")
    if not np.isfinite(coordinates).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(coordinates).all(axis=1))} vertices have coordinates that are not finite; "
            "drop or repair their polygons."
        )
    if len(ids) and (ids.min() < 1 or ids.max() > np.iinfo(np.int32).max):
        raise ValueError(f"ids must lie within 1 and 2**31 - 1, but range from {ids.min()} to {ids.max()}.")
    return coordinates, ring_offsets, polygon_offsets, ids.astype(np.int32)


@njit(cache=True, nogil=True)
def _first_centre(position: float, size: int) -> int:
    """First of the pixels 0..size whose centre is not before the position, clipped before the cast can overflow."""
    return int(min(max(np.ceil(position - 0.5), 0.0), float(size)))


@njit(cache=True, nogil=True)
def _edge(coordinates: NDArray, vertex: int, start: int, stop: int) -> tuple[float, float, float, float]:
    """Edge that begins at a vertex of the ring start:stop, lower end first.

    Both polygons at a shared edge thereby compute its crossings from the same numbers, equal to the last bit.
    """
    other = vertex + 1 if vertex + 1 < stop else start
    if coordinates[vertex, 1] <= coordinates[other, 1]:
        return coordinates[vertex, 0], coordinates[vertex, 1], coordinates[other, 0], coordinates[other, 1]
    return coordinates[other, 0], coordinates[other, 1], coordinates[vertex, 0], coordinates[vertex, 1]


@njit(cache=True, nogil=True)
def _count_crossings(
    coordinates: NDArray, ring_offsets: NDArray, first: int, last: int, ends: NDArray
) -> tuple[int, int]:
    """Add to `ends` how often the rings first:last cross each row; return the rows [top, bottom) that they span."""
    height = len(ends)
    top, bottom = height, 0
    for ring in range(first, last):
        start, stop = ring_offsets[ring], ring_offsets[ring + 1]
        for vertex in range(start, stop):
            _, y0, _, y1 = _edge(coordinates, vertex, start, stop)
            row0, row1 = _first_centre(y0, height), _first_centre(y1, height)
            if row0 < row1:
                top, bottom = min(top, row0), max(bottom, row1)
                for row in range(row0, row1):
                    ends[row] += 1
    return top, bottom


@njit(cache=True, nogil=True)
def _store_crossings(
    coordinates: NDArray,
    ring_offsets: NDArray,
    first: int,
    last: int,
    ends: NDArray,
    width: int,
    columns: NDArray,
) -> None:
    """Write the first column whose centre is not left of the crossing, for each crossing, row by row, into `columns`.

    `ends` holds where each row's share begins, and where it ends once all is written.
    """
    height = len(ends)
    for ring in range(first, last):
        start, stop = ring_offsets[ring], ring_offsets[ring + 1]
        for vertex in range(start, stop):
            x0, y0, x1, y1 = _edge(coordinates, vertex, start, stop)
            row0, row1 = _first_centre(y0, height), _first_centre(y1, height)
            for row in range(row0, row1):
                crossing = x0 + (row + 0.5 - y0) / (y1 - y0) * (x1 - x0)
                columns[ends[row]] = _first_centre(crossing, width)
                ends[row] += 1


@njit(cache=True, nogil=True)
def _sort(values: NDArray, start: int, stop: int) -> None:
    """Sort values[start:stop] in place by insertion: a row crosses a nucleus a few times only."""
    for i in range(start + 1, stop):
        value, j = values[i], i
        while j > start and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@njit(cache=True, nogil=True)
def _fill(coordinates: NDArray, ring_offsets: NDArray, polygon_offsets: NDArray, ids: NDArray, labels: NDArray) -> None:
    """Write each polygon's id into the pixels of `labels` that are still 0."""
    height, width = labels.shape
    ends = np.zeros(height, dtype=np.int64)
    columns = np.empty(256, dtype=np.int64)
    for polygon in range(len(ids)):
        first, last = polygon_offsets[polygon], polygon_offsets[polygon + 1]
        top, bottom = _count_crossings(coordinates, ring_offsets, first, last, ends)
        total = 0
        for row in range(top, bottom):
            total, ends[row] = total + ends[row], total
        if total > len(columns):
            columns = np.empty(2 * total, dtype=np.int64)
        _store_crossings(coordinates, ring_offsets, first, last, ends, width, columns)
        begin = 0
        for row in range(top, bottom):
            end = ends[row]
            ends[row] = 0
            _sort(columns, begin, end)
            for pair in range(begin, end - 1, 2):
                for column in range(columns[pair], columns[pair + 1]):
                    if labels[row, column] == 0:
                        labels[row, column] = ids[polygon]
            begin = end
