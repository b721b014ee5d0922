"""Transcripts that belong to another cell than their pixel: few, kept as a sorted list beside the labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.bands import values_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from ucs._kernels.bands import Raster

COLUMNS = ("row", "column", "feature", "count", "owner", "confidence")
"""Of the arrays that tiles return; a row stands for all transcripts of one feature in one pixel."""

FEATURE, COUNT, OWNER, CONFIDENCE = 2, 3, 4, 5
"""Numbers of some of the columns."""


def no_moves() -> NDArray[np.int32]:
    """Return an array of no transcripts."""
    return np.zeros((0, len(COLUMNS)), dtype=np.int32)


@dataclass(frozen=True)
class MovedTranscripts:
    """Transcripts by pixel and feature, with their owner.

    Attributes
    ----------
    shape
        ``(h, w)`` of the raster.
    n_features
        Number of features.
    moves
        ``(m, 6)`` int32, see :data:`COLUMNS`: sorted by row, column and feature, none of them twice.
    """

    shape: tuple[int, int]
    n_features: int
    moves: NDArray[np.int32]

    @classmethod
    def of_tiles(cls, shape: tuple[int, int], n_features: int, tiles: Iterable[NDArray[np.int32]]) -> MovedTranscripts:
        """Join what tiles returned; rows and columns are those of the raster."""
        moves = np.concatenate([no_moves(), *tiles])
        made = cls(shape, n_features, moves)
        return cls(shape, n_features, moves[np.argsort(made._keys(), kind="stable")])

    @property
    def n_transcripts(self) -> int:
        """Number of transcripts that belong to another cell than their pixel."""
        return int(self.moves[:, COUNT].sum())

    def without_any(self) -> MovedTranscripts:
        """Return none of them."""
        return replace(self, moves=no_moves())

    def _keys(self) -> NDArray[np.int64]:
        return self._key(*self.moves[:, :3].T)

    def _key(self, row: NDArray, column: NDArray, feature: NDArray) -> NDArray[np.int64]:
        return (row.astype(np.int64) * self.shape[1] + column) * self.n_features + feature

    def find(self, row: NDArray, column: NDArray, feature: NDArray) -> NDArray[np.int64]:
        """Return ``(n,)`` the number of the move of each transcript, -1 for none or a feature below 0."""
        keys = self._keys()
        if not len(keys):
            return np.full(len(row), -1, dtype=np.int64)
        key = self._key(row, column, feature)
        at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        return np.where((keys[at] == key) & (feature >= 0), at, -1)

    def correct(self, counts: csr_matrix, labels: Raster) -> csr_matrix:
        """Return counts ``(n, n_features)`` by label, made by pixels, with the transcripts where they belong."""
        from scipy.sparse import csr_matrix

        if not len(self.moves):
            return counts
        row, column, feature, count, owner, _ = self.moves.T
        before = values_at(labels, row.astype(np.int64), column.astype(np.int64))
        cells = np.concatenate([before, owner]).astype(np.int64)
        change = np.concatenate([-count, count])
        features = np.concatenate([feature, feature])
        there = cells > 0
        moved = csr_matrix((change[there], (cells[there] - 1, features[there])), shape=counts.shape, dtype=counts.dtype)
        out = (counts + moved).tocsr()
        out.eliminate_zeros()
        out.sort_indices()
        return out
