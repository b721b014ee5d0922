from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scenes import X0, Y0, scene
from scipy import ndimage
from spatialdata.transformations import get_transformation

from ucs.metrics import Tissue, expand_nuclei, voronoi_cells


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


def slow_voronoi(nuclei, radius_px):
    """Compare every pixel with the pixel that holds the centroid of each nucleus."""
    ids = [c for c in np.unique(nuclei) if c]
    centres = [tuple(np.floor(np.argwhere(nuclei == c).mean(axis=0) + 0.5).astype(int)) for c in ids]
    owner_of = {}
    for c, centre in zip(ids, centres, strict=True):
        owner_of.setdefault(centre, c)
    out = nuclei.copy()
    for i, j in np.argwhere(nuclei == 0):
        best = min((((i - y) ** 2 + (j - x) ** 2, c) for (y, x), c in owner_of.items()), default=(np.inf, 0))
        if best[0] <= radius_px**2:
            out[i, j] = best[1]
    return out


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(np.int64, (7, 9), elements=st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3])),
    st.sampled_from([0, 1, 2, 3, np.sqrt(5), 20, np.inf]),
)
def test_voronoi_equals_comparing_with_every_centroid(nuclei, radius):
    np.testing.assert_array_equal(voronoi_cells(nuclei, radius), slow_voronoi(nuclei, radius))


def test_voronoi_keeps_nuclei_that_reach_beyond_the_radius():
    nuclei = np.array([[1] * 9 + [0] * 3])
    assert voronoi_cells(nuclei, 1).tolist() == nuclei.tolist()
    assert voronoi_cells(nuclei, 5.0).sum() == 10
    assert voronoi_cells(nuclei, 2.5, um_per_px=0.5).sum() == 10


@pytest.mark.parametrize("baseline", [expand_nuclei, voronoi_cells])
def test_baselines_of_an_element_are_elements(baseline):
    sdata = scene().sdata()
    grown = baseline("nucleus_labels", 3.0, sdata=Tissue(sdata, resolution=1.0))
    # The scene's nuclei lie on a raster of 1 um that the transcripts' raster meets.
    np.testing.assert_array_equal(np.asarray(grown), baseline(scene().nuclei, 3.0))
    sdata["grown"] = grown
    assert get_transformation(sdata["grown"]).to_affine_matrix(("x", "y"), ("x", "y"))[:2, 2].tolist() == [X0, Y0]
    with pytest.raises(ValueError, match="um_per_px= is known"):
        baseline("nucleus_labels", 3.0, um_per_px=1, sdata=sdata)
    with pytest.raises(TypeError, match="name the element by its key"):
        baseline(scene().nuclei, 3.0, sdata=sdata)
    with pytest.raises(TypeError, match="is the key of an element"):
        baseline("nucleus_labels", 3.0)
