from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from rasters import grid_of_discs
from scipy import ndimage
from scipy.special import expit

from ucs.methods.density import levels as module
from ucs.methods.density.levels import Levels, distance_bins, levels_of_strips, measure_levels

NUCLEUS, CYTOPLASM, BACKGROUND = 1.6, 0.8, 0.1
REACH, SOFTNESS, PLATEAU = 4.0, 0.7, 0.15


def tissue(um_per_px=1.0, *, shape_um=(300, 360), spacing_um=60, radius_um=6, plateau=0.0, cytoplasm=CYTOPLASM, seed=0):
    """Nuclei far from each other, around which the density falls as the model says: ``(totals, nuclei, distance)``."""
    shape = tuple(round(side / um_per_px) for side in shape_um)
    nuclei = grid_of_discs(shape, round(spacing_um / um_per_px), radius_um / um_per_px)
    distance = ndimage.distance_transform_edt(nuclei == 0)
    share = plateau + (1 - plateau) * expit((REACH - (distance - 0.5) * um_per_px) / SOFTNESS)
    density = np.where(nuclei > 0, NUCLEUS, BACKGROUND + share * (cytoplasm - BACKGROUND))
    totals = np.random.default_rng(seed).poisson(density * um_per_px**2).astype(np.int32)
    distance = np.where(distance * um_per_px <= 24, distance, np.inf).astype(np.float32)
    return totals, nuclei, distance


def measure(tissue, um_per_px=1.0, **options):
    return measure_levels(*tissue, um_per_px=um_per_px, **options)


@pytest.fixture(scope="module")
def sample():
    return tissue()


# What is recovered


@pytest.mark.parametrize("um_per_px", [1.0, 0.5, 2.0])
def test_known_levels_whatever_the_pixel_size(um_per_px):
    found = measure(tissue(um_per_px), um_per_px)
    assert found.calibrated
    assert found.nucleus == pytest.approx(NUCLEUS, rel=0.03)
    assert found.cytoplasm == pytest.approx(CYTOPLASM, rel=0.1)
    assert found.background == pytest.approx(BACKGROUND, rel=0.15)
    # Distances are sorted into bins of 1 um, within which they lie where the pixels put them.
    assert found.reach_um == pytest.approx(REACH, abs=max(0.5, um_per_px / 2))
    assert found.softness_um == pytest.approx(SOFTNESS, abs=0.3)
    assert found.plateau < 0.03


def test_background_is_told_from_cells_without_nuclei():
    """Patches of cytoplasm far from nuclei, over a tenth of the area, do not count as background but as plateau."""
    totals, nuclei, distance = tissue(shape_um=(480, 480))
    random = np.random.default_rng(1)
    patches = np.kron(random.random((40, 40)) < PLATEAU, np.ones((12, 12), dtype=bool)) & (nuclei == 0)
    totals = np.where(patches, random.poisson(CYTOPLASM, totals.shape), totals).astype(np.int32)
    found = measure((totals, nuclei, distance))
    assert found.background == pytest.approx(BACKGROUND, rel=0.3)
    assert found.plateau == pytest.approx(PLATEAU, abs=0.05)
    assert found.reach_um == pytest.approx(REACH, abs=0.6)


def test_belonging_is_the_fitted_share_of_seen_cells():
    levels = Levels(1.0, 0.8, 0.1, 0.2, 4.0, 0.9, calibrated=True)
    distance = np.array([0, 1, 4, 7.5, 30, np.inf], dtype=np.float32)
    own = 0.8 * expit((4 - distance.astype(float)) / 0.9)
    made = levels.belonging(distance)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, own / (0.2 + own), atol=1e-6)
    alone = replace(levels, plateau=0.0)
    np.testing.assert_allclose(alone.belonging(distance[:4]), 1, atol=1e-6)


