"""A method that ucs does not know goes through all that a run does, by the interface of ``ucs.methods`` alone."""

from __future__ import annotations

import numpy as np
import pytest
import resumed
import spatialdata as sd
import torch
from helpers import cheap_copy
from interrupted import interrupt
from resumed import N_TILES, without_some_nuclei
from toy_method import NEAREST, NearestMethod, NearestModel, NearestParams, nearest
from typer.testing import CliRunner

import ucs
from ucs._kernels.distances import nucleus_axes
from ucs._kernels.labels.refine import refine_cells
from ucs._kernels.lattice import bounding_boxes
from ucs._read.sample import find_nuclei_key, find_source, prepare
from ucs._run.region_samples import raster_of
from ucs.cli import app
from ucs.methods import UCSModel, method_names, register

QUIET = {"method": "nearest", "progress": False}
COMPUTE = {"device": "cpu", "tile_size": 96}


@pytest.fixture(scope="module")
def tissue():
    return resumed.tissue()


@pytest.fixture(scope="module")
def model(tissue):
    return train(tissue)


@pytest.fixture(scope="module")
def expected(tissue, model):
    return oracle(tissue, model.radius.item())


def train(sdata, **options):
    return ucs.tl.train(sdata, device="cpu", **{**QUIET, **options})


def run(sdata, *, compute=None, **options):
    return ucs.tl.segment(sdata, inplace=False, compute={**COMPUTE, **(compute or {})}, **{**QUIET, **options})


def raster(sdata):
    source = find_source(sdata)
    return raster_of(prepare(sdata, source, find_nuclei_key(sdata, source, None), check_alignment=False), None)


def distances(nuclei):
    n, params = int(nuclei.max()), NearestParams()
    return nearest(nuclei, nucleus_axes(nuclei, n, strength=params.shape_exponent), params.reach)


def oracle(sdata, radius, *, nuclei=None, threshold=0.5):
    """The cells from the whole raster at once; ``radius`` of all nuclei or ``(n + 1,)``."""
    nuclei = raster(sdata).nuclei if nuclei is None else nuclei
    found, n = distances(nuclei), int(nuclei.max())
    radius = np.broadcast_to(np.float32(radius), n + 1)[found.owner]
    labels = np.where(radius / (radius + found.distance) > threshold, found.owner, 0).astype(np.int32)
    return refine_cells(labels, nuclei, bounding_boxes(labels, n))


def labels_of(made):
    return np.asarray(made["ucs_cells"])


def assert_cells(made, expected):
    np.testing.assert_array_equal(labels_of(made), expected)
    assert made["ucs_table"].uns["ucs"]["parameters"]["method"] == "nearest"


# In memory


def test_cells_are_those_of_the_whole_raster(tissue, model, expected):
    assert model.radius.item() > 1
    assert 1.3 < (expected > 0).sum() / (raster(tissue).nuclei > 0).sum() < 5
    made = run(tissue)
    assert_cells(made, expected)
    record = made["ucs_table"].uns["ucs"]["parameters"]
    assert (record["threshold"], record["params"]) == (0.5, NearestParams().as_dict())
    assert made["ucs_table"].X.sum() > 0


@pytest.mark.parametrize("tile_size", [1, 100, 10_000])
def test_any_tile_size(tissue, expected, tile_size):
    assert_cells(run(tissue, compute={"tile_size": tile_size}), expected)


def test_parameters_of_the_method(tissue, expected):
    made = run(tissue, params={"share": 0.8, "reach": 10})
    model = train(tissue, params=NearestParams(share=0.8, reach=10))
    assert model.radius > 1.2 * train(tissue, params={"reach": 10}).radius
    labels = labels_of(made)
    assert (labels > 0).sum() > 1.1 * (expected > 0).sum()
    assert made["ucs_table"].uns["ucs"]["parameters"]["params"]["share"] == 0.8


def test_foreground_and_confidence(tissue, model):
    keys = {"foreground": "p", "confidence_column": "sure"}
    made, found = run(tissue, key_added=keys), distances(raster(tissue).nuclei)
    radius = model.radius.item()
    in_cell = np.where(found.owner > 0, radius / (radius + found.distance), 0)
    np.testing.assert_allclose(np.asarray(made["p"])[0], in_cell, atol=1 / 255)
    sure = made["transcripts"]["sure"].compute().to_numpy()
    inside = made["transcripts"]["ucs_cell_id"].compute().to_numpy() != 0
    assert sure[~inside].max(initial=0) == 0
    assert (sure[inside] > 0.3).all()


# Models


def test_a_saved_model_and_the_threshold(tissue, model, expected, tmp_path):
    model.save(tmp_path / "model")
    loaded = UCSModel.load(tmp_path / "model")
    assert isinstance(loaded, NearestModel)
    assert torch.equal(loaded.radius, model.radius)
    assert (loaded.genes, loaded.params, loaded.history) == (model.genes, model.params, model.history)
    assert_cells(run(tissue, method=None, model=tmp_path / "model"), expected)
    narrow = run(tissue, method=None, model=loaded, threshold=0.6)
    assert_cells(narrow, oracle(tissue, model.radius.item(), threshold=0.6))
    assert (labels_of(narrow) > 0).sum() < (expected > 0).sum()


