"""One model from several samples."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace

import calls
import numpy as np
import pytest
import torch
from calls import predict
from helpers import cheap_copy
from invariants import assert_invariants, assert_same_cells
from scenes import PAPER_TINY, TINY, X0, Y0, boxes, labels_of, scene
from spatialdata.models import ShapesModel
from spatialdata.transformations import Identity

import ucs
from ucs.tl import _train

PARAMS = {"density": TINY, "paper": PAPER_TINY}
BOTH_METHODS = pytest.mark.parametrize("method", PARAMS)


def train(sdata, *keys, method="density", **options):
    return calls.train(sdata, *keys, method=method, **{"params": PARAMS[method], "seed": 3, **options})


def weights(of):
    return torch.cat([value.ravel() for value in of.tensors().values()])


@functools.cache
def of_both(method="density"):
    """A model of the scene and its half."""
    return train([scene().sdata(), half()], method=method)


def half():
    """Another sample of the same panel: the upper part of the scene."""
    points = scene().points
    kept = (points["y"] < Y0 + 40) | (points.index >= len(points) - 2)
    return scene().with_points(points[kept].reset_index(drop=True)).sdata()


def renamed(sdata, points_key, nuclei_key):
    sdata[points_key], sdata[nuclei_key] = sdata["transcripts"], sdata["nucleus_labels"]
    del sdata["transcripts"], sdata["nucleus_labels"]
    return sdata


def with_genes(change):
    """The scene with other names of some genes."""
    points = scene().points
    names = points["feature_name"].astype(str).map(change)
    return scene().with_points(points.assign(feature_name=names.astype("category"))).sdata()


def number(gene):
    return int(gene[4:]) if gene.startswith("GENE") else 0


class TestOneModel:
    @BOTH_METHODS
    def test_of_a_list_of_one_is_that_of_the_sample(self, method):
        one, listed = (train(given, method=method) for given in (scene().sdata(), [scene().sdata()]))
        assert torch.equal(weights(one), weights(listed))
        assert one.history == listed.history
        assert one.genes == listed.genes

    @BOTH_METHODS
    def test_of_several_is_applied_to_another_run(self, method):
        model = of_both(method)
        assert model.history["n_samples"] == 2
        for alone in (scene().sdata(), half()):
            assert not torch.equal(weights(model), weights(train(alone, method=method)))
        points = scene().points.sample(frac=0.6, random_state=0).reset_index(drop=True)
        assert_invariants(predict(scene().with_points(points).sdata(), model))

    def test_background_is_found_in_each(self):
        model = of_both("paper")
        of_each = model.history["background"]
        assert list(of_each) == ["0", "1"]
        assert all(chosen["distance_um"] == 5.0 for chosen in of_each.values())

    @BOTH_METHODS
    def test_its_record_can_be_stored(self, method, tmp_path):
        of_both(method).save(tmp_path / "model")
        result = predict(scene().sdata(), tmp_path / "model")
        result.write(tmp_path / "store.zarr")

    def test_a_tuple_will_do_and_nothing_is_changed(self):
        objects = (scene().sdata(), half())
        before = [{name: element for _, name, element in sdata.gen_elements()} for sdata in objects]
        train(objects)
        for sdata, elements in zip(objects, before, strict=True):
            assert {name: element for _, name, element in sdata.gen_elements()} == elements

    def test_the_same_sample_twice(self):
        sdata = scene().sdata()
        model = train([sdata, sdata])
        assert model.history["n_samples"] == 2
        assert_invariants(predict(cheap_copy(sdata), model))


class TestKeys:
    def test_one_for_all_or_a_list(self):
        plain = of_both()
        same = [renamed(scene().sdata(), "tx", "dapi"), renamed(half(), "tx", "dapi")]
        assert torch.equal(weights(train(same, "tx", "dapi")), weights(plain))
        mixed = [renamed(scene().sdata(), "tx", "dapi"), half()]
        assert torch.equal(weights(train(mixed, ["tx", "transcripts"], ["dapi", None])), weights(plain))

    def test_too_many_or_few(self):
        with pytest.raises(ValueError, match="points_key lists 1 keys for 2 samples; pass one for all, or"):
            train([scene().sdata(), half()], ["transcripts"])
        with pytest.raises(ValueError, match="nuclei_key lists 3 keys for 2 samples"):
            train([scene().sdata(), half()], None, ["a", "b", "c"])

    def test_errors_name_the_sample(self):
        with pytest.raises(KeyError, match="points_key='tx' is not in this SpatialData") as caught:
            train([scene().sdata(), half()], ["transcripts", "tx"])
        assert caught.value.__notes__ == ["In sample 2 of 2."]
        with pytest.raises(KeyError) as caught:
            train(scene().sdata(), "tx")
        assert not hasattr(caught.value, "__notes__")


class TestGenes:
    def test_of_one_panel_are_all_that_occur(self):
        one = with_genes(lambda gene: "GENE0002" if gene == "GENE0001" else gene)
        other = with_genes(lambda gene: "GENE0004" if gene == "GENE0003" else gene)
        model = train([one, other])
        assert len(model.genes) == 40

    def test_of_other_panels_are_those_in_common(self, caplog):
        other = with_genes(lambda gene: gene.replace("GENE", "OTHER") if number(gene) > 30 else gene)
        with caplog.at_level(logging.WARNING):
            model = train([scene().sdata(), other])
        assert len(model.genes) == 30
        assert "40, 40 genes occur in the samples: 30 of 50 are common to all" in caplog.text

    def test_of_different_panels(self):
        other = with_genes(lambda gene: gene.replace("GENE", "OTHER") if number(gene) > 20 else gene)
        message = r"The samples have 40, 40 genes, of which 20 of 60 are common to all: they are of different panels"
        with pytest.raises(ValueError, match=message):
            train([scene().sdata(), other])
        chosen = ["GENE0001", "GENE0002", "OTHER0030"]
        assert train([scene().sdata(), other], genes=chosen).genes == tuple(chosen)

    def test_highly_variable_ones_are_chosen_from_all_samples(self):
        pytest.importorskip("scanpy")
        assert len(train([scene().sdata(), half()], genes=10).genes) == 10


class TestRegions:
    def areas(self, sdata, *names):
        frame = boxes((X0, Y0, X0 + 48, Y0 + 72), (X0 + 48, Y0, X0 + 96, Y0 + 72)).assign(kind=list(names))
        sdata["areas"] = ShapesModel.parse(frame, transformations={"global": Identity()})
        return sdata

    def test_of_one_name_are_one_region(self):
        params = {**TINY, "min_nuclei": 1}
        one, other = self.areas(scene().sdata(), "tumour", "stroma"), self.areas(half(), "stroma", "immune")
        models = train([one, other], regions=("areas", "kind"), params=params)
        assert sorted(models) == ["immune", "stroma", "tumour"]
        assert [models[name].history["n_samples"] for name in sorted(models)] == [1, 2, 1]
        alone = train(one, regions=("areas", "kind"), params=params)
        nets = [{name: of[name].net.state_dict() for name in alone} for of in (models, alone)]
        assert all(torch.equal(a, b) for a, b in zip(*(net["tumour"].values() for net in nets), strict=True))
        assert any(not torch.equal(a, b) for a, b in zip(*(net["stroma"].values() for net in nets), strict=True))
        result = predict(one, models, regions=("areas", "kind"))
        assert_invariants(result)
        assert set(result["ucs_table"].obs["model_region"]) == {"stroma", "tumour"}

    @pytest.mark.parametrize("regions", [48, 1200])
    def test_by_place_have_nothing_in_common(self, regions):
        with pytest.raises(ValueError, match="regions= of several samples must go by name"):
            train([scene().sdata(), half()], regions=regions)
        train([scene().sdata()], regions=regions)


class TestBadInput:
    @pytest.mark.parametrize("given", [[], ()])
    def test_no_sample(self, given):
        with pytest.raises(ValueError, match="sdata is an empty list; pass at least one SpatialData"):
            train(given)

    @pytest.mark.parametrize("given", [None, 3, "store.zarr", ["store.zarr"], [None]])
    def test_no_spatialdata(self, given):
        with pytest.raises(TypeError, match="sdata must be a SpatialData or a list of such, not "):
            train(given)

    def test_other_platforms(self):
        points = scene().points.rename(columns={"feature_name": "gene"}).drop(columns="qv")
        other = scene().with_points(points).sdata()
        message = "The samples are of the platforms 'xenium', 'generic': densities differ"
        with pytest.raises(ValueError, match=message):
            train([scene().sdata(), other])
        train([scene().sdata(), other], platform="generic")

    def test_other_resolutions(self, monkeypatch):
        original, resolutions = _train.find_source, iter([1.0, 0.5])

        def find_source(*arguments, **options):
            return replace(original(*arguments, **options), resolution=next(resolutions))

        monkeypatch.setattr(_train, "find_source", find_source)
        with pytest.raises(ValueError, match=r"resolutions of \[1.0, 0.5\] um; pass resolution= for all"):
            train([scene().sdata(), half()])

    def test_a_sample_without_nuclei(self):
        bare = half()
        del bare["nucleus_labels"]
        with pytest.raises(KeyError, match="Found no labels or shapes element with nuclei"):
            train([scene().sdata(), bare])


def test_one_call_takes_one_sample():
    with pytest.raises(TypeError, match="sdata must be one SpatialData, not list. .*ucs.tl.train"):
        ucs.tl.segment([scene().sdata()])
    result = predict(scene().sdata(), train([scene().sdata()]))
    alone = predict(scene().sdata(), train(scene().sdata()))
    assert_same_cells(result, alone)
    assert labels_of(result).any()
    assert np.array_equal(labels_of(result), labels_of(alone))