def test_belonging_of_what_is_far_is_nothing_and_no_overflow():
    """A sharp edge of cells: exp of the distance over the softness exceeds float32."""
    levels = Levels(1.0, 0.8, 0.1, 0.05, 0.5, 0.2, calibrated=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = levels.belonging(np.array([20, 49, 1e6, np.inf], dtype=np.float32))
    np.testing.assert_allclose(far, 0, atol=1e-6)


def test_plain_values(sample):
    found = measure(sample)
    assert Levels(**found.as_dict()) == found
    assert {type(value) for value in found.as_dict().values()} == {float, bool}


# The profile against an oracle


def strips_of(sample, um_per_px, inside, rows):
    """What the functions of strips are called with."""
    totals, nuclei, distance = sample

    def strip(row0, row1):
        some = slice(row0, row1)
        return totals[some], distance_bins(distance[some], nuclei[some] > 0, um_per_px), inside[some]

    return strip, [(row0, min(row0 + rows, len(totals))) for row0 in range(0, len(totals), rows)]


def profile_oracle(totals, nuclei, distance, um_per_px, inside):
    pixels, counts = np.zeros(25, dtype=int), np.zeros(25)
    for i, j in np.argwhere(inside):
        far = min(float(distance[i, j]) * um_per_px, 24)
        k = 0 if nuclei[i, j] else next(k for k in range(25) if far <= k + 1e-4)
        pixels[k] += 1
        counts[k] += totals[i, j]
    return pixels, counts


@pytest.mark.parametrize("um_per_px", [1.0, 0.5])
def test_profile(um_per_px):
    sample = tissue(um_per_px, shape_um=(45, 60), spacing_um=30)
    inside = np.random.default_rng(0).random(sample[0].shape) < 0.7
    pixels, counts = module._profile(*strips_of(sample, um_per_px, inside, 17))
    expected = profile_oracle(*sample, um_per_px, inside)
    np.testing.assert_array_equal(pixels, expected[0])
    np.testing.assert_array_equal(counts, expected[1])


def median_oracle(totals, nuclei, distance, tail, side, inside):
    found = []
    wanted = inside & (nuclei == 0) & (np.minimum(distance, 24) > tail - 1 + 1e-4)
    for i in range(0, len(totals), side):
        for j in range(0, totals.shape[1], side):
            block = slice(i, i + side), slice(j, j + side)
            if wanted[block].sum() >= side**2 / 2:
                found.append(totals[block][wanted[block]].sum() / wanted[block].sum())
    return max(np.median(found), 0.5 * np.mean(found))


@pytest.mark.parametrize("rows", [6, 12, 48, 1020])
def test_median_of_squares_whatever_strips_they_are_read_in(rows):
    totals, nuclei, distance = tissue(shape_um=(125, 130), spacing_um=50)
    inside = np.ones(totals.shape, dtype=bool)
    inside[:, 100:] = False
    for tail in (3, 12, 20):
        strip, strips = strips_of((totals, nuclei, distance), 1.0, inside, rows)
        made = module._median_density(strip, strips, tail, 6, 1.0)
        assert made == pytest.approx(median_oracle(totals, nuclei, distance, tail, 6, inside))


def test_strips_have_no_say(sample, monkeypatch):
    found = measure(sample)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 30)
    assert measure(sample) == found


def test_strips_that_are_made_when_they_are_asked_for(sample):
    """As from a raster that is not held: without a mask, or with one."""
    totals, nuclei, distance = sample
    bins = distance_bins(distance, nuclei > 0, 1.0)
    inside = np.random.default_rng(0).random(nuclei.shape) < 0.6
    for mask in (None, inside):

        def strip(row0, row1, mask=mask):
            return totals[row0:row1], bins[row0:row1], None if mask is None else mask[row0:row1]

        assert levels_of_strips(strip, nuclei.shape, um_per_px=1.0) == measure(sample, inside=mask)


