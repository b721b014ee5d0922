"""Candidates for missing nuclei: numbering, and which of several go first."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ucs.methods.missing.candidates import keep_candidates, to_drop
from ucs.methods.missing.clues import smoothed_density

RADIUS = 7.0


def candidates(*columns: int) -> NDArray[np.int32]:
    """Squares of 3 x 3 pixels around a row's pixels."""
    out = np.zeros((9, 120), dtype=np.int32)
    for k, column in enumerate(columns, start=1):
        out[3:6, column - 1 : column + 2] = k
    return out


def drop(columns: tuple[int, ...], log_odds: list[float], fit: NDArray | None = None) -> list[bool]:
    fit = np.zeros((len(columns), 0)) if fit is None else fit
    return to_drop(candidates(*columns), np.array(log_odds), fit, cell_radius=RADIUS, least=0.0).tolist()


def test_those_kept_are_numbered_without_gaps():
    kept = keep_candidates(candidates(10, 40, 70), np.array([True, False, True]))
    np.testing.assert_array_equal(kept, np.where(candidates(10, 40, 70) == 2, 0, np.minimum(candidates(10, 40, 70), 2)))


def test_plausible_ones_far_apart_stay():
    assert drop((10, 40, 70), [1, 2, 3]) == [False, False, False]


def test_an_implausible_one_goes():
    assert drop((10, 40, 70), [1, -0.5, 3]) == [False, True, False]


def test_of_implausible_neighbours_the_worst_goes_first():
    """What is left has its pixels in the next round, and may be plausible then."""
    assert drop((10, 23), [-0.5, -1]) == [False, True]


def test_hopeless_ones_go_at_once():
    assert drop((10, 23), [-5, -6]) == [True, True]


def test_of_two_in_one_cell_the_less_plausible_goes():
    assert drop((10, 20), [2, 1]) == [False, True]
    assert drop((10, 20, 30), [2, 1, 0.5]) == [False, False, True]  # the second one in the next round


@pytest.mark.parametrize(("gain", "goes"), [(1.0, True), (30.0, False)])
def test_two_near_ones_stay_if_their_transcripts_are_of_two_kinds(gain, goes):
    assert drop((10, 20), [2, 1], np.array([[gain, 0.0], [0.0, gain]])) == [False, goes]


def test_none_at_all():
    assert drop((), []) == []


def test_density_is_per_um2_at_any_resolution():
    fine = np.full((80, 80), 1, dtype=np.int32)
    assert smoothed_density(fine, 1.0, um_per_px=0.5)[40, 40] == pytest.approx(4)
    assert smoothed_density(fine, 1.0, um_per_px=1.0)[40, 40] == pytest.approx(1)
