from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasters import grid_of_discs, random_nuclei, squared_distances
from scipy import ndimage

from ucs._kernels.distances import nearest_nuclei, nucleus_axes, stretched_distance
from ucs._kernels.lattice import bounding_boxes
from ucs._utils import parallel

SHAPE = (40, 46)
REACH = 9
nuclei_images = hnp.arrays(np.int32, st.tuples(st.integers(1, 8), st.integers(1, 9)), elements=st.integers(0, 3))


def nearest(nuclei, *, strength=0.5, reach=REACH):
    n = int(nuclei.max(initial=0))
    return nearest_nuclei(nuclei, bounding_boxes(nuclei, n), nucleus_axes(nuclei, n, strength=strength), reach=reach)


def axes_oracle(nuclei, n, strength):
    """Eigenvectors of the covariance of a nucleus' pixels, each a square."""
    out = []
    for c in range(n + 1):
        pixels = np.argwhere(nuclei == c) if c else np.zeros((0, 2))
        covariance = np.eye(2) / 12 + (np.cov(pixels.T, bias=True) if len(pixels) else 0)
        values, vectors = np.linalg.eigh(covariance)
        out.append((vectors[:, 1], (values[0] / values[1]) ** (strength / 2)))
    return out


def distances_oracle(nuclei, n, strength, reach):
    """Distance of every pixel to every nucleus, over all pairs of pixels: ``(n + 1, h, w)``."""
    rows, columns = np.mgrid[: nuclei.shape[0], : nuclei.shape[1]]
    out = np.full((n + 1, *nuclei.shape), np.inf)
    for c, (long, k) in enumerate(axes_oracle(nuclei, n, strength)):
        if c == 0 or not (nuclei == c).any():
            continue
        for i, j in np.argwhere(nuclei == c):
            along = (rows - i) * long[0] + (columns - j) * long[1]
            across = (rows - i) * long[1] - (columns - j) * long[0]
            np.minimum(out[c], np.hypot(along * k, across / k), out=out[c])
        out[c][squared_distances(nuclei == c) > reach**2] = np.inf
    return out


def nearest_oracle(nuclei, strength, reach):
    n = int(nuclei.max(initial=0))
    distances = distances_oracle(nuclei, n, strength, reach)
    order = np.sort(distances, axis=0)
    free = nuclei == 0
    one = np.where(free, order[0], 0)
    two = np.where(free & (n > 1), order[min(1, n)], np.inf)
    owner = np.where(np.isfinite(one), np.argmin(np.where(distances <= order[0] + 1e-9, 0, 1), axis=0), 0)
    return np.where(free, owner, nuclei), one, two


def assert_same(found, expected):
    np.testing.assert_array_equal(found.owner, expected[0])
    np.testing.assert_allclose(found.distance, expected[1], rtol=1e-6)
    np.testing.assert_allclose(found.second, expected[2], rtol=1e-6)


