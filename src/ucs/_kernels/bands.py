"""Rasters read in bands of rows, whether they are plain arrays or lie in chunks, compressed or on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_ROWS = 1024  # of a band of a plain array
_SIDE = 1024  # of a block of a plain array


class Raster(Protocol):
    """A 2D array that is read by slices: a NumPy array, or a Zarr array, of which a slice reads the chunks it needs."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(height, width)``."""

    @property
    def dtype(self) -> Any:
        """Type of the pixels."""

    @property
    def ndim(self) -> int:
        """Two."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return pixels, for slices of rows and columns."""


@dataclass(frozen=True, eq=False)
class Renumbered:
    """A raster whose labels are renumbered when they are read, rather than all at once.

    Attributes
    ----------
    labels
        ``(h, w)`` integers 0..n.
    number
        ``(n + 1,)`` new number of each label.
    """

    labels: Raster
    number: NDArray

    @property
    def shape(self) -> tuple[int, ...]:
        """``(height, width)``."""
        return self.labels.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the new numbers."""
        return self.number.dtype

    @property
    def ndim(self) -> int:
        """Two."""
        return self.labels.ndim

    @property
    def chunks(self) -> tuple[int, int]:
        """Shape of the chunks in which it is best read."""
        return chunk_shape(self.labels)

    def __getitem__(self, key: Any) -> NDArray:
        """Return renumbered pixels."""
        return self.number[np.asarray(self.labels[key])]


def chunk_shape(raster: Raster) -> tuple[int, int]:
    """Return the shape in which a raster is best read: its chunks, or blocks of a plain array."""
    chunks = getattr(raster, "shards", None) or getattr(raster, "chunks", None) or (_SIDE, _SIDE)
    return int(chunks[0]), int(chunks[1])


def bands(raster: Raster) -> Iterator[tuple[int, NDArray]]:
    """Yield a raster in bands of rows, top to bottom: the first row of each band, and its pixels.

    Bands of a plain array are views. Bands of a chunked array end where chunks end, so that each is read once.
    """
    rows = _ROWS if isinstance(raster, np.ndarray) else chunk_shape(raster)[0]
    for row0 in range(0, raster.shape[0], rows):
        yield row0, np.asarray(raster[row0 : row0 + rows])


def values_at(raster: Raster, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray:
    """Return ``(n,)`` values of pixels; of a raster in chunks, one window is read for each chunk that holds some."""
    if isinstance(raster, np.ndarray):
        return raster[row, column]
    height, width = chunk_shape(raster)
    chunk = row // height * (raster.shape[1] // width + 1) + column // width
    order = np.argsort(chunk, kind="stable")
    out = np.empty(len(row), dtype=raster.dtype)
    for some in np.split(order, np.flatnonzero(np.diff(chunk[order])) + 1):
        if len(some):
            i, j = row[some], column[some]
            window = raster[int(i.min()) : int(i.max()) + 1, int(j.min()) : int(j.max()) + 1]
            out[some] = np.asarray(window)[i - i.min(), j - j.min()]
    return out
