"""Chunks of transcripts as compact arrays, and a temporary file for those that do not fit into memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._kernels.binning import bin_positions, extent, group_by_band
from ucs._kernels.sorting import Segment
from ucs._kernels.transcripts import MapWriter, TranscriptMap
from ucs._read.grid import pixel_index
from ucs._utils.memory import BYTES_PER_PIXEL_IN_PARTS, check_fits_memory
from ucs._utils.pages import in_own_pages, own_pages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._files.scratch import Scratch
    from ucs._read.elements import PointsElement
    from ucs._read.fields import Owner
    from ucs._read.grid import Grid, PixelBox

MOST_READERS = 4
"""Chunks that are read at the same time; each is held in memory as a whole."""

_MOST_SHORT = 2**16  # features that 16 bits can number

BAND = 64
"""Pixel rows of a band. Bands begin at multiples of this, counted from the intrinsic origin, whatever the chunk."""

BYTES_TO_SORT = 40
"""Memory per transcript that is read back and sorted: rows, columns, features, counts, keys and the sorted entries."""


@dataclass(eq=False)
class TranscriptChunk:
    """Transcripts of one chunk of an element.

    Attributes
    ----------
    n_rows, n_low_quality, n_other_planes, n_seen_twice, n_zero_count, n_outlying
        As in :class:`ucs._read.transcripts.Transcripts`.
    votes
        Votes by feature; see :meth:`ucs._read.columns.TranscriptColumns.add_votes`.
    planes
        z planes that occur, if some are chosen.
    names
        Names of the features, by code.
    row, column
        ``(n,)`` int32, counted from the first row and column of the chunk.
    feature
        ``(n,)`` codes, uint16, or int32 if there are more than 65,536 features.
    count
        ``(n,)`` int32, or None if each row is one transcript.
    row0, column0
        First row and column, counted from the intrinsic origin.
    lower, upper
        Smallest and largest ``(x, y)``.
    """

    n_rows: int
    n_low_quality: int
    n_other_planes: int
    names: pd.Index
    n_seen_twice: int = 0
    n_zero_count: int = 0
    n_outlying: int = 0
    votes: dict[str, int] = field(default_factory=dict)
    planes: set[float] = field(default_factory=set)
    row: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    column: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    feature: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, dtype=np.uint16))
    count: NDArray[np.int32] | None = None
    row0: int = 0
    column0: int = 0
    lower: NDArray[np.float64] = field(default_factory=lambda: np.full(2, np.inf))
    upper: NDArray[np.float64] = field(default_factory=lambda: np.full(2, -np.inf))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        count = 0 if self.count is None else self.count.nbytes
        return self.row.nbytes + self.column.nbytes + self.feature.nbytes + count


def compact(
    frame: pd.DataFrame,
    element: PointsElement,
    *,
    step: float,
    um_per_unit: float,
    owner: Owner | None,
    box: PixelBox | None = None,
) -> TranscriptChunk:
    """Filter, bin and encode the rows of a chunk.

    Parameters
    ----------
    frame
        Checked rows.
    element
        The element that they belong to.
    step
        Side of a pixel in units of the frame.
    um_per_unit
        Length of one unit of the frame in um.
    owner
        Decides which rows in an overlap of fields of view to keep; None for a single element.
    box
        Rows beyond it are dropped; None if none are outlying.
    """
    columns = element.columns
    good = columns.good(frame)
    kept = good & columns.in_planes(frame)
    gene = frame[columns.gene]
    gene = (gene if isinstance(gene.dtype, pd.CategoricalDtype) else gene.astype("category")).cat
    n_good, n_kept = int(np.count_nonzero(good)), int(np.count_nonzero(kept))
    chunk = TranscriptChunk(len(frame), len(frame) - n_good, n_good - n_kept, gene.categories)
    columns.add_votes(frame, chunk.votes)
    if columns.plane is not None:
        chunk.planes.update(np.unique(frame[columns.plane].to_numpy(dtype=np.float64)).tolist())
    if columns.count is not None:
        kept &= frame[columns.count].to_numpy() > 0
        chunk.n_zero_count = n_kept - int(np.count_nonzero(kept))
    x, y = (_floating(values) for values in element.place(frame))
    if owner is not None:
        owned = owner.owns(x[kept], y[kept])
        chunk.n_seen_twice = int(np.count_nonzero(~owned))
        kept[np.flatnonzero(kept)[~owned]] = False
    if box is not None:
        outlying = kept & ~box.holds(x, y)
        chunk.n_outlying = int(np.count_nonzero(outlying))
        kept &= ~outlying
    _bin(chunk, x, y, gene.codes.to_numpy(), kept, step=step, um_per_unit=um_per_unit)
    if columns.count is not None and len(chunk.row):
        chunk.count = in_own_pages(frame[columns.count].to_numpy()[kept], np.int32)
    return chunk


def _bin(
    chunk: TranscriptChunk,
    x: NDArray,
    y: NDArray,
    code: NDArray,
    kept: NDArray[np.bool_],
    *,
    step: float,
    um_per_unit: float,
) -> None:
    """Set pixels, codes and bounds of the rows to keep."""
    n, x0, y0, x1, y1 = extent(x, y, kept)
    if n == 0:
        return
    chunk.lower, chunk.upper = np.array([x0, y0]), np.array([x1, y1])
    # Checked before pixels are numbered: on a far too fine grid the numbers would not fit into 32 bits.
    extent_px = (chunk.upper - chunk.lower) / step
    check_fits_memory(extent_px, step * um_per_unit, 0, bytes_per_pixel=BYTES_PER_PIXEL_IN_PARTS)
    chunk.row0, chunk.column0 = int(pixel_index(y0, step)), int(pixel_index(x0, step))
    chunk.row, chunk.column = own_pages(n, np.int32), own_pages(n, np.int32)
    chunk.feature = own_pages(n, np.uint16 if len(chunk.names) <= _MOST_SHORT else np.int32)
    bin_positions(x, y, code, kept, step, chunk.row0, chunk.column0, chunk.row, chunk.column, chunk.feature)


def _floating(values: NDArray) -> NDArray[np.floating]:
    dtype = values.dtype if values.dtype in (np.float32, np.float64) else np.float64
    return np.ascontiguousarray(values, dtype=dtype)


@dataclass(frozen=True)
class _Block:
    """A chunk in the file: its rows, columns, features and counts, each sorted by band."""

    band0: int
    band_start: NDArray[np.int64]
    row0: int
    column0: int
    at: dict[str, tuple[int, np.dtype[Any]]]  # first byte and type of each array


class SpilledBands:
    """Transcripts in a temporary file, by bands of pixel rows.

    Parameters
    ----------
    scratch
        Folder of the file.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._file = scratch.file()
        self._blocks: list[_Block] = []

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def add(self, chunk: TranscriptChunk, code: NDArray[np.int32], n_codes: int) -> None:
        """Write a chunk; ``code`` maps its codes of features to those of all chunks, of which there are ``n_codes``."""
        n, above = len(chunk.row), chunk.row0 % BAND
        if n == 0:
            return
        arrays: dict[str, NDArray] = {
            "row": np.empty(n, dtype=np.int32),
            "column": np.empty(n, dtype=np.int32),
            "feature": np.empty(n, dtype=np.uint16 if n_codes <= np.iinfo(np.uint16).max + 1 else np.int32),
            "count": np.empty(0 if chunk.count is None else n, dtype=np.int32),
        }
        band_start = np.zeros((int(chunk.row.max()) + above) // BAND + 2, dtype=np.int64)
        count = arrays["count"] if chunk.count is None else chunk.count
        group_by_band(chunk.row, chunk.column, chunk.feature, code, count, above, BAND, band_start, *arrays.values())
        at = {name: (self._file.append(array), array.dtype) for name, array in arrays.items() if len(array)}
        self._blocks.append(_Block(chunk.row0 // BAND, band_start, chunk.row0, chunk.column0, at))

    def sort(self, number: NDArray[np.int32], grid: Grid, n_features: int, *, at_once: int) -> TranscriptMap:
        """Return the map of all chunks, on disk, and delete the file.

        Parameters
        ----------
        number
            ``(n_codes,)`` feature of the map, by code.
        grid
            Grid that covers all chunks.
        n_features
            Number of features.
        at_once
            Transcripts to hold in memory at a time, but at least one band.
        """
        row0, shape = grid.row0, grid.shape
        writer = MapWriter(shape, n_features, storage=self._scratch)
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
        """Return ranges of bands that hold at most ``at_once`` transcripts, or one band."""
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
        """Return the transcripts of a range of bands, rows and columns counted from ``row0`` and ``column0``."""
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
