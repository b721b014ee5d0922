"""Nuclei, from labels or shapes, onto the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.fill import fill_polygons
from ucs._kernels.ids import densify, ids_in, pixels_of_ids
from ucs._kernels.resample import sample_labels, source_window
from ucs._utils.checks import check_ids, listed
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree

    from ucs._read.grid import Grid

_READ_ROWS = 1024
_NO_PIXEL = "%s: %d nuclei have no pixel (too small for the resolution, or covered by others) and are left out: %s"


@dataclass(frozen=True)
class Nuclei:
    """Nuclei on a grid.

    Attributes
    ----------
    labels
        ``(h, w)`` int32, dense ids 1..n in ascending order of the original ids, 0 elsewhere.
    ids
        ``(n,)`` original id of nucleus ``k + 1`` (numbers or strings).
    n_outside
        Nuclei of a shapes element that lie outside the grid; 0 for labels, which are read where the grid is only.
    """

    labels: NDArray[np.int32]
    ids: NDArray
    n_outside: int


def read_nuclei(
    sdata: SpatialData, nuclei_key: str, to_frame: NDArray[np.float64], grid: Grid, *, points_key: str
) -> Nuclei:
    """Bring the nuclei of one element onto a grid, as :func:`sample_nuclei` does; it is an error if there are none.

    ``points_key`` names the transcripts in the message.

    Raises
    ------
    ValueError
        If ids repeat or are negative, or no nucleus lies on the grid.
    """
    nuclei = sample_nuclei(sdata, nuclei_key, to_frame, grid)
    if len(nuclei.ids) == 0:
        msg = (
            f"No nucleus of {nuclei_key!r} lies where the transcripts of {points_key!r} are (x, y in "
            f"[{grid.origin[0]:g}, {grid.origin[0] + grid.shape[1] * grid.step:g}], "
            f"[{grid.origin[1]:g}, {grid.origin[1] + grid.shape[0] * grid.step:g}]). Check their transformations."
        )
        raise ValueError(msg)
    return nuclei


def sample_nuclei(sdata: SpatialData, nuclei_key: str, to_frame: NDArray[np.float64], grid: Grid) -> Nuclei:
    """Bring the nuclei of one element onto a grid.

    ``to_frame`` is the ``(3, 3)`` matrix from their intrinsic ``(x, y, 1)`` to the coordinates of the grid.

    Labels are sampled at the pixel centres through the affine between the two elements (nearest neighbour, read in
    pieces); of a multiscale element the coarsest level is taken that has at least two pixels per grid pixel.
    Polygons are filled: a pixel belongs to the polygon that holds its centre.

    Raises
    ------
    ValueError
        If ids repeat or are negative.
    """
    grid_to_nuclei = np.linalg.inv(to_frame) @ grid.px_to_intrinsic
    if nuclei_key in sdata.labels:
        labels, ids = _from_labels(sdata.labels[nuclei_key], grid_to_nuclei, grid.shape, nuclei_key)
        n_outside = 0
    else:
        labels, ids, n_outside = _from_shapes(sdata.shapes[nuclei_key], grid_to_nuclei, grid.shape, nuclei_key)
    return Nuclei(labels, ids, n_outside)


def _from_labels(
    element: DataArray | DataTree, grid_to_labels: NDArray[np.float64], shape: tuple[int, int], name: str
) -> tuple[NDArray[np.int32], NDArray]:
    source, matrix = choose_level(element, grid_to_labels, name)
    sampled = np.zeros(shape, dtype=source.dtype)
    seen: list[NDArray] = []
    for rows, part, origin in read_strips(source, matrix, shape):
        sampled[rows] = sample_labels(part, matrix, sampled[rows].shape, row0=rows.start, source_origin=origin)
        seen.append(ids_in(part))
    dense, ids = densify(sampled, overwrite=True)
    missing = np.setdiff1d(np.concatenate([np.zeros(0, dtype=source.dtype), *seen]), ids)
    missing = _with_centre_on_grid(missing, source, matrix, shape)
    if len(missing):
        logger.warning(_NO_PIXEL, f"labels[{name!r}]", len(missing), listed(missing.tolist()))
    return dense, ids


def read_strips(
    source: DataArray, matrix: NDArray[np.float64], shape: tuple[int, int]
) -> Iterator[tuple[slice, NDArray, tuple[int, int]]]:
    """Read, strip by strip, what grid rows need of labels larger than memory: (rows, part, its origin)."""
    for row0 in range(0, shape[0], _READ_ROWS):
        row1 = min(row0 + _READ_ROWS, shape[0])
        window = (row0, 0, row1, shape[1])
        top, left, bottom, right = source_window(matrix, window, (source.sizes["y"], source.sizes["x"]))
        if bottom > top and right > left:
            yield slice(row0, row1), np.asarray(source[top:bottom, left:right]), (top, left)


def _with_centre_on_grid(
    ids: NDArray, source: DataArray, matrix: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray:
    """Keep the ids of which a pixel lies on the grid: what was read is larger if the grid is rotated."""
    if len(ids) == 0:
        return ids
    to_grid, found = np.linalg.inv(matrix), []
    for _, part, (top, left) in read_strips(source, matrix, shape):
        row, column = np.nonzero(np.isin(part, ids))
        position = to_grid[:2, :2] @ np.stack([column + left + 0.5, row + top + 0.5]) + to_grid[:2, 2:]
        inside = (position >= 0).all(axis=0) & (position[0] < shape[1]) & (position[1] < shape[0])
        found.append(part[row[inside], column[inside]])
    return np.unique(np.concatenate(found))


def choose_level(
    element: DataArray | DataTree, grid_to_labels: NDArray[np.float64], name: str
) -> tuple[DataArray, NDArray[np.float64]]:
    """Return the array to sample and the matrix from grid pixels to its pixels.

    Raises
    ------
    ValueError
        If it is no 2D array of integers.
    """
    from xarray import DataTree

    if isinstance(element, DataTree):
        levels = [next(iter(level.to_dataset().values())) for level in element.children.values()]
    else:
        levels = [element]
    if levels[0].ndim != 2 or not np.issubdtype(levels[0].dtype, np.integer):
        msg = f"labels[{name!r}] must be a 2D raster of whole numbers, not {levels[0].ndim}D {levels[0].dtype}."
        raise ValueError(msg)
    full = np.array(levels[0].shape, dtype=float)
    chosen, matrix = levels[0], grid_to_labels
    for level in levels[1:]:
        factor = full / np.array(level.shape)  # (y, x)
        scaled = np.diag([1 / factor[1], 1 / factor[0], 1.0]) @ grid_to_labels
        if np.sqrt(abs(np.linalg.det(scaled[:2, :2]))) < 2:
            break
        chosen, matrix = level, scaled
    return chosen, matrix


def _from_shapes(
    element: GeoDataFrame, grid_to_shapes: NDArray[np.float64], shape: tuple[int, int], name: str
) -> tuple[NDArray[np.int32], NDArray, int]:
    element, geometry, polygonal = areas_of(element, name)
    if not polygonal.all():
        logger.warning(
            "shapes[%r]: %d geometries are no polygons and are left out: %s",
            name,
            int((~polygonal).sum()),
            listed(element.index[~polygonal]),
        )
    geometry, index = geometry[polygonal], element.index.to_numpy()[polygonal]
    to_grid = np.linalg.inv(grid_to_shapes)
    labels = fill_geometries(geometry, to_grid, shape)
    areas = pixels_of_ids(labels, len(index))[1:]
    n_outside = _warn_without_pixels(geometry, index, areas, to_grid, shape, name)
    new_id = np.concatenate([[0], np.cumsum(areas > 0)]).astype(np.int32)
    new_id[1:][areas == 0] = 0
    return new_id[labels], index[areas > 0], n_outside


def areas_of(element: GeoDataFrame, name: str) -> tuple[GeoDataFrame, NDArray, NDArray[np.bool_]]:
    """Return shapes by ascending id, their geometries with circles as polygons, and which of these have an area.

    Raises
    ------
    ValueError
        If ids repeat or are negative.
    """
    import shapely

    check_ids(element.index.to_numpy(), f"shapes[{name!r}]")
    element = element.sort_index()  # the order of rows must not decide overlaps
    geometry = element.geometry.to_numpy()
    circles = shapely.get_type_id(geometry) == 0  # polygons may have a column of that name too
    if circles.any() and "radius" in element:
        geometry = np.where(circles, shapely.buffer(geometry, element["radius"].to_numpy(), quad_segs=16), geometry)
    polygonal = np.isin(shapely.get_type_id(geometry), (3, 6))  # Polygon, MultiPolygon
    return element, geometry, polygonal & ~shapely.is_empty(geometry)


def fill_geometries(geometry: NDArray, to_grid: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return which polygon or multi-polygon holds each pixel's centre, ``(h, w)``: 1 for the first, 0 for none."""
    import shapely

    if len(geometry) == 0:
        return np.zeros(shape, dtype=np.int32)
    _, coordinates, offsets = shapely.to_ragged_array(_as_multipolygons(geometry))
    rings, polygons, parts = (np.asarray(offset) for offset in offsets)
    coordinates = coordinates[:, :2] @ to_grid[:2, :2].T + to_grid[:2, 2]
    ids = np.arange(1, len(geometry) + 1, dtype=np.int32)
    return fill_polygons(coordinates, rings, polygons[parts], ids, shape)


def _as_multipolygons(geometry: NDArray) -> NDArray:
    """Return every geometry as a MultiPolygon, so that one ragged layout holds for all."""
    import shapely

    single = shapely.get_type_id(geometry) == 3
    out = geometry.copy()
    out[single] = shapely.multipolygons(geometry[single], indices=np.arange(int(single.sum())))
    return out


def _warn_without_pixels(
    geometry: NDArray, index: NDArray, areas: NDArray, to_grid: NDArray, shape: tuple[int, int], name: str
) -> int:
    """Name the nuclei that hold no pixel centre or are covered by others; return how many lie outside the grid."""
    import shapely

    missing = np.flatnonzero(areas == 0)
    bounds = shapely.bounds(geometry[missing])
    corners = bounds[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2) @ to_grid[:2, :2].T + to_grid[:2, 2]
    low, high = corners.min(axis=1), corners.max(axis=1)
    inside = (high > 0).all(axis=1) & (low[:, 0] < shape[1]) & (low[:, 1] < shape[0])
    if inside.any():
        logger.warning(_NO_PIXEL, f"shapes[{name!r}]", int(inside.sum()), listed(index[missing[inside]].tolist()))
    return int((~inside).sum())
