"""Training and prediction as steps of their own: together they are the one call."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from calls import predict, segment, train
from invariants import assert_invariants, assert_same_cells
from scenes import PAPER_TINY, TINY, cells, labels_of, model, scene

import ucs
from ucs.methods import UCSModel

PARAMS = {"density": TINY, "paper": PAPER_TINY}


@pytest.fixture(scope="module", params=PARAMS)
def method(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def trained(method) -> UCSModel:
    return train(scene().sdata(), seed=3, method=method, params=PARAMS[method])


@pytest.fixture(scope="module")
def predicted(trained):
    return predict(scene().sdata(), trained)


def test_the_one_call_is_the_sum_of_its_steps(predicted, method):
    at_once = segment(scene().sdata(), seed=3, method=method, params=PARAMS[method])
    assert_same_cells(at_once, predicted)
    records = [sdata["ucs_table"].uns["ucs"] for sdata in (at_once, predicted)]
    for key in ("parameters", "model", "qc"):
        np.testing.assert_equal(records[0][key], records[1][key])


def test_prediction_writes_back_as_the_one_call_does(predicted):
    assert_invariants(predicted, nuclei=scene().nuclei)


def test_training_leaves_the_object_as_it_was():
    sdata = scene().sdata()
    before = {name: element for _, name, element in sdata.gen_elements()}
    train(sdata, params=TINY)
    assert {name: element for _, name, element in sdata.gen_elements()} == before
    assert sdata.attrs == {}


def test_a_model_says_where_it_comes_from(trained):
    assert trained.genes == tuple(sorted(trained.genes))
    assert len(trained.genes) == 40
    assert trained.um_per_px == 1.0
    assert trained.params.max_steps == TINY["max_steps"]
    assert trained.history["seed"] == 3
    if trained.method == "paper":
        assert trained.history["background"]["distance_um"] == 5.0
        assert len(trained.history["curves"]["foreground"]["training_loss"]) == 1
    else:
        assert len(trained.history["curves"]["density"]["loss"]) == TINY["max_steps"]


def test_a_model_is_not_used_up(trained, predicted):
    """Nor changed: a second prediction is the same, and so is one of another sample in between."""
    other = scene().with_points(scene().points.iloc[::2]).sdata()
    predict(other, trained)
    again = predict(scene().sdata(), trained)
    assert_same_cells(again, predicted)
    nets = [trained.net] if trained.method == "density" else [trained.foreground, trained.cell]
    assert all(next(net.parameters()).device.type == "cpu" for net in nets)
    assert not any(net.training for net in nets)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_saved_model_predicts_the_same(trained, predicted, tmp_path, as_text):
    trained.save(tmp_path / "model")
    path = str(tmp_path / "model") if as_text else tmp_path / "model"
    assert_same_cells(predict(scene().sdata(), path), predicted)
    by_segment = segment(scene().sdata(), model=path)
    assert_same_cells(by_segment, predicted)
    # What is known of the training goes into the table all the same.
    record = by_segment["ucs_table"].uns["ucs"]["model"]
    assert record["seed"] == 3
    assert set(record) == set(trained.history)


class TestGenes:
    def test_are_matched_by_name(self, trained, predicted):
        """A data set with further genes, in another order: the nets see what they know, the table has all."""
        points = scene().points.astype({"feature_name": str})
        points = pd.concat([points, points.iloc[:200].assign(feature_name="AAAA")], ignore_index=True)
        names = points["feature_name"].unique()
        points["feature_name"] = pd.Categorical(points["feature_name"], categories=names[::-1])
        sdata = scene().with_points(points).sdata()
        result = predict(sdata, trained)
        np.testing.assert_array_equal(labels_of(result), labels_of(predicted))
        assert result["ucs_table"].n_vars == 41
        assert_invariants(result, nuclei=scene().nuclei)

    def test_some_may_be_missing(self, trained):
        points = scene().points
        kept = points[points["feature_name"].astype(str) > "GENE0015"]
        result = predict(scene().with_points(kept).sdata(), trained)
        assert result["ucs_table"].n_vars == 40  # the panel, from the categories of the points
        assert_invariants(result)

    def test_too_few_are_an_error_that_says_how_many(self, trained):
        points = scene().points
        kept = points[points["feature_name"].astype(str).between("GENE0001", "GENE0010")]
        sdata = scene().with_points(kept).sdata()
        message = r"The model knows 40 genes, of which the data .* has 10 \(25%\); at least 50% are needed"
        with pytest.raises(ValueError, match=message):
            predict(sdata, trained, inplace=True)
        assert "ucs_cells" not in sdata


class TestResolution:
    def test_another_one_than_the_models_is_an_error(self, trained):
        sdata = scene().sdata()
        message = r"The model was trained at 1 um per pixel, the grid has 0.5: pass resolution=1"
        with pytest.raises(ValueError, match=message):
            predict(sdata, trained, resolution=0.5, inplace=True)
        assert "ucs_cells" not in sdata

    def test_the_unit_of_the_points_does_not_matter(self, trained, predicted):
        points = scene().points.assign(x=scene().points["x"] * 2, y=scene().points["y"] * 2)
        sdata = scene().with_points(points).sdata(points_to_um=np.diag([0.5, 0.5, 1]))
        result = predict(sdata, trained, um_per_unit=0.5)
        np.testing.assert_array_equal(labels_of(result), labels_of(predicted))


def test_prediction_takes_what_the_one_call_does_but_for_the_training():
    of_segment, of_predict = (inspect.signature(call).parameters for call in (ucs.tl.segment, ucs.tl.predict))
    assert set(of_predict) == set(of_segment) - {"method", "params", "markers", "seed"}
    for name in set(of_predict) - {"model"}:
        assert of_predict[name].default == of_segment[name].default
        assert of_predict[name].kind == of_segment[name].kind


class TestBadInput:
    @pytest.mark.parametrize("option", ["params", "seed", "method", "markers", "tiles"])
    def test_arguments_that_it_does_not_have(self, option):
        with pytest.raises(TypeError, match=option):
            predict(scene().sdata(), model(), **{option: 1})

    def test_no_model(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"holds no model: model.json is missing"):
            predict(scene().sdata(), tmp_path)

    def test_something_else_than_a_model(self):
        with pytest.raises(TypeError, match=r"model=3 must be a UCSModel or the path of one"):
            predict(scene().sdata(), 3)

    def test_no_model_at_all(self):
        """It must not begin to train."""
        with pytest.raises(TypeError, match=r"model=None must be a UCSModel or the path of one"):
            predict(scene().sdata(), None)


def test_parameters_of_the_prediction_travel_with_the_model(method):
    of = model(method)
    near = replace(of, params=replace(of.params, reach=2))
    result = predict(scene().sdata(), near)
    assert_invariants(result, nuclei=scene().nuclei)
    assert (labels_of(result) > 0).sum() < (labels_of(cells(method)) > 0).sum()
