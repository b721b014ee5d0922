"""Cells of any element, labels or shapes, on one grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ucs._kernels.ids import densify
from ucs._kernels.resample import sample_labels, source_window
from ucs._utils.checks import check_ids, listed

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree

_ROWS_AT_ONCE = 1024


class CellRaster(NamedTuple):
    """Cells on a raster.

    Attributes
    ----------
    labels
        ``(h, w)`` int32, dense ids 1..n in ascending order of the original ids, 0 = background.
    ids
        ``(n,)`` original id of cell ``k + 1``.
    um_per_px
        Side of a pixel in um.
    """

    labels: NDArray[np.int32]
    ids: NDArray
    um_per_px: float

    def only(self, ids: NDArray) -> CellRaster:
        """Return the raster with the cells of the given original ids alone."""
        kept = np.isin(self.ids, ids)
        number = np.concatenate([[0], np.cumsum(kept) * kept]).astype(np.int32)
        return CellRaster(number[self.labels], self.ids[kept], self.um_per_px)


def read_cells(
    sdata: SpatialData, key: str, grid_to_element: NDArray[np.float64], shape: tuple[int, int], um_per_px: float
) -> CellRaster:
    """Bring a labels or a shapes element onto a grid: the label, or the polygon, in which a pixel's centre lies.

    Parameters
    ----------
    sdata, key
        The element. Labels are read some rows at a time, from the coarsest level that still has two pixels per pixel of
        the grid; where polygons overlap, the lower id wins.
    grid_to_element
        ``(3, 3)`` from pixels ``(column, row, 1)`` of the grid to the intrinsic coordinates of the element.
    shape, um_per_px
        Of the grid.

    Raises
    ------
    ValueError
        If labels are no 2D raster of integers, ids are negative or repeat, or no cell lies on the grid.
    """
    if key in sdata.labels:
        labels, ids = _from_labels(sdata.labels[key], grid_to_element, shape, key)
    else:
        labels, ids = _from_shapes(sdata.shapes[key], np.linalg.inv(grid_to_element), shape, key)
    if len(ids) == 0:
        kind = "labels" if key in sdata.labels else "shapes"
        msg = f"{kind}[{key!r}] has no cell where the transcripts are: empty, or its transformation is wrong."
        raise ValueError(msg)
    return CellRaster(labels, ids, um_per_px)


def _from_labels(
    element: DataArray | DataTree, grid_to_labels: NDArray[np.float64], shape: tuple[int, int], key: str
) -> tuple[NDArray[np.int32], NDArray]:
    source, matrix = _choose_level(element, grid_to_labels)
    if source.ndim != 2 or not np.issubdtype(source.dtype, np.integer):
        msg = f"labels[{key!r}] must be a 2D raster of whole numbers, not {source.ndim}D {source.dtype}."
        raise ValueError(msg)
    sampled = np.zeros(shape, dtype=source.dtype)
    for row0 in range(0, shape[0], _ROWS_AT_ONCE):
        row1 = min(row0 + _ROWS_AT_ONCE, shape[0])
        window = source_window(matrix, (row0, 0, row1, shape[1]), (source.sizes["y"], source.sizes["x"]))
        top, left, bottom, right = window
        if bottom > top and right > left:
            part = np.asarray(source[top:bottom, left:right])
            sampled[row0:row1] = sample_labels(
                part, matrix, (row1 - row0, shape[1]), row0=row0, source_origin=(top, left)
            )
    return densify(sampled)


def _choose_level(
    element: DataArray | DataTree, grid_to_labels: NDArray[np.float64]
) -> tuple[DataArray, NDArray[np.float64]]:
    """Return the array to sample and the matrix from grid pixels to its pixels."""
    from xarray import DataTree

    if not isinstance(element, DataTree):
        return element, grid_to_labels
    levels: list[Any] = [next(iter(level.to_dataset().values())) for level in element.children.values()]
    chosen, matrix = levels[0], grid_to_labels
    for level in levels[1:]:
        factor = np.array(levels[0].shape, dtype=float) / np.array(level.shape)  # (y, x)
        scaled = np.diag([1 / factor[1], 1 / factor[0], 1.0]) @ grid_to_labels
        if np.sqrt(abs(np.linalg.det(scaled[:2, :2]))) < 2:
            break
        chosen, matrix = level, scaled
    return chosen, matrix


def _from_shapes(
    element: GeoDataFrame, to_grid: NDArray[np.floating], shape: tuple[int, int], key: str
) -> tuple[NDArray[np.int32], NDArray]:
    import shapely

    from ucs._read.nuclei.onto_grid import fill_geometries

    check_ids(element.index.to_numpy(), f"shapes[{key!r}]")
    element = element.sort_index()  # the order of rows must not decide overlaps
    geometry = element.geometry.to_numpy()
    kinds = shapely.get_type_id(geometry)
    if (kinds == 0).any() and "radius" in element:
        geometry = np.where(
            kinds == 0, shapely.buffer(geometry, element["radius"].to_numpy(), quad_segs=16), geometry
        )
        kinds = shapely.get_type_id(geometry)
    polygonal = np.isin(kinds, (3, 6)) & ~shapely.is_empty(geometry)  # Polygon, MultiPolygon
    if not polygonal.any():
        msg = f"shapes[{key!r}] holds no polygons, but {listed(sorted(set(element.geom_type)))}: cells have areas."
        raise ValueError(msg)
    index = element.index.to_numpy()[polygonal]
    dense, found = densify(fill_geometries(geometry[polygonal], to_grid, shape))
    return dense, index[found - 1]
