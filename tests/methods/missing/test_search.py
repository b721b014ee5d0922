"""The search in windows: each candidate once, whatever the windows."""

from __future__ import annotations

import numpy as np
import pytest

from ucs._kernels.transcripts import Window
from ucs.methods.missing import search as module


@pytest.mark.parametrize("shape", [(1, 1), (100, 5000), (1536, 1537), (4000, 3100)])
def test_windows_cover_the_raster_once(shape):
    covered = np.zeros(shape, dtype=np.uint8)
    for window in module._windows(shape):
        assert max(window.shape) <= module._SIDE
        covered[window.slices] += 1
    assert (covered == 1).all()


def test_a_candidate_belongs_to_the_window_with_its_centre():
    found = np.zeros((20, 40), dtype=np.int32)
    left, right = Window(0, 0, 20, 20), Window(0, 20, 20, 40)
    candidates = np.zeros((20, 40), dtype=np.int32)
    candidates[5:8, 10:13], candidates[5:8, 18:21], candidates[5:8, 30:33] = 1, 2, 3
    of_left = module._enter(candidates, left, found, 0)
    of_right = module._enter(candidates, right, found, int(of_left.sum()))
    assert (of_left ^ of_right).all()  # each in one of them
    np.testing.assert_array_equal(found, candidates)


def test_of_two_that_meet_the_first_stays():
    found = np.zeros((20, 40), dtype=np.int32)
    first, second = found.copy(), found.copy()
    first[5:8, 17:20] = 1
    second[6:9, 19:23], second[15:18, 30:33] = 1, 2
    assert module._enter(first, Window(0, 0, 20, 20), found, 0).tolist() == [True]
    assert module._enter(second, Window(0, 20, 20, 40), found, 1).tolist() == [False, True]
    np.testing.assert_array_equal(found > 0, (first > 0) | (second == 2))
