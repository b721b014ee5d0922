"""Nuclei from labels or shapes on the grid; several nuclei of one cell kept apart or fused."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._kernels.labels.fill import fill_polygons
from ucs._kernels.labels.ids import densify, ids_in, pixels_of_ids, renumbered
from ucs._kernels.labels.resample import sample_labels, source_window
from ucs._utils.checks import check_ids, listed
from ucs._utils.elements import coarsest_level, levels_of, shallow_copy
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree

    from ucs._read.grid import Grid
    from ucs._read.platforms import Platform

_READ_ROWS = 1024  # rows of the grid for which labels are read at a time
_NO_PIXEL = "%s: %d nuclei have no pixel (too small for the resolution, or covered by others) and are dropped: %s"


CELL_COLUMN = "cell_id"
"""Column with the cell of each nucleus in a shapes element of nuclei."""


@dataclass(frozen=True)
class Nuclei:
    """Nuclei on a grid.

    Attributes
    ----------
    labels
        ``(h, w)`` int32, dense ids 1..n in ascending order of the original ids, 0 elsewhere.
    ids
        ``(n,)`` original ids of nuclei 1..n (numbers or strings).
    n_outside
        Nuclei of a shapes element outside the grid; 0 for labels, which are read only where the grid is.
    """

    labels: NDArray[np.int32]
    ids: NDArray
    n_outside: int


def read_nuclei(
    sdata: SpatialData, nuclei_key: str, to_frame: NDArray[np.float64], grid: Grid, *, points_key: str
) -> Nuclei:
    """Return the nuclei of one element on a grid, as :func:`sample_nuclei`; raise an error if there are none.

    ``points_key`` is the key of the transcripts, for the message.

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
    """Return the nuclei of one element on a grid.

    ``to_frame`` is the ``(3, 3)`` matrix from their intrinsic ``(x, y, 1)`` to the coordinates of the grid.

    Labels are sampled at the pixel centres (nearest neighbour, some rows at a time); of a multiscale element, the
    coarsest level with at least two pixels per pixel of the grid is used. Polygons are filled: a pixel belongs to the
    polygon that contains its centre.

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
    """Yield strips of labels, which may exceed memory: rows of the grid, labels, and their origin."""
    for row0 in range(0, shape[0], _READ_ROWS):
        row1 = min(row0 + _READ_ROWS, shape[0])
        window = (row0, 0, row1, shape[1])
        top, left, bottom, right = source_window(matrix, window, (source.sizes["y"], source.sizes["x"]))
        if bottom > top and right > left:
            yield slice(row0, row1), np.asarray(source[top:bottom, left:right]), (top, left)


def _with_centre_on_grid(
    ids: NDArray, source: DataArray, matrix: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray:
    """Return the ids with a pixel on the grid: a rotated grid covers less than what was read."""
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
    levels = levels_of(element)
    if levels[0].ndim != 2 or not np.issubdtype(levels[0].dtype, np.integer):
        msg = f"labels[{name!r}] must be a 2D raster of whole numbers, not {levels[0].ndim}D {levels[0].dtype}."
        raise ValueError(msg)
    return coarsest_level(levels, grid_to_labels, least=2)


def _from_shapes(
    element: GeoDataFrame, grid_to_shapes: NDArray[np.float64], shape: tuple[int, int], name: str
) -> tuple[NDArray[np.int32], NDArray, int]:
    element, geometry, polygonal = areas_of(element, name)
    if not polygonal.all():
        logger.warning(
            "shapes[%r]: %d geometries are not polygons and are dropped: %s",
            name,
            int((~polygonal).sum()),
            listed(element.index[~polygonal]),
        )
    geometry, index = geometry[polygonal], element.index.to_numpy()[polygonal]
    to_grid = np.linalg.inv(grid_to_shapes)
    labels = fill_geometries(geometry, to_grid, shape)
    areas = pixels_of_ids(labels, len(index))[1:]
    n_outside = _warn_without_pixels(geometry, index, areas, to_grid, shape, name)
    return renumbered(areas > 0)[labels], index[areas > 0], n_outside


def as_polygons(element: GeoDataFrame) -> tuple[NDArray, NDArray[np.bool_]]:
    """Return geometries, circles as polygons, and which of them are non-empty polygons, ``(n,)`` each."""
    import shapely

    geometry = element.geometry.to_numpy()
    points = shapely.get_type_id(geometry) == 0
    if points.any() and "radius" in element:  # polygons may have a column of that name
        geometry = np.where(points, shapely.buffer(geometry, element["radius"].to_numpy(), quad_segs=16), geometry)
    return geometry, np.isin(shapely.get_type_id(geometry), (3, 6)) & ~shapely.is_empty(geometry)


def areas_of(element: GeoDataFrame, name: str) -> tuple[GeoDataFrame, NDArray, NDArray[np.bool_]]:
    """Return shapes by ascending id, their geometries with circles as polygons, and which of these have an area.

    Raises
    ------
    ValueError
        If ids repeat or are negative.
    """
    check_ids(element.index.to_numpy(), f"shapes[{name!r}]", element.columns)
    element = element.sort_index()  # the order of rows must not decide overlaps
    return element, *as_polygons(element)


def fill_geometries(geometry: NDArray, to_grid: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return the (multi-)polygon that contains each pixel's centre, ``(h, w)``: 1 for the first, 0 for none."""
    import shapely

    if len(geometry) == 0:
        return np.zeros(shape, dtype=np.int32)
    _, coordinates, offsets = shapely.to_ragged_array(_as_multipolygons(geometry))
    rings, polygons, parts = (np.asarray(offset) for offset in offsets)
    coordinates = coordinates[:, :2] @ to_grid[:2, :2].T + to_grid[:2, 2]
    ids = np.arange(1, len(geometry) + 1, dtype=np.int32)
    return fill_polygons(coordinates, rings, polygons[parts], ids, shape)


