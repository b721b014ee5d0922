"""Where a marker of a nucleus' type is seen: the paper's mask per cell, looked up instead of stored.

The paper gives each cell a 0/1 mask "a marker of this cell's type is here". Cells of one type share theirs, so a set of
types per pixel says it all: one bit for each type that has a marker there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap, Window

MOST_TYPES = 64


@dataclass(frozen=True)
class Marks:
    """Marker genes on a raster.

    Attributes
    ----------
    bits
        ``(h, w)`` unsigned integers: bit t is set where a marker of type t is.
    type_of
        ``(n + 1,)`` int16, the type of each nucleus, -1 if it is not known.
    """

    bits: NDArray[np.unsignedinteger]
    type_of: NDArray[np.int16]

    def crop(self, window: Window) -> Marks:
        """Return those of a window inside the raster."""
        return Marks(self.bits[window.slices], self.type_of)

    def of_pairs(self, window: Window, pixel: NDArray[np.int64], nucleus: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return 1 where a marker of the nucleus' type is on the pixel, 0 where none is, -1 without a type.

        Parameters
        ----------
        window
            Inside the raster.
        pixel, nucleus
            ``(n,)`` index of a pixel in the window (row-major) and id, of each pair.
        """
        kind = self.type_of[nucleus]
        bits = np.ascontiguousarray(self.bits[window.slices]).ravel()[pixel].astype(np.uint64)
        there = (bits >> np.maximum(kind, 0).astype(np.uint64)) & np.uint64(1)
        return np.where(kind < 0, -1.0, there).astype(np.float32)


def mark_pixels(
    transcripts: TranscriptMap, is_marker: NDArray[np.bool_], types: Sequence[str]
) -> NDArray[np.unsignedinteger]:
    """Return the set of types with a marker on each pixel, ``(h, w)``, one bit per type.

    Parameters
    ----------
    transcripts
        Of the sample.
    is_marker
        ``(types, n_features)``.
    types
        Their names, for the message.

    Raises
    ------
    ValueError
        If there are more than 64 types.
    """
    if len(is_marker) > MOST_TYPES:
        msg = f"markers has {len(is_marker)} types ({listed(types)}); at most {MOST_TYPES} can be told apart."
        raise ValueError(msg)
    dtype = next(d for d in (np.uint8, np.uint16, np.uint32, np.uint64) if len(is_marker) <= np.dtype(d).itemsize * 8)
    powers = np.uint64(1) << np.arange(len(is_marker), dtype=np.uint64)
    of_gene = np.bitwise_or.reduce(np.where(is_marker, powers[:, None], np.uint64(0)), axis=0).astype(dtype)
    out = np.zeros(transcripts.shape, dtype=dtype)
    _set_bits(transcripts.row_start, transcripts.column, transcripts.feature, of_gene, out)
    return out


@njit(cache=True, nogil=True)
def _set_bits(row_start: NDArray, column: NDArray, feature: NDArray, of_gene: NDArray, out: NDArray) -> None:
    for i in range(out.shape[0]):
        for e in range(row_start[i], row_start[i + 1]):
            out[i, column[e]] |= of_gene[feature[e]]
