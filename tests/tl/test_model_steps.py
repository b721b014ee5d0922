"""Training and prediction as steps of their own: together they are the one call."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from invariants import assert_invariants, assert_same_cells
from scenes import PAPER_TINY, TINY, labels_of, model, scene

import ucs
from ucs.methods.model import UCSModel

QUIET = {"progress": False, "check_alignment": False, "device": "cpu"}


@pytest.fixture(scope="module")
def trained() -> UCSModel:
    return ucs.tl.train(scene().sdata(), seed=3, method="paper", params={**PAPER_TINY}, **QUIET)


@pytest.fixture(scope="module")
def predicted(trained):
    return ucs.tl.predict(scene().sdata(), trained, inplace=False, **QUIET)


def test_the_one_call_is_the_sum_of_its_steps(predicted):
    at_once = ucs.tl.segment(
        scene().sdata(), seed=3, inplace=False, method="paper", params={**PAPER_TINY}, **QUIET
    )
    assert_same_cells(at_once, predicted)
    records = [sdata["ucs_table"].uns["ucs"] for sdata in (at_once, predicted)]
    for key in ("parameters", "model", "qc"):
        np.testing.assert_equal(records[0][key], records[1][key])


def test_prediction_writes_back_as_the_one_call_does(predicted):
    assert_invariants(predicted, nuclei=scene().nuclei)


def test_training_leaves_the_object_as_it_was(trained):
    sdata = scene().sdata()
    before = {name: element for _, name, element in sdata.gen_elements()}
    ucs.tl.train(sdata, params=TINY, **QUIET)
    assert {name: element for _, name, element in sdata.gen_elements()} == before
    assert sdata.attrs == {}


def test_a_model_says_where_it_comes_from(trained):
    assert trained.genes == tuple(sorted(trained.genes))
    assert len(trained.genes) == 40
    assert trained.um_per_px == 1.0
    assert trained.params.max_steps == TINY["max_steps"]
    assert trained.history["seed"] == 3
    assert trained.history["background"]["distance_um"] == 5.0
    assert len(trained.history["curves"]["foreground"]["training_loss"]) == 1


def test_a_model_is_not_used_up(trained, predicted):
    """Nor changed: a second prediction is the same, and so is one of another sample in between."""
    other = scene().with_points(scene().points.iloc[::2]).sdata()
    ucs.tl.predict(other, trained, inplace=False, **QUIET)
    again = ucs.tl.predict(scene().sdata(), trained, inplace=False, **QUIET)
    assert_same_cells(again, predicted)
    assert next(trained.foreground.parameters()).device.type == "cpu"
    assert not trained.foreground.training


@pytest.mark.parametrize("as_text", [False, True])
def test_a_saved_model_predicts_the_same(trained, predicted, tmp_path, as_text):
    trained.save(tmp_path / "model")
    path = str(tmp_path / "model") if as_text else tmp_path / "model"
    assert_same_cells(ucs.tl.predict(scene().sdata(), path, inplace=False, **QUIET), predicted)
    by_segment = ucs.tl.segment(scene().sdata(), model=path, inplace=False, **QUIET)
    assert_same_cells(by_segment, predicted)
    # What is known of the training goes into the table all the same.
    record = by_segment["ucs_table"].uns["ucs"]["model"]
    assert record["seed"] == 3
    assert record["background"]["distance_um"] == 5.0


class TestGenes:
    def test_are_matched_by_name(self, trained, predicted):
        """A data set with further genes, in another order: the nets see what they know, the table has all."""
        points = scene().points.astype({"feature_name": str})
        points = pd.concat([points, points.iloc[:200].assign(feature_name="AAAA")], ignore_index=True)
        names = points["feature_name"].unique()
        points["feature_name"] = pd.Categorical(points["feature_name"], categories=names[::-1])
        sdata = scene().with_points(points).sdata()
        result = ucs.tl.predict(sdata, trained, inplace=False, **QUIET)
        np.testing.assert_array_equal(labels_of(result), labels_of(predicted))
        assert result["ucs_table"].n_vars == 41
        assert_invariants(result, nuclei=scene().nuclei)

    def test_some_may_be_missing(self, trained):
        points = scene().points
        kept = points[points["feature_name"].astype(str) > "GENE0015"]
        result = ucs.tl.predict(scene().with_points(kept).sdata(), trained, inplace=False, **QUIET)
        assert result["ucs_table"].n_vars == 25
        assert_invariants(result)

    def test_too_few_are_an_error_that_says_how_many(self, trained):
        points = scene().points
        kept = points[points["feature_name"].astype(str).between("GENE0001", "GENE0010")]
        sdata = scene().with_points(kept).sdata()
        message = r"The model knows 40 genes, of which the data .* has 10 \(25%\); at least 50% are needed"
        with pytest.raises(ValueError, match=message):
            ucs.tl.predict(sdata, trained, **QUIET)
        assert "ucs_cells" not in sdata


class TestResolution:
    def test_another_one_than_the_models_is_an_error(self, trained):
        sdata = scene().sdata()
        message = r"The model was trained at 1 um per pixel, the grid has 0.5: pass resolution=1"
        with pytest.raises(ValueError, match=message):
            ucs.tl.predict(sdata, trained, resolution=0.5, **QUIET)
        assert "ucs_cells" not in sdata

    def test_the_unit_of_the_points_does_not_matter(self, trained, predicted):
        points = scene().points.assign(x=scene().points["x"] * 2, y=scene().points["y"] * 2)
        sdata = scene().with_points(points).sdata(points_to_um=np.diag([0.5, 0.5, 1]))
        result = ucs.tl.predict(sdata, trained, inplace=False, read={"um_per_unit": 0.5}, **QUIET)
        np.testing.assert_array_equal(labels_of(result), labels_of(predicted))


def test_prediction_takes_what_the_one_call_does_but_for_the_training():
    of_segment, of_predict = (inspect.signature(call).parameters for call in (ucs.tl.segment, ucs.tl.predict))
    of_training = {"genes", "genes_per_region", "warm_start", "train", "background", "softmask", "markers", "seed"}
    of_training |= {"model"}
    assert set(of_predict) == set(of_segment) - of_training | {"model"}
    for name in set(of_predict) - {"model"}:
        assert of_predict[name].default == of_segment[name].default
        assert of_predict[name].kind == of_segment[name].kind


class TestBadInput:
    @pytest.mark.parametrize("option", ["train", "seed", "background", "genes", "model"])
    def test_what_belongs_to_the_training(self, option, trained):
        with pytest.raises(TypeError, match=option):
            ucs.tl.predict(scene().sdata(), trained, **{option: 1}, **QUIET)

    def test_an_option_that_is_unknown(self, trained):
        with pytest.raises(TypeError, match="tiles"):
            ucs.tl.predict(scene().sdata(), trained, tiles=3, **QUIET)

    def test_no_model(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"holds no model: model.json is missing"):
            ucs.tl.predict(scene().sdata(), tmp_path, **QUIET)

    def test_something_else_than_a_model(self):
        with pytest.raises(TypeError, match=r"model=3 must be a UCSModel or the path of one"):
            ucs.tl.predict(scene().sdata(), 3, **QUIET)

    def test_no_model_at_all(self):
        """It must not begin to train."""
        with pytest.raises(TypeError, match=r"model=None must be a UCSModel or the path of one"):
            ucs.tl.predict(scene().sdata(), None, **QUIET)


def test_parameters_of_the_prediction_travel_with_the_model(cells):
    near = replace(model(), params=replace(model().params, reach=2))
    result = ucs.tl.predict(scene().sdata(), near, inplace=False, **QUIET)
    assert_invariants(result, nuclei=scene().nuclei)
    assert (labels_of(result) > 0).sum() < (labels_of(cells) > 0).sum()