def _as_multipolygons(geometry: NDArray) -> NDArray:
    """Return every geometry as a MultiPolygon, so that all have the same ragged layout."""
    import shapely

    single = shapely.get_type_id(geometry) == 3
    out = geometry.copy()
    out[single] = shapely.multipolygons(geometry[single], indices=np.arange(int(single.sum())))
    return out


def _warn_without_pixels(
    geometry: NDArray, index: NDArray, areas: NDArray, to_grid: NDArray, shape: tuple[int, int], name: str
) -> int:
    """Warn of nuclei on the grid that have no pixel; return the number of nuclei outside."""
    import shapely

    missing = np.flatnonzero(areas == 0)
    bounds = shapely.bounds(geometry[missing])
    corners = bounds[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2) @ to_grid[:2, :2].T + to_grid[:2, 2]
    low, high = corners.min(axis=1), corners.max(axis=1)
    inside = (high > 0).all(axis=1) & (low[:, 0] < shape[1]) & (low[:, 1] < shape[0])
    if inside.any():
        logger.warning(_NO_PIXEL, f"shapes[{name!r}]", int(inside.sum()), listed(index[missing[inside]].tolist()))
    return int((~inside).sum())


def number_repeated(element: GeoDataFrame) -> GeoDataFrame:
    """Return polygons with unique ids where several share the id of their cell.

    The polygons of cell ``"a"`` become ``"a:1"``, ``"a:2"``, in the order of their positions, not of the rows. Unique
    ids are kept, as text if any other id repeats. The column ``cell_id`` keeps the cell of each polygon.
    """
    if element.index.is_unique:
        return element
    x, y = element.bounds[["minx", "miny"]].to_numpy().T
    names = element.index.astype(str)
    order = np.lexsort((y, x, names))
    element, names = element.iloc[order].copy(), names[order]
    if CELL_COLUMN not in element:
        element[CELL_COLUMN] = element.index.to_numpy()
    repeated = names.duplicated(keep=False)
    number = pd.Series(names).groupby(names).cumcount() + 1
    element.index = pd.Index(np.where(repeated, names + ":" + number.astype(str), names))
    return element


def with_nuclei_numbered(sdata: SpatialData, nuclei_key: str, platform: Platform) -> SpatialData:
    """Return the object, or a copy with unique ids of nuclei if the platform lets nuclei share ids."""
    if not platform.shared_nucleus_ids or nuclei_key not in sdata.shapes or sdata.shapes[nuclei_key].index.is_unique:
        return sdata
    return shallow_copy(sdata, {nuclei_key: number_repeated(sdata.shapes[nuclei_key])})


def cells_of_nuclei(sdata: SpatialData, nuclei_key: str, platform: Platform) -> pd.Series:
    """Return the vendor's cell of each nucleus, by the id of the nucleus.

    It is read from the shapes element itself or, for labels, from the platform's shapes element of the same nuclei.

    Raises
    ------
    ValueError
        If no element has the cells of the nuclei.
    """
    keys = [nuclei_key] if nuclei_key in sdata.shapes else _shapes_of_nuclei(sdata, platform)
    for key in keys:
        element = number_repeated(sdata.shapes[key]) if platform.shared_nucleus_ids else sdata.shapes[key]
        if CELL_COLUMN in element:
            return element[CELL_COLUMN]
        if element.index.name == CELL_COLUMN:  # one nucleus per cell, under its id
            return pd.Series(element.index.to_numpy(), index=element.index)
    msg = (
        f"fuse_nuclei=True needs the cell of each nucleus: a column {CELL_COLUMN!r} of the shapes element of the "
        f"nuclei, whose index has their ids. Looked at: {listed(keys)}."
    )
    raise ValueError(msg)


def _shapes_of_nuclei(sdata: SpatialData, platform: Platform) -> list[str]:
    return [k for pattern in platform.nuclei_keys for k in sdata.shapes if re.fullmatch(pattern, k)]


def fuse_nuclei_of_cells(nuclei: Nuclei, cell_of: pd.Series) -> Nuclei:
    """Fuse all nuclei of a cell to one, which may be disconnected.

    Parameters
    ----------
    nuclei
        Nuclei on a grid.
    cell_of
        Cell of each nucleus, by the id of the nucleus. Nuclei with a missing cell are not fused.

    Returns
    -------
    Nuclei with the ids of their cells. If no id of a nucleus is in ``cell_of``, as in runs in which nuclei have the
    numbers of their cells, nothing is fused and the ids are kept.
    """
    known = pd.Index(nuclei.ids).isin(cell_of.index)
    if not known.any():
        logger.info("No id of a nucleus is among those with a known cell: each nucleus is taken as one cell.")
        return nuclei
    cells = cell_of.reindex(nuclei.ids)
    names = np.where(cells.notna(), cells.astype(str), pd.Index(nuclei.ids).astype(str))
    ids, cell = np.unique(names.astype(str), return_inverse=True)
    new_id = np.concatenate([[0], cell + 1]).astype(np.int32)
    logger.info("Fused %d nuclei to the %d of their cells.", len(nuclei.ids), len(ids))
    return replace(nuclei, labels=new_id[nuclei.labels], ids=ids)
