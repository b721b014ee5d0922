"""Cells without a nucleus: found where there are some, not invented where there are none, written back as cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from calls import find_missing, segment, train
from invariants import assert_invariants, matrix, matrix_between
from numpy.typing import NDArray
from scenes import PAPER_TINY, TINY, model, scene
from spatialdata import SpatialData
from spatialdata.transformations import get_transformation

import ucs
from ucs._kernels.labels.resample import sample_labels

FAST = {"max_steps": 40}


def tissue(missing: float) -> SpatialData:
    return ucs.datasets.simulate(width_um=200, height_um=200, n_genes=100, seed=2, missing_nuclei=missing)


@pytest.fixture(scope="module")
def found() -> SpatialData:
    sdata = tissue(0.2)
    return segment(sdata, find_missing=True, params=FAST)


def true_cells(sdata: SpatialData) -> NDArray:
    """The truth on the grid of the results."""
    to_truth = matrix_between(sdata, "ucs_cells", "true_cells")
    return sample_labels(np.asarray(sdata["true_cells"]), to_truth, sdata["ucs_cells"].shape)


def cell_beneath(sdata: SpatialData) -> NDArray:
    """For each nucleus that was found the true cell that most of it lies in."""
    nuclei, truth = np.asarray(sdata["ucs_missing_nuclei"]), true_cells(sdata)
    return np.array([np.bincount(truth[nuclei == k]).argmax() for k in np.unique(nuclei[nuclei > 0])])


class TestOnTissue:
    def test_most_removed_cells_are_found_and_few_others(self, found):
        """A removed cell is found if most of a nucleus lies in it; a second one in it is a false discovery."""
        obs = found["true_table"].obs
        removed = obs["cell_id"][~obs["has_nucleus_label"]].to_numpy()
        beneath = cell_beneath(found)
        hits = np.intersect1d(beneath, removed)
        assert len(hits) >= 0.6 * len(removed)
        assert len(hits) >= 0.85 * len(beneath)

    def test_cells_improve(self, found):
        truth = true_cells(found)
        missing = found["ucs_table"].obs.loc[found["ucs_table"].obs["is_missing_cell"], "cell_id"]
        cells = np.asarray(found["ucs_cells"])
        with_them = ucs.metrics.match(truth, cells, thresholds=(0.5,))["f1"].iloc[0]
        without = ucs.metrics.match(truth, np.where(np.isin(cells, missing), 0, cells), thresholds=(0.5,))["f1"].iloc[0]
        assert with_them > without + 0.05

    def test_few_are_invented_where_none_is_missing(self):
        result = segment(tissue(0.0), find_missing=True, params=FAST)
        obs = result["ucs_table"].obs
        assert obs["is_missing_cell"].sum() <= 0.05 * len(obs)
        assert 0 not in cell_beneath(result)  # none in the background


class TestResults:
    def test_the_table_flags_them_behind_the_others(self, found):
        obs = found["ucs_table"].obs
        missing = obs["is_missing_cell"].to_numpy()
        assert obs["is_missing_cell"].dtype == bool
        assert 0 < missing.sum() < len(missing)
        assert obs["cell_id"][missing].min() > obs["cell_id"][~missing].max()
        assert obs["nucleus_id"][missing].isna().all()
        assert (obs["missing_probability"][~missing] == 0).all()
        assert obs["missing_probability"][missing].between(0.5, 1).all()
        assert obs["missing_probability"][missing].nunique() > 1
        assert (obs["nucleus_id"][~missing] > 0).all()
        assert found["ucs_table"].uns["ucs"]["qc"]["n_missing_cells"] == missing.sum()
        assert found["ucs_table"].uns["ucs"]["qc"]["n_nuclei"] == (~missing).sum()

    def test_their_nuclei_are_labels_with_the_ids_of_the_cells(self, found):
        nuclei, cells, obs = found["ucs_missing_nuclei"], np.asarray(found["ucs_cells"]), found["ucs_table"].obs
        array = np.asarray(nuclei)
        assert array.dtype == np.int32
        assert array.shape == cells.shape
        np.testing.assert_array_equal(np.unique(array[array > 0]), obs["cell_id"][obs["is_missing_cell"]])
        np.testing.assert_array_equal(cells[array > 0], array[array > 0])
        keys = ("ucs_missing_nuclei", "ucs_cells")
        of_nuclei, of_cells = (get_transformation(found[key], get_all=True) for key in keys)
        assert set(of_nuclei) == set(of_cells)
        for system, transformation in of_nuclei.items():
            np.testing.assert_array_equal(matrix(transformation), matrix(of_cells[system]))

    def test_what_holds_of_all_results_holds(self, found):
        assert_invariants(found)

    def test_a_model_finds_the_same_by_the_step_of_its_own(self):
        sdata = scene().sdata()
        one = segment(sdata, find_missing=True, params=TINY)
        two = find_missing(sdata, train(sdata, params=TINY))
        for key in ("ucs_cells", "ucs_missing_nuclei"):
            np.testing.assert_array_equal(one[key], two[key])

    def test_without_the_option_there_are_none(self, cells_copy: Callable[[], SpatialData]):
        sdata = cells_copy()
        assert not sdata["ucs_table"].obs["is_missing_cell"].any()
        assert "ucs_missing_nuclei" not in sdata

    def test_nuclei_whose_ids_are_text_leave_them_empty(self):
        nuclei = scene().nuclei
        kept = np.where(nuclei % 4 == 0, 0, nuclei)
        frame = ucs.tl.outlines(scene().sdata(), "nucleus_labels", inplace=False)["nucleus_labels_boundaries"]
        frame = frame[frame.index.isin(np.unique(kept))]
        frame.index = [f"n{k}" for k in frame.index]
        sdata = scene().sdata()
        del sdata["nucleus_labels"]
        sdata["nucleus_boundaries"] = frame
        result = segment(sdata, find_missing=True, params=TINY)
        obs = result["ucs_table"].obs
        assert set(obs["nucleus_id"][obs["is_missing_cell"]]) <= {""}
        assert_invariants(result)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "paper", "params": PAPER_TINY},
        {"regions": 48, "params": {**TINY, "min_nuclei": 5}},
        {"params": {**TINY, "ownership": "distance"}},
    ],
    ids=["paper", "regions", "distance"],
)
def test_other_models_take_part(options):
    nuclei = np.where(scene().nuclei % 4 == 0, 0, scene().nuclei)
    sdata = replace(scene(), nuclei=nuclei).sdata()
    result = segment(sdata, find_missing=True, **options)
    assert "ucs_missing_nuclei" in result
    assert_invariants(result)


class TestBadInput:
    def test_the_key_is_taken(self):
        sdata = scene().sdata()
        sdata["ucs_missing_nuclei"] = sdata["nucleus_labels"].copy()
        with pytest.raises(ValueError, match=r"labels\['ucs_missing_nuclei'\] exists; pass overwrite=True"):
            segment(sdata, find_missing=True, params=TINY, inplace=True)
        assert "ucs_cells" not in sdata

    def test_the_key_is_that_of_the_cells(self):
        with pytest.raises(ValueError, match=r"key_added\['missing_nuclei'\]='ucs_cells' and key_added\['labels'\]"):
            segment(scene().sdata(), find_missing=True, missing_nuclei="ucs_cells")

    def test_another_resolution_than_the_models(self):
        with pytest.raises(ValueError, match="The model was trained at 1 um per pixel"):
            find_missing(scene().sdata(), model(), resolution=0.5)

    def test_a_model_is_needed(self):
        with pytest.raises(TypeError, match="must be a UCSModel"):
            find_missing(scene().sdata(), None)

    def test_an_unknown_rule(self):
        with pytest.raises(ValueError, match="rule='both' is unknown; valid are 'evidence', 'paper'"):
            find_missing(scene().sdata(), model(), rule="both")
        with pytest.raises(ValueError, match="find_missing='both' is unknown; valid are False, True, 'paper'"):
            segment(scene().sdata(), find_missing="both")
