"""The transcript map as a Dask array, dense only where and when it is computed.

The graph has three layers. A task for each partition reads its rows, bins them with the code that
:func:`ucs._read.transcripts.read_transcripts` uses, and groups the transcripts by the tiles that they lie in. A task
for each tile gathers its share of those whose extent reaches it. A task for each chunk, some genes of a tile, makes the
dense counts. So a computation reads each row once, however many chunks there are and in whatever order the rows come,
and a crop reads only what reaches it. Held are 6 bytes for each transcript (10 if they have counts) of what is at work,
which is everything if all partitions reach all tiles, and a chunk or two for each thread.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.delayed import Delayed

from ucs._kernels.binning import add_counts, group_by_tile
from ucs._read.lazy.extent import window_of
from ucs._read.transcripts import read_chunk
from ucs._utils.checks import listed
from ucs._utils.pages import own_pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import dask.array as da
    import pandas as pd
    from numpy.typing import DTypeLike, NDArray

    from ucs._kernels.transcripts import Window
    from ucs._read.chunks import TranscriptChunk
    from ucs._read.elements import PointsElement
    from ucs._read.fields import Owner
    from ucs._read.grid import Grid
    from ucs._read.lazy.extent import PointsPartition
    from ucs._read.transcripts import Transcripts

    Entries = tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger], NDArray[np.int32]]

CHUNK_BYTES = 1 << 25
"""Of a dense chunk where nobody says how many genes it has: little memory, and yet few tasks."""

_CHANGED = "The points have changed since the map was made: make it again."


def lazy_counts(
    transcripts: Transcripts,
    partitions: Sequence[PointsPartition],
    genes: Sequence[str],
    *,
    tile_size: int,
    gene_chunk: int | None = None,
) -> da.Array:
    """Return counts ``(genes, h, w)`` int32 that are made from the rows when they are computed.

    Parameters
    ----------
    transcripts, partitions
        Of :func:`ucs._read.lazy.extent.survey`.
    genes
        Names, in the order of the first axis.
    tile_size
        Side of a chunk in pixels.
    gene_chunk
        Genes of a chunk; None for as many as make :data:`CHUNK_BYTES`.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    h, w = transcripts.grid.shape
    tile_size = min(tile_size, max(h, w))
    features = frozenset(transcripts.genes + transcripts.controls)
    layout = _Layout(transcripts.grid, tile_size, {gene: k for k, gene in enumerate(genes)}, features)
    token = uuid.uuid4().hex
    groups, tiles = f"transcripts-{token}", f"transcript-tiles-{token}"
    graph: dict[Any, Any] = {}
    for k, one in enumerate(partitions):
        task = partial(_group, where=one.where, element=one.element, owner=one.owner, window=one.window, layout=layout)
        graph[groups, k] = task, one.rows.key if isinstance(one.rows, Delayed) else (one.rows,)
    chunks = tuple(tuple(min(tile_size, size - start) for start in range(0, size, tile_size)) for size in (h, w))
    reaching = layout.reaching(partitions)
    for i, height in enumerate(chunks[0]):
        for j, width in enumerate(chunks[1]):
            of_tile = [(groups, k) for k in reaching.get((i, j), ())]
            graph[tiles, i, j] = partial(_gather, at=(i, j), shape=(height, width)), of_tile
    delayed: list[Any] = [one.rows for one in partitions if isinstance(one.rows, Delayed)]
    most_genes = gene_chunk or max(CHUNK_BYTES // (4 * chunks[0][0] * chunks[1][0]), 1)
    return da.blockwise(
        _dense,
        "cyx",
        da.arange(len(genes), chunks=most_genes),
        "c",
        # An array in name only: its blocks are sparse.
        da.Array(HighLevelGraph.from_collections(tiles, graph, delayed), tiles, chunks, dtype=np.int32),
        "yx",
        dtype=np.int32,
        meta=np.empty((0, 0, 0), dtype=np.int32),
    )


@dataclass(frozen=True, eq=False)
class _Layout:
    """How tiles lie and what is counted in them.

    Attributes
    ----------
    grid
        The raster.
    side
        Of a tile in pixels.
    number
        Gene -> place on the first axis.
    features
        All that there are, also those that are not counted.
    """

    grid: Grid
    side: int
    number: dict[str, int]
    features: frozenset[str]

    def tiles_of(self, window: Window) -> tuple[range, range]:
        """Return rows and columns of the tiles that a window meets."""
        row0, column0, side = self.grid.row0, self.grid.column0, self.side
        return (
            range((window.row0 - row0) // side, (window.row1 - 1 - row0) // side + 1),
            range((window.column0 - column0) // side, (window.column1 - 1 - column0) // side + 1),
        )

    def reaching(self, partitions: Sequence[PointsPartition]) -> dict[tuple[int, int], list[int]]:
        """Return the numbers of the partitions that reach each tile."""
        found: dict[tuple[int, int], list[int]] = {}
        for k, partition in enumerate(partitions):
            rows, columns = self.tiles_of(partition.window)
            for i in rows:
                for j in columns:
                    found.setdefault((i, j), []).append(k)
        return found


@dataclass(frozen=True, eq=False)
class _Grouped:
    """Transcripts in the order of the tiles that they lie in.

    Attributes
    ----------
    rows, columns
        Of tiles.
    tile_start
        Where each tile begins, row by row.
    pixel, feature, count
        ``(n,)`` pixel within the tile, place of the gene on the first axis, and number of molecules; no counts if all
        are 1.
    """

    rows: range
    columns: range
    tile_start: NDArray[np.int64]
    pixel: NDArray[np.unsignedinteger]
    feature: NDArray[np.unsignedinteger]
    count: NDArray[np.int32]

    def of_tile(self, i: int, j: int) -> Entries | None:
        """Return those of a tile, None if there are none."""
        if i not in self.rows or j not in self.columns:
            return None
        tile = (i - self.rows.start) * len(self.columns) + j - self.columns.start
        at = slice(*self.tile_start[tile : tile + 2].tolist())
        return (self.pixel[at], self.feature[at], self.count[at]) if at.stop > at.start else None


@dataclass(frozen=True, eq=False)
class _Tile:
    """Sparse counts of all genes in a tile of ``shape`` pixels."""

    shape: tuple[int, int]
    entries: list[Entries]


def _group(
    rows: pd.DataFrame, *, where: str, element: PointsElement, owner: Owner | None, window: Window, layout: _Layout
) -> _Grouped | None:
    """Bin rows and group them by tile; None if none is kept."""
    sizes = {"step": layout.grid.step, "um_per_unit": layout.grid.um_per_unit}
    chunk = read_chunk(where, lambda: rows, element, owner=owner, **sizes)
    if len(chunk.row) == 0:
        return None
    own = window_of(chunk)
    if own.meet(window) != own:
        msg = f"{where}: transcripts lie in the pixels {own}, beyond {window}. {_CHANGED}"
        raise ValueError(msg)
    names = [str(name) for name in chunk.names]
    in_each = np.bincount(chunk.feature, minlength=len(names))
    unknown = {name for name, n in zip(names, in_each, strict=True) if n} - layout.features
    if unknown:
        msg = f"{where}: there are new features: {listed(sorted(unknown))}. {_CHANGED}"
        raise ValueError(msg)
    number = np.array([layout.number.get(name, -1) for name in names], dtype=np.int32)
    return _by_tile(chunk, own, number, int(in_each[number >= 0].sum()), layout)


def _by_tile(chunk: TranscriptChunk, window: Window, number: NDArray[np.int32], n: int, layout: _Layout) -> _Grouped:
    rows, columns = layout.tiles_of(window)
    pixel = own_pages(n, _smallest(layout.side**2))
    feature = own_pages(n, _smallest(len(layout.number)))
    count = own_pages(0 if chunk.count is None else n, np.int32)
    tile_start = np.zeros(len(rows) * len(columns) + 1, dtype=np.int64)
    left = columns.start * layout.side
    group_by_tile(
        chunk.row,
        chunk.column,
        chunk.feature,
        number,
        count if chunk.count is None else chunk.count,
        chunk.row0 - layout.grid.row0 - rows.start * layout.side,
        chunk.column0 - layout.grid.column0 - left,
        layout.side,
        layout.grid.shape[1] - left,
        len(columns),
        tile_start,
        pixel,
        feature,
        count,
    )
    return _Grouped(rows, columns, tile_start, pixel, feature, count)


def _smallest(n: int) -> DTypeLike:
    """Return the type for numbers below ``n``; of few types, each of which the kernels are compiled for."""
    return np.uint16 if n <= 1 << 16 else np.uint32 if n <= 1 << 32 else np.uint64


def _gather(grouped: Iterable[_Grouped | None], *, at: tuple[int, int], shape: tuple[int, int]) -> _Tile:
    found = (one.of_tile(*at) for one in grouped if one is not None)
    return _Tile(shape, [entries for entries in found if entries is not None])


def _dense(genes: NDArray[np.integer], tile: _Tile) -> NDArray[np.int32]:
    out = np.zeros((len(genes), tile.shape[0] * tile.shape[1]), dtype=np.int32)
    for pixel, feature, count in tile.entries:
        add_counts(pixel, feature, count, int(genes[0]), out)
    return out.reshape(len(genes), *tile.shape)
