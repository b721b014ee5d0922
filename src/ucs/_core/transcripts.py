"""Transcripts on a raster, sparse and in canonical order: the only form in which the engine sees them.

:class:`TranscriptMap` is a CSR-like array of (row, column, feature, count) sorted by row, column and feature, with
equal entries summed. The order in which transcripts arrive therefore has no say in any sum that is built on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels ``[row0, row1) x [column0, column1)``; it may reach beyond the raster."""

    row0: int
    column0: int
    row1: int
    column1: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.row1 - self.row0, self.column1 - self.column0

    def grown(self, by: int) -> Window:
        """Return the window with ``by`` pixels more on each side."""
        return Window(self.row0 - by, self.column0 - by, self.row1 + by, self.column1 + by)

    def clipped(self, shape: tuple[int, int]) -> Window:
        """Return the part inside a raster of ``shape``."""
        row0, column0 = min(max(self.row0, 0), shape[0]), min(max(self.column0, 0), shape[1])
        row1, column1 = max(min(self.row1, shape[0]), row0), max(min(self.column1, shape[1]), column0)
        return Window(row0, column0, row1, column1)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in a raster (only for a window inside it)."""
        return slice(self.row0, self.row1), slice(self.column0, self.column1)

    def read(self, raster: NDArray, fill: float = 0) -> NDArray:
        """Read the window of a raster of shape ``(h, w)``; what lies outside is ``fill``."""
        inside = self.clipped(raster.shape)
        if inside == self:
            return raster[self.slices]
        out = np.full(self.shape, fill, dtype=raster.dtype)
        rows = slice(inside.row0 - self.row0, inside.row1 - self.row0)
        columns = slice(inside.column0 - self.column0, inside.column1 - self.column0)
        out[rows, columns] = raster[inside.slices]
        return out


@dataclass(frozen=True)
class TranscriptMap:
    """Sparse counts of ``n_features`` features on a raster.

    Attributes
    ----------
    shape
        ``(height, width)`` of the raster in pixels.
    n_features
        Number of features (genes first, controls behind them, as the caller orders them).
    row_start
        ``(height + 1,)`` int64: the entries of row ``i`` are ``row_start[i]:row_start[i + 1]``.
    column, feature, count
        ``(n,)`` int32 each, sorted by column, then feature within a row; every (row, column, feature) occurs once.
    """

    shape: tuple[int, int]
    n_features: int
    row_start: NDArray[np.int64]
    column: NDArray[np.int32]
    feature: NDArray[np.int32]
    count: NDArray[np.int32]

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
        """Bring transcripts in any order into canonical order and sum equal ones.

        Parameters
        ----------
        row, column, feature
            ``(n,)`` integers inside ``shape`` and ``n_features``.
        count
            ``(n,)`` non-negative integers, or None for one each.
        """
        if count is None:
            count = np.ones(len(row), dtype=np.int32)
        row_start, order = _counting_sort(np.asarray(row, dtype=np.int32), shape[0])
        key = column[order].astype(np.int64) * n_features + feature[order]
        count = np.asarray(count, dtype=np.int32)[order]
        row_start, key, count = _sort_and_sum_rows(row_start, key, count)
        return cls(
            shape,
            n_features,
            row_start,
            (key // n_features).astype(np.int32),
            (key % n_features).astype(np.int32),
            count,
        )

    @property
    def n_transcripts(self) -> int:
        """Sum of all counts."""
        return int(self.count.sum(dtype=np.int64))

    def rows(self) -> NDArray[np.int32]:
        """Return the row of every entry."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.row_start))

    def select(self, keep: NDArray[np.bool_], new_index: NDArray, n_features: int) -> TranscriptMap:
        """Keep the features where ``keep`` is true and renumber them.

        Parameters
        ----------
        keep
            ``(n_features,)`` bool.
        new_index
            ``(n_features,)`` the new number of each kept feature; each is used once.
        n_features
            Number of features of the result.
        """
        kept = keep[self.feature]
        # Renumbering may change the order of features within a pixel, so the canonical order is made anew.
        return TranscriptMap.from_positions(
            self.rows()[kept],
            self.column[kept],
            np.asarray(new_index)[self.feature[kept]],
            self.count[kept],
            shape=self.shape,
            n_features=n_features,
        )

    def within(self, window: Window) -> TranscriptMap:
        """Keep the transcripts of a window."""
        inside = window.clipped(self.shape)
        bounds = np.empty((inside.shape[0], 2), dtype=np.int64)
        n = _row_ranges(self.row_start, self.column, self.shape[0], inside.row0, inside.column0, inside.column1, bounds)
        in_row = np.zeros(self.shape[0], dtype=np.int64)
        in_row[inside.slices[0]] = bounds[:, 1] - bounds[:, 0]
        row_start = np.concatenate([[0], np.cumsum(in_row)])
        entry = np.arange(n) + np.repeat(bounds[:, 0] - row_start[inside.row0 : inside.row1], in_row[inside.slices[0]])
        return TranscriptMap(
            self.shape, self.n_features, row_start, self.column[entry], self.feature[entry], self.count[entry]
        )

    def crop(self, window: Window) -> TranscriptMap:
        """Return the map of a window that lies inside the raster, rows and columns counted from its corner."""
        kept = self.within(window)
        return TranscriptMap(
            window.shape,
            self.n_features,
            kept.row_start[window.row0 : window.row1 + 1],
            kept.column - np.int32(window.column0),
            kept.feature,
            kept.count,
        )

    def where(self, mask: NDArray[np.bool_]) -> TranscriptMap:
        """Keep the transcripts of the pixels where a mask ``(h, w)`` is true."""
        row = self.rows()
        kept = mask[row, self.column]
        row_start = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=self.shape[0]))])
        return TranscriptMap(
            self.shape, self.n_features, row_start, self.column[kept], self.feature[kept], self.count[kept]
        )

    def totals(self, window: Window | None = None) -> NDArray[np.int32]:
        """Return the count of all features together per pixel of ``window``, shape ``(h, w)``; 0 outside the raster."""
        window = window or Window(0, 0, *self.shape)
        out = np.zeros(window.shape, dtype=np.int32)
        _window_totals(self.row_start, self.column, self.count, self.shape[0], window.row0, window.column0, out)
        return out

    def window(self, window: Window) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return the transcripts of a window as a CSR matrix (pixels of the window in row-major order x features).

        Returns
        -------
        ``(pixel_start, feature, count)`` with ``pixel_start`` of length ``h * w + 1``. Pixels outside the raster are
        empty.
        """
        h, w = window.shape
        bounds = np.empty((h, 2), dtype=np.int64)
        n = _row_ranges(self.row_start, self.column, self.shape[0], window.row0, window.column0, window.column1, bounds)
        pixel_start = np.zeros(h * w + 1, dtype=np.int64)
        feature = np.empty(n, dtype=np.int64)
        count = np.empty(n, dtype=np.float32)
        _fill_window(bounds, self.column, self.feature, self.count, window.column0, w, pixel_start, feature, count)
        return pixel_start, feature, count

    def dense(self, window: Window | None = None) -> NDArray[np.int32]:
        """Return the dense map of a window, shape ``(n_features, h, w)``. For tests and small windows only."""
        window = window or Window(0, 0, *self.shape)
        pixel_start, feature, count = self.window(window)
        h, w = window.shape
        out = np.zeros((self.n_features, h * w), dtype=np.int32)
        out[feature, np.repeat(np.arange(h * w), np.diff(pixel_start))] = count
        return out.reshape(self.n_features, h, w)


@njit(cache=True, nogil=True)
def _counting_sort(row: NDArray, n_rows: int) -> tuple[NDArray, NDArray]:
    row_start = np.zeros(n_rows + 1, dtype=np.int64)
    for i in range(len(row)):
        row_start[row[i] + 1] += 1
    for r in range(n_rows):
        row_start[r + 1] += row_start[r]
    position = row_start[:-1].copy()
    order = np.empty(len(row), dtype=np.int64)
    for i in range(len(row)):
        order[position[row[i]]] = i
        position[row[i]] += 1
    return row_start, order


@njit(cache=True, nogil=True)
def _sort_and_sum_rows(row_start: NDArray, key: NDArray, count: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    out_start = np.zeros_like(row_start)
    out = 0  # entries are written behind the place they are read from, so this works in place
    for r in range(len(row_start) - 1):
        start, stop = row_start[r], row_start[r + 1]
        order = np.argsort(key[start:stop])
        row_key = key[start:stop][order]
        row_count = count[start:stop][order]
        for i in range(stop - start):
            if i > 0 and row_key[i] == row_key[i - 1]:
                count[out - 1] += row_count[i]
            else:
                key[out] = row_key[i]
                count[out] = row_count[i]
                out += 1
        out_start[r + 1] = out
    return out_start, key[:out].copy(), count[:out].copy()


@njit(cache=True, nogil=True)
def _row_ranges(
    row_start: NDArray, column: NDArray, n_rows: int, row0: int, column0: int, column1: int, bounds: NDArray
) -> int:
    n = 0
    for i in range(len(bounds)):
        r = row0 + i
        if r < 0 or r >= n_rows:
            bounds[i, 0] = 0
            bounds[i, 1] = 0
            continue
        start, stop = row_start[r], row_start[r + 1]
        bounds[i, 0] = start + np.searchsorted(column[start:stop], column0)
        bounds[i, 1] = start + np.searchsorted(column[start:stop], column1)
        n += bounds[i, 1] - bounds[i, 0]
    return n


@njit(cache=True, nogil=True)
def _fill_window(
    bounds: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    column0: int,
    width: int,
    pixel_start: NDArray,
    out_feature: NDArray,
    out_count: NDArray,
) -> None:
    n = 0
    for i in range(len(bounds)):
        for k in range(bounds[i, 0], bounds[i, 1]):
            pixel_start[i * width + column[k] - column0 + 1] += 1
            out_feature[n] = feature[k]
            out_count[n] = count[k]
            n += 1
    for p in range(len(pixel_start) - 1):
        pixel_start[p + 1] += pixel_start[p]


@njit(cache=True, nogil=True)
def _window_totals(
    row_start: NDArray, column: NDArray, count: NDArray, n_rows: int, row0: int, column0: int, out: NDArray
) -> None:
    h, w = out.shape
    for i in range(h):
        r = row0 + i
        if 0 <= r < n_rows:
            for k in range(row_start[r], row_start[r + 1]):
                j = column[k] - column0
                if 0 <= j < w:
                    out[i, j] += count[k]
