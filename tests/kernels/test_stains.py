"""Measures of stains: what they are of a point and of a plane, and that they depend on what is near only."""

from __future__ import annotations

import numpy as np
import pytest

from ucs._kernels.stains import HALO_UM, N_CODES, bin_side, measure_stain

UM = 0.5


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    """A bright ridge along a column on an uneven background, ``(480, 400)``."""
    rng = np.random.default_rng(0)
    image = rng.gamma(5.0, 20.0, (480, 400)).astype(np.float32)
    image[:, 199:201] += 900
    return image


def test_a_ridge_is_where_it_is_bright_and_the_level_tells_sides_apart(tissue):
    ridge, level = measure_stain(tissue, um_per_px=UM)
    assert ridge.min() >= 1
    assert ridge.max() < N_CODES
    assert ridge[:, 199:201].mean() > ridge[:, 150:160].mean() + 10
    assert ridge[:, 203:206].mean() < ridge[:, 150:160].mean()  # beside it
    step = np.where(np.arange(400) < 200, 100, 300).astype(np.float32)[None].repeat(480, axis=0)
    _, level = measure_stain(step, um_per_px=UM)
    assert level[:, 205].mean() > level[:, 195].mean() + 3


def test_units_have_no_say(tissue):
    for one, other in zip(measure_stain(tissue, um_per_px=UM), measure_stain(tissue * 64, um_per_px=UM), strict=True):
        assert (one == other).all()


def test_nothing_seen_is_nothing_told():
    for measure in measure_stain(np.zeros((40, 56), dtype=np.float32), um_per_px=UM):
        assert len(np.unique(measure)) == 1


@pytest.mark.parametrize("um_per_px", [0.5, 0.7, 1.0])
def test_what_lies_beyond_the_halo_has_no_say(tissue, um_per_px):
    side = bin_side(um_per_px)
    halo = -(-int(np.ceil(HALO_UM / um_per_px)) // side) * side
    whole = measure_stain(tissue, um_per_px=um_per_px)
    row, column = 20 * side, 17 * side
    assert min(row, column) >= halo
    part = measure_stain(tissue[row - halo : row + 40 + halo, column - halo : column + 30 + halo], um_per_px=um_per_px)
    for one, other in zip(whole, part, strict=True):
        assert (one[row : row + 40, column : column + 30] == other[halo : halo + 40, halo : halo + 30]).all()
