from __future__ import annotations

import json

import numpy as np
import pytest
from rasters import grid_of_discs, squared_distances
from scipy import ndimage

from ucs.methods.paper.calibrate import FALLBACK_UM, calibrate_background, radial_profile

NUCLEUS_UM, SPACING_UM, SIDE_UM = 4.0, 34.0, 340.0
CYTOPLASM, BACKGROUND = 0.8, 0.1  # transcripts per um2


def tissue(cell_um, um_per_px=1.0, *, cytoplasm=CYTOPLASM, background=BACKGROUND, nucleus=None, seed=0):
    """Round cells with a round nucleus in their middle: transcripts per pixel, nuclei, where the cells are."""
    side = round(SIDE_UM / um_per_px)
    nuclei = grid_of_discs((side, side), SPACING_UM / um_per_px, NUCLEUS_UM / um_per_px)
    cells = grid_of_discs((side, side), SPACING_UM / um_per_px, cell_um / um_per_px) > 0
    density = np.where(cells, cytoplasm, background)
    if nucleus is not None:
        density = np.where(nuclei > 0, nucleus, density)
    totals = np.random.default_rng(seed).poisson(density * um_per_px**2).astype(np.int32)
    return totals, nuclei, cells


def distances(nuclei):
    return ndimage.distance_transform_edt(nuclei == 0)


def true_share(nuclei, cells, n):
    """Share of cell among the pixels at each distance, counted; 0 where there are no pixels."""
    bins = np.ceil(distances(nuclei)).astype(int)
    return np.array([cells[bins == k].mean() if (bins == k).any() else 0.0 for k in range(n)])


@pytest.mark.parametrize("limit", [3, 12, 80])
def test_radial_profile(limit):
    totals, nuclei, _ = tissue(8)
    pixels, counts = radial_profile(totals, nuclei, limit=limit)
    bins = np.minimum(np.ceil(distances(nuclei)).astype(int), limit + 1)
    for k in range(limit + 2):
        assert (pixels[k], counts[k]) == ((bins == k).sum(), totals[bins == k].sum())
    assert len(pixels) == len(counts) == limit + 2


@pytest.mark.parametrize("um_per_px", [1.0, 0.5])
@pytest.mark.parametrize("cell_um", [6, 9, 12])
def test_estimates_are_right(cell_um, um_per_px):
    totals, nuclei, cells = tissue(cell_um, um_per_px)
    distance, report = calibrate_background(totals, nuclei, um_per_px=um_per_px)
    assert report["calibrated"]
    n = round(14 / um_per_px)
    error = np.abs(np.array(report["cell_share"][:n]) - true_share(nuclei, cells, n))
    assert (error > 0.1).sum() <= 2  # at the edge, which lies within a pixel, where a sigmoid is softer
    assert report["cytoplasm_per_um2"] == pytest.approx(CYTOPLASM, rel=0.1)
    assert report["background_per_um2"] == pytest.approx(BACKGROUND, rel=0.25)
    assert distance == pytest.approx(max(cell_um - NUCLEUS_UM, 2), abs=0.6)  # the edge of the cells


def test_cells_without_nuclei_do_not_move_it():
    """They are part of the plateau, as far as nuclei are concerned."""
    totals, nuclei, _ = tissue(9)
    expected, _ = calibrate_background(totals, nuclei, um_per_px=1.0)
    fewer = np.where(np.random.default_rng(0).random(int(nuclei.max()) + 1)[nuclei] < 0.7, nuclei, 0)
    distance, report = calibrate_background(totals, fewer, um_per_px=1.0)
    assert abs(distance - expected) < 1
    assert report["reach_um"] == pytest.approx(5, abs=0.5)


def test_what_lies_far_away_does_not_move_it():
    """Next to the tissue there is as much of the slide without a transcript."""
    totals, nuclei, _ = tissue(9, background=0.3)
    expected, _ = calibrate_background(totals, nuclei, um_per_px=1.0)
    beside = [(0, 0), (0, nuclei.shape[1])]
    distance, report = calibrate_background(np.pad(totals, beside), np.pad(nuclei, beside), um_per_px=1.0)
    assert report["background_per_um2"] == pytest.approx(0.3, rel=0.1)
    assert abs(distance - expected) < 1


def test_distance_grows_with_the_cells():
    chosen = [calibrate_background(*tissue(cell_um)[:2], um_per_px=1.0)[0] for cell_um in (6, 8, 10, 12)]
    assert (np.diff(chosen) >= 0).all()
    assert chosen[-1] - chosen[0] > 4
    assert all(distance < cell_um - NUCLEUS_UM + 1 for distance, cell_um in zip(chosen, (6, 8, 10, 12), strict=True))


