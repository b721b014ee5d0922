from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasters import random_nuclei
from skimage.morphology import convex_hull_image

from ucs._evaluation.hull import hull_sizes
from ucs._kernels.labels.ids import densify
from ucs.metrics import expand_nuclei, morphology


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.int32, (9, 8), elements=st.sampled_from([0, 0, 0, 1, 2])))
def test_hulls_hold_the_pixels_that_scikit_image_fills(labels):
    sizes = hull_sizes(labels, 2)
    for c in (1, 2):
        mask = labels == c
        # Of fewer than three points not in a row scikit-image makes no hull.
        expected = slow_hull(mask) if mask.any() else 0
        assert sizes[c - 1] == expected


def slow_hull(mask):
    """Test every pixel of the raster: is it a mean of three of the mask's pixels with weights of 0 or more?"""
    points = np.argwhere(mask).astype(float)
    distinct = points - points[0]
    if np.linalg.matrix_rank(distinct) == 2:
        return int(convex_hull_image(mask, offset_coordinates=False).sum())
    if len(points) == 1:
        return 1
    ends = points[[0, -1]].astype(int)  # in a row: argwhere sorts along it
    return int(np.gcd(*np.abs(ends[1] - ends[0]))) + 1


def slow_eccentricity(mask, parts=8):
    """Second moments of the pixels as squares, each cut into many points."""
    fine = np.kron(mask, np.ones((parts, parts), bool))
    values = np.linalg.eigvalsh(np.cov(np.argwhere(fine).T, bias=True))
    return np.sqrt(1 - values[0] / values[1])


def test_figures_equal_slow_ones():
    labels = random_nuclei(0, (80, 90), 25, radius=(2.0, 9.0))
    table = morphology(labels, um_per_px=0.5)
    for c, row in table.iterrows():
        mask = labels == c
        assert row["area_um2"] == mask.sum() * 0.25
        if mask.sum() > 10:
            assert row["eccentricity"] == pytest.approx(slow_eccentricity(mask), abs=2e-3)
            assert row["solidity"] == pytest.approx(mask.sum() / slow_hull(mask))


def test_shapes_by_hand():
    labels = np.zeros((12, 20), int)
    labels[1:5, 1:5] = 3  # a square
    labels[7:9, 1:13] = 5  # 2 x 12: variances 12^2 / 12 and 2^2 / 12
    labels[1:6, 14] = labels[5, 14:19] = 8  # an L: 9 pixels, a hull of 15
    table = morphology(labels)
    assert table.index.tolist() == [3, 5, 8]
    assert table["area_um2"].tolist() == [16, 24, 9]
    assert table["eccentricity"][:5].iloc[0] == 0
    assert table.loc[5, "eccentricity"] == pytest.approx(np.sqrt(1 - (2 / 12) ** 2))
    assert table["solidity"].tolist() == [1, 1, pytest.approx(9 / 15)]


def test_a_disc_is_solid_and_round_at_any_size():
    rows, columns = np.mgrid[:61, :61]
    for radius in (2, 3, 5, 9, 14.5, 28):
        disc = ((rows - 30) ** 2 + (columns - 30) ** 2 <= radius**2).astype(int)
        assert morphology(disc)[["eccentricity", "solidity"]].iloc[0].tolist() == [0, 1]


def test_the_nucleus_of_a_cell_is_the_one_with_most_of_its_pixels_there():
    cells = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 4]])
    nuclei = np.array([[0, 7, 9, 9, 9, 0, 0, 8, 8, 8, 0]])
    table = morphology(cells, nuclei)
    assert table["n_nuclei"].tolist() == [2, 1, 0]  # 9 lies in 1 for the most part; 8 in no other cell than 2
    assert table["nucleus_id"].tolist()[:2] == [9, 8]
    assert np.isnan(table.loc[4, "nucleus_id"])
    assert table["nucleus_area_um2"].tolist()[:2] == [3, 3]  # of the whole nucleus


def test_expanded_nuclei_find_themselves():
    nuclei = random_nuclei(2, (70, 70), 20) * 3
    table = morphology(expand_nuclei(nuclei, 3.0), nuclei)
    alone = morphology(nuclei)
    assert (table["nucleus_id"] == table.index).all()
    assert (table["n_nuclei"] == 1).all()
    for column in ("area_um2", "eccentricity", "solidity"):
        np.testing.assert_array_equal(table[f"nucleus_{column}"], alone[column])


def test_no_cells_and_large_ids():
    assert morphology(np.zeros((3, 4), int)).empty
    empty = morphology(np.zeros((3, 4), int), np.ones((3, 4), int))
    assert empty.empty
    assert "nucleus_id" in empty
    assert morphology(np.array([[2**40]])).index.tolist() == [2**40]
    alone = morphology(np.array([[1, 1]]), np.array([[0, 0]]))
    assert alone["n_nuclei"].tolist() == [0]


def test_hulls_of_random_cells_lie_between_the_cell_and_its_box():
    labels, ids = densify(random_nuclei(5, (60, 60), 30))
    sizes = hull_sizes(labels, len(ids))
    for c in range(1, len(ids) + 1):
        rows, columns = np.nonzero(labels == c)
        assert len(rows) <= sizes[c - 1] <= (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_bad_input():
    with pytest.raises(ValueError, match=r"nuclei has shape \(2, 3\)"):
        morphology(np.ones((2, 2), int), np.ones((2, 3), int))
    with pytest.raises(ValueError, match=r"labels has shape \(2,\)"):
        morphology(np.ones(2, int))
    with pytest.raises(ValueError, match="um_per_px=-1"):
        morphology(np.ones((2, 2), int), um_per_px=-1)
    with pytest.raises(ValueError, match="labels holds bool"):
        morphology(np.ones((2, 2), bool))
