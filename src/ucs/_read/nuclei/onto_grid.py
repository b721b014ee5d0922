"""Nuclei, from labels or shapes, onto the grid; several nuclei of one cell told apart or fused."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._kernels.fill import fill_polygons
from ucs._kernels.ids import densify, ids_in, pixels_of_ids, renumbered
from ucs._kernels.resample import sample_labels, source_window
from ucs._utils.checks import check_ids, listed
from ucs._utils.elements import shallow_copy
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree

    from ucs._read.grid import Grid
    from ucs._read.platforms import Platform

_READ_ROWS = 1024
_NO_PIXEL = "%s: %d nuclei have no pixel (too small for the resolution, or covered by others) and are left out: %s"


CELL_COLUMN = "cell_id"
"""Column of a shapes element of nuclei that names the cell of each."""


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
    source, matrix = _choose_level(element, grid_to_labels)
    if source.ndim != 2 or not np.issubdtype(source.dtype, np.integer):
        msg = f"labels[{name!r}] must be a 2D raster of whole numbers, not {source.ndim}D {source.dtype}."
        raise ValueError(msg)
    sampled = np.zeros(shape, dtype=source.dtype)
    seen: list[NDArray] = []
    for row0, part, origin in _read_parts(source, matrix, shape):
        rows = sampled[row0 : row0 + _READ_ROWS]
        rows[:] = sample_labels(part, matrix, rows.shape, row0=row0, source_origin=origin)
        seen.append(ids_in(part))
    dense, ids = densify(sampled, overwrite=True)
    missing = np.setdiff1d(np.concatenate([np.zeros(0, dtype=source.dtype), *seen]), ids)
    missing = _with_centre_on_grid(missing, source, matrix, shape)
    if len(missing):
        logger.warning(_NO_PIXEL, f"labels[{name!r}]", len(missing), listed(missing.tolist()))
    return dense, ids


def _read_parts(
    source: DataArray, matrix: NDArray[np.float64], shape: tuple[int, int]
) -> Iterator[tuple[int, NDArray, tuple[int, int]]]:
    """Read, strip by strip, what grid rows need of labels larger than memory: (first row, part, its origin)."""
    for row0 in range(0, shape[0], _READ_ROWS):
        row1 = min(row0 + _READ_ROWS, shape[0])
        window = (row0, 0, row1, shape[1])
        top, left, bottom, right = source_window(matrix, window, (source.sizes["y"], source.sizes["x"]))
        if bottom > top and right > left:
            yield row0, np.asarray(source[top:bottom, left:right]), (top, left)


def _with_centre_on_grid(
    ids: NDArray, source: DataArray, matrix: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray:
    """Keep the ids of which a pixel lies on the grid: what was read is larger if the grid is rotated."""
    if len(ids) == 0:
        return ids
    to_grid, found = np.linalg.inv(matrix), []
    for _, part, (top, left) in _read_parts(source, matrix, shape):
        row, column = np.nonzero(np.isin(part, ids))
        position = to_grid[:2, :2] @ np.stack([column + left + 0.5, row + top + 0.5]) + to_grid[:2, 2:]
        inside = (position >= 0).all(axis=0) & (position[0] < shape[1]) & (position[1] < shape[0])
        found.append(part[row[inside], column[inside]])
    return np.unique(np.concatenate(found))


def _choose_level(
    element: DataArray | DataTree, grid_to_labels: NDArray[np.float64]
) -> tuple[DataArray, NDArray[np.float64]]:
    """Return the array to sample and the matrix from grid pixels to its pixels."""
    from xarray import DataTree

    if not isinstance(element, DataTree):
        return element, grid_to_labels
    levels = [next(iter(level.to_dataset().values())) for level in element.children.values()]
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
    check_ids(element.index.to_numpy(), f"shapes[{name!r}]")
    element = element.sort_index()  # the order of rows must not decide overlaps
    geometry, polygonal = as_polygons(element)
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
    return renumbered(areas > 0)[labels], index[areas > 0], n_outside


def as_polygons(element: GeoDataFrame) -> tuple[NDArray, NDArray[np.bool_]]:
    """Return the geometries of shapes, circles as polygons of 64 corners, and which are polygons and not empty."""
    import shapely

    geometry = element.geometry.to_numpy()
    points = shapely.get_type_id(geometry) == 0
    if points.any() and "radius" in element:  # polygons may have a column of that name, too
        geometry = np.where(points, shapely.buffer(geometry, element["radius"].to_numpy(), quad_segs=16), geometry)
    return geometry, np.isin(shapely.get_type_id(geometry), (3, 6)) & ~shapely.is_empty(geometry)


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


def number_repeated(element: GeoDataFrame) -> GeoDataFrame:
    """Give each polygon an id of its own where several have the id of their cell.

    The polygons of cell ``"a"`` become ``"a:1"``, ``"a:2"``, in the order of where they lie, not of the rows; an id
    that is not repeated stays, as text if any other is repeated. Which cell a polygon is of stays in ``cell_id``.
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
    """Return the object itself, or one in which the nuclei have an id each where the platform lets them share one."""
    if not platform.shared_nucleus_ids or nuclei_key not in sdata.shapes or sdata.shapes[nuclei_key].index.is_unique:
        return sdata
    return shallow_copy(sdata, {nuclei_key: number_repeated(sdata.shapes[nuclei_key])})


def cells_of_nuclei(sdata: SpatialData, nuclei_key: str, platform: Platform) -> pd.Series:
    """Return the vendor's cell of each nucleus, by the id of the nucleus.

    From the shapes element itself, or, for labels, from the platform's shapes element of the same nuclei.

    Raises
    ------
    ValueError
        If no element says which cell a nucleus is of.
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
    """Make one nucleus, maybe in parts, of all nuclei of a cell.

    Parameters
    ----------
    nuclei
        Nuclei on a grid.
    cell_of
        The cell of a nucleus, by the id of the nucleus. Those of a cell that is missing stay apart.

    Returns
    -------
    Nuclei with the ids of their cells. Where the ids of the nuclei are not those that the cells are known by, as in
    runs in which a nucleus has the number of its cell, nothing is fused and the ids stay.
    """
    known = pd.Index(nuclei.ids).isin(cell_of.index)
    if not known.any():
        logger.info("No nucleus has an id that the cells are known by: each is taken as that of a cell of its own.")
        return nuclei
    cells = cell_of.reindex(nuclei.ids)
    names = np.where(cells.notna(), cells.astype(str), pd.Index(nuclei.ids).astype(str))
    ids, cell = np.unique(names.astype(str), return_inverse=True)
    new_id = np.concatenate([[0], cell + 1]).astype(np.int32)
    logger.info("Fused %d nuclei to the %d of their cells.", len(nuclei.ids), len(ids))
    return replace(nuclei, labels=new_id[nuclei.labels], ids=ids)
