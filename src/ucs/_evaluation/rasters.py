"""Cells of labels and shapes elements, brought onto one grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ucs._kernels.labels.ids import densify
from ucs._kernels.labels.resample import sample_labels
from ucs._read.nuclei.onto_grid import areas_of, choose_level, fill_geometries, read_strips
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree


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
        """Return a raster with only the cells of the given original ids."""
        kept = np.isin(self.ids, ids)
        number = np.concatenate([[0], np.cumsum(kept) * kept]).astype(np.int32)
        return CellRaster(number[self.labels], self.ids[kept], self.um_per_px)


def read_cells(
    sdata: SpatialData, key: str, grid_to_element: NDArray[np.float64], shape: tuple[int, int], um_per_px: float
) -> CellRaster:
    """Bring a labels or a shapes element onto a grid: each pixel gets the label or the polygon that its centre lies in.

    Parameters
    ----------
    sdata, key
        Object and key of the element. Labels are read some rows at a time, from the coarsest level that has at least
        two pixels per pixel of the grid; where polygons overlap, the lower id wins.
    grid_to_element
        ``(3, 3)`` from pixels ``(column, row, 1)`` of the grid to the intrinsic coordinates of the element.
    shape, um_per_px
        Size of the grid in pixels, and the side of a pixel in um.

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
    source, matrix = choose_level(element, grid_to_labels, key)
    sampled = np.zeros(shape, dtype=source.dtype)
    for rows, part, origin in read_strips(source, matrix, shape):
        sampled[rows] = sample_labels(part, matrix, sampled[rows].shape, row0=rows.start, source_origin=origin)
    return densify(sampled)


def _from_shapes(
    element: GeoDataFrame, to_grid: NDArray[np.floating], shape: tuple[int, int], key: str
) -> tuple[NDArray[np.int32], NDArray]:
    element, geometry, polygonal = areas_of(element, key)
    if not polygonal.any():
        msg = f"shapes[{key!r}] holds no polygons, but {listed(sorted(set(element.geom_type)))}: cells have areas."
        raise ValueError(msg)
    dense, found = densify(fill_geometries(geometry[polygonal], to_grid, shape))
    return dense, element.index.to_numpy()[polygonal][found - 1]
