from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from rasters import random_nuclei
from skimage.measure import regionprops

from ucs._nuclei.basins import contacts, sums
from ucs._nuclei.fragments import Borders, Fragments, MergeLimits, _ellipse, group_fragments

LIMITS = MergeLimits(depth=0.1, ellipse=0.95, neck=0.7, valley=0.9, similar=0.6, largest_area=5000, longest=100)


def disc(centre, radius=12, shape=(80, 100)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def pieces_of(labels, *, value=None, level=None, height=None, landscape=None):
    n = int(labels.max())
    value = np.ones(labels.shape, np.float32) if value is None else value.astype(np.float32)
    landscape = value if landscape is None else landscape.astype(np.float32)
    total, box = sums(labels, n, 0, 0)
    edges = contacts(labels, value, landscape, (0, 0, *labels.shape))
    borders = Borders.collect(
        edges.low.astype(np.int64) - 1, edges.high.astype(np.int64) - 1, np.ones(len(edges.low), np.int64),
        edges.value, edges.landscape,
    )  # fmt: skip
    level = np.ones(n) if level is None else np.asarray(level, float)
    height = np.arange(n, 0, -1) * 10.0 if height is None else height
    return Fragments(total[1:], box[1:], level, np.asarray(height, np.float32)), borders


def groups(labels, limits=LIMITS, **options):
    """Which pieces are one, as a list of sets of their labels."""
    group, n = group_fragments(*pieces_of(labels, **options), limits)
    assert sorted(set(group.tolist())) == list(range(n))
    return sorted(sorted((np.flatnonzero(group == k) + 1).tolist()) for k in range(n))


def cut(mask, *lines):
    """Number the parts of a mask between lines (a, b, c): a * row + b * column > c."""
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    code = sum(((a * rows + b * columns > c) << k for k, (a, b, c) in enumerate(lines)), np.zeros(mask.shape, int))
    return (np.unique(code, return_inverse=True)[1].reshape(mask.shape) + 1).astype(np.int32) * mask


HALVES = cut(disc((40, 50)), (0, 1, 50))
TWO_DISCS = np.where(disc((40, 38)), 1, np.where(disc((40, 61)), 2, 0)).astype(np.int32)


class TestShape:
    def test_halves_of_a_disc_are_one(self):
        assert groups(HALVES) == [[1, 2]]

    def test_discs_that_touch_are_two(self):
        assert groups(TWO_DISCS) == [[1], [2]]

    @pytest.mark.parametrize("centre", [(40, 50), (33, 61)])
    def test_thirds_quarters_and_more_are_one(self, centre):
        row, column = centre
        thirds = cut(disc(centre), (1, 0.3, row + 0.3 * column), (1, -2, row - 2 * column))
        assert groups(thirds) == [[1, 2, 3, 4]]
        wedges = cut(disc(centre), (0, 1, column), (1, 0, row), (1, 1, row + column))
        assert groups(wedges) == [list(range(1, wedges.max() + 1))]

    def test_pieces_of_two_discs_that_touch_find_their_own(self):
        labels = np.where(disc((40, 38)), cut(disc((40, 38)), (1, 0, 40)), 0)
        labels = np.where(disc((40, 61)) & (labels == 0), cut(disc((40, 61)), (1, 0, 40)) + 2, labels).astype(np.int32)
        assert groups(labels) == [[1, 2], [3, 4]]

    def test_a_valley_a_difference_or_a_limit_keeps_halves_apart(self):
        rows, columns = np.mgrid[:80, :100]
        assert groups(HALVES, value=np.where(abs(columns - 50.5) < 1, 0.8, 1)) == [[1], [2]]
        assert groups(HALVES, level=[0.5, 1]) == [[1], [2]]
        assert groups(HALVES, replace(LIMITS, largest_area=300)) == [[1], [2]]
        assert groups(HALVES, replace(LIMITS, longest=20)) == [[1], [2]]

    def test_thin_contacts_do_not_join(self):
        slit = HALVES.copy()
        slit[:44, 50] = 0
        limits = replace(LIMITS, ellipse=0.8)
        assert groups(slit, limits) == [[1], [2]]
        assert groups(slit, replace(limits, neck=0.2)) == [[1, 2]]


class TestShallowPeaks:
    def test_a_peak_that_hardly_rises_joins_the_higher(self):
        landscape = np.where(TWO_DISCS == 1, 1.0, 0.5)
        assert groups(TWO_DISCS, landscape=landscape, height=[1.0, 0.55]) == [[1, 2]]
        assert groups(TWO_DISCS, landscape=landscape, height=[1.0, 0.65]) == [[1], [2]]

    def test_it_joins_over_its_highest_pass(self):
        labels = np.repeat(np.array([[1] * 6 + [2] * 6 + [3] * 6]), 4, axis=0).astype(np.int32)
        landscape = np.zeros(labels.shape)
        landscape[:, 4:8], landscape[:, 10:14] = 0.40, 0.45
        apart = replace(LIMITS, ellipse=2)
        assert groups(labels, apart, landscape=landscape, height=[0.9, 0.49, 0.8]) == [[1], [2, 3]]
        landscape[:, 4:8] = 0.46
        assert groups(labels, apart, landscape=landscape, height=[0.9, 0.49, 0.8]) == [[1, 2], [3]]

    def test_not_beyond_the_longest(self):
        landscape = np.where(TWO_DISCS == 1, 1.0, 0.5)
        short = replace(LIMITS, longest=30)
        assert groups(TWO_DISCS, short, landscape=landscape, height=[1.0, 0.55]) == [[1], [2]]


def test_no_pieces():
    none = Fragments(np.zeros((0, 6), int), np.zeros((0, 4), int), np.zeros(0), np.zeros(0, np.float32))
    no_borders = Borders(*(np.zeros(0, t) for t in (np.int64, np.int64, np.int64, np.float32, np.float32)))
    group, n = group_fragments(none, no_borders, LIMITS)
    assert (len(group), n) == (0, 0)


def test_ellipse_equals_scikit_image_anywhere():
    labels = random_nuclei(1, (90, 90), 25, radius=(2, 12))
    for offset in (0, 400_000):
        total, _ = sums(labels, int(labels.max()), offset, 2 * offset)
        fill, width = _ellipse(total[1:])
        for region in regionprops(labels):
            minor, major = np.sqrt(np.linalg.eigvalsh(region.inertia_tensor + np.eye(2) / 12))
            np.testing.assert_allclose(fill[region.label - 1], region.area / (4 * np.pi * major * minor), rtol=1e-6)
            np.testing.assert_allclose(width[region.label - 1], 4 * minor, rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_parts_of_borders_can_come_in_any_order(seed):
    labels = random_nuclei(seed, (80, 80), 60)
    fragments, borders = pieces_of(labels)
    edges = contacts(labels, np.ones(labels.shape, np.float32), np.ones(labels.shape, np.float32), (0, 0, 80, 80))
    order = np.random.default_rng(seed).permutation(len(edges.low))
    shuffled = Borders.collect(
        edges.high.astype(np.int64)[order] - 1, edges.low.astype(np.int64)[order] - 1, np.ones(len(order), np.int64),
        edges.value[order], edges.landscape[order],
    )  # fmt: skip
    for field in fields(Borders):
        np.testing.assert_array_equal(getattr(shuffled, field.name), getattr(borders, field.name))
    assert (borders.low < borders.high).all()
