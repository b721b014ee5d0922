"""Transcripts of many pieces: gathered, in memory or on disk, and brought into canonical order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ucs._files.scratch import Scratch
from ucs._kernels.canonical import Segment
from ucs._kernels.transcripts import TranscriptMap
from ucs._read.spill import BYTES_TO_SORT, Bands
from ucs._utils.memory import BYTES_PER_PIXEL_IN_PARTS, TRANSCRIPTS_SHARE, check_fits_memory

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ucs._read.chunks import Piece
    from ucs._read.grid import Grid

_PEAK_PER_BYTE = 1.7  # taken while transcripts are sorted in memory, per byte as they are collected
_IN_BUFFER = 1 / 8  # of what transcripts may take: collected before it is written, once they go to disk
_IN_BATCH = 1 / 2  # taken by those that are sorted at once, then


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
            codes = self.codes
            code = np.array([codes.setdefault(str(name), len(codes)) for name in names], dtype=np.int32)
            self._last_names = names, code
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
