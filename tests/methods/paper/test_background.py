from __future__ import annotations

import numpy as np
import pytest
from rasters import random_nuclei
from scipy import ndimage

from ucs.methods.paper.background import beyond_distance, beyond_paper_dilation, squared_distance

SHAPE = (50, 64)


def edt_squared(nuclei):
    return np.rint(ndimage.distance_transform_edt(nuclei == 0) ** 2).astype(np.int64)


@pytest.mark.parametrize("limit", [0, 1, 2, 7, 30, 100, 255])
@pytest.mark.parametrize("n", [1, 4, 25])
def test_squared_distance_equals_the_distance_transform(n, limit):
    nuclei = random_nuclei(n, SHAPE, n, radius=(1, 5))
    distance = squared_distance(nuclei, limit)
    exact = edt_squared(nuclei)
    np.testing.assert_array_equal(distance, np.where(exact <= limit**2, exact, limit**2 + 1))
    assert distance.dtype == np.uint16


def test_far_from_a_nucleus():
    nuclei = np.zeros((3, 400), dtype=np.int32)
    nuclei[0, 0] = 1
    expected = np.minimum(np.arange(400) ** 2, 255**2 + 1)
    np.testing.assert_array_equal(squared_distance(nuclei, 255)[0], expected)
    np.testing.assert_array_equal(squared_distance(nuclei.T.copy(), 255)[:, 0], expected)


@pytest.mark.parametrize("limit", [0, 3, 255])
def test_no_nucleus_and_nothing_else(limit):
    assert (squared_distance(np.zeros((4, 5), dtype=np.int32), limit) == limit**2 + 1).all()
    assert not squared_distance(np.ones((4, 5), dtype=np.int32), limit).any()


@pytest.mark.parametrize("limit", [-1, 256])
def test_limit_must_fit(limit):
    with pytest.raises(ValueError, match=f"limit={limit} must lie between 0 and 255"):
        squared_distance(np.zeros((2, 2), dtype=np.int32), limit)


def test_threads_have_no_say(monkeypatch):
    nuclei = random_nuclei(0, (130, 140), 20)
    monkeypatch.setattr("ucs._utils.parallel.n_threads", lambda: 1)
    one = squared_distance(nuclei, 40)
    monkeypatch.setattr("ucs._utils.parallel.n_threads", lambda: 5)
    np.testing.assert_array_equal(squared_distance(nuclei, 40), one)


@pytest.mark.parametrize("distance", [0, 0.5, 1, 1.2, 5, 6.0, 12.5, 24.9, 254.5, 255])
def test_beyond_distance(distance):
    nuclei = random_nuclei(2, (40, 300), 3)
    np.testing.assert_array_equal(beyond_distance(nuclei, distance), edt_squared(nuclei) > distance**2)


@pytest.mark.parametrize("distance", [-0.1, 255.1, np.inf, np.nan])
def test_distance_must_be_measurable(distance):
    with pytest.raises(ValueError, match="must lie between 0 and 255"):
        beyond_distance(np.ones((2, 2), dtype=np.int32), distance)


def paper_dilation_oracle(nuclei):
    """4 times: a pixel is set if one is set under the 10 x 10 kernel whose element (5, 5) lies on it.

    scipy's dilation moves the kernel to the set pixels instead, which turns it round: it reaches 5 pixels up and left
    by itself. Its origin of -1 moves that to 5 down and right.
    """
    return ndimage.binary_dilation(nuclei > 0, np.ones((10, 10)), iterations=4, origin=-1)


@pytest.mark.parametrize("seed", range(4))
def test_paper_dilation_equals_scipy(seed):
    nuclei = random_nuclei(seed, (90, 120), 3, radius=(1, 4))
    assert beyond_paper_dilation(nuclei).any()
    np.testing.assert_array_equal(beyond_paper_dilation(nuclei), ~paper_dilation_oracle(nuclei))


def test_paper_dilation_of_one_pixel():
    nuclei = np.zeros((60, 60), dtype=np.int32)
    nuclei[30, 28] = 1
    near = ~beyond_paper_dilation(nuclei)
    rows, columns = np.nonzero(near)
    # 4 times 4 pixels up and left, 4 times 5 down and right, as OpenCV dilates.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (14, 50, 12, 48)
    assert near.sum() == 37 * 37


@pytest.mark.parametrize("corner", [(0, 0), (0, 49), (49, 0), (49, 49)])
def test_paper_dilation_at_the_border(corner):
    nuclei = np.zeros((50, 50), dtype=np.int32)
    nuclei[corner] = 1
    np.testing.assert_array_equal(beyond_paper_dilation(nuclei), ~paper_dilation_oracle(nuclei))
    assert beyond_paper_dilation(np.zeros((5, 6), dtype=np.int32)).all()
    assert not beyond_paper_dilation(np.ones((5, 6), dtype=np.int32)).any()