def test_bins():
    distance = np.array([[0, 0.5, 1, 1.0001, 2, 2.5], [23, 23.9, 24, 25, 1e9, np.inf]], dtype=np.float32)
    inside = np.zeros(distance.shape, dtype=bool)
    inside[0, 0] = True
    assert distance_bins(distance, inside, 1.0).tolist() == [[0, 1, 1, 1, 2, 3], [23, 24, 24, 24, 24, 24]]
    assert distance_bins(distance, inside, 0.5).tolist()[0] == [0, 1, 1, 1, 1, 2]


def test_only_pixels_inside_count(sample):
    totals, nuclei, distance = sample
    inside = np.zeros(nuclei.shape, dtype=bool)
    inside[:, :180] = True
    found = measure((np.where(inside, totals, 1000).astype(np.int32), nuclei, distance), inside=inside)
    assert found == measure((totals[:, :180], nuclei[:, :180], distance[:, :180]))
    assert measure(sample, inside=np.ones_like(inside)) == measure(sample)


# Nothing to be told


def assert_usual(found):
    assert not found.calibrated
    assert (found.plateau, found.reach_um, found.softness_um) == (0.0, 4.0, 1.2)
    assert np.isfinite([found.nucleus, found.cytoplasm, found.background]).all()


def test_no_contrast():
    found = measure(tissue(cytoplasm=BACKGROUND * 1.2))
    assert_usual(found)
    assert found.nucleus == pytest.approx(NUCLEUS, rel=0.05)


def test_no_transcripts():
    totals, nuclei, distance = tissue(shape_um=(60, 60))
    assert_usual(measure((0 * totals, nuclei, distance)))
    assert_usual(measure((np.where(nuclei > 0, totals, 0).astype(np.int32), nuclei, distance)))


def test_nothing_outside_nuclei():
    ones = np.ones((20, 30), dtype=np.int32)
    found = measure((3 * ones, ones, np.zeros((20, 30), dtype=np.float32)))
    assert_usual(found)
    assert found.nucleus == 3


def test_nothing_inside_the_mask():
    sample = tissue(shape_um=(60, 60))
    assert_usual(measure(sample, inside=np.zeros(sample[0].shape, dtype=bool)))


def test_no_nuclei():
    empty = np.zeros((30, 40), dtype=np.int32)
    assert_usual(measure((empty + 1, empty, np.full(empty.shape, np.inf, dtype=np.float32))))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 9)])
def test_rasters_smaller_than_a_square(shape):
    nuclei = np.zeros(shape, dtype=np.int32)
    nuclei[0, 0] = 1
    distance = ndimage.distance_transform_edt(nuclei == 0).astype(np.float32)
    assert_usual(measure((np.ones(shape, dtype=np.int32), nuclei, distance)))


def test_one_nucleus():
    found = measure(tissue(shape_um=(60, 60)))
    assert found.calibrated
    assert found.background == pytest.approx(BACKGROUND, rel=0.3)
    assert found.reach_um == pytest.approx(REACH, abs=1.5)


def test_dense_tissue_without_background():
    """Nothing lies farther than a few um: too few distances for a curve, or no contrast."""
    found = measure(tissue(shape_um=(120, 120), spacing_um=16))
    assert np.isfinite(list(found.as_dict().values())).all()
    assert 0.5 <= found.reach_um <= 12


def test_seen_is_the_share_of_cells_that_reach_there_if_others_have_what_they_leave():
    levels = Levels(2.0, 1.0, 0.1, 0.3, 4.0, 1.0, calibrated=True)
    distance = np.linspace(0, 14, 29, dtype=np.float32)
    reached = 1 / (1 + np.exp(distance - 4.0))
    all_cells = 0.3 + 0.7 * reached  # of the pixels at a distance: the module's c(d)
    np.testing.assert_allclose(levels.seen(distance), reached / all_cells, rtol=1e-5)
    assert (levels.seen(distance) >= levels.belonging(distance)).all()
    with np.errstate(over="raise"):
        assert levels.seen(np.array([1e6, np.inf], dtype=np.float32)).max() < 1e-9
