"""Transcripts on a raster, sparse and in canonical order: the only form that segmentation uses.

:class:`TranscriptMap` is a CSR-like array of (row, column, feature, count) sorted by row, column and feature, with
equal entries summed. No sum over it therefore depends on the order in which transcripts arrive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels import entries as _entries
from ucs._kernels.entries import EntriesInMemory, empty_entries, row_runs
from ucs._kernels.labels.windows import Window
from ucs._kernels.sorting import Segment, sort_segments
from ucs._utils.parallel import in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ucs._kernels.entries import Entries, EntryWriter, Storage

__all__ = ["ENTRIES_AT_ONCE", "MapWriter", "TranscriptMap", "Window"]

ENTRIES_AT_ONCE = 1_000_000
"""Entries that a pass in bounded memory processes together: 12 MB."""

_NO_MASK = np.zeros((0, 0), dtype=bool)
_PIXELS_FOR_THREADS = 1 << 20  # summing fewer takes less time than starting threads


@dataclass(frozen=True)
class TranscriptMap:
    """Sparse counts of ``n_features`` features on a raster.

    Attributes
    ----------
    shape
        ``(height, width)`` of the raster in pixels.
    n_features
        Number of features, in the order of the caller (genes, then controls).
    row_start
        ``(height + 1,)`` int64: the entries of row ``i`` are ``row_start[i]:row_start[i + 1]``.
    column, feature, count
        ``(n,)`` int32 each, sorted by column, then feature within a row; every (row, column, feature) occurs once.
    storage
        Keeps these arrays, and those of maps made of this one, if they do not fit into memory; else None.
    """

    shape: tuple[int, int]
    n_features: int
    row_start: NDArray[np.int64]
    column: NDArray[np.int32]
    feature: NDArray[np.int32]
    count: NDArray[np.int32]
    storage: Storage | None = field(default=None, repr=False)

    @classmethod
    def from_positions(
        cls,
        row: NDArray,
        column: NDArray,
        feature: NDArray,
        count: NDArray | None,
        *,
        shape: tuple[int, int],
        n_features: int,
    ) -> TranscriptMap:
        """Return the map of transcripts in any order.

        Parameters
        ----------
        row, column, feature
            ``(n,)`` integers inside ``shape`` and ``n_features``.
        count
            ``(n,)`` non-negative integers, or None for one each.
        """
        segment = Segment(
            _int32(row), _int32(column), _int32(feature), np.arange(n_features, dtype=np.int32),
            None if count is None else _int32(count),
        )  # fmt: skip
        return cls.from_segments([segment], shape=shape, n_features=n_features)

    @classmethod
    def from_segments(cls, segments: list[Segment], *, shape: tuple[int, int], n_features: int) -> TranscriptMap:
        """Return the map of transcripts in segments; the list is empty afterwards."""
        return cls(shape, n_features, *sort_segments(segments, shape=shape, n_features=n_features))

    @property
    def n_transcripts(self) -> int:
        """Sum of all counts."""
        return sum(int(band.count.sum(dtype=np.int64)) for _, _, band in self.bands())

    def rows(self) -> NDArray[np.int32]:
        """Return the row of each entry, ``(n,)``."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.row_start))

    def select(self, keep: NDArray[np.bool_], new_index: NDArray, n_features: int) -> TranscriptMap:
        """Return the map of some features, renumbered.

        Parameters
        ----------
        keep
            ``(n_features,)`` bool: the features to keep.
        new_index
            ``(n_features,)`` new number of each kept feature, all different.
        n_features
            Number of features of the result.
        """
        number = np.where(keep, np.asarray(new_index), -1).astype(np.int32)
        kept = number[np.asarray(keep, dtype=bool)]
        if len(kept) == self.n_features == n_features and np.array_equal(kept, np.arange(n_features)):
            return self
        made = self._filtered(number, n_features)
        return made if (np.diff(kept) > 0).all() else made._sorted_anew()

    def _sorted_anew(self) -> TranscriptMap:
        """Return the map sorted again, if features are not in order within pixels."""
        writer = self.writer()
        for _, _, band in self.bands():
            made = TranscriptMap.from_positions(
                band.rows(), band.column, band.feature, band.count, shape=band.shape, n_features=band.n_features
            )
            writer.append_map(made)
        return writer.finish()

    def _filtered(self, number: NDArray[np.int32], n_features: int, mask: NDArray | None = None) -> TranscriptMap:
        """Keep the entries of features with a new number of 0 or above, and, if a mask is given, of its pixels."""
        made, writer = None, None if self.storage is None else self.writer(n_features)
        for row0, row1, band in self.bands(max(self.shape[0], 1) if writer is None else None):
            n_rows, n_kept = row1 - row0, np.zeros(row1 - row0, dtype=np.int64)
            rows = _NO_MASK if mask is None else np.asarray(mask[row0:row1], dtype=bool)
            in_threads(_entries.count_kept, n_rows, band.row_start, band.column, band.feature, number, rows, n_kept)
            start = _row_start(n_kept)
            arrays = empty_entries(start[-1])
            given = band.row_start, band.column, band.feature, band.count
            in_threads(_entries.write_kept, n_rows, *given, number, rows, start, *arrays)
            made = TranscriptMap(band.shape, n_features, start, *arrays)
            if writer is not None:
                writer.append_map(made)
        if writer is not None:
            return writer.finish()
        return replace(self, n_features=n_features) if made is None else made

    def writer(self, n_features: int | None = None) -> MapWriter:
        """Return a writer of a map of the same shape with no more entries, in the same storage."""
        n_features = self.n_features if n_features is None else n_features
        return MapWriter(self.shape, n_features, storage=self.storage, most=len(self.count))

    def bands(self, rows_at_once: int | None = None) -> Iterator[tuple[int, int, TranscriptMap]]:
        """Yield the map in bands of rows, in bounded memory.

        Parameters
        ----------
        rows_at_once
            Rows of a band; None for bands with at most a million entries, but at least one row.

        Yields
        ------
        ``(row0, row1, map)`` with the map of these rows, of shape ``(row1 - row0, width)``. Its arrays are views, to be
        used before the next band is requested: pages of a map on disk are then released.
        """
        height, width = self.shape
        if rows_at_once is None:
            runs = row_runs(self.row_start, ENTRIES_AT_ONCE)
        else:
            runs = ((row0, min(row0 + rows_at_once, height)) for row0 in range(0, height, rows_at_once))
        for row0, row1 in runs:
            start, stop = self.row_start[row0], self.row_start[row1]
            entries = self.column[start:stop], self.feature[start:stop], self.count[start:stop]
            row_start = self.row_start[row0 : row1 + 1] - start
            yield row0, row1, TranscriptMap((row1 - row0, width), self.n_features, row_start, *entries)
            self.release(row0, row1)

    def release(self, row0: int, row1: int) -> None:
        """Release the memory that rows take where the map is not held in memory; they can still be read."""
        if self.storage is not None:
            start, stop = self.row_start[np.clip([row0, row1], 0, self.shape[0])]
            for array in (self.column, self.feature, self.count):
                self.storage.release(array[start:stop])

    def within(self, window: Window) -> TranscriptMap:
        """Return the map, of the same shape, of the transcripts in a window."""
        inside = window.clipped(self.shape)
        if inside.shape == self.shape:
            return self
        in_row, made = self._ranges(inside, 0)
        row_start = np.zeros(self.shape[0] + 1, dtype=np.int64)
        row_start[inside.row0 + 1 : inside.row1 + 1] = np.cumsum(in_row)
        row_start[inside.row1 + 1 :] = row_start[inside.row1]
        return TranscriptMap(self.shape, self.n_features, row_start, *made)

    def crop(self, window: Window) -> TranscriptMap:
        """Return the map of a window inside the raster, with rows and columns counted from its corner."""
        if window == Window(0, 0, *self.shape):
            return self
        in_row, made = self._ranges(window, window.column0)
        return TranscriptMap(window.shape, self.n_features, _row_start(in_row), *made)

    def _ranges(self, inside: Window, column0: int) -> tuple[NDArray[np.int64], Entries]:
        """Return the number of entries in each row of a window inside the raster, and copies of the entries."""
        bounds = np.empty((inside.shape[0], 2), dtype=np.int64)
        columns = inside.column0, inside.column1
        n = _entries.row_ranges(self.row_start, self.column, self.shape[0], inside.row0, *columns, bounds)
        made = empty_entries(n)
        _entries.write_ranges(bounds, self.column, self.feature, self.count, column0, *made)
        self.release(inside.row0, inside.row1)
        return bounds[:, 1] - bounds[:, 0], made

    def where(self, mask: NDArray[np.bool_]) -> TranscriptMap:
        """Return the map of the transcripts where a mask ``(h, w)`` is true; the mask is read band by band."""
        if mask.shape != self.shape:
            msg = f"The mask has shape {mask.shape}, the map {self.shape}."
            raise ValueError(msg)
        return self._filtered(np.arange(self.n_features, dtype=np.int32), self.n_features, mask)

    def totals(self, window: Window | None = None) -> NDArray[np.int32]:
        """Return the sum over all features per pixel of a window, ``(h, w)``; 0 outside the raster."""
        window = window or Window(0, 0, *self.shape)
        out = np.zeros(window.shape, dtype=np.int32)
        if out.size < _PIXELS_FOR_THREADS:
            corner = window.row0, window.column0
            _entries.window_totals(0, len(out), self.row_start, self.column, self.count, *corner, out)
            self.release(window.row0, window.row1)
            return out
        for row0, row1, band in self.bands(max(self.shape[0], 1) if self.storage is None else None):
            part = out[max(row0 - window.row0, 0) : max(row1 - window.row0, 0)]
            corner = max(window.row0 - row0, 0), window.column0
            in_threads(_entries.window_totals, len(part), band.row_start, band.column, band.count, *corner, part)
        return out

    def window(self, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return the transcripts of a window as a CSR matrix, pixels in row-major order x features.

        Returns
        -------
        ``(pixel_start, feature, count)`` with ``pixel_start`` of length ``h * w + 1``. Pixels outside the raster are
        empty.
        """
        h, w = window.shape
        bounds = np.empty((h, 2), dtype=np.int64)
        columns = window.column0, window.column1
        n = _entries.row_ranges(self.row_start, self.column, self.shape[0], window.row0, *columns, bounds)
        pixel_start = np.zeros(h * w + 1, dtype=np.int64)
        feature = np.empty(n, dtype=np.int64)
        count = np.empty(n, dtype=np.float32)
        entries = self.column, self.feature, self.count
        _entries.fill_window(bounds, *entries, window.column0, w, pixel_start, feature, count)
        self.release(window.row0, window.row1)
        return pixel_start, feature, count

    def dense(self, window: Window | None = None) -> NDArray[np.int32]:
        """Return the dense map of a window, ``(n_features, h, w)``; for tests and small windows only."""
        window = window or Window(0, 0, *self.shape)
        pixel_start, feature, count = self.window(window)
        h, w = window.shape
        out = np.zeros((self.n_features, h * w), dtype=np.int32)
        out[feature, np.repeat(np.arange(h * w), np.diff(pixel_start))] = count
        return out.reshape(self.n_features, h, w)


class MapWriter:
    """Writes a map row by row.

    Parameters
    ----------
    shape, n_features
        Shape and number of features of the map.
    storage
        Where to write it; None for memory.
    most
        Upper bound of the number of entries; for memory only.
    """

    def __init__(self, shape: tuple[int, int], n_features: int, *, storage: Storage | None, most: int = 0) -> None:
        self._shape, self._n_features, self._storage = shape, n_features, storage
        self._entries: EntryWriter = EntriesInMemory(most) if storage is None else storage.entries()
        self._in_row: list[NDArray[np.int64]] = []

    def append(self, in_row: NDArray[np.int64], entries: Entries) -> None:
        """Write the next rows: the number of entries in each, and their columns, features and counts."""
        self._in_row.append(in_row)
        self._entries.append(entries)

    def append_map(self, rows: TranscriptMap) -> None:
        """Write a map of the next rows."""
        self.append(np.diff(rows.row_start), (rows.column, rows.feature, rows.count))

    def finish(self) -> TranscriptMap:
        """Return the map, once all rows are written."""
        row_start = _row_start(np.concatenate([np.zeros(0, dtype=np.int64), *self._in_row]))
        column, feature, count = self._entries.finish()
        return TranscriptMap(self._shape, self._n_features, row_start, column, feature, count, self._storage)


def _row_start(in_row: NDArray[np.int64]) -> NDArray[np.int64]:
    out = np.zeros(len(in_row) + 1, dtype=np.int64)
    np.cumsum(in_row, out=out[1:])
    return out


def _int32(numbers: NDArray) -> NDArray[np.int32]:
    return np.ascontiguousarray(numbers, dtype=np.int32)
