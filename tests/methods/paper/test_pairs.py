from __future__ import annotations

import numpy as np
import pytest
from rasters import random_nuclei, squared_distances
from scipy.special import expit

from ucs._kernels.distances import nucleus_axes
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import Window
from ucs.methods.paper.pairs import training_pairs

SHAPE = (40, 45)
TAU, REACH = 5.0, 10


def pairs(nuclei, background, window, reach=REACH, strength=0.0):
    n = int(nuclei.max())
    boxes, axes = bounding_boxes(nuclei, n), nucleus_axes(nuclei, n, strength=strength)
    return training_pairs(nuclei, boxes, axes, background, window, tau=TAU, reach=reach)


def pairs_oracle(nuclei, background, window, reach=REACH):
    """Equation 10 by its words: {(pixel, nucleus): (softmask, label)}."""
    out = {}
    for c in np.setdiff1d(nuclei[window.slices], 0):
        outside = squared_distances(nuclei == c)
        inside = squared_distances(np.pad(nuclei != c, 1, constant_values=True))[1:-1, 1:-1]
        for i in range(window.shape[0]):
            for j in range(window.shape[1]):
                at = window.row0 + i, window.column0 + j
                pixel = i * window.shape[1] + j
                if nuclei[at] == c:
                    out[pixel, int(c)] = (expit((np.sqrt(inside[at]) - 0.5) / TAU), 1.0)
                elif background[i, j] and outside[at] <= reach**2:
                    out[pixel, int(c)] = (expit((0.5 - np.sqrt(outside[at])) / TAU), 0.0)
    return out


@pytest.mark.parametrize("window", [Window(0, 0, *SHAPE), Window(5, 9, 23, 27), Window(20, 30, 40, 45)])
@pytest.mark.parametrize("seed", range(2))
def test_equals_the_oracle(seed, window):
    nuclei = random_nuclei(seed, SHAPE, 12, radius=(1, 5))
    background = np.random.default_rng(seed).random(window.shape) < 0.4
    pixel, nucleus, softmask, label = pairs(nuclei, background, window)
    expected = pairs_oracle(nuclei, background, window)
    assert len(pixel) == len(expected)  # and each pair once:
    assert {(int(p), int(c)) for p, c in zip(pixel, nucleus, strict=True)} == set(expected)
    for p, c, s, y in zip(pixel, nucleus, softmask, label, strict=True):
        assert (s, y) == (pytest.approx(expected[int(p), int(c)][0], rel=1e-6), expected[int(p), int(c)][1])
    assert (pixel.dtype, nucleus.dtype, softmask.dtype, label.dtype) == (np.int64, np.int64, np.float32, np.float32)


def test_a_nucleus_is_positive_whatever_the_net_says():
    nuclei = random_nuclei(3, SHAPE, 8)
    window = Window(0, 0, *SHAPE)
    for background in (np.zeros(SHAPE, dtype=bool), np.ones(SHAPE, dtype=bool)):
        pixel, nucleus, _, label = pairs(nuclei, background, window)
        positive = np.zeros(SHAPE, dtype=np.int32)
        positive.flat[pixel[label == 1]] = nucleus[label == 1]
        np.testing.assert_array_equal(positive, nuclei)
        assert (label == 0).any() == background.any()


def test_softmasks_follow_the_shape_of_nuclei():
    """Pairs and labels are the same; only what lies outside a nucleus has another softmask."""
    nuclei = np.zeros(SHAPE, dtype=np.int32)
    nuclei[18:21, 10:30] = 1
    background, window = nuclei == 0, Window(0, 0, *SHAPE)
    plain, scaled = pairs(nuclei, background, window), pairs(nuclei, background, window, strength=0.3)
    for k in (0, 1, 3):
        np.testing.assert_array_equal(plain[k], scaled[k])
    by_pixel = [dict(zip(found[0], found[2], strict=True)) for found in (plain, scaled)]
    tip, flank, inside = 19 * SHAPE[1] + 34, 26 * SHAPE[1] + 20, 19 * SHAPE[1] + 20
    assert by_pixel[1][tip] > by_pixel[0][tip]
    assert by_pixel[1][flank] < by_pixel[0][flank]
    assert by_pixel[1][inside] == by_pixel[0][inside]


def test_nuclei_beyond_the_window_have_no_pairs():
    nuclei = np.zeros(SHAPE, dtype=np.int32)
    nuclei[10, 10], nuclei[30, 30] = 1, 2
    window = Window(5, 5, 20, 20)
    _, nucleus, _, _ = pairs(nuclei, np.ones(window.shape, dtype=bool), window, reach=50)
    assert set(nucleus) == {1}


def test_no_nuclei():
    window = Window(0, 0, 4, 4)
    assert [len(part) for part in pairs(np.zeros((9, 9), dtype=np.int32), np.ones((4, 4), dtype=bool), window)] == [
        0
    ] * 4
