from __future__ import annotations

import numpy as np
import pytest

from ucs._kernels.lattice import bounding_boxes
from ucs.methods.density.confidence import OWNER_SLOPE, STAYED, confidence_of, share_from_cells
from ucs.methods.density.levels import Levels
from ucs.methods.density.surroundings import survey

LEVELS = Levels(2.0, 1.0, 0.1, 0.05, 4.0, 1.0, calibrated=True)


@pytest.fixture
def around():
    nuclei = np.zeros((40, 60), dtype=np.int32)
    nuclei[18:22, 8:12] = 1
    nuclei[18:22, 48:52] = 2
    totals = np.ones(nuclei.shape, dtype=np.int32)
    return survey(totals, nuclei, bounding_boxes(nuclei, 2), reach=12, strength=0.0, um_per_px=1.0)


def test_share_from_cells(around):
    density = np.full((40, 60), 0.5, dtype=np.float32)
    density[20, 15] = 0.05  # below background: nothing there comes from a cell
    share = share_from_cells(around, density, LEVELS)
    assert share.dtype == np.uint8
    assert share[20, 30] == 0  # out of reach
    assert share[20, 9] == pytest.approx(255 * STAYED * (1 - 0.1 / 2.0), abs=1)  # in a nucleus
    assert share[20, 12] == pytest.approx(255 * STAYED * (1 - 0.1 / 1.0), abs=1)  # next to it
    distance = around.nearest.distance[20, 16]
    expected = LEVELS.seen(np.float32([distance]))[0] * (1 - 0.1 / 0.5)
    assert share[20, 16] == pytest.approx(255 * STAYED * expected, abs=1)
    assert share[20, 15] == 0


def test_where_density_does_not_tell_it_is_not_asked(around):
    levels = Levels(2.0, 1.0, 0.2, 0.1, 4.0, 1.2, calibrated=False)
    dense, thin = (share_from_cells(around, np.full((40, 60), d, dtype=np.float32), levels) for d in (5, 0.1))
    np.testing.assert_array_equal(dense, thin)
    assert dense[20, 16] > dense[20, 20] > 0


def test_samples_without_transcripts():
    nuclei = np.zeros((20, 20), dtype=np.int32)
    nuclei[5:9, 5:9] = 1
    empty = np.zeros(nuclei.shape, dtype=np.int32)
    around = survey(empty, nuclei, bounding_boxes(nuclei, 1), reach=5, strength=0.5, um_per_px=1.0)
    levels = Levels(0.0, 0.0, 0.0, 0.0, 4.0, 1.2, calibrated=False)
    with np.errstate(all="raise"):
        assert share_from_cells(around, np.zeros((20, 20), dtype=np.float32), levels).max() <= 255


def test_confidence_is_the_share_from_cells_times_the_tempered_odds_of_the_owner():
    certainty = np.array([[0, 128, 204, 255]], dtype=np.uint8)
    made = confidence_of(certainty, np.array([[255, 255, 255, 102]], dtype=np.uint8))
    odds = (204 / 51) ** OWNER_SLOPE
    assert made.dtype == np.uint8
    assert made[0].tolist() == [0, 128, round(255 * odds / (1 + odds)), 102]
    assert certainty[0].tolist() == [0, 128, 204, 255]


def test_confidence_rises_with_certainty():
    certainty = np.arange(256, dtype=np.uint8)[None]
    made = confidence_of(certainty, np.full_like(certainty, 255))
    assert (np.diff(made[0].astype(int)) >= 0).all()
    assert (made[certainty > 128] <= certainty[certainty > 128]).all()
