"""Candidates for missing nuclei: numbering, and which of several go first."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ucs._core.missing import _nuclear_signature, keep_candidates, smoothed_density, to_drop
from ucs._core.transcripts import TranscriptMap

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


def test_genes_of_cells_with_little_cytoplasm_are_not_nuclear():
    """Of two kinds of cells one is all nucleus; only the gene that lies in nuclei within cells tells of nuclei."""
    cells = np.zeros((60, 60), dtype=np.int32)
    nuclei = cells.copy()
    for k in range(9):
        window = np.s_[20 * (k // 3) + 2 : 20 * (k // 3) + 18, 20 * (k % 3) + 2 : 20 * (k % 3) + 18]
        cells[window] = k + 1
        inner = (slice(1, -1), slice(1, -1)) if k % 2 else (slice(5, -5), slice(5, -5))
        nuclei[window][inner] = k + 1
    random = np.random.default_rng(0)
    row, column = (random.integers(0, 60, 20_000) for _ in range(2))
    cell, in_nucleus = cells[row, column], nuclei[row, column] > 0
    of_kind = np.where(cell > 0, cell % 2, 0)  # genes 0 and 1: of the kinds; gene 2: in nuclei three times as often
    gene = np.where(random.random(len(row)) < np.where(in_nucleus, 0.6, 0.2), 2, of_kind)
    transcripts = TranscriptMap.from_positions(row, column, gene, None, shape=(60, 60), n_features=3)
    signature = _nuclear_signature(transcripts, nuclei, cells)
    assert signature.shape == (60, 60)
    weight = np.linalg.lstsq(
        transcripts.dense().reshape(3, -1).T.astype(float), signature.ravel() - signature[transcripts.totals() == 0][0]
    )[0]
    assert weight[2] > 0.3
    assert abs(weight[0] - weight[1]) < 0.3
    assert max(weight[:2]) < 0
