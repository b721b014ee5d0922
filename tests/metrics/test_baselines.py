from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ucs.metrics import expand_nuclei


def slow_expansion(nuclei, radius_px):
    """Look at every nucleus pixel from every pixel."""
    out = nuclei.copy()
    ys, xs = np.nonzero(nuclei)
    for i, j in np.argwhere(nuclei == 0):
        squared = (ys - i) ** 2 + (xs - j) ** 2
        if squared.size and squared.min() <= radius_px**2:
            out[i, j] = nuclei[ys, xs][squared == squared.min()].min()
    return out


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(np.int64, (7, 9), elements=st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3])),
    st.sampled_from([0, 1, 1.5, 2, 3, np.sqrt(5), 20, np.inf]),
)
def test_expansion_equals_looking_at_every_nucleus(nuclei, radius):
    np.testing.assert_array_equal(expand_nuclei(nuclei, radius), slow_expansion(nuclei, radius))


def test_expansion_agrees_with_the_distance_transform():
    rng = np.random.default_rng(0)
    nuclei = np.zeros((120, 150), np.uint32)
    nuclei.flat[rng.choice(nuclei.size, 40, replace=False)] = np.arange(1, 41)
    nuclei = ndimage.grey_dilation(nuclei, size=(5, 7))
    before = nuclei.copy()
    distance = ndimage.distance_transform_edt(nuclei == 0) * 0.5
    grown = expand_nuclei(nuclei, 4.0, um_per_px=0.5)
    np.testing.assert_array_equal(grown > 0, distance <= 4.0)
    np.testing.assert_array_equal(nuclei, before)
    assert grown.dtype == nuclei.dtype
    for label in range(1, 41):  # each pixel is as near to its own nucleus as to any
        own = ndimage.distance_transform_edt(nuclei != label) * 0.5 if (nuclei == label).any() else distance
        np.testing.assert_allclose(own[grown == label], distance[grown == label])


def test_radius_is_in_um_and_includes_its_limit():
    nuclei = np.array([[1, 0, 0, 0, 0, 0]])
    assert expand_nuclei(nuclei, 0.3, um_per_px=0.1).sum() == 4  # 0.3 / 0.1 < 3 in floating point
    assert expand_nuclei(nuclei, 0.29, um_per_px=0.1).sum() == 3
    assert expand_nuclei(nuclei, 4, um_per_px=2).sum() == 3


def test_ties_go_to_the_lower_id_whatever_the_direction():
    nuclei = np.zeros((3, 3), int)
    for first, second in (((0, 1), (2, 1)), ((1, 0), (1, 2)), ((2, 1), (0, 1)), ((1, 2), (1, 0))):
        nuclei[:] = 0
        nuclei[first], nuclei[second] = 4, 7
        assert expand_nuclei(nuclei, 1)[1, 1] == 4


def test_voronoi_covers_everything_and_large_ids_survive():
    nuclei = np.array([[2**40, 0, 0, 0, 2**40 + 1]])
    assert (expand_nuclei(nuclei, np.inf) > 0).all()
    assert expand_nuclei(nuclei, np.inf)[0].tolist() == [2**40] * 3 + [2**40 + 1] * 2


def test_without_nuclei_nothing_grows():
    empty = np.zeros((4, 5), np.int32)
    assert not expand_nuclei(empty, np.inf).any()
    assert expand_nuclei(np.zeros((0, 3), int), 2).shape == (0, 3)


def test_bad_input():
    nuclei = np.ones((2, 2), int)
    with pytest.raises(ValueError, match="radius=-1"):
        expand_nuclei(nuclei, -1)
    with pytest.raises(ValueError, match="radius=nan"):
        expand_nuclei(nuclei, float("nan"))
    with pytest.raises(ValueError, match="um_per_px=0"):
        expand_nuclei(nuclei, 1, um_per_px=0)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        expand_nuclei(nuclei[0], 1)
    with pytest.raises(ValueError, match="nuclei holds bool"):
        expand_nuclei(nuclei > 0, 1)
