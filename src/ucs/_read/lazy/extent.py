"""Extents and features of transcripts, from metadata where possible.

Statistics of Parquet files bound the positions of each row group, and dictionaries list the features. If something else
is needed, such as the z planes, all rows are read once; only extents and names are kept.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from dask.delayed import Delayed

from ucs._files.scratch import Scratch
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs._read.chunks import MOST_READERS
from ucs._read.columns import MISSING_AS_TEXT, order_features
from ucs._read.elements import read_partition
from ucs._read.fields import find_fields
from ucs._read.grid import Grid, pixel_index
from ucs._read.lazy.row_groups import find_categories, find_row_groups
from ucs._read.transcripts import TranscriptAccumulator, Transcripts, on_grid, read_chunk
from ucs._utils.checks import listed
from ucs._utils.log import logger
from ucs._utils.memory import BYTES_PER_PIXEL_IN_PARTS, check_fits_memory, parse_limit, release_unused
from ucs._utils.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from spatialdata import SpatialData

    from ucs._read.chunks import TranscriptChunk
    from ucs._read.elements import PointsElement
    from ucs._read.fields import Owner
    from ucs._read.lazy.row_groups import RowGroups
    from ucs._read.source import Source

_NOWHERE = Window(0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class PointsPartition:
    """Rows that are read together, and where their transcripts lie.

    Attributes
    ----------
    where
        Origin of the rows, for messages.
    rows
        A partition of a Dask frame, or what reads them.
    element, owner
        As in :func:`ucs._read.chunks.compact`.
    window
        Pixels that contain all of their transcripts, counted from the intrinsic origin.
    """

    where: str
    rows: Delayed | Callable[[], pd.DataFrame]
    element: PointsElement
    owner: Owner | None
    window: Window = _NOWHERE

    def read(self) -> pd.DataFrame:
        """Return the rows."""
        return read_partition(self.rows) if isinstance(self.rows, Delayed) else self.rows()


class _NotInMetadataError(Exception):
    """The points must be read, for this reason."""


def survey(sdata: SpatialData, source: Source, *, with_counts: bool) -> tuple[Transcripts, list[PointsPartition]]:
    """Find where transcripts lie and which features they have.

    Parameters
    ----------
    sdata
        Object with the transcripts.
    source
        Elements and columns to read.
    with_counts
        Whether counts are needed; the points are then read.

    Returns
    -------
    transcripts
        Without counts unless they are needed. If the points were read, grid and features are those of
        :func:`ucs._read.transcripts.read_transcripts`. If not, the grid covers all rows, also those that will be left
        out, and the features are all that metadata list.
    partitions
        Where their rows are.

    Raises
    ------
    ValueError, MemoryError
        As :func:`ucs._read.transcripts.read_transcripts`; errors in rows are raised when they are read.
    """
    fields = find_fields(sdata, source)
    owners = [None if fields is None else fields.owner(k) for k in range(len(source.elements))]
    try:
        if with_counts:
            raise _NotInMetadataError("the variability of genes is measured on their counts")
        return _from_metadata(sdata, source, owners)
    except _NotInMetadataError as why:
        logger.info("points[%r]: all rows are read once, because %s.", source.points_key, why)
    return _from_rows(sdata, source, owners, with_counts=with_counts)


def window_of(chunk: TranscriptChunk) -> Window:
    """Return the pixels that the transcripts of a chunk, one at least, lie in, counted from the intrinsic origin."""
    row1, column1 = chunk.row0 + int(chunk.row.max()) + 1, chunk.column0 + int(chunk.column.max()) + 1
    return Window(chunk.row0, chunk.column0, row1, column1)


def _from_metadata(
    sdata: SpatialData, source: Source, owners: Sequence[Owner | None]
) -> tuple[Transcripts, list[PointsPartition]]:
    row_groups = [_row_groups(sdata, element) for element in source.elements]
    genes, controls = _features(source, row_groups)
    step, n_rows, partitions = source.resolution / source.um_per_unit, 0, []
    for element, owner, of_part in zip(source.elements, owners, row_groups, strict=True):
        for some in of_part:
            read, where = partial(some.read, element.columns.names()), f"points[{element.key!r}], {some}"
            partitions.append(PointsPartition(where, read, element, owner, _window_of_rows(some, element, step)))
            n_rows += some.n_rows
    grid = _grid(partitions, source, step)
    nothing = TranscriptMap.from_segments([], shape=grid.shape, n_features=len(genes) + len(controls))
    return Transcripts(grid, nothing, genes, controls, (genes, controls), n_rows, n_low_quality=0), partitions


def _row_groups(sdata: SpatialData, element: PointsElement) -> list[RowGroups]:
    """Return the row groups of an element; raise if they are not all that it takes."""
    columns = element.columns
    if element.table_key is not None:
        raise _NotInMetadataError("they are the entries of a table")
    if columns.planes:
        raise _NotInMetadataError("no metadata list the planes in z")
    judges = [name for name in (columns.is_gene, columns.category) if name is not None]
    if judges:
        raise _NotInMetadataError(f"they tell by {listed(judges)} whether they are of a gene")
    row_groups = find_row_groups(sdata.points[element.key], columns.names())
    if not row_groups:
        raise _NotInMetadataError("no statistics of Parquet files tell where they lie")
    return row_groups


def _features(source: Source, row_groups: Sequence[Sequence[RowGroups]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return all genes and all controls in the metadata."""
    names: set[str] = set()
    for element, of_part in zip(source.elements, row_groups, strict=True):
        categories = find_categories(of_part, element.columns.gene)
        if categories is None:
            raise _NotInMetadataError(f"no metadata list the values of {element.columns.gene!r}")
        names |= categories - set(MISSING_AS_TEXT)  # an error where a row has them
    codes = {name: code for code, name in enumerate(names)}
    _, genes, controls = order_features(codes, np.ones(len(codes), dtype=bool), source.platform, {})
    if not genes:
        raise _NotInMetadataError("metadata list no genes")
    return genes, controls


