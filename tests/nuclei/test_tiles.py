from __future__ import annotations

import numpy as np
import pytest

from ucs._nuclei.tiles import in_order, renumbering, tiles


def test_tiles_share_out_the_pixels():
    counts = np.zeros((70, 45), dtype=int)
    for window in tiles(counts.shape, 32):
        counts[window.slices] += 1
    assert (counts == 1).all()


def test_results_come_in_order_and_errors_come_through():
    windows = tiles((100, 100), 10)
    assert list(in_order(lambda window: window, windows)) == windows

    def fail(window):
        if window.top == 50:
            raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        list(in_order(fail, windows))


def test_renumbering():
    first = np.array([0, 50, 7, 30, 9])
    assert renumbering(first, np.array([True, True, True, False, True])).tolist() == [0, 3, 1, 0, 2]
