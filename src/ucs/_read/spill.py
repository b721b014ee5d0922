"""Transcripts that do not fit into memory: in a temporary file by bands of rows, then sorted band by band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._kernels.binning import group_by_band
from ucs._kernels.canonical import Segment
from ucs._kernels.transcripts import MapWriter, TranscriptMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._files.scratch import Scratch
    from ucs._read.chunks import Piece
    from ucs._read.grid import Grid

BAND = 64
"""Rows of a band; they begin at multiples of this, counted from the intrinsic origin."""

BYTES_TO_SORT = 40
"""Per transcript of the bands that are sorted at once."""


@dataclass(frozen=True)
class _Block:
    """A piece in the file: rows, columns, features and counts one behind the other, each in the order of bands."""

    band0: int
    band_start: NDArray[np.int64]
    row0: int
    column0: int
    at: dict[str, tuple[int, np.dtype[Any]]]  # the byte where each begins, and what it holds


class Bands:
    """Transcripts in a temporary file.

    Parameters
    ----------
    scratch
        Where the file is.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._file = scratch.file()
        self._blocks: list[_Block] = []

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def add(self, piece: Piece, code: NDArray[np.int32], n_codes: int) -> None:
        """Write a piece; ``code`` are the codes of its features among ``n_codes`` of all pieces."""
        n, above = len(piece.row), piece.row0 % BAND
        if n == 0:
            return
        arrays: dict[str, NDArray] = {
            "row": np.empty(n, dtype=np.int32),
            "column": np.empty(n, dtype=np.int32),
            "feature": np.empty(n, dtype=np.uint16 if n_codes <= np.iinfo(np.uint16).max + 1 else np.int32),
            "count": np.empty(0 if piece.count is None else n, dtype=np.int32),
        }
        band_start = np.zeros((int(piece.row.max()) + above) // BAND + 2, dtype=np.int64)
        count = arrays["count"] if piece.count is None else piece.count
        group_by_band(piece.row, piece.column, piece.feature, code, count, above, BAND, band_start, *arrays.values())
        at = {name: (self._file.append(array), array.dtype) for name, array in arrays.items() if len(array)}
        self._blocks.append(_Block(piece.row0 // BAND, band_start, piece.row0, piece.column0, at))

    def sort(self, number: NDArray[np.int32], grid: Grid, n_features: int, *, at_once: int) -> TranscriptMap:
        """Return the map of all pieces, on disk; the file is gone then.

        Parameters
        ----------
        number
            Feature of the map that each code stands for.
        grid
            It covers all pieces.
        n_features
            Number of features.
        at_once
            Transcripts to hold in memory; a band is held as a whole, though.
        """
        row0, shape = grid.row0, grid.shape
        writer = MapWriter(shape, n_features, scratch=self._scratch)
        try:
            for band0, band1 in self._batches(row0, shape[0], at_once):
                first = max(band0 * BAND - row0, 0)
                stop = min(band1 * BAND - row0, shape[0])
                segments = self._read(band0, band1, number, row0 + first, grid.column0)
                rows = TranscriptMap.from_segments(segments, shape=(stop - first, shape[1]), n_features=n_features)
                writer.append_map(rows)
        finally:
            self.close()
        return writer.finish()

    def _batches(self, row0: int, height: int, at_once: int) -> list[tuple[int, int]]:
        """Return ranges of bands with no more transcripts than this, or of one band."""
        first, stop = row0 // BAND, (row0 + height - 1) // BAND + 1
        in_band = np.zeros(stop - first, dtype=np.int64)
        for block in self._blocks:
            there = block.band0 - first
            in_band[there : there + len(block.band_start) - 1] += np.diff(block.band_start)
        batches, begin, held = [], 0, 0
        for band, n in enumerate(in_band.tolist()):
            if held + n > at_once and band > begin:
                batches.append((first + begin, first + band))
                begin, held = band, 0
            held += n
        return [*batches, (first + begin, stop)]

    def _read(self, band0: int, band1: int, number: NDArray[np.int32], row0: int, column0: int) -> list[Segment]:
        """Return the transcripts of some bands, rows and columns counted from the given ones."""
        segments = []
        for block in self._blocks:
            first, stop = np.clip([band0 - block.band0, band1 - block.band0], 0, len(block.band_start) - 1)
            start, n = int(block.band_start[first]), int(block.band_start[stop] - block.band_start[first])
            if n == 0:
                continue
            at = {name: (begin + start * dtype.itemsize, n, dtype) for name, (begin, dtype) in block.at.items()}
            segments.append(
                Segment(
                    self._file.read(*at["row"]),
                    self._file.read(*at["column"]),
                    self._file.read(*at["feature"]),
                    number,
                    self._file.read(*at["count"]) if "count" in at else None,
                    block.row0 - row0,
                    block.column0 - column0,
                )
            )
        return segments