def test_one_model_of_several_samples(tissue):
    other = ucs.datasets.simulate(width_um=120, height_um=100, n_genes=30, seed=5)
    model = train([tissue, other])
    of_each = []
    for sdata in (tissue, other):
        one = raster(sdata)
        found = distances(one.nuclei)
        near = np.isfinite(found.distance) & (found.distance > 0)
        totals = one.transcripts.dense()[: one.n_genes].sum(axis=0)
        of_each.append(np.repeat(found.distance[near], totals[near]))
    assert model.radius.item() == np.float32(np.quantile(np.concatenate(of_each), 0.5))
    for sdata in (tissue, other):
        assert_cells(run(sdata, method=None, model=model), oracle(sdata, model.radius.item()))


@pytest.mark.parametrize("tile_size", [96, 10_000])
def test_one_model_for_each_region(tissue, tile_size, tmp_path):
    options = {"regions": 75, "params": {"min_nuclei": 4}}
    made = run(tissue, compute={"tile_size": tile_size}, **options)
    models = train(tissue, **options)
    region = made["ucs_table"].obs["model_region"].tolist()
    radius = [0.0, *(models[name].radius.item() for name in region)]
    assert len(set(radius)) > 3
    assert_cells(made, oracle(tissue, radius))
    models.save(tmp_path / "models")
    again = run(tissue, method=None, model=tmp_path / "models", regions=75)
    np.testing.assert_array_equal(labels_of(again), labels_of(made))


def test_missing_cells(tissue, model):
    poor = without_some_nuclei(tissue)
    radius = train(poor).radius.item()
    made = run(poor, find_missing=True)
    added = np.asarray(made["ucs_missing_nuclei"])
    nuclei = raster(poor).nuclei
    n = int(nuclei.max())
    assert made["ucs_table"].uns["ucs"]["qc"]["n_missing_cells"] == len(np.unique(added)) - 1 > 0
    missing = np.unique(added, return_inverse=True)[1].reshape(added.shape)
    together = np.where(missing > 0, missing + n, nuclei).astype(np.int32)
    assert_cells(made, oracle(poor, radius, nuclei=together))


# Out of memory, in other processes, after an interruption


def test_out_of_core(tissue, expected, tmp_path, nothing_held, caplog):
    caplog.set_level("INFO", "ucs")
    made = run(tissue, compute={"memory_limit": 1.6e6, "scratch": tmp_path})
    assert "Rasters are held in" in caplog.text
    assert_cells(made, expected)
    assert not list(tmp_path.iterdir())


def test_compressed(tissue, expected, monkeypatch):
    monkeypatch.setattr("ucs._files.workspace.PLAIN_PIXELS", 0)
    assert_cells(run(tissue), expected)


@pytest.mark.usefixtures("client")
def test_workers_of_a_client(tissue, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("ucs._run.tiles._work_here", lambda *_: pytest.fail("worked on here"))
    assert_cells(run(tissue, compute={"scratch": tmp_path}), expected)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_interrupted_goes_on(tissue, expected, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "ucs")
    store = tmp_path / "data" / "tissue.zarr"
    cheap_copy(tissue).write(store)
    compute = {**COMPUTE, "resume": True}
    with monkeypatch.context() as patch:
        interrupt(patch, "mark", 4)
        with pytest.raises(KeyboardInterrupt):
            ucs.tl.segment(sd.read_zarr(store), compute=compute, write=True, **QUIET)
    monkeypatch.setattr(NearestMethod, "prepare", lambda *_, **__: pytest.fail("trained again"))
    sdata = sd.read_zarr(store)
    ucs.tl.segment(sdata, compute=compute, write=True, **QUIET)
    assert f"3 of {N_TILES} tiles are there already" in caplog.text
    assert_cells(sd.read_zarr(store), expected)
    assert [path.name for path in store.parent.iterdir()] == [store.name]


# By name


def test_the_command_line(tissue, tmp_path):
    store = tmp_path / "tissue.zarr"
    cheap_copy(tissue).write(store)
    options = "--method nearest --param share=0.8 --device cpu --tile-size 96 --quiet"
    result = CliRunner().invoke(app, ["segment", str(store), *options.split()])
    assert result.exit_code == 0, result.output
    assert_cells(sd.read_zarr(store), oracle(tissue, train(tissue, params={"share": 0.8}).radius.item()))


def test_check(tissue):
    found = ucs.pp.check(tissue, method="nearest", compute={"device": "cpu"})
    assert found.ok
    assert np.isfinite(found["estimate"]["seconds"])
    assert found["estimate"]["because"].startswith("from a few steps on a part of the data")


def test_what_the_method_does_not_know_is_refused(tissue):
    with pytest.raises(ValueError, match=r"params has unknown fields: 'max_steps'; NearestParams has: .*'share'"):
        run(tissue, params={"max_steps": 5})
    with pytest.raises(ValueError, match=r"params\['share'\]=1.5 must be above 0 and below 1"):
        run(tissue, params={"share": 1.5})
    with pytest.raises(ValueError, match=r"^markers= has no effect with method='nearest'"):
        run(tissue, markers={"T": ["GENE0001"]})
    with pytest.raises(ValueError, match=r"method='density', but the model is of the method 'nearest'"):
        run(tissue, method="density", model=train(tissue))


def test_the_name_is_taken_once(tissue):
    assert method_names() == ["density", "paper", "pretrained", "nearest"]
    assert register(NearestMethod()) is not NEAREST  # of one class the later one counts: modules may be read again
    register(NEAREST)

    class Other(NearestMethod):
        pass

    with pytest.raises(ValueError, match="There is a method 'nearest' already: .* Give yours another name"):
        register(Other())
    known = "'density', 'paper', 'pretrained', 'nearest'"
    with pytest.raises(ValueError, match=f"method='voronoi' is unknown; known are {known}"):
        run(tissue, method="voronoi")
