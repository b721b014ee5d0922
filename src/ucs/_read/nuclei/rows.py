"""Nuclei from transcripts that the vendor has assigned to the nuclei of its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.labels.fill import fill_polygons
from ucs._nuclei.find import NoNucleiError
from ucs._utils.transformations import affine_matrix, transformation_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._read.elements import PointsElement

_FEWEST = 5  # transcripts: fewer do not outline a nucleus
_SMALLEST_UM2 = 5.0  # of a hull: smaller than any nucleus
# Registration leaves a strip without transcripts along the borders of a field, in CosMx about 3 um wide. Wider strips
# are empty tissue.
_EMPTY_UM = 5.0
_NEAR_UM = 1.0  # transcripts this close to the strip belong to nuclei that it cuts


def nuclei_from_rows(
    sdata: SpatialData, points: PointsElement, labels_key: str, *, column: str, value: str, um_per_unit: float
) -> DataArray:
    """Return nuclei as the convex hulls of nuclear transcripts, one in each of the vendor's cells.

    A hull needs at least 5 transcripts and 5 um2; other cells have no nucleus. Hulls are clipped to their cells. They
    are somewhat smaller than the nuclei that the vendor has segmented.

    Parameters
    ----------
    sdata
        Object with the elements.
    points
        Element with the transcripts.
    labels_key
        Key of the vendor's cells.
    column, value
        Column of the points, and its value for transcripts in nuclei.
    um_per_unit
        Length of one intrinsic unit of the points in um.

    Returns
    -------
    Labels with the ids, the raster and the transformations of the cells.

    Raises
    ------
    NoNucleiError
        If there are none.
    """
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Affine, get_transformation
    from xarray import DataTree

    element = sdata.labels[labels_key]
    if isinstance(element, DataTree):
        element = next(iter(element["scale0"].to_dataset().values()))
    cells = np.asarray(element)
    to_cells = transformation_matrix(sdata, points.key, labels_key)
    um_per_px = um_per_unit / float(np.sqrt(abs(np.linalg.det(to_cells[:2, :2]))))
    position, nuclear = _positions(sdata, points, column, value)
    x, y = to_cells[:2, :2] @ position + to_cells[:2, 2:]
    size = cells.shape[1], cells.shape[0]
    nuclear_x, nuclear_y = continue_to_border(x[nuclear], y[nuclear], (x, y), size, um_per_px)
    labels = fill_hulls(cells, nuclear_x, nuclear_y, smallest=_SMALLEST_UM2 / um_per_px**2)
    if not labels.any():
        msg = (
            f"No cell of labels[{labels_key!r}] has {_FEWEST} transcripts of points[{points.key!r}] with "
            f"{column} = {value!r}."
        )
        raise NoNucleiError(msg)
    axes = ("x", "y")
    transformations = {
        system: Affine(affine_matrix(transformation), axes, axes)
        for system, transformation in get_transformation(element, get_all=True).items()
    }
    return Labels2DModel.parse(labels, dims=("y", "x"), transformations=transformations)


def _positions(sdata: SpatialData, points: PointsElement, column: str, value: str) -> tuple[NDArray, NDArray[np.bool_]]:
    """Return the positions of the transcripts that pass the filters, ``(2, n)``, and which are nuclear, ``(n,)``."""
    positions, nuclear = [], []
    names = list(dict.fromkeys([*points.columns.names(), column]))
    for partition in sdata.points[points.key][names].to_delayed():
        frame = partition.compute()
        frame = frame[points.columns.kept(frame)]
        positions.append(frame[["x", "y"]].to_numpy(dtype=np.float64).T)
        nuclear.append((frame[column].astype(str) == value).to_numpy())
    return np.concatenate(positions, axis=1), np.concatenate(nuclear)


def fill_hulls(cells: NDArray, x: NDArray, y: NDArray, *, smallest: float) -> NDArray[np.uint32]:
    """Fill the convex hull of the positions within each cell, within the cell.

    Parameters
    ----------
    cells
        ``(h, w)`` ids of cells, 0 = none.
    x, y
        ``(n,)`` positions in pixels.
    smallest
        Area in pixels below which a hull is dropped.
    """
    import shapely

    # Positions on the far borders belong to the last pixels.
    column = np.where(x == cells.shape[1], cells.shape[1] - 1, np.floor(x)).astype(np.int64)
    row = np.where(y == cells.shape[0], cells.shape[0] - 1, np.floor(y)).astype(np.int64)
    inside = (row >= 0) & (row < cells.shape[0]) & (column >= 0) & (column < cells.shape[1])
    of_cell = np.zeros(len(x), dtype=cells.dtype)
    of_cell[inside] = cells[row[inside], column[inside]]
    ids, index, n = np.unique(of_cell, return_inverse=True, return_counts=True)
    kept = ((n >= _FEWEST) & (ids > 0))[index]
    order = np.argsort(index[kept], kind="stable")
    ids, index = np.unique(of_cell[kept][order], return_inverse=True)
    points = shapely.multipoints(np.column_stack([x, y])[kept][order], indices=index)
    hulls = shapely.convex_hull(points)
    large = shapely.area(hulls) >= smallest
    hulls, ids = hulls[large], ids[large]
    out = np.zeros(cells.shape, dtype=np.uint32)
    if len(ids) == 0:
        return out
    _, coordinates, (rings, polygons) = shapely.to_ragged_array(hulls)
    filled = fill_polygons(coordinates, rings, polygons, np.arange(1, len(ids) + 1, dtype=np.int32), cells.shape)
    own = np.concatenate([[0], ids])[filled]
    out[own == cells] = cells[own == cells]
    # In overlaps of hulls, each gets the pixels of its own cell, whichever was filled first.
    row, column = np.nonzero((filled > 0) & (own != cells) & np.isin(cells, ids))
    hull = hulls[np.searchsorted(ids, cells[row, column])]
    also = shapely.contains_xy(hull, column + 0.5, row + 0.5)
    out[row[also], column[also]] = cells[row[also], column[also]]
    return out


def continue_to_border(
    x: NDArray, y: NDArray, of_all: tuple[NDArray, NDArray], size: tuple[int, int], um_per_px: float
) -> tuple[NDArray, NDArray]:
    """Return positions with copies, on the border, of those next to an empty strip along it.

    Parameters
    ----------
    x, y
        Positions in pixels of the field.
    of_all
        ``x`` and ``y`` of all transcripts of the field, which determine the width of empty strips.
    size
        Width and height of the field in pixels.
    um_per_px
        Side of a pixel in um.
    """
    added = [np.stack([x, y])]
    position, everything = np.stack([x, y]), np.stack(of_all)
    for axis in (0, 1):
        for side, sign in ((0.0, 1), (float(size[axis]), -1)):
            empty = float((sign * (everything[axis] - side)).min(initial=np.inf))
            if not 0 < empty <= _EMPTY_UM / um_per_px:
                continue
            near = sign * (position[axis] - side) <= empty + _NEAR_UM / um_per_px
            copy = position[:, near].copy()
            copy[axis] = side
            added.append(copy)
    x, y = np.concatenate(added, axis=1)
    return x, y
