"""How far from nuclei the background begins, read from the data itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._core.background import squared_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray


def radial_profile(totals: NDArray, nuclei: NDArray, *, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pixels and transcripts by distance to the nearest nucleus, ``(limit + 2,)`` each; 0 = in a nucleus.

    Bin ``k`` holds distances in ``(k - 1, k]`` pixels, the last one all beyond ``limit``.
    """
    squared = squared_distance(nuclei, limit)
    bins = np.ceil(np.sqrt(np.arange(limit * limit + 2))).astype(np.int64)
    bins[-1] = limit + 1
    index = bins[squared].ravel()
    pixels = np.bincount(index, minlength=limit + 2)
    return pixels, np.bincount(index, weights=totals.ravel(), minlength=limit + 2).astype(np.int64)


def calibrate_background(totals: NDArray, nuclei: NDArray, *, um_per_px: float) -> tuple[float, dict]:
    """PLACEHOLDER."""
    return 6.0, {}
