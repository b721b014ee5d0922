"""Training as the run sees it: what is asked of a method, how often, and for which tissue. The method is a toy."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import resumed
import torch
from toy_method import Distances, NearestMethod, NearestPlan

import ucs
from ucs._read.regions import find_regions, read_regions
from ucs._read.sample import find_nuclei_key, find_source, prepare
from ucs._run.training import TrainingOptions, train_model
from ucs._utils.progress import Stages
from ucs.methods import RegionModels
from ucs.methods.base import resolve_method

REGIONS = 100  # px: two of them hold 78 nuclei
QUIET = {"method": "nearest", "progress": False}
CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def tissue():
    return ucs.datasets.simulate(width_um=150, height_um=90, n_genes=30, seed=1)


@pytest.fixture(scope="module")
def sample(tissue):
    source = find_source(tissue)
    return prepare(tissue, source, find_nuclei_key(tissue, source, None), check_alignment=False)


@pytest.fixture(scope="module")
def regions(tissue, sample):
    return read_regions(tissue, sample, find_regions(tissue, sample.source, REGIONS))


@pytest.fixture
def calls(monkeypatch):
    """What the method was asked: arguments by the name of the step."""
    made = defaultdict(list)

    def recorded(owner, name):
        original = getattr(owner, name)

        def call(self, *arguments, **options):
            result = original(self, *arguments, **options)
            made[name].append({"given": arguments, "returned": result, **options})
            return result

        monkeypatch.setattr(owner, name, call)

    for name in ("survey", "learn_shared", "prepare", "plan"):
        recorded(NearestMethod, name)
    recorded(Distances, "fit")
    return made


def counted(calls):
    return {name: len(asked) for name, asked in calls.items()}


def options(**params):
    method = resolve_method("nearest")
    params = {"min_nuclei": 4, **params}
    return TrainingOptions(method, method.params.resolve(params), device="cpu", seed=3)


def train(samples, regions=None, **params):
    return train_model(samples, regions, options(**params), Stages())


# One model


def test_one_model_is_asked_for_once(sample, calls):
    trained = train([sample])
    assert counted(calls) == {"learn_shared": 1, "survey": 1, "prepare": 1, "fit": 1}
    (prepared,), (fitted,) = calls["prepare"], calls["fit"]
    (raster,), surveys, genes, params, shared = prepared["given"]
    assert prepared["of"] == ""
    assert raster.learned is None
    assert raster.inside is None
    assert genes == sample.transcripts.genes
    assert surveys[0] is trained.surveys[0] is calls["survey"][0]["returned"]
    assert shared is calls["learn_shared"][0]["returned"]
    assert (fitted["seed"], fitted["start"], fitted["device"]) == (3, None, torch.device("cpu"))
    assert fitted["given"] == (params,)
    assert trained.model is fitted["returned"]


def test_of_several_samples_each_is_surveyed_and_all_are_learned_from_together(sample, calls):
    train([sample, sample])
    assert counted(calls) == {"learn_shared": 1, "survey": 2, "prepare": 1, "fit": 1}
    rasters, surveys, *_ = calls["prepare"][0]["given"]
    assert [raster.number for raster in rasters] == [0, 1]
    assert len(surveys) == 2
    assert [raster.number for raster in calls["learn_shared"][0]["given"][0]] == [0, 1]


# One model for each region


def test_each_region_is_learned_from_by_itself(sample, regions, calls):
    trained = train([sample], [regions])
    assert isinstance(trained.model, RegionModels)
    assert list(trained.model) == list(regions.names)
    assert trained.model.shared is None
    assert trained.surveys == []  # those of regions are of no use for the whole
    assert counted(calls) == {"learn_shared": 1, "survey": 2, "prepare": 2, "fit": 2}
    assert [asked["of"] for asked in calls["prepare"]] == [f"region {name!r}" for name in regions.names]
    for number, asked in enumerate(calls["prepare"], start=1):
        (raster,), (survey,), _, _, shared = asked["given"]
        nuclei = np.unique(raster.nuclei_to_learn)
        np.testing.assert_array_equal(nuclei[nuclei > 0], np.flatnonzero(regions.of_nucleus == number))
        assert raster.inside.any()
        assert not raster.inside.all()
        assert shared is calls["learn_shared"][0]["returned"]
        assert survey is calls["survey"][number - 1]["returned"]


def test_what_all_have_in_common_is_learned_from_whole_samples(sample, regions, calls):
    train([sample], [regions])
    ((raster,), genes, _) = calls["learn_shared"][0]["given"]
    assert raster.shape == sample.transcripts.grid.shape
    assert raster.learned is None
    assert genes == sample.transcripts.genes
    assert calls["learn_shared"][0]["seed"] == 3


@pytest.fixture
def lacking(monkeypatch, regions):
    """The first region holds nothing to learn from."""
    original, first = NearestMethod.prepare, f"region {regions.names[0]!r}"

    def prepare(self, *arguments, of):
        made = original(self, *arguments, of=of)
        return replace(made, distance=made.distance[:0]) if of == first else made

    monkeypatch.setattr(NearestMethod, "prepare", prepare)


def test_a_region_that_lacks_something_has_the_shared_model(sample, regions, lacking, calls, caplog):
    models = train([sample], [regions]).model
    first, second = regions.names
    assert models[first] is models.shared is not None
    assert models[second] is not models.shared
    assert "1 of 2 regions are too poor to learn from and have a model of the whole tissue" in caplog.text
    assert f"{first} (no transcripts around nuclei)" in caplog.text
    assert [asked["of"] for asked in calls["prepare"]] == [
        *(f"region {name!r}" for name in regions.names), "the whole tissue"
    ]  # fmt: skip
    assert len(calls["fit"]) == 2  # not of the one that lacks something
    assert len(calls["learn_shared"]) == 1
    whole = train([sample]).model
    assert torch.equal(models.shared.radius, whole.radius)


def test_regions_with_too_few_nuclei_are_not_prepared(sample, regions, calls, caplog):
    n = int(regions.n_nuclei.min()) + 1
    models = train([sample], [regions], min_nuclei=n).model
    poor = regions.names[int(np.argmin(regions.n_nuclei))]
    assert models[poor] is models.shared
    assert f"{poor} ({n - 1} nuclei)" in caplog.text
    assert f"region {poor!r}" not in [asked["of"] for asked in calls["prepare"]]


def test_models_may_begin_as_the_shared_one(sample, regions, calls):
    models = train([sample], [regions], warm_start=True).model
    shared, *own = calls["fit"]
    assert shared["start"] is None
    assert [asked["start"] for asked in own] == [models.shared, models.shared]


# Surveys are made once for training and prediction


def segment(tissue, **given):
    return ucs.tl.segment(tissue, inplace=False, compute=CPU, **{**QUIET, **given})


def surveys_of_plans(calls):
    return [asked["given"][3] for asked in calls["plan"]]


def test_the_survey_of_training_serves_prediction_with_one_model(tissue, calls):
    segment(tissue)
    assert len(calls["survey"]) == len(calls["plan"]) == 1
    assert surveys_of_plans(calls)[0] is calls["survey"][0]["returned"]


def test_a_trained_model_needs_a_survey_of_its_own(tissue, calls):
    model = ucs.tl.train(tissue, device="cpu", **QUIET)
    calls.clear()
    segment(tissue, method=None, model=model)
    assert len(calls["survey"]) == 1
    assert surveys_of_plans(calls)[0] is calls["survey"][0]["returned"]
    assert set(calls) == {"survey", "plan"}


def test_models_of_regions_need_a_survey_of_the_whole(tissue, calls):
    segment(tissue, regions=REGIONS, params={"min_nuclei": 4})
    *of_regions, of_all = calls["survey"]
    assert len(of_regions) == 2
    (of_plan,) = surveys_of_plans(calls)
    assert of_plan is of_all["returned"]
    assert set(np.unique(of_all["model_of_nucleus"])) == {0, 1}


def test_nuclei_that_were_missing_are_surveyed(calls):
    tissue = resumed.without_some_nuclei(resumed.tissue())
    made = segment(tissue, find_missing=True)
    assert made["ucs_table"].uns["ucs"]["qc"]["n_missing_cells"] > 0
    first, second = (asked["returned"] for asked in calls["survey"])
    of_plans = surveys_of_plans(calls)
    assert len(of_plans) == 2
    assert of_plans[0] is first
    assert of_plans[1] is second
    assert len(second) > len(first)


def test_a_continued_run_surveys_anew(tissue, tmp_path, calls, monkeypatch):
    compute = {**CPU, "resume": True, "scratch": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(NearestPlan, "task", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ucs.tl.segment(tissue, inplace=False, compute=compute, **QUIET)
    calls.clear()
    ucs.tl.segment(tissue, inplace=False, compute=compute, **QUIET)
    assert set(calls) == {"survey", "plan"}  # the model is there already
    assert not list(tmp_path.iterdir())
