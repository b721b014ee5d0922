from __future__ import annotations

import numpy as np
import pytest
from rasters import random_nuclei, squared_distances
from scipy import ndimage
from scipy.special import expit

from ucs._kernels.lattice import bounding_boxes
from ucs.methods.paper.softmask import sigmoid, signed_distance, softmask

SHAPE = (30, 34)


def signed_distance_oracle(nuclei, nucleus, window, reach):
    """The whole raster by scipy, far beyond its border, then the window; what lies beyond the raster is no nucleus."""
    pad = 80
    mask = np.pad(nuclei == nucleus, pad)
    outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
    distance = np.where(mask, inside - 0.5, 0.5 - outside)
    distance[outside > reach] = -np.inf
    row0, column0, row1, column1 = (edge + pad for edge in window)
    return distance[row0:row1, column0:column1]


def compute(nuclei, nucleus, window, reach):
    row0, column0, row1, column1 = window
    boxes = bounding_boxes(nuclei, int(nuclei.max()))
    out = np.full((row1 - row0, column1 - column0), np.nan)
    signed_distance(nuclei, boxes[nucleus], nucleus, row0, column0, out, float(reach))
    return out


def check(nuclei, nucleus, window, reach=200.0):
    np.testing.assert_allclose(
        compute(nuclei, nucleus, window, reach), signed_distance_oracle(nuclei, nucleus, window, reach), rtol=1e-14
    )


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_distance_transform(seed):
    nuclei = random_nuclei(seed, SHAPE, 9, radius=(1, 8))
    for nucleus in range(1, nuclei.max() + 1):
        check(nuclei, nucleus, (0, 0, *SHAPE))


@pytest.mark.parametrize("seed", range(3))
def test_windows_anywhere(seed):
    """Windows that begin or end within the nucleus, pass it by, hold it, or reach beyond the raster."""
    rng = np.random.default_rng(seed)
    nuclei = random_nuclei(seed, SHAPE, 7, radius=(2, 8))
    for _ in range(60):
        row0, column0 = rng.integers(-12, 40, size=2)
        h, w = rng.integers(1, 25, size=2)
        check(
            nuclei, int(rng.integers(1, nuclei.max() + 1)), (row0, column0, row0 + h, column0 + w), rng.uniform(0, 40)
        )


RING = np.pad(np.ones((7, 7), dtype=np.int32) - np.pad(np.ones((3, 3), dtype=np.int32), 2), 5)
HORSESHOE = RING.copy()
HORSESHOE[:9, 8] = 0
PARTS = np.zeros((16, 20), dtype=np.int32)
PARTS[2:6, 1:4] = PARTS[9:12, 14:19] = PARTS[0, 19] = 1
BORDER = np.zeros((16, 20), dtype=np.int32)
BORDER[0:3, :] = BORDER[:, 17:] = 1
FULL = np.ones((6, 5), dtype=np.int32)
PIXEL = np.zeros((9, 9), dtype=np.int32)
PIXEL[8, 0] = 1


@pytest.mark.parametrize("nuclei", [RING, HORSESHOE, PARTS, BORDER, FULL, PIXEL])
def test_shapes(nuclei):
    h, w = nuclei.shape
    for window in (
        (0, 0, h, w),
        (3, 2, 9, 8),
        (h // 2, w // 2, h, w),
        (-5, -6, 3, 4),
        (h, 0, h + 4, w),
        (-9, -9, -2, -1),
    ):
        check(nuclei, 1, window)


def test_other_nuclei_do_not_matter():
    nuclei = random_nuclei(5, SHAPE, 9, radius=(2, 6))
    alone = np.where(nuclei == 3, 3, 0).astype(np.int32)
    np.testing.assert_array_equal(compute(nuclei, 3, (0, 0, *SHAPE), 50), compute(alone, 3, (0, 0, *SHAPE), 50))


def test_reach_is_kept_exactly():
    nuclei = np.zeros((61, 61), dtype=np.int32)
    nuclei[30, 30] = 1
    squared = squared_distances(nuclei > 0)
    for reach in (0, 1, 5, 24, 25):  # 25 = hypot(7, 24) = hypot(15, 20)
        np.testing.assert_array_equal(compute(nuclei, 1, (0, 0, 61, 61), reach) > -np.inf, squared <= reach**2)


def test_boundary_is_half_way_between_pixels():
    nuclei = np.zeros((1, 6), dtype=np.int32)
    nuclei[0, :3] = 1
    np.testing.assert_allclose(compute(nuclei, 1, (0, 2, 1, 6), 9), [[0.5, -0.5, -1.5, -2.5]])


def test_softmask_is_the_logistic_function():
    x = np.concatenate([np.linspace(-50, 50, 41), [-1e4, -700.0, 700.0, 1e4]])
    np.testing.assert_allclose([sigmoid(v) for v in x], expit(x), rtol=1e-12)
    np.testing.assert_allclose([softmask(v, 5.0) for v in x], expit(x / 5), rtol=1e-12)
    assert softmask(0.0, 5.0) == 0.5
    assert softmask(-np.inf, 5.0) == 0
