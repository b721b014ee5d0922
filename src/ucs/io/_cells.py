"""Cells of an object as polygons in the units of another program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._utils.checks import choose_one, listed
from ucs._utils.elements import annotated_by, tables_of
from ucs._utils.log import logger

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.source import Source


@dataclass(frozen=True)
class Cells:
    """Cells to export, in one order.

    Attributes
    ----------
    ids
        ``(n,)`` instance ids.
    polygons
        ``(n,)`` polygons and multi-polygons, none of them empty, in the intrinsic coordinates of the shapes.
    table
        Table of these cells, ``n`` rows; None if no table annotates the shapes.
    """

    ids: NDArray
    polygons: NDArray[np.object_]
    table: AnnData | None

    @classmethod
    def of(cls, sdata: SpatialData, shapes_key: str, table_key: str | None) -> Cells:
        """Read shapes and the table that annotates them; cells that it does not list are left out.

        Raises
        ------
        KeyError
            If an element is missing.
        ValueError
            If several tables annotate the shapes, the one named does not, or the shapes are no polygons.
        """
        import shapely

        choose_one(shapes_key, list(sdata.shapes), (), argument="shapes_key", what="outlines of the cells")
        frame = sdata.shapes[shapes_key]
        table = _table_of(sdata, shapes_key, table_key)
        ids = frame.index.to_numpy()
        if table is not None:
            listed_ids = table.obs[table.uns["spatialdata_attrs"]["instance_key"]]
            rows = np.flatnonzero(listed_ids.isin(ids))
            _say_left_out(len(listed_ids) - len(rows), f"of the table have no outline in {shapes_key!r}")
            ids, table = listed_ids.to_numpy()[rows], table[rows]
        polygons = frame.geometry.loc[ids].to_numpy()
        kinds = sorted(set(frame.geom_type) - {"Polygon", "MultiPolygon"})
        if kinds:
            msg = f"shapes[{shapes_key!r}] holds {listed(kinds)}: cells are exported as polygons."
            raise ValueError(msg)
        there = ~shapely.is_empty(polygons)
        _say_left_out(int((~there).sum()), "have an empty outline")
        return cls(ids[there], polygons[there], None if table is None else table[np.flatnonzero(there)])

    def placed(self, matrix: NDArray[np.floating]) -> NDArray[np.object_]:
        """Return the polygons after a ``(3, 3)`` transformation."""
        import shapely

        return shapely.transform(self.polygons, lambda xy: xy @ matrix[:2, :2].T + matrix[:2, 2])

    def obs(self) -> pd.DataFrame:
        """Return the columns of the table, without those that only link it to the shapes."""
        import pandas as pd

        if self.table is None:
            return pd.DataFrame(index=range(len(self.ids)))
        attrs = self.table.uns["spatialdata_attrs"]
        return self.table.obs.drop(columns=[attrs["instance_key"], attrs["region_key"]])


def _table_of(sdata: SpatialData, shapes_key: str, table_key: str | None) -> AnnData | None:
    if table_key is not None:
        choose_one(table_key, list(sdata.tables), (), argument="table_key", what="table of the cells")
    annotating = tables_of(sdata, shapes_key)
    if table_key is None and len(annotating) > 1:
        msg = f"Several tables annotate shapes[{shapes_key!r}]: {listed(annotating)}. Name one with table_key=."
        raise ValueError(msg)
    if table_key is not None and not annotated_by(sdata.tables[table_key]):
        msg = f"tables[{table_key!r}] annotates no element. Name one of {listed(annotating)} with table_key=."
        raise ValueError(msg)
    key = table_key or next(iter(annotating), None)
    if key is None:
        return None
    table, attrs = sdata.tables[key], sdata.tables[key].uns["spatialdata_attrs"]
    if len(annotated_by(table)) > 1:
        table = table[(table.obs[attrs["region_key"]] == shapes_key).to_numpy()]
    return table


def _say_left_out(n: int, why: str) -> None:
    if n:
        logger.warning("%d cells %s, and are left out.", n, why)


def in_one_part(polygons: NDArray[np.object_], program: str) -> NDArray[np.object_]:
    """Return the largest part of each cell without its holes, saying how many cells that changes."""
    import shapely

    parts, of_cell = shapely.get_parts(polygons, return_index=True)
    by_area = np.lexsort((shapely.area(parts), of_cell))
    largest = parts[by_area[np.append(np.diff(of_cell[by_area]) > 0, True)]]
    n_several = int((shapely.get_num_geometries(polygons) > 1).sum())
    n_holes = int((shapely.get_num_interior_rings(largest) > 0).sum())
    if n_several or n_holes:
        logger.warning(
            "%s takes one ring per cell: of %d cells in several parts the largest part is drawn, and the holes of %d "
            "cells are filled. Counts and the transcripts assigned stay as they are.",
            program,
            n_several,
            n_holes,
        )
    return shapely.polygons(shapely.get_exterior_ring(largest))


def source_of(sdata: SpatialData, **reading: Any) -> Source:
    """Find the transcripts, which state the unit; see :func:`ucs._read.source.find_source`."""
    from ucs._read.sample import find_source

    return find_source(sdata, **reading)


def to_um(sdata: SpatialData, source: Source, key: str) -> NDArray[np.float64]:
    """Return the ``(3, 3)`` matrix from an element to um along the intrinsic axes of the transcripts.

    These are the axes of ``obsm["spatial"]``.
    """
    to_home, _ = source.output_frame(sdata)
    um = source.um_per_unit / np.sqrt(abs(np.linalg.det(to_home[:2, :2])))
    return np.diag([um, um, 1.0]) @ to_home @ source.to_frame(sdata, key)
