from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rasters import grid_of_discs, random_nuclei

from ucs._kernels.distances import nearest_nuclei, nucleus_axes
from ucs._kernels.lattice import bounding_boxes
from ucs.methods.density.levels import Levels
from ucs.methods.density.surroundings import cell_probability, nucleus_richness, survey

SHAPE = (40, 46)
REACH = 9
LEVELS = Levels(1.5, 0.8, 0.1, 0.2, 4.0, 0.9, calibrated=True)


def look(nuclei, totals=None, *, strength=0.5, um_per_px=1.0, reach=REACH):
    totals = np.ones(nuclei.shape, dtype=np.int32) if totals is None else totals
    boxes = bounding_boxes(nuclei, int(nuclei.max(initial=0)))
    return survey(totals, nuclei, boxes, reach=reach, strength=strength, um_per_px=um_per_px)


@pytest.fixture(scope="module")
def around():
    nuclei = random_nuclei(0, SHAPE, 14, radius=(1, 5))
    return look(nuclei, np.random.default_rng(0).poisson(2, SHAPE).astype(np.int32), um_per_px=0.5)


def test_survey_holds_distances_and_richness(around):
    n = int(around.nuclei.max())
    axes = nucleus_axes(around.nuclei, n, strength=0.5)
    nearest = nearest_nuclei(around.nuclei, around.boxes, axes, reach=REACH)
    np.testing.assert_array_equal(around.axes, axes)
    np.testing.assert_array_equal(around.nearest.owner, nearest.owner)
    np.testing.assert_array_equal(around.nearest.distance, nearest.distance)
    counts = [around.totals[around.nuclei == c].sum() for c in range(n + 1)]
    pixels = [(around.nuclei == c).sum() for c in range(n + 1)]
    expected = nucleus_richness(np.array(counts), np.array(pixels) / 4)
    np.testing.assert_array_equal(around.richness, expected)
    assert around.richness.dtype == np.float32
    assert (around.reach, around.um_per_px) == (REACH, 0.5)


def test_richness_by_hand():
    """100 um2 each; the mean density is 2, so the prior is 20 transcripts' worth."""
    made = nucleus_richness(np.array([999, 400, 200, 0]), np.array([5, 100, 100, 100]))
    np.testing.assert_allclose(made, np.log([1, 420 / 220, 220 / 220, 20 / 220]), rtol=1e-6)
    # Few transcripts tell little: the same ratio of densities, at a hundredth of the depth.
    poor = nucleus_richness(np.array([0, 4, 2, 0]), np.array([0, 100, 100, 100]))
    assert (np.abs(poor[[1, 3]]) < np.abs(made[[1, 3]]) / 3).all()


def test_richness_does_not_depend_on_the_depth_of_rich_samples():
    counts, areas = np.array([0, 5000, 9000, 1000]), np.array([0, 90, 120, 60])
    np.testing.assert_allclose(nucleus_richness(counts, areas), nucleus_richness(7 * counts, areas), rtol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_richness_without_transcripts(n):
    zeros = np.zeros(n + 1, dtype=np.int64)
    np.testing.assert_array_equal(nucleus_richness(zeros, zeros), 0)
    np.testing.assert_array_equal(nucleus_richness(zeros, zeros + 50), 0)


def test_richness_of_absent_ids_is_that_of_the_average():
    assert nucleus_richness(np.array([0, 0, 300]), np.array([0, 0, 100]))[1] == 0


def probability_oracle(around, density, levels):
    out = np.zeros(SHAPE)
    for i, j in np.ndindex(*SHAPE):
        c, d = around.nearest.owner[i, j], around.nearest.distance[i, j] * around.um_per_px
        if c == 0:
            continue
        if d == 0:
            out[i, j] = 1
            continue
        out[i, j] = levels.belonging(np.array([d], dtype=np.float32))[0]
        if levels.calibrated:
            cytoplasm = max(levels.cytoplasm * np.exp(around.richness[c]), 1.5 * levels.background)
            out[i, j] *= np.clip((density[i, j] - levels.background) / (cytoplasm - levels.background), 0, 1)
        if d <= 1.0001:
            out[i, j] = 0.5 + out[i, j] / 2
    return out


@pytest.mark.parametrize("calibrated", [True, False])
def test_cell_probability(around, calibrated):
    density = np.random.default_rng(1).gamma(1, 0.5, SHAPE).astype(np.float32)
    levels = replace(LEVELS, calibrated=calibrated)
    made = cell_probability(around, density, levels)
    np.testing.assert_allclose(made, probability_oracle(around, density, levels), atol=1e-6)
    assert made.dtype == np.float32


def test_cell_probability_of_background_and_of_cytoplasm(around):
    plain = replace(around, richness=np.zeros_like(around.richness))
    out_of_nuclei = (around.nearest.distance * 0.5 > 1.001) & (around.nearest.owner > 0)
    background, rich = (np.full(SHAPE, level, dtype=np.float32) for level in (LEVELS.background, 9.0))
    assert not cell_probability(plain, background, LEVELS)[out_of_nuclei].any()
    belonging = LEVELS.belonging(around.nearest.distance * np.float32(0.5))
    np.testing.assert_allclose(cell_probability(plain, rich, LEVELS)[out_of_nuclei], belonging[out_of_nuclei])


def test_next_to_nuclei_it_is_above_half_whatever_lies_there(around):
    made = cell_probability(around, np.zeros(SHAPE, dtype=np.float32), LEVELS)
    distance = around.nearest.distance * 0.5
    next_to_one = (distance > 0) & (distance <= 1.0001)
    assert (made[next_to_one] > 0.5).all()
    assert (made[next_to_one] < 0.51).all()
    assert (made[distance > 1.0001] == 0).all()


def test_cell_probability_without_transcripts_at_all(around):
    nothing = Levels(0.0, 0.0, 0.0, 0.0, 4.0, 1.2, calibrated=False)
    made = cell_probability(around, np.zeros(SHAPE, dtype=np.float32), nothing)
    assert np.isfinite(made).all()
    assert (made[around.nuclei > 0] == 1).all()


def test_poor_nuclei_keep_a_contrast():
    """A nucleus next to empty: its cytoplasm is taken for at least 1.5 times the background."""
    nuclei = grid_of_discs((20, 40), 20, 4)
    totals = np.where(nuclei == 1, 0, 5).astype(np.int32)
    around = look(nuclei, totals)
    assert around.richness[1] < -2
    density = np.full(nuclei.shape, 0.15, dtype=np.float32)
    made = cell_probability(around, density, LEVELS)
    of_poor = (around.nearest.owner == 1) & (around.nearest.distance > 1)
    np.testing.assert_allclose(made[of_poor], LEVELS.belonging(around.nearest.distance[of_poor]), rtol=1e-5)


@pytest.mark.parametrize("nuclei", [np.zeros((3, 4)), np.zeros((0, 0)), np.ones((1, 1)), np.ones((3, 2))])
def test_nothing_or_nothing_else(nuclei):
    nuclei = nuclei.astype(np.int32)
    around = look(nuclei)
    made = cell_probability(around, np.zeros(nuclei.shape, dtype=np.float32), LEVELS)
    np.testing.assert_array_equal(made, nuclei > 0)
