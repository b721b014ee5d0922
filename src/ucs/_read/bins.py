"""Binned input: a table with the counts of genes in squares or points, read entry by entry.

The squares of Visium HD may be rotated against the axes of their own coordinates, as the slide was under the
microscope. The grid follows the squares, so that one bin is one pixel: see :func:`lattice`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._kernels.entries import row_runs
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from ucs._read.columns import TranscriptColumns

GENE, COUNT = "gene", "count"
"""Columns of the rows that are made from a table."""

# About 100 MB of rows: as large as usual partitions of points.
_ROWS_OF_CHUNK = 4_000_000
# Of a bin. Beyond half a bin, a centre would fall into the pixel of a neighbour.
_OFF_LATTICE = 0.25
_ARRAY = ["array_col", "array_row"]


def annotated(table: AnnData) -> tuple[str | None, str | None, str | None]:
    """Return the element that a table annotates, None if not exactly one, and its region and instance columns."""
    attributes = table.uns.get("spatialdata_attrs", {})
    region = attributes.get("region")
    regions = [region] if isinstance(region, str) else list(region) if region is not None else []
    return regions[0] if len(regions) == 1 else None, attributes.get("region_key"), attributes.get("instance_key")


def tables_of(sdata: SpatialData, key: str) -> list[str]:
    """Return the keys of the tables that annotate this element alone."""
    return [name for name, table in sdata.tables.items() if annotated(table)[0] == key]


def chunks_of_bins(
    sdata: SpatialData, key: str, table_key: str, columns: TranscriptColumns
) -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
    """Yield bins in chunks with a row for each entry of the table; see :meth:`ucs._read.elements.PointsElement.chunks`.

    Raises
    ------
    ValueError
        If names of genes repeat, or the table has bins that are not in the element.
    """
    table = sdata.tables[table_key]
    if not table.var_names.is_unique:
        repeated = table.var_names[table.var_names.duplicated()].unique()
        msg = (
            f"tables[{table_key!r}] has genes under the same name: {listed(repeated)}. Make them unique with "
            f"sdata.tables[{table_key!r}].var_names_make_unique()."
        )
        raise ValueError(msg)
    counts = _as_csr(table)
    position = positions_of_rows(sdata, key, table_key)
    genes = pd.Index(table.var_names.astype(str))
    for first, last in row_runs(counts.indptr, _ROWS_OF_CHUNK):
        read = partial(_entries, counts, position, genes, columns.gene, first, last)
        yield f"tables[{table_key!r}], rows {first} to {last}", read


def _entries(
    counts: csr_matrix, position: NDArray[np.float64], genes: pd.Index, gene_key: str, first: int, last: int
) -> pd.DataFrame:
    """Return the entries of some rows of a table."""
    entries = slice(counts.indptr[first], counts.indptr[last])
    row = np.repeat(np.arange(first, last), np.diff(counts.indptr[first : last + 1]))
    return pd.DataFrame(
        {
            "x": position[row, 0],
            "y": position[row, 1],
            gene_key: pd.Categorical.from_codes(counts.indices[entries], categories=genes),
            COUNT: counts.data[entries],
        }
    )


def _as_csr(table: AnnData) -> csr_matrix:
    from scipy.sparse import csr_matrix, issparse

    return table.X.tocsr() if issparse(table.X) else csr_matrix(table.X)


def positions_of_rows(sdata: SpatialData, key: str, table_key: str) -> NDArray[np.float64]:
    """Return the intrinsic ``(x, y)`` of the bin of each row of a table, ``(n, 2)``."""
    table = sdata.tables[table_key]
    ids = table.obs[annotated(table)[2]].to_numpy()
    there = centres_of(sdata.shapes[key]) if key in sdata.shapes else sdata.points[key][["x", "y"]].compute()
    if not there.index.is_unique:  # the partitions of points may each count from 0
        there = there.reset_index(drop=True)
    at = there.index.get_indexer(ids)
    if (at < 0).any():
        unknown = ids[at < 0].tolist()
        msg = f"tables[{table_key!r}] has {len(unknown)} bins that {key!r} has not: {listed(unknown[:4])}."
        raise ValueError(msg)
    return there[["x", "y"]].to_numpy(dtype=np.float64)[at]


def centres_of(shapes: GeoDataFrame) -> pd.DataFrame:
    """Return the centre (x, y) of each square, circle or point, with the index of the shapes."""
    import shapely

    bounds = shapely.bounds(shapes.geometry.to_numpy())  # of anything symmetric about its centre
    return pd.DataFrame((bounds[:, :2] + bounds[:, 2:]) / 2, index=shapes.index, columns=["x", "y"])


def named_size(*names: str) -> float | None:
    """Return the side of bins in um that the name of their table or element ends in, as ``square_002um``."""
    for name in names:
        match = re.search(r"(?:^|_)0*(\d+)um$", name)
        if match:
            return float(match[1])
    return None


def lattice(sdata: SpatialData, key: str, table_key: str) -> NDArray[np.float64]:
    """Return the matrix from the coordinates of square bins to their lattice.

    It is determined from the columns ``array_row`` and ``array_col`` of the table if they exist, otherwise from the
    sides of the squares.

    Returns
    -------
    ``(3, 3)`` from the intrinsic ``(x, y, 1)`` to bins: each covers a unit square between whole numbers.

    Raises
    ------
    ValueError
        If the bins are not on a regular lattice.
    """
    position, table = positions_of_rows(sdata, key, table_key), sdata.tables[table_key]
    has_array = set(_ARRAY) <= set(table.obs)
    if has_array and len(position) >= 3:
        place = table.obs[_ARRAY].to_numpy(dtype=np.float64) + 0.5
        ones = np.ones((len(position), 1))
        centre = position.mean(axis=0)  # least squares about the centre lose fewer digits
        solution = np.linalg.lstsq(np.hstack([position - centre, ones]), place, rcond=None)[0]
        matrix = np.vstack([solution.T, [0, 0, 1]]) @ np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1]])
    else:
        matrix = _along_squares(sdata.shapes[key], position)
    found = position @ matrix[:2, :2].T + matrix[:2, 2]
    off = np.abs(found - (place if has_array and len(position) >= 3 else np.floor(found) + 0.5)).max(initial=0)
    if not np.isfinite(matrix).all() or off > _OFF_LATTICE:
        msg = (
            f"The bins {key!r} do not lie on a regular lattice: the farthest is {off:.2g} of a bin away from it. They "
            "must be equal squares side by side."
        )
        raise ValueError(msg)
    return matrix


def _along_squares(shapes: GeoDataFrame, position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lattice with the size, direction and centres of the squares."""
    import shapely

    first = shapes.geometry.iloc[:1000]
    if "radius" in shapes:
        side, angle = 2 * float(shapes["radius"].median()), 0.0
    else:
        side = float(np.sqrt(np.median(shapely.area(first.to_numpy()))))
        corners = np.stack([np.asarray(square.exterior.coords)[:2] for square in first])
        edge = corners[:, 1] - corners[:, 0]
        # Of any side: the fourth power is the same for all four.
        angle = float(np.angle(np.mean(np.exp(4j * np.arctan2(edge[:, 1], edge[:, 0]))))) / 4
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / side
    phase = np.exp(2j * np.pi * (position @ turn.T))
    offset = np.angle(phase.mean(axis=0)) / (2 * np.pi)
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = 0.5 - offset
    return matrix
