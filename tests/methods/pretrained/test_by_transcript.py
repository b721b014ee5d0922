"""Transcripts that are given by their gene: the same however the run is cut up, and not where they have no say."""

from __future__ import annotations

import numpy as np
import pytest
from calls import segment
from invariants import assert_invariants, assert_same_cells

import ucs


@pytest.fixture(scope="module")
def tissue():
    return ucs.datasets.simulate(width_um=100, height_um=100, n_genes=60, seed=3)


@pytest.fixture(scope="module")
def whole(tissue):
    return segment(tissue, method="pretrained")


def moved(sdata) -> int:
    return sdata["ucs_table"].uns["ucs"]["qc"]["n_moved_transcripts"]


def test_table_and_points_follow_and_labels_stay(tissue, whole):
    assert_invariants(whole)
    assert moved(whole) > 100
    by_pixel = segment(tissue, method="pretrained", params={"by_transcript": False})
    assert moved(by_pixel) == 0
    np.testing.assert_array_equal(whole["ucs_cells"], by_pixel["ucs_cells"])
    assert (whole["ucs_table"].X != by_pixel["ucs_table"].X).nnz > 0
    assert (whole["ucs_table"].layers["nucleus"] != by_pixel["ucs_table"].layers["nucleus"]).nnz == 0


def test_tiles_and_the_disk_have_no_say(tissue, whole, tmp_path):
    cut = segment(tissue, method="pretrained", tile_size=96, resume=True, scratch=str(tmp_path))
    assert moved(cut) == moved(whole)
    assert_same_cells(cut, whole)
    column = [out["transcripts"]["ucs_cell_id"].compute().to_numpy() for out in (cut, whole)]
    np.testing.assert_array_equal(*column)
