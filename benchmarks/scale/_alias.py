"""Draws from fixed weights in constant time (Walker's alias method, with Vose's way to build the table)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


def alias_tables(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return ``(share, other)``, each ``(k, n)``, for :func:`draw`, one row per row of weights ``(k, n)``."""
    share = np.empty(weights.shape, dtype=np.float32)
    other = np.empty(weights.shape, dtype=np.int32)
    for k, row in enumerate(weights):
        _fill_table(np.asarray(row / row.sum() * len(row), dtype=np.float64), share[k], other[k])
    return share, other


@njit(cache=True, nogil=True)
def _fill_table(scaled: NDArray[np.float64], share: NDArray[np.float32], other: NDArray[np.int32]) -> None:
    n = len(scaled)
    small, large = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    n_small, n_large = 0, 0
    for i in range(n):
        share[i], other[i] = 1.0, i
        if scaled[i] < 1.0:
            small[n_small] = i
            n_small += 1
        else:
            large[n_large] = i
            n_large += 1
    while n_small > 0 and n_large > 0:
        n_small -= 1
        low, high = small[n_small], large[n_large - 1]
        share[low], other[low] = scaled[low], high
        scaled[high] -= 1.0 - scaled[low]
        if scaled[high] < 1.0:
            n_large -= 1
            small[n_small] = high
            n_small += 1


@njit(cache=True, nogil=True)
def draw(rng: np.random.Generator, share: NDArray[np.float32], other: NDArray[np.int32]) -> int:
    """Return an index drawn with one row of the tables."""
    k = int(rng.random() * len(share))
    return k if rng.random() < share[k] else other[k]
