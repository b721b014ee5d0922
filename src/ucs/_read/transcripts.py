"""From points elements to transcripts on a raster, in one pass over their partitions."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._files.scratch import Scratch
from ucs._kernels.sorting import Segment
from ucs._kernels.transcripts import TranscriptMap
from ucs._read.chunks import BYTES_TO_SORT, MOST_READERS, Bands, Piece, compact
from ucs._read.columns import TranscriptColumns, check_frame, codes_of, order_features
from ucs._read.grid import Grid
from ucs._utils.checks import listed
from ucs._utils.memory import BYTES_PER_PIXEL_IN_PARTS, TRANSCRIPTS_SHARE, check_fits_memory, release_unused
from ucs._utils.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.elements import Part
    from ucs._read.fields import Fields
    from ucs._read.platforms import Platform

_PEAK_PER_BYTE = 1.7  # taken while transcripts are sorted in memory, per byte as they are collected
_IN_BUFFER = 1 / 8  # of what transcripts may take: collected before it is written, once they go to disk
_IN_BATCH = 1 / 2  # taken by those that are sorted at once, then


@dataclass(frozen=True)
class Transcripts:
    """All features of a sample on the smallest grid that covers them.

    Attributes
    ----------
    grid
        The raster.
    map
        Counts per pixel and feature.
    genes, controls
        Names: features ``0..len(genes) - 1`` are the genes, those behind them the controls, each in alphabetical order.
    n_rows
        Rows of the points elements (of binned input: entries of the table).
    n_low_quality
        Rows left out by the quality cut.
    n_other_planes
        Rows of good quality left out because they lie in other planes in z than those chosen.
    n_seen_twice
        Rows left out because another field of view has seen the same place, and lies better around it.
    n_zero_count
        Rows left out because they stand for no molecule.
    """

    grid: Grid
    map: TranscriptMap
    genes: tuple[str, ...]
    controls: tuple[str, ...]
    n_rows: int
    n_low_quality: int
    n_other_planes: int = 0
    n_seen_twice: int = 0
    n_zero_count: int = 0


def read_transcripts(
    sdata: SpatialData,
    parts: Sequence[Part],
    platform: Platform,
    *,
    resolution: float,
    um_per_unit: float,
    fields: Fields | None = None,
    scratch: Path | None = None,
    memory_limit: int | None = None,
    update: Callable[[int, int], None] = lambda _done, _total: None,
) -> Transcripts:
    """Read the transcripts of a sample in one pass: filter, encode features, bin.

    The result does not depend on how the elements are partitioned or ordered, nor on whether it is held in memory.

    Parameters
    ----------
    sdata
        Object with the elements.
    parts
        What to read of them.
    platform
        Tells genes from controls.
    resolution
        Side of a pixel in um.
    um_per_unit
        Length of one unit of the parts' common frame in um.
    fields
        Where several parts lie, so that what two of them have seen is counted once.
    scratch
        Folder for transcripts that do not fit into memory; None for the system's own for temporary files.
    memory_limit
        Bytes that the process may hold. If transcripts would take more than half of it they go to disk. None for all
        in memory.
    update
        Called with ``(pieces read, pieces)``.

    Raises
    ------
    ValueError
        If a position is NaN or infinite, a feature is null, a count is negative or not whole, or nothing is left.
    OSError
        If the disk is full.
    MemoryError
        If the grid is too large for this machine.
    """
    collected = Collected(memory_limit, Scratch(scratch))
    step = resolution / um_per_unit

    n_pieces = sum(part.n_pieces(sdata) for part in parts)

    def tasks() -> Iterator[Callable[[], Piece]]:
        for k, part in enumerate(parts):
            owner = None if fields is None else fields.owner(k)
            for where, read in part.pieces(sdata):
                yield partial(read_piece, where, read, part, step=step, um_per_unit=um_per_unit, owner=owner)

    try:
        with closing(in_order(tasks(), most=MOST_READERS)) as pieces:
            for done, piece in enumerate(pieces, start=1):
                collected.add(piece, step=step, um_per_unit=um_per_unit)
                update(done, max(n_pieces, done))
        release_unused()
        return on_grid(collected, platform, resolution=resolution, um_per_unit=um_per_unit, parts=parts)
    finally:
        collected.close()


def read_piece(where: str, read: Callable[[], pd.DataFrame], part: Part, **options: Any) -> Piece:
    """Read, check and bin a piece; ``options`` are those of :func:`ucs._read.chunks.compact`."""
    frame = read()
    check_frame(frame, part.columns, where=where)
    return compact(frame, part, **options)


def on_grid(
    collected: Collected,
    platform: Platform,
    *,
    resolution: float,
    um_per_unit: float,
    parts: Sequence[Part],
) -> Transcripts:
    """Bring collected transcripts onto the smallest grid; raise ``ValueError`` if nothing is left to work with."""
    where = f"points[{', '.join(repr(part.key) for part in parts)}]"
    _check_planes(collected, parts[0].columns, where)
    if not collected.occurring:
        msg = f"{where} has no transcripts to work with: {_why_none_is_left(collected, parts[0].columns)}."
        raise ValueError(msg)
    occurring = np.zeros(len(collected.codes), dtype=bool)
    occurring[list(collected.occurring)] = True
    new_code, genes, controls = order_features(collected.codes, occurring, platform, collected.votes)
    if not genes:
        msg = f"{where} holds control features only{_who_says_so(parts[0].columns)}: {listed(controls)}."
        raise ValueError(msg)
    (row0, column0), (height, width) = collected.first.tolist(), (collected.last - collected.first + 1).tolist()
    grid = Grid(column0, row0, (height, width), resolution / um_per_unit, um_per_unit)
    return Transcripts(
        grid,
        collected.sort(new_code, grid, len(genes) + len(controls)),
        genes,
        controls,
        collected.n_rows,
        n_low_quality=collected.n_low_quality,
        n_other_planes=collected.n_other_planes,
        n_seen_twice=collected.n_seen_twice,
        n_zero_count=collected.n_zero_count,
    )


def _why_none_is_left(collected: Collected, columns: TranscriptColumns) -> str:
    n = collected.n_rows
    if n == 0:
        return "the element is empty"
    reasons = {
        f"have {columns.quality} < {columns.minimum_quality:g}": collected.n_low_quality,
        f"lie in other planes ({columns.plane}) than z_planes={list(columns.planes)}": collected.n_other_planes,
        "were seen in another field of view, too": collected.n_seen_twice,
    }
    reasons = {reason: count for reason, count in reasons.items() if count}
    if n in reasons.values():
        return f"all {n} rows {next(iter(reasons))}"
    if not reasons:
        return f"all {n} rows have {columns.count} = 0"
    named = ", ".join(f"{count} of {n} rows {reason}" for reason, count in reasons.items())
    return named if sum(reasons.values()) == n else f"{named}, the others a count of 0"


def _check_planes(collected: Collected, columns: TranscriptColumns, where: str) -> None:
    missing = set(columns.planes) - collected.planes
    if missing and collected.planes:
        msg = (
            f"z_planes={list(columns.planes)}: {where} has no transcripts in {listed(sorted(missing))}; in its column "
            f"{columns.plane!r} are {listed(sorted(collected.planes))}."
        )
        raise ValueError(msg)


def _who_says_so(columns: TranscriptColumns) -> str:
    named = [repr(name) for name in (columns.is_gene, columns.category) if name is not None]
    return f", by their names or by the column {' and '.join(named)}" if named else ""


@dataclass
class Collected:
    """Transcripts of all pieces so far, with pixels counted from the intrinsic origin.

    Attributes
    ----------
    memory_limit
        Bytes that the process may hold; see :data:`ucs._utils.memory.TRANSCRIPTS_SHARE`.
    scratch
        Where transcripts go that would take more.
    pieces
        Those in memory, and what each of their codes is among all codes.
    bands
        Those on disk.
    codes
        Name of each feature -> code.
    occurring
        Codes that any transcript has.
    lower, upper
        Least and largest ``(x, y)``.
    first, last
        Least and largest ``(row, column)``.
    votes, planes, n_rows, n_low_quality, n_other_planes, n_seen_twice, n_zero_count
        Of all pieces: see :class:`ucs._read.chunks.Piece`.
    """

    memory_limit: int | None = None
    scratch: Scratch = field(default_factory=Scratch)
    pieces: list[tuple[Piece, NDArray[np.int32]]] = field(default_factory=list)
    bands: Bands | None = None
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
    _last_names: tuple[pd.Index, NDArray[np.int32]] | None = None

    @property
    def budget(self) -> float:
        """Bytes that transcripts may take in memory."""
        return np.inf if self.memory_limit is None else self.memory_limit * TRANSCRIPTS_SHARE

    def add(self, piece: Piece, *, step: float, um_per_unit: float) -> None:
        """Add a piece.

        Raises
        ------
        MemoryError
            If the grid becomes too large for this machine.
        OSError
            If the disk is full.
        """
        self.n_rows += piece.n_rows
        self.n_low_quality += piece.n_low_quality
        self.n_other_planes += piece.n_other_planes
        self.n_seen_twice += piece.n_seen_twice
        self.n_zero_count += piece.n_zero_count
        self.planes |= piece.planes
        for name, votes in piece.votes.items():
            self.votes[name] = self.votes.get(name, 0) + votes
        if len(piece.row) == 0:
            return
        self.lower = np.minimum(self.lower, piece.lower)
        self.upper = np.maximum(self.upper, piece.upper)
        self._check_size(step, step * um_per_unit)
        self.first = np.minimum(self.first, [piece.row0, piece.column0])
        last = [piece.row0 + int(piece.row.max()), piece.column0 + int(piece.column.max())]
        self.last = np.maximum(self.last, last)
        code = self._codes_of(piece.names)
        self.occurring.update(np.unique(code[np.flatnonzero(np.bincount(piece.feature))]).tolist())
        self.pieces.append((piece, code))
        self._spill_if_needed()

    def sort(self, number: NDArray[np.int32], grid: Grid, n_features: int) -> TranscriptMap:
        """Return the map of all transcripts; nothing of them is held here afterwards.

        Parameters
        ----------
        number
            Feature of the map that each code stands for.
        grid
            From the first row and column to the last.
        n_features
            Number of features.
        """
        if self.bands is not None:
            self._spill(self.bands)
            at_once = int(self.budget * _IN_BATCH / BYTES_TO_SORT)
            return self.bands.sort(number, grid, n_features, at_once=at_once)
        features = {id(code): number[code] for _, code in self.pieces}
        segments = [
            Segment(
                piece.row,
                piece.column,
                piece.feature,
                features[id(code)],
                piece.count,
                piece.row0 - grid.row0,
                piece.column0 - grid.column0,
            )
            for piece, code in self.pieces
        ]
        self.pieces.clear()
        return TranscriptMap.from_segments(segments, shape=grid.shape, n_features=n_features)

    def close(self) -> None:
        """Delete what is on disk, but for a map that was made of it."""
        if self.bands is not None:
            self.bands.close()

    def _check_size(self, step: float, um_per_px: float) -> None:
        extent = (self.upper - self.lower) / step
        if self.memory_limit is None:
            check_fits_memory(extent, um_per_px, self.n_rows)
        else:  # others work part by part then, and hold little of the whole
            check_fits_memory(extent, um_per_px, 0, bytes_per_pixel=BYTES_PER_PIXEL_IN_PARTS)

    def _codes_of(self, names: pd.Index) -> NDArray[np.int32]:
        """Return the code of each name; those that are new get the next ones."""
        # Names are as a rule the same in all pieces.
        if self._last_names is None or not self._last_names[0].equals(names):
            self._last_names = names, codes_of(names, self.codes)
        return self._last_names[1]

    def _spill_if_needed(self) -> None:
        """Move transcripts to disk once they would not all fit, and then whenever some have come together."""
        held = sum(piece.nbytes for piece, _ in self.pieces)
        if self.bands is None:
            if held * _PEAK_PER_BYTE <= self.budget:
                return
            self.bands = Bands(self.scratch)
        elif held <= self.budget * _IN_BUFFER:
            return
        self._spill(self.bands)

    def _spill(self, bands: Bands) -> None:
        for piece, code in self.pieces:
            bands.add(piece, code, len(self.codes))
        self.pieces.clear()