def _window_of_rows(some: RowGroups, element: PointsElement, step: float) -> Window:
    """Return the pixels that rows may lie in: neither placing nor rounding moves any of them beyond the corners."""
    (x0, y0), (x1, y1) = some.lower, some.upper
    x, y = element.place(pd.DataFrame({"x": [x0, x1, x0, x1], "y": [y0, y0, y1, y1]}))
    row, column = pixel_index(y, step), pixel_index(x, step)
    return Window(int(row.min()), int(column.min()), int(row.max()) + 1, int(column.max()) + 1)


def _grid(partitions: Iterable[PointsPartition], source: Source, step: float) -> Grid:
    """Return the grid that covers all windows."""
    bounds = np.array(
        [[one.window.row0, one.window.column0, one.window.row1, one.window.column1] for one in partitions]
    )
    (row0, column0), (row1, column1) = bounds[:, :2].min(axis=0).tolist(), bounds[:, 2:].max(axis=0).tolist()
    height, width = row1 - row0, column1 - column0
    extent = np.array([width - 1, height - 1], dtype=np.float64)
    check_fits_memory(extent, source.resolution, 0, bytes_per_pixel=BYTES_PER_PIXEL_IN_PARTS)
    return Grid(column0, row0, (height, width), step, source.um_per_unit)


def _from_rows(
    sdata: SpatialData, source: Source, owners: Sequence[Owner | None], *, with_counts: bool
) -> tuple[Transcripts, list[PointsPartition]]:
    sizes = {"step": source.resolution / source.um_per_unit, "um_per_unit": source.um_per_unit}
    unread = [
        PointsPartition(where, rows, element, owner)
        for element, owner in zip(source.elements, owners, strict=True)
        for where, rows in (element.partitions(sdata) if element.table_key is None else element.chunks(sdata))
    ]
    tasks = (partial(read_chunk, one.where, one.read, one.element, owner=one.owner, **sizes) for one in unread)
    accumulated, partitions = TranscriptAccumulator(parse_limit("auto"), Scratch()), []
    try:
        with closing(in_order(tasks, most=MOST_READERS)) as chunks:
            for partition, chunk in zip(unread, chunks, strict=True):
                accumulated.add(chunk, **sizes)
                if len(chunk.row):
                    partitions.append(replace(partition, window=window_of(chunk)))
                if not with_counts:
                    accumulated.chunks.clear()
        release_unused()
        transcripts = on_grid(
            accumulated,
            source.platform,
            resolution=source.resolution,
            um_per_unit=source.um_per_unit,
            elements=source.elements,
        )
    finally:
        accumulated.close()
    return transcripts, partitions
