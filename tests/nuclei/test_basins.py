from __future__ import annotations

import numpy as np
import pytest
from rasters import random_nuclei
from scipy import ndimage
from skimage.segmentation import watershed

from ucs._nuclei.basins import ascend, basin_quantiles, block_means, contacts, keep_above, normalise, sums


def landscape_of(seed, shape=(60, 70), sigma=3.0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma).astype(np.float32)


def climb(landscape, row, column):
    """The peak above a pixel and the steps to it, one step at a time."""
    steps = 0
    while True:
        here, best, towards = landscape[row, column], np.float32(0), None
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                y, x = row + di, column + dj
                if (di, dj) == (0, 0) or not (0 <= y < landscape.shape[0] and 0 <= x < landscape.shape[1]):
                    continue
                slope = (landscape[y, x] - here) * np.float32(np.sqrt(0.5) if di and dj else 1)
                if slope > best:
                    best, towards = slope, (y, x)
        if towards is None:
            return (row, column), steps
        (row, column), steps = towards, steps + 1


class TestAscend:
    @pytest.mark.parametrize("reach", [3, 8, 1000])
    def test_equals_climbing_from_every_pixel(self, reach):
        landscape = landscape_of(0)
        labels, row, column = ascend(landscape, reach=reach, minimum=-np.inf)
        for i, j in np.ndindex(landscape.shape):
            peak, steps = climb(landscape, i, j)
            k = labels[i, j]
            assert (k == 0) == (steps > reach)
            assert k == 0 or peak == (row[k - 1], column[k - 1])

    def test_agrees_with_flooding(self):
        """On a smooth surface, but for pixels on the ridges: the flood comes from the lower side there."""
        landscape = landscape_of(1, (150, 150), 6.0)
        labels, row, column = ascend(landscape, reach=10_000, minimum=-np.inf)
        markers = np.zeros(landscape.shape, dtype=np.int32)
        markers[row, column] = np.arange(1, len(row) + 1)
        flooded = watershed(-landscape, markers, connectivity=2)
        assert (labels == flooded).mean() > 0.9

    def test_peaks_are_numbered_in_raster_order(self):
        _, row, column = ascend(landscape_of(2), reach=100, minimum=-np.inf)
        index = row * 70 + column
        assert (np.diff(index) > 0).all()

    def test_low_peaks_keep_their_id_but_no_pixels(self):
        landscape = np.zeros((5, 12), dtype=np.float32)
        landscape[2, 3], landscape[2, 8] = 0.5, 1.0
        labels, row, _ = ascend(landscape, reach=3, minimum=0.75)
        k = labels[2, 8]
        assert set(np.unique(labels)) == {0, k}
        assert (row[k - 1], len(row) >= 2) == (2, True)

    @pytest.mark.parametrize("value", [0.0, 7.0])
    def test_a_plateau_has_one_peak(self, value):
        labels, row, column = ascend(np.full((9, 11), value, dtype=np.float32), reach=100, minimum=0)
        assert (row.tolist(), column.tolist()) == ([0], [0])
        assert (labels == 1).all()

    def test_a_window_agrees_with_the_whole_within_its_margin(self):
        landscape, reach = landscape_of(3, (120, 130), 2.0), 7
        whole = ascend(landscape, reach=reach, minimum=0)
        peak = np.append(-1, whole.row * 130 + whole.column)[whole.labels]
        for top, left in ((0, 0), (20, 33), (61, 70)):
            window = ascend(np.ascontiguousarray(landscape[top : top + 50, left : left + 50]), reach=reach, minimum=0)
            inner = np.s_[2 * reach + 1 : -2 * reach - 1, 2 * reach + 1 : -2 * reach - 1]
            found = np.append(-1, (window.row + top) * 130 + window.column + left)[window.labels]
            np.testing.assert_array_equal(found[inner], peak[top : top + 50, left : left + 50][inner])


