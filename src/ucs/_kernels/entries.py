"""Entries of a sparse map: what collects them, and kernels that filter and sum them row by row.

To keep some entries, one kernel counts them in each row, another writes them once their places are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Entries = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


class EntryWriter(Protocol):
    """Collects columns, features and counts row by row."""

    def append(self, arrays: Entries) -> None:
        """Add the entries of the next rows."""

    def finish(self) -> Entries:
        """Return the columns, features and counts."""


class Storage(Protocol):
    """Keeps arrays that do not fit into memory."""

    def entries(self) -> EntryWriter:
        """Return what collects the entries of a sparse map there."""

    def release(self, array: NDArray) -> None:
        """Release the memory of an array, or of a part of it, that was made here; it can still be read."""


def empty_entries(n: int) -> Entries:
    """Return arrays for columns, features and counts."""
    return np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)


def row_runs(row_start: NDArray[np.integer], most: int) -> Iterator[tuple[int, int]]:
    """Yield runs of rows with at most ``most`` entries together, or of one row.

    Parameters
    ----------
    row_start
        ``(n_rows + 1,)``: the entries of row ``i`` are ``row_start[i]:row_start[i + 1]``.
    most
        Entries of a run.

    Yields
    ------
    The first row of each run and the one after its last.
    """
    first, n_rows = 0, len(row_start) - 1
    while first < n_rows:
        stop = int(np.searchsorted(row_start, row_start[first] + most, side="right")) - 1
        stop = min(max(stop, first + 1), n_rows)
        yield first, stop
        first = stop


class EntriesInMemory:
    """Collects columns, features and counts of a sparse map, of which there are at most ``most``."""

    def __init__(self, most: int) -> None:
        # The system provides pages only when they are written to.
        self._arrays = empty_entries(most)
        self._n = 0

    def append(self, arrays: Entries) -> None:
        """Add the entries of the next rows."""
        stop = self._n + len(arrays[0])
        for to, array in zip(self._arrays, arrays, strict=True):
            to[self._n : stop] = array
        self._n = stop

    def finish(self) -> Entries:
        """Return the columns, features and counts."""
        for array in self._arrays:
            array.resize(self._n, refcheck=False)
        return self._arrays


@njit(cache=True, nogil=True)
def count_kept(
    first: int,
    stop: int,
    row_start: NDArray,
    column: NDArray,
    feature: NDArray,
    number: NDArray,
    mask: NDArray,
    n_kept: NDArray,
) -> None:
    """Count in each row the entries whose feature has a new number of 0 or above and whose pixel a mask keeps.

    A mask without rows keeps all pixels.
    """
    masked = len(mask) > 0
    for r in range(first, stop):
        n = 0
        for i in range(row_start[r], row_start[r + 1]):
            n += number[feature[i]] >= 0 and (not masked or mask[r, column[i]])
        n_kept[r] = n


@njit(cache=True, nogil=True)
def write_kept(
    first: int,
    stop: int,
    row_start: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    number: NDArray,
    mask: NDArray,
    out_start: NDArray,
    out_column: NDArray,
    out_feature: NDArray,
    out_count: NDArray,
) -> None:
    """Write the entries that :func:`count_kept` counts, under the new numbers of their features."""
    masked = len(mask) > 0
    for r in range(first, stop):
        out = out_start[r]
        for i in range(row_start[r], row_start[r + 1]):
            new = number[feature[i]]
            if new >= 0 and (not masked or mask[r, column[i]]):
                out_column[out] = column[i]
                out_feature[out] = new
                out_count[out] = count[i]
                out += 1


@njit(cache=True, nogil=True)
def write_ranges(
    bounds: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    column0: int,
    out_column: NDArray,
    out_feature: NDArray,
    out_count: NDArray,
) -> None:
    """Write the entries ``bounds[i, 0]:bounds[i, 1]`` of each row, columns counted from ``column0``."""
    out = 0
    for i in range(len(bounds)):
        for k in range(bounds[i, 0], bounds[i, 1]):
            out_column[out] = column[k] - column0
            out_feature[out] = feature[k]
            out_count[out] = count[k]
            out += 1


@njit(cache=True, nogil=True)
def row_ranges(
    row_start: NDArray, column: NDArray, n_rows: int, row0: int, column0: int, column1: int, bounds: NDArray
) -> int:
    """Write start and end of the entries in columns ``[column0, column1)`` of each row from ``row0`` on."""
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
def fill_window(
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
    """Write the entries within bounds of rows as a CSR matrix over the pixels of a window."""
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
def window_totals(
    first: int,
    stop: int,
    row_start: NDArray,
    column: NDArray,
    count: NDArray,
    row0: int,
    column0: int,
    out: NDArray,
) -> None:
    """Sum the counts of the rows ``row0 + first`` to ``row0 + stop`` per pixel."""
    n_rows, w = len(row_start) - 1, out.shape[1]
    for i in range(first, stop):
        r = row0 + i
        if 0 <= r < n_rows:
            for k in range(row_start[r], row_start[r + 1]):
                j = column[k] - column0
                if 0 <= j < w:
                    out[i, j] += count[k]