@pytest.mark.parametrize("cell_um", [6, 9, 12])
def test_distance_does_not_depend_on_the_pixel(cell_um):
    chosen = [calibrate_background(*tissue(cell_um, um)[:2], um_per_px=um)[0] for um in (1.0, 0.5)]
    assert abs(chosen[0] - chosen[1]) < 1.0


def test_noise_has_little_say():
    chosen = [calibrate_background(*tissue(10, seed=seed)[:2], um_per_px=1.0)[0] for seed in range(5)]
    assert np.ptp(chosen) < 1


@pytest.mark.parametrize("nucleus", [0.0, 0.2, 3.0])
def test_density_in_nuclei_has_no_say(nucleus):
    """Nuclei are cell, whether they hold fewer transcripts than cytoplasm or more."""
    distance, report = calibrate_background(*tissue(10, nucleus=nucleus)[:2], um_per_px=1.0)
    expected, _ = calibrate_background(*tissue(10)[:2], um_per_px=1.0)
    assert report["calibrated"]
    assert abs(distance - expected) < 1
    assert report["cell_share"][0] == 1


def all_numbers(report):
    return np.concatenate([np.ravel(value) for value in report.values()]).astype(float)


def one_nucleus(shape, at):
    nuclei = np.zeros(shape, dtype=np.int32)
    nuclei[at] = 1
    return nuclei


@pytest.mark.parametrize(
    ("totals", "nuclei"),
    [
        (tissue(10, cytoplasm=0.3, background=0.3)[0], tissue(10)[1]),  # no contrast
        (tissue(10, cytoplasm=0.1, background=0.8)[0], tissue(10)[1]),  # more transcripts outside
        (np.zeros((50, 50), dtype=np.int32), one_nucleus((50, 50), (20, 20))),  # no transcript
        (np.ones((50, 50), dtype=np.int32), np.zeros((50, 50), dtype=np.int32)),  # no nucleus
        (np.ones((50, 50), dtype=np.int32), np.ones((50, 50), dtype=np.int32)),  # nothing but nuclei
        (np.ones((30, 30), dtype=np.int32), np.indices((30, 30)).sum(axis=0) % 2),  # no pixel is far
        (np.ones((1, 1), dtype=np.int32), np.ones((1, 1), dtype=np.int32)),
    ],
)
@pytest.mark.parametrize("um_per_px", [1.0, 0.5, 20.0])
def test_falls_back_where_the_profile_does_not_tell(totals, nuclei, um_per_px):
    distance, report = calibrate_background(totals, nuclei.astype(np.int32), um_per_px=um_per_px)
    assert distance == FALLBACK_UM
    assert report["calibrated"] is False
    assert np.isfinite(all_numbers(report)).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("density", [0.01, 1.0, 20_000.0])
@pytest.mark.parametrize("shape", [(2, 3), (9, 9), (60, 80)])
def test_always_a_finite_distance(shape, density, seed):
    """One nucleus on rasters of any size, with hardly any or very many transcripts."""
    rng = np.random.default_rng(seed)
    nuclei = one_nucleus(shape, tuple(rng.integers(0, shape)))
    near = distances(nuclei) < 5
    totals = rng.poisson(np.where(near, density, density / 10)).astype(np.int32)
    for um_per_px in (0.1, 0.5, 1.0, 8.0):
        distance, report = calibrate_background(totals, nuclei, um_per_px=um_per_px)
        assert 2 <= distance <= 20
        assert np.isfinite(all_numbers(report)).all()
        assert json.loads(json.dumps(report)) == report  # plain values, as they are stored


def test_only_pixels_inside_are_counted():
    nuclei = grid_of_discs((60, 80), 20, 4)
    totals = np.random.default_rng(0).poisson(0.3, size=nuclei.shape)
    inside = np.zeros(nuclei.shape, dtype=bool)
    inside[:, :33] = True
    pixels, transcripts = radial_profile(totals, nuclei, limit=12, inside=inside)
    assert (pixels.sum(), transcripts.sum()) == (60 * 33, totals[:, :33].sum())
    distances = np.sqrt(squared_distances(nuclei > 0))  # to nuclei beyond as well
    for k in range(13):
        ring = inside & (distances > k - 1) & (distances <= k)
        assert (pixels[k], transcripts[k]) == (ring.sum(), totals[ring].sum())
    whole = radial_profile(totals, nuclei, limit=12, inside=np.ones_like(inside))
    for one, other in zip(whole, radial_profile(totals, nuclei, limit=12), strict=True):
        np.testing.assert_array_equal(one, other)
    everywhere = calibrate_background(totals, nuclei, um_per_px=1.0, inside=np.ones_like(inside))
    assert everywhere == calibrate_background(totals, nuclei, um_per_px=1.0)