@pytest.mark.parametrize("side", [1, 2, 3, 7, 100])
def test_block_means(side):
    image = np.random.default_rng(0).uniform(0, 9, (23, 31)).astype(np.float32)
    found = block_means(image, side)
    assert found.shape == (-(-23 // side), -(-31 // side))
    for i, j in np.ndindex(found.shape):
        expected = image[i * side : (i + 1) * side, j * side : (j + 1) * side].mean(dtype=np.float64)
        assert found[i, j] == np.float32(expected) or abs(found[i, j] - expected) < 1e-6


class TestNormalise:
    def test_equals_bilinear_interpolation_between_centres(self):
        rng = np.random.default_rng(0)
        image = rng.uniform(50, 60, (40, 48)).astype(np.float32)
        background, level = (rng.uniform(a, b, (5, 6)).astype(np.float32) for a, b in ((1, 5), (10, 20)))
        rows, columns = np.mgrid[:40, :48]
        at = [(rows + 0.5) / 8 - 0.5, (columns + 0.5) / 8 - 0.5]
        low, high = (ndimage.map_coordinates(field, at, order=1, mode="nearest") for field in (background, level))
        np.testing.assert_allclose(normalise(image, background, level, 0, 0, 8), (image - low) / high, rtol=1e-5)

    def test_a_window_equals_the_whole_bit_for_bit(self):
        rng = np.random.default_rng(1)
        image, background = rng.uniform(5, 6, (30, 30)).astype(np.float32), rng.uniform(1, 5, (4, 4)).astype(np.float32)
        whole = normalise(image, background, background + 1, 0, 0, 9)
        part = normalise(np.ascontiguousarray(image[11:23, 5:28]), background, background + 1, 11, 5, 9)
        np.testing.assert_array_equal(part, whole[11:23, 5:28])

    def test_never_below_zero(self):
        one = np.ones((1, 1), dtype=np.float32)
        assert normalise(np.zeros((2, 2), np.float32), one, one, 0, 0, 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("quantile", [0.0, 0.05, 0.8, 1.0])
def test_basin_quantiles(quantile):
    labels = random_nuclei(0, (50, 60), 15)
    rng = np.random.default_rng(0)
    values, core = rng.uniform(size=labels.shape).astype(np.float32), rng.uniform(size=labels.shape) < 0.7
    core[labels == 3] = False
    n = int(labels.max()) + 1  # the last one does not occur
    found = basin_quantiles(labels, n, values, core, quantile)
    assert found[[0, 3, n]].tolist() == [0, 0, 0]
    for k in set(np.unique(labels[core])) - {0}:
        inside = np.sort(values[core & (labels == k)])
        assert found[k] == inside[int(quantile * (len(inside) - 1) + 0.5)]


def test_keep_above():
    labels = np.array([[1, 1, 2, 2, 0]], dtype=np.int32)
    keep_above(labels, np.array([[0.5, 0.6, 0.5, 0.2, 9]], np.float32), np.array([0, 0.5, 0.3], np.float32))
    assert labels.tolist() == [[0, 1, 2, 0, 0]]


def test_sums_of_windows_add_up():
    labels = random_nuclei(4, (40, 50), 12)
    n = int(labels.max())
    total, box = sums(labels, n, 0, 0)
    for k, window in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = np.nonzero(labels == k)
        expected = [len(rows), *(v.sum() for v in (columns, rows, columns**2, rows**2, columns * rows))]
        assert total[k].tolist() == expected
        assert box[k].tolist() == [window[0].start, window[1].start, window[0].stop - 1, window[1].stop - 1]
    left, right = sums(labels[:, :23], n, 0, 0), sums(np.ascontiguousarray(labels[:, 23:]), n, 0, 23)
    np.testing.assert_array_equal(left[0] + right[0], total)
    np.testing.assert_array_equal(np.minimum(left[1][:, :2], right[1][:, :2]), box[:, :2])


def test_contacts_are_shared_out_among_windows():
    labels = ascend(landscape_of(5), reach=30, minimum=0).labels
    values = np.random.default_rng(0).uniform(size=labels.shape).astype(np.float32)
    expected = []
    for a, b, va, vb in (
        (labels[1:], labels[:-1], values[1:], values[:-1]),
        (labels[:, 1:], labels[:, :-1], values[:, 1:], values[:, :-1]),
    ):
        edge = (a != b) & (a > 0) & (b > 0)
        low, high = np.minimum(a, b)[edge], np.maximum(a, b)[edge]
        expected += zip(low.tolist(), high.tolist(), np.minimum(va, vb)[edge].tolist(), strict=True)
    found = []
    for own in ((0, 0, 20, 70), (20, 0, 60, 31), (20, 31, 60, 70)):
        part = contacts(labels, values, -values, own)
        found += zip(part.low.tolist(), part.high.tolist(), part.value.tolist(), strict=True)
        assert (part.landscape < 0).all()
    assert sorted(found) == sorted(expected)