def assert_equal(one, other):
    for name in ("owner", "distance", "second"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# Axes


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
def test_axes_are_those_of_the_covariance(strength):
    nuclei = random_nuclei(0, (400, 30), 12, radius=(1, 9))  # far from the origin as well
    n = int(nuclei.max())
    axes = nucleus_axes(nuclei, n, strength=strength)
    for c, (long, k) in enumerate(axes_oracle(nuclei, n, strength)):
        assert axes[c, 2] == pytest.approx(k, rel=1e-9)
        if k < 0.99:
            assert abs(axes[c, 0] * long[1] + axes[c, 1] * long[0]) == pytest.approx(1)


def test_axes_of_bars_discs_and_nothing():
    nuclei = np.zeros((30, 30), dtype=np.int32)
    nuclei[2, 3:15] = 1
    nuclei[5:17, 20] = 2
    nuclei[np.arange(18, 28), np.arange(2, 12)] = 3
    nuclei[20:25, 20:25] = 4
    nuclei[29, 29] = 5
    axes = nucleus_axes(nuclei, 6, strength=1.0)
    np.testing.assert_allclose(axes[1], [1, 0, 1 / 12], atol=1e-12)  # a rectangle of 12 x 1
    np.testing.assert_allclose(np.abs(axes[2]), [0, 1, 1 / 12], atol=1e-12)
    np.testing.assert_allclose(np.abs(axes[3, :2]), np.sqrt([0.5, 0.5]))
    assert axes[3, 0] * axes[3, 1] > 0  # down to the right
    np.testing.assert_allclose(axes[[0, 4, 5, 6], 2], 1)  # squares, pixels and absent ids are round


def test_the_factor_stays_above_zero():
    """However long and thin: distances along it must not vanish."""
    nuclei = np.ones((1, 4000), dtype=np.int32)
    assert nucleus_axes(nuclei, 1, strength=1.0)[1, 2] == pytest.approx(1 / 4000)


# One nucleus


@pytest.mark.parametrize("seed", range(3))
def test_without_strength_it_is_the_distance_transform(seed):
    nuclei = random_nuclei(seed, SHAPE, 8, radius=(1, 7))
    n = int(nuclei.max())
    boxes, axes = bounding_boxes(nuclei, n), nucleus_axes(nuclei, n, strength=0)
    for c in range(1, n + 1):
        out = np.empty(SHAPE, dtype=np.float32)
        stretched_distance(nuclei, boxes[c], c, axes[c], 0, 0, out, 100)
        np.testing.assert_allclose(out, ndimage.distance_transform_edt(nuclei != c), rtol=1e-6)


@pytest.mark.parametrize("window", [(0, 0, *SHAPE), (-8, -9, 5, 60), (13, 20, 15, 22), (38, 44, 55, 50)])
def test_windows_anywhere(window):
    nuclei = random_nuclei(4, SHAPE, 6, radius=(2, 7))
    n, pad = int(nuclei.max()), 20
    boxes, axes = bounding_boxes(nuclei, n), nucleus_axes(nuclei, n, strength=0.5)
    expected = distances_oracle(np.pad(nuclei, pad), n, 0.5, REACH)
    row0, column0, row1, column1 = window
    for c in range(1, n + 1):
        out = np.full((row1 - row0, column1 - column0), np.nan, dtype=np.float32)
        stretched_distance(nuclei, boxes[c], c, axes[c], row0, column0, out, REACH)
        part = expected[c, row0 + pad : row1 + pad, column0 + pad : column1 + pad]
        np.testing.assert_allclose(out, part, rtol=1e-6)


def test_a_disc_is_left_as_it_is():
    nuclei = grid_of_discs((40, 40), 40, 7)
    plain, stretched = nearest(nuclei, strength=0), nearest(nuclei, strength=1)
    np.testing.assert_allclose(stretched.distance, plain.distance, rtol=1e-6)


def test_a_long_nucleus_is_nearer_beyond_its_tips():
    nuclei = np.zeros((21, 31), dtype=np.int32)
    nuclei[9:12, 10:21] = 1
    k = (3 / 11) ** 0.5  # rectangles have the ratio of their sides
    distance = nearest(nuclei, strength=0.5).distance
    np.testing.assert_allclose(distance[10, 21:27], k * np.arange(1, 7), rtol=1e-6)
    np.testing.assert_allclose(distance[12:18, 15], np.arange(1, 7) / k, rtol=1e-6)
    assert np.isinf(distance[10, 30])  # the reach is a plain distance
    stronger = nearest(nuclei, strength=1.0).distance
    assert stronger[10, 25] < distance[10, 25]
    assert stronger[15, 15] > distance[15, 15]


# All nuclei


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_equals_trying_all_nuclei(seed, strength):
    nuclei = random_nuclei(seed, SHAPE, 14, radius=(1, 5))
    assert_same(nearest(nuclei, strength=strength), nearest_oracle(nuclei, strength, REACH))


@settings(max_examples=40)
@given(nuclei_images, st.sampled_from([0.0, 0.5]), st.sampled_from([1, 2, 5, 20]))
def test_equals_trying_all_nuclei_of_any_shape(nuclei, strength, reach):
    assert_same(nearest(nuclei, strength=strength, reach=reach), nearest_oracle(nuclei, strength, reach))


def test_what_is_given_back():
    nuclei = random_nuclei(1, SHAPE, 6)
    before = nuclei.copy()
    found = nearest(nuclei)
    assert (found.owner.dtype, found.distance.dtype, found.second.dtype) == (np.int32, np.float32, np.float32)
    assert found.owner is not nuclei
    np.testing.assert_array_equal(nuclei, before)
    np.testing.assert_array_equal(found.owner == 0, np.isinf(found.distance))
    assert (found.distance <= found.second).all()
    assert not found.distance[nuclei > 0].any()


def test_ties_go_to_the_lower_id():
    nuclei = np.zeros((1, 9), dtype=np.int32)
    nuclei[0, 0], nuclei[0, 8] = 2, 1
    found = nearest(nuclei)
    assert found.owner.tolist() == [[2, 2, 2, 2, 1, 1, 1, 1, 1]]
    assert found.distance[0, 4] == found.second[0, 4] == 4


def test_neither_blocks_nor_threads_have_a_say(monkeypatch):
    nuclei = random_nuclei(7, (150, 280), 150, radius=(1, 6))
    whole = nearest(nuclei)
    for down, right in ((1, 0), (0, 77), (100, 13)):
        moved = nearest(np.pad(nuclei, ((down, 0), (right, 0))))
        for name in ("owner", "distance", "second"):
            np.testing.assert_array_equal(getattr(moved, name)[down:, right:], getattr(whole, name), err_msg=name)
    for threads in (1, 5):
        monkeypatch.setattr(parallel, "n_threads", lambda threads=threads: threads)
        assert_equal(nearest(nuclei), whole)


def test_turned_tissue():
    nuclei = random_nuclei(8, SHAPE, 12, radius=(1, 6))
    found, turned = nearest(nuclei), nearest(np.ascontiguousarray(np.rot90(nuclei)))
    np.testing.assert_allclose(turned.distance, np.rot90(found.distance), rtol=1e-6)
    np.testing.assert_allclose(turned.second, np.rot90(found.second), rtol=1e-6)
    clear = ~np.isclose(found.distance, found.second)
    np.testing.assert_array_equal(turned.owner[np.rot90(clear)], np.rot90(found.owner)[np.rot90(clear)])


def test_parts_of_larger_rasters_need_not_be_contiguous():
    nuclei = random_nuclei(2, SHAPE, 9)
    part = np.pad(nuclei, 5)[5:-5, 5:-5]
    assert not part.flags["C_CONTIGUOUS"]
    assert_equal(nearest(part), nearest(nuclei))


@pytest.mark.parametrize("nuclei", [np.zeros((3, 4)), np.zeros((0, 0)), np.ones((1, 1)), np.ones((3, 2))])
def test_nothing_to_do(nuclei):
    nuclei = nuclei.astype(np.int32)
    found = nearest(nuclei)
    np.testing.assert_array_equal(found.owner, nuclei)
    np.testing.assert_array_equal(found.distance, np.where(nuclei > 0, 0, np.inf))
    assert np.isinf(found.second).all()


def test_ids_without_pixels():
    nuclei = np.where(random_nuclei(3, SHAPE, 8) == 2, 0, random_nuclei(3, SHAPE, 8)).astype(np.int32)
    found = nearest(nuclei)
    assert not (found.owner == 2).any()
    assert_same(found, nearest_oracle(nuclei, 0.5, REACH))
