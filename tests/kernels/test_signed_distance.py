from __future__ import annotations

import numpy as np
import pytest
from rasters import random_nuclei, squared_distances
from scipy import ndimage

from ucs._kernels.distances import LITERAL, nucleus_axes, signed_distance
from ucs._kernels.lattice import bounding_boxes

SHAPE = (30, 34)
PLAIN = np.array([1.0, 0.0, 1.0])


def signed_distance_oracle(nuclei, nucleus, window, reach):
    """The whole raster by scipy, far beyond its border, then the window; what lies beyond the raster is no nucleus."""
    pad = 80
    mask = np.pad(nuclei == nucleus, pad)
    outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
    distance = np.where(mask, inside - 0.5, 0.5 - outside)
    distance[outside > reach] = -np.inf
    row0, column0, row1, column1 = (edge + pad for edge in window)
    return distance[row0:row1, column0:column1]


def compute(nuclei, nucleus, window, reach, axes=PLAIN):
    row0, column0, row1, column1 = window
    boxes = bounding_boxes(nuclei, int(nuclei.max()))
    out = np.full((row1 - row0, column1 - column0), np.nan)
    signed_distance(nuclei, boxes[nucleus], nucleus, axes, row0, column0, out, float(reach))
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


class TestStretched:
    """The distance outside a nucleus in the measure of its axes (paper, equation 11)."""

    def of(self, nuclei, nucleus, strength, *, reach=200.0, window=None):
        axes = nucleus_axes(nuclei, int(nuclei.max()), strength=strength)[nucleus]
        return compute(nuclei, nucleus, window or (0, 0, *nuclei.shape), reach, axes)

    def oracle(self, nuclei, nucleus, strength, reach=200.0):
        """Over all pairs of pixels; reach and what lies inside are plain."""
        cosine, sine, k = nucleus_axes(nuclei, int(nuclei.max()), strength=strength)[nucleus]
        plain = signed_distance_oracle(nuclei, nucleus, (0, 0, *nuclei.shape), reach)
        rows, columns = np.indices(nuclei.shape)
        best = np.full(nuclei.shape, np.inf)
        for i, j in np.argwhere(nuclei == nucleus):
            dy, dx = rows - i, columns - j
            np.minimum(best, np.hypot(k * (dx * cosine + dy * sine), (dy * cosine - dx * sine) / k), out=best)
        return np.where((plain > 0) | np.isinf(plain), plain, 0.5 - best)

    @pytest.mark.parametrize("strength", [0.3, 1.0, LITERAL])
    @pytest.mark.parametrize("seed", range(3))
    def test_equals_the_oracle(self, seed, strength):
        nuclei = random_nuclei(seed, SHAPE, 9, radius=(1, 9))
        for nucleus in range(1, nuclei.max() + 1):
            expected = self.oracle(nuclei, nucleus, strength, reach=12)
            np.testing.assert_allclose(self.of(nuclei, nucleus, strength, reach=12), expected, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("nuclei", [RING, HORSESHOE, PARTS, BORDER, FULL, PIXEL])
    def test_shapes(self, nuclei):
        np.testing.assert_allclose(self.of(nuclei, 1, 0.5), self.oracle(nuclei, 1, 0.5), rtol=1e-9, atol=1e-9)

    def test_windows_see_the_same(self):
        nuclei = random_nuclei(2, SHAPE, 5, radius=(2, 9))
        whole = self.of(nuclei, 1, 0.5)
        for window in ((0, 0, 7, 9), (5, 11, 23, 20), (20, 20, *SHAPE)):
            part = whole[window[0] : window[2], window[1] : window[3]]
            np.testing.assert_array_equal(self.of(nuclei, 1, 0.5, window=window), part)

    @pytest.mark.parametrize("strength", [0.3, LITERAL])
    def test_a_quarter_turn_has_no_say(self, strength):
        nuclei = random_nuclei(4, SHAPE, 6, radius=(2, 9))
        for nucleus in range(1, nuclei.max() + 1):
            turned = self.of(np.ascontiguousarray(np.rot90(nuclei)), nucleus, strength)
            np.testing.assert_allclose(turned, np.rot90(self.of(nuclei, nucleus, strength)), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("strength", [0.3, 1.0, LITERAL])
    def test_a_circle_is_left_as_it_is(self, strength):
        rows, columns = np.indices((41, 41))
        nuclei = (np.hypot(rows - 20, columns - 20) <= 6).astype(np.int32)
        np.testing.assert_allclose(self.of(nuclei, 1, strength), self.of(nuclei, 1, 0.0), rtol=1e-6)

    def test_reach_is_the_plain_distance(self):
        nuclei = np.zeros((41, 61), dtype=np.int32)
        nuclei[19:22, 20:41] = 1
        for strength in (0.3, LITERAL):
            np.testing.assert_array_equal(
                np.isfinite(self.of(nuclei, 1, strength, reach=9)), np.isfinite(self.of(nuclei, 1, 0.0, reach=9))
            )

    def test_long_nuclei_are_nearer_to_what_lies_beyond_their_tips(self):
        nuclei = np.zeros((41, 61), dtype=np.int32)
        nuclei[19:22, 20:41] = 1
        plain, stretched = self.of(nuclei, 1, 0.0), self.of(nuclei, 1, 0.3)
        assert stretched[20, 50] > plain[20, 50]
        assert stretched[30, 30] < plain[30, 30]
        assert (stretched[nuclei > 0] == plain[nuclei > 0]).all()

    def test_the_literal_factor(self):
        """The root of the eccentricity, and 1 for circles, where it would divide by zero."""
        nuclei = np.zeros((40, 40), dtype=np.int32)
        nuclei[2:5, 2:5], nuclei[10:14, 2:10], nuclei[20, 2:38] = 1, 2, 3
        literal, ratio = (nucleus_axes(nuclei, 3, strength=s)[1:, 2] for s in (LITERAL, 1.0))
        np.testing.assert_allclose(literal[1:], (1 - ratio[1:] ** 2) ** 0.25)
        assert literal[0] == 1
        assert literal[2] > 0.99  # hardly anything for a needle
        assert 0.5 < literal[1] < literal[2]
