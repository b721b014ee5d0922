"""Windows of rasters."""

from __future__ import annotations

import numpy as np

from ucs._kernels.labels.windows import tiles


def test_tiles_share_out_the_pixels():
    counts = np.zeros((70, 45), dtype=int)
    for window in tiles(counts.shape, 32):
        counts[window.slices] += 1
    assert (counts == 1).all()
