"""From points elements to transcripts on a raster, in one pass over their partitions."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._files.scratch import Scratch
from ucs._kernels.sorting import Segment
from ucs._kernels.transcripts import TranscriptMap
from ucs._read.chunks import BYTES_TO_SORT, MOST_READERS, SpilledBands, TranscriptChunk, compact
from ucs._read.columns import (
    TranscriptColumns,
    check_frame,
    codes_of,
    names_in_tables,
    order_features,
    panel_of,
)
from ucs._read.grid import Grid, PixelBox
from ucs._utils.checks import check_features, listed
from ucs._utils.memory import BYTES_PER_PIXEL_IN_PARTS, TRANSCRIPTS_SHARE, check_fits_memory, release_unused
from ucs._utils.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.elements import PointsElement
    from ucs._read.fields import Fields
    from ucs._read.platforms import Platform

# Peak memory while transcripts are sorted, per byte of the chunks.
_PEAK_PER_BYTE = 1.7
# Once transcripts go to disk: share of their memory that chunks may fill before they are written ...
_IN_BUFFER = 1 / 8
# ... and share that the bands take that are read back and sorted together. The rest is left to the sorted map.
_IN_BATCH = 1 / 2


@dataclass(frozen=True)
class Transcripts:
    """All transcripts of a sample on the smallest grid that covers them.

    Attributes
    ----------
    grid
        The raster.
    map
        Counts per pixel and feature.
    genes, controls
        Names of the features, each in alphabetical order: first the genes, then the controls.
    panel
        All genes and all controls that are listed, also those without transcripts: the columns of tables.
    n_rows
        Rows of the points elements, or entries of the table for bins.
    n_low_quality
        Rows dropped by the quality cut.
    n_other_planes
        Rows of good quality dropped because they lie in other z planes than those chosen.
    n_seen_twice
        Rows dropped in overlaps because another field of view owns the place.
    n_zero_count
        Rows dropped because their count is 0.
    n_outlying
        Rows dropped because they lie beyond the box of the others; see :mod:`ucs._read.extent`.
    """

    grid: Grid
    map: TranscriptMap
    genes: tuple[str, ...]
    controls: tuple[str, ...]
    panel: tuple[tuple[str, ...], tuple[str, ...]]
    n_rows: int
    n_low_quality: int
    n_other_planes: int = 0
    n_seen_twice: int = 0
    n_zero_count: int = 0
    n_outlying: int = 0


def read_transcripts(
    sdata: SpatialData,
    elements: Sequence[PointsElement],
    platform: Platform,
    *,
    resolution: float,
    um_per_unit: float,
    fields: Fields | None = None,
    box: PixelBox | None = None,
    scratch: Path | None = None,
    memory_limit: int | None = None,
    update: Callable[[int, int], None] = lambda _done, _total: None,
) -> Transcripts:
    """Read the transcripts of a sample in one pass: filter, encode features, bin.

    The result does not depend on the partitions, on their order, or on whether it fits into memory.

    Parameters
    ----------
    sdata
        Object with the elements.
    elements
        Elements and columns to read.
    platform
        Distinguishes genes from controls.
    resolution
        Side of a pixel in um.
    um_per_unit
        Length of one unit of the elements' common frame in um.
    fields
        Areas of several fields of view, so that transcripts in their overlaps are counted once.
    box
        Pixels beyond which transcripts are left out; all are used if None.
    scratch
        Folder for transcripts that do not fit into memory; the system's temporary folder if None.
    memory_limit
        Bytes that the process may hold. Transcripts go to disk if they would take more than half of it. No limit if
        None.
    update
        Called with ``(chunks read, chunks)``.

    Raises
    ------
    ValueError
        If a position is NaN or infinite, a feature is null, a count is negative or not whole, or nothing is left.
    OSError
        If the disk is full.
    MemoryError
        If the grid is too large for this machine.
    """
    accumulated = TranscriptAccumulator(memory_limit, Scratch(scratch))
    step = resolution / um_per_unit

    n_chunks = sum(element.n_chunks(sdata) for element in elements)

    def tasks() -> Iterator[Callable[[], TranscriptChunk]]:
        for k, element in enumerate(elements):
            owner = None if fields is None else fields.owner(k)
            options = {"step": step, "um_per_unit": um_per_unit, "owner": owner, "box": box}
            for where, read in element.chunks(sdata):
                yield partial(read_chunk, where, read, element, **options)

    try:
        with closing(in_order(tasks(), most=MOST_READERS)) as chunks:
            for done, chunk in enumerate(chunks, start=1):
                accumulated.add(chunk, step=step, um_per_unit=um_per_unit)
                update(done, max(n_chunks, done))
        release_unused()
        read = on_grid(accumulated, platform, resolution=resolution, um_per_unit=um_per_unit, elements=elements)
        named = {*read.panel[0], *read.panel[1], *names_in_tables(sdata, read.genes)}
        panel = panel_of(named, read.genes, read.controls, platform, accumulated.votes)
        return replace(read, panel=panel)
    finally:
        accumulated.close()


def read_chunk(where: str, read: Callable[[], pd.DataFrame], element: PointsElement, **options: Any) -> TranscriptChunk:
    """Read, check and bin a chunk; see :func:`ucs._read.chunks.compact` for ``options``."""
    frame = read()
    check_frame(frame, element.columns, where=where)
    return compact(frame, element, **options)


def on_grid(
    accumulated: TranscriptAccumulator,
    platform: Platform,
    *,
    resolution: float,
    um_per_unit: float,
    elements: Sequence[PointsElement],
) -> Transcripts:
    """Return the accumulated transcripts on the smallest grid; raise ``ValueError`` if there are none."""
    where = f"points[{', '.join(repr(element.key) for element in elements)}]"
    _check_planes(accumulated, elements[0].columns, where)
    if not accumulated.occurring:
        msg = f"{where} has no transcripts to work with: {_why_none_is_left(accumulated, elements[0].columns)}."
        raise ValueError(msg)
    check_features(accumulated.codes, where)
    occurring = np.zeros(len(accumulated.codes), dtype=bool)
    occurring[list(accumulated.occurring)] = True
    new_code, genes, controls = order_features(accumulated.codes, occurring, platform, accumulated.votes)
    if not genes:
        msg = f"{where} holds control features only{_who_says_so(elements[0].columns)}: {listed(controls)}."
        raise ValueError(msg)
    (row0, column0), (height, width) = accumulated.first.tolist(), (accumulated.last - accumulated.first + 1).tolist()
    grid = Grid(column0, row0, (height, width), resolution / um_per_unit, um_per_unit)
    return Transcripts(
        grid,
        accumulated.sort(new_code, grid, len(genes) + len(controls)),
        genes,
        controls,
        panel_of(accumulated.codes, genes, controls, platform, accumulated.votes),
        accumulated.n_rows,
        n_low_quality=accumulated.n_low_quality,
        n_other_planes=accumulated.n_other_planes,
        n_seen_twice=accumulated.n_seen_twice,
        n_zero_count=accumulated.n_zero_count,
        n_outlying=accumulated.n_outlying,
    )


def _why_none_is_left(accumulated: TranscriptAccumulator, columns: TranscriptColumns) -> str:
    n = accumulated.n_rows
    if n == 0:
        return "the element is empty"
    reasons = {
        f"have {columns.quality} < {columns.minimum_quality:g}": accumulated.n_low_quality,
        f"lie in other planes ({columns.plane}) than z_planes={list(columns.planes)}": accumulated.n_other_planes,
        "were seen in another field of view, too": accumulated.n_seen_twice,
    }
    reasons = {reason: count for reason, count in reasons.items() if count}
    if n in reasons.values():
        return f"all {n} rows {next(iter(reasons))}"
    if not reasons:
        return f"all {n} rows have {columns.count} = 0"
    named = ", ".join(f"{count} of {n} rows {reason}" for reason, count in reasons.items())
    return named if sum(reasons.values()) == n else f"{named}, the others a count of 0"


def _check_planes(accumulated: TranscriptAccumulator, columns: TranscriptColumns, where: str) -> None:
    missing = set(columns.planes) - accumulated.planes
    if missing and accumulated.planes:
        msg = (
            f"z_planes={list(columns.planes)}: {where} has no transcripts in {listed(sorted(missing))}; in its column "
            f"{columns.plane!r} are {listed(sorted(accumulated.planes))}."
        )
        raise ValueError(msg)


def _who_says_so(columns: TranscriptColumns) -> str:
    named = [repr(name) for name in (columns.is_gene, columns.category) if name is not None]
    return f", by their names or by the column {' and '.join(named)}" if named else ""


@dataclass
class TranscriptAccumulator:
    """Collects chunks of transcripts, in memory or on disk, and sorts them.

    Attributes
    ----------
    memory_limit
        Bytes that the process may hold, of which transcripts get :data:`ucs._utils.memory.TRANSCRIPTS_SHARE`.
    scratch
        Folder for transcripts that do not fit.
    chunks
        Chunks in memory, each with the table from its codes of features to those of all chunks.
    bands
        Chunks on disk.
    codes
        Code of each feature, by name.
    occurring
        Codes that occur.
    lower, upper
        Smallest and largest ``(x, y)``.
    first, last
        Smallest and largest ``(row, column)``, counted from the intrinsic origin.
    votes, planes, n_rows, n_low_quality, n_other_planes, n_seen_twice, n_zero_count, n_outlying
        Totals of all chunks; see :class:`ucs._read.chunks.TranscriptChunk`.
    """

    memory_limit: int | None = None
    scratch: Scratch = field(default_factory=Scratch)
    chunks: list[tuple[TranscriptChunk, NDArray[np.int32]]] = field(default_factory=list)
    bands: SpilledBands | None = None
    codes: dict[str, int] = field(default_factory=dict)
    occurring: set[int] = field(default_factory=set)
    lower: NDArray[np.float64] = field(default_factory=lambda: np.full(2, np.inf))
    upper: NDArray[np.float64] = field(default_factory=lambda: np.full(2, -np.inf))
    first: NDArray[np.int64] = field(default_factory=lambda: np.full(2, np.iinfo(np.int64).max))
    last: NDArray[np.int64] = field(default_factory=lambda: np.full(2, np.iinfo(np.int64).min))
    votes: dict[str, int] = field(default_factory=dict)
    planes: set[float] = field(default_factory=set)
    n_rows: int = 0
    n_low_quality: int = 0
    n_other_planes: int = 0
    n_seen_twice: int = 0
    n_zero_count: int = 0
    n_outlying: int = 0
    _last_names: tuple[pd.Index, NDArray[np.int32]] | None = None

    @property
    def budget(self) -> float:
        """Bytes that transcripts may take in memory."""
        return np.inf if self.memory_limit is None else self.memory_limit * TRANSCRIPTS_SHARE

    def add(self, chunk: TranscriptChunk, *, step: float, um_per_unit: float) -> None:
        """Add a chunk.

        Raises
        ------
        MemoryError
            If the grid becomes too large for this machine.
        OSError
            If the disk is full.
        """
        self.n_rows += chunk.n_rows
        self.n_low_quality += chunk.n_low_quality
        self.n_other_planes += chunk.n_other_planes
        self.n_seen_twice += chunk.n_seen_twice
        self.n_zero_count += chunk.n_zero_count
        self.n_outlying += chunk.n_outlying
        self.planes |= chunk.planes
        for name, votes in chunk.votes.items():
            self.votes[name] = self.votes.get(name, 0) + votes
        code = self._codes_of(chunk.names)
        if len(chunk.row) == 0:
            return
        self.lower = np.minimum(self.lower, chunk.lower)
        self.upper = np.maximum(self.upper, chunk.upper)
        self._check_size(step, step * um_per_unit)
        self.first = np.minimum(self.first, [chunk.row0, chunk.column0])
        last = [chunk.row0 + int(chunk.row.max()), chunk.column0 + int(chunk.column.max())]
        self.last = np.maximum(self.last, last)
        self.occurring.update(np.unique(code[np.flatnonzero(np.bincount(chunk.feature))]).tolist())
        self.chunks.append((chunk, code))
        self._spill_if_needed()

    def sort(self, number: NDArray[np.int32], grid: Grid, n_features: int) -> TranscriptMap:
        """Return the map of all transcripts, and drop the chunks.

        Parameters
        ----------
        number
            ``(n_codes,)`` feature of the map, by code.
        grid
            Grid from the first row and column to the last.
        n_features
            Number of features.
        """
        if self.bands is not None:
            self._spill(self.bands)
            at_once = int(self.budget * _IN_BATCH / BYTES_TO_SORT)
            return self.bands.sort(number, grid, n_features, at_once=at_once)
        features = {id(code): number[code] for _, code in self.chunks}
        segments = [
            Segment(
                chunk.row,
                chunk.column,
                chunk.feature,
                features[id(code)],
                chunk.count,
                chunk.row0 - grid.row0,
                chunk.column0 - grid.column0,
            )
            for chunk, code in self.chunks
        ]
        self.chunks.clear()
        return TranscriptMap.from_segments(segments, shape=grid.shape, n_features=n_features)

    def close(self) -> None:
        """Delete the temporary file; a map on disk that was made from it stays."""
        if self.bands is not None:
            self.bands.close()

    def _check_size(self, step: float, um_per_px: float) -> None:
        extent = (self.upper - self.lower) / step
        if self.memory_limit is None:
            check_fits_memory(extent, um_per_px, self.n_rows)
        else:  # the raster is then processed tile by tile
            check_fits_memory(extent, um_per_px, 0, bytes_per_pixel=BYTES_PER_PIXEL_IN_PARTS)

    def _codes_of(self, names: pd.Index) -> NDArray[np.int32]:
        """Return the code of each name; new names get the next codes."""
        # The categories are usually the same in all chunks.
        if self._last_names is None or not self._last_names[0].equals(names):
            self._last_names = names, codes_of(names, self.codes)
        return self._last_names[1]

    def _spill_if_needed(self) -> None:
        """Write chunks to disk once they would not fit into memory, from then on whenever the buffer is full."""
        held = sum(chunk.nbytes for chunk, _ in self.chunks)
        if self.bands is None:
            if held * _PEAK_PER_BYTE <= self.budget:
                return
            self.bands = SpilledBands(self.scratch)
        elif held <= self.budget * _IN_BUFFER:
            return
        self._spill(self.bands)

    def _spill(self, bands: SpilledBands) -> None:
        for chunk, code in self.chunks:
            bands.add(chunk, code, len(self.codes))
        self.chunks.clear()
