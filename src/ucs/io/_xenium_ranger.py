"""Cells as Xenium Ranger imports them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._files.new_files import new_files
from ucs._read.elements import read_partition
from ucs._utils.checks import listed
from ucs._utils.log import logger
from ucs.io._cells import Cells, in_one_part, source_of, to_um
from ucs.io._geojson import geometries, write_collection

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.source import Source

POLYGONS, TRANSCRIPTS = "cells.geojson", "transcripts.csv"
_ID = "transcript_id"


def to_xenium_ranger(
    sdata: SpatialData,
    folder: str | os.PathLike,
    *,
    shapes_key: str = "ucs_boundaries",
    table_key: str | None = None,
    points_column: str = "ucs_cell_id",
    points_key: str | None = None,
    platform: str | Platform = "auto",
    um_per_unit: float | None = None,
    legacy: bool = False,
    overwrite: bool = False,
) -> None:
    r"""Write the polygons and the transcripts that ``xeniumranger import-segmentation`` takes.

    ``cells.geojson`` has a polygon in um per cell, ``transcripts.csv`` the cell of each transcript that lies in one::

        xeniumranger import-segmentation --id=ucs --xenium-bundle=BUNDLE --units=microns \
            --transcript-assignment=transcripts.csv --viz-polygons=cells.geojson

    ``--cells=cells.geojson`` in place of the last two lets Xenium Ranger count by the polygons itself.

    Cells are called ``ucs-ID`` in both files. Xenium Ranger refuses cells without transcripts, and takes one ring per
    cell: empty cells are left out, and the largest part of a cell is drawn, without holes. Both are warned of.

    Parameters
    ----------
    sdata
        Object with the cells and the transcripts of the whole bundle.
    folder
        Folder for the two files; it is made if it does not exist.
    shapes_key, table_key
        Outlines, and the table that lists the cells; that which annotates the shapes if None.
    points_column
        Column of the points with the cell of each transcript, 0 or missing for none.
    points_key, platform, um_per_unit
        As in :func:`ucs.tl.compare`.
    legacy
        Whether to write polygons for Xenium Ranger up to 3.1, a GeometryCollection, for ``--viz-polygons`` only.
    overwrite
        Whether existing files may be replaced.

    Raises
    ------
    KeyError
        If an element or a column is missing, such as the ``transcript_id`` of Xenium.
    ValueError
        If the ids of cells are not whole numbers, or no cell has a transcript.
    FileExistsError
        If a file exists and ``overwrite`` is False.

    Examples
    --------
    >>> import tempfile, ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> ucs.tl.outlines(sdata, "true_cells")
    >>> ucs.io.to_xenium_ranger(
    ...     sdata, tempfile.mkdtemp(), shapes_key="true_cells_boundaries", points_column="true_cell_id"
    ... )
    """
    folder = Path(folder)
    cells = Cells.of(sdata, shapes_key, table_key)
    if not np.issubdtype(cells.ids.dtype, np.integer):
        msg = f"The ids of shapes[{shapes_key!r}] are {cells.ids.dtype}; Xenium Ranger takes whole numbers."
        raise ValueError(msg)
    source = source_of(sdata, points_key=points_key, platform=platform, um_per_unit=um_per_unit)
    for key in source.keys:
        lacking = [name for name in (_ID, points_column) if name not in sdata[key].columns]
        if lacking:
            msg = (
                f"points[{key!r}] has no column {listed(lacking)}; there are: {listed(sdata[key].columns)}. The ids of "
                "transcripts are those of the Xenium bundle; name the column of cells with points_column=."
            )
            raise KeyError(msg)
    with new_files(folder, [POLYGONS, TRANSCRIPTS], overwrite=overwrite) as made:
        counted = _write_transcripts(made / TRANSCRIPTS, sdata, source, points_column, cells.ids)
        full = np.isin(cells.ids, counted.index)
        if not full.any():
            msg = f"No transcript lies in a cell of {shapes_key!r} by {points_column!r}: there is nothing to import."
            raise ValueError(msg)
        if not full.all():
            logger.warning("%d cells have no transcript, which Xenium Ranger refuses: left out.", int((~full).sum()))
        polygons = in_one_part(cells.placed(to_um(sdata, source, shapes_key))[full], "Xenium Ranger")
        kind = "GeometryCollection" if legacy else "FeatureCollection"
        write_collection(made / POLYGONS, _polygons(cells.ids[full], polygons, legacy=legacy), kind)
    logger.info(
        "Written to %s: %d cells (%s) and the %d transcripts in them (%s).",
        folder, int(full.sum()), POLYGONS, int(counted.sum()), TRANSCRIPTS,
    )  # fmt: skip


def _name(cell: int) -> str:
    return f"ucs-{cell}"


def _polygons(ids: NDArray, polygons: NDArray[np.object_], *, legacy: bool) -> Iterator[dict[str, Any]]:
    for cell, geometry in zip(ids.tolist(), geometries(polygons), strict=True):
        if legacy:
            yield {**geometry, "cell": cell}
        else:
            properties = {"objectType": "cell", "cell_id": cell}
            yield {"type": "Feature", "id": _name(cell), "geometry": geometry, "properties": properties}


def _write_transcripts(path: Path, sdata: SpatialData, source: Source, column: str, ids: NDArray) -> pd.Series:
    """Write the transcripts in cells partition by partition; return their number by cell."""
    counted = []
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{_ID},cell,is_noise\n")
        for key in source.keys:
            for partition in sdata.points[key][[_ID, column]].to_delayed():
                frame = read_partition(partition)
                frame = frame[frame[column].isin(ids)]
                cell = frame[column].astype(np.int64)
                names = cell.map({one: _name(one) for one in cell.unique()})
                rows = pd.DataFrame({_ID: frame[_ID], "cell": names, "is_noise": "false"})
                rows.to_csv(file, header=False, index=False, lineterminator="\n")
                counted.append(cell.value_counts())
    return pd.concat(counted).groupby(level=0).sum()
