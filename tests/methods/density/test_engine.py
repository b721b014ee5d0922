from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rasters import grid_of_discs, random_map
from ucs.methods.density.overviews import overview_of
from ucs.methods.params import TrainParams

from ucs._files.workspace import Workspace, in_memory
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.refine import refine_cells
from ucs._kernels.transcripts import TranscriptMap
from ucs.methods.density import engine as module
from ucs.methods.density.confidence import confidence_in_owners, share_from_cells
from ucs.methods.density.expression import KindNet
from ucs.methods.density.levels import measure_levels
from ucs.methods.density.ownership import choose_owners
from ucs.methods.density.surroundings import cell_probability, survey
from ucs.methods.density.training import DensityData, new_density_net, predict_density
from ucs.methods.model import UCSModel

GENES = ("a", "b", "c", "d")
SHAPE = (100, 150)
N = 24
PARAMS = TrainParams(density_width=4)
CPU = torch.device("cpu")


def make_model(genes, seed=0):
    net = new_density_net(PARAMS, seed).eval()
    torch.nn.init.normal_(net.head[-1].weight, generator=torch.Generator().manual_seed(seed), std=0.2)
    return UCSModel(net, KindNet(0, len(genes)), genes, PARAMS, 1.0)


@dataclass
class Sample:
    """What the engine asks of a sample."""

    transcripts: Any
    nuclei: Any
    overviews: dict[Any, Any] = field(default_factory=dict)


@pytest.fixture
def sample():
    """Transcripts in cells that end 3 um from their nuclei, genes anywhere."""
    nuclei = grid_of_discs(SHAPE, 25, 4)
    cells = grid_of_discs(SHAPE, 25, 7)
    of = random_map(0, SHAPE, len(GENES), 12_000)
    kept = cells[of.rows(), of.column] > 0
    kept |= np.random.default_rng(0).random(len(kept)) < 0.1
    transcripts = TranscriptMap.from_positions(
        of.rows()[kept], of.column[kept], of.feature[kept], of.count[kept], shape=SHAPE, n_features=len(GENES)
    )
    grid = SimpleNamespace(um_per_px=1.0)
    return Sample(
        transcripts=SimpleNamespace(map=transcripts, genes=GENES, controls=(), grid=grid),
        nuclei=SimpleNamespace(labels=nuclei, ids=np.arange(1, nuclei.max() + 1)),
    )


def predict(sample, models, judge=None, *, workspace=None, timings=None, **options):
    settings = {"ownership": "distance", "tile_size": 96, "device": "cpu", "progress": False, **options}
    return module.predict_by_density(
        sample,
        models,
        np.zeros(N + 1, dtype=np.int64) if judge is None else judge,
        workspace=Workspace() if workspace is None else workspace,
        timings={} if timings is None else timings,
        **settings,
    )


def look(sample, genes):
    """The surroundings as a model of some genes sees them."""
    nuclei = sample.nuclei.labels
    keep = np.array([gene in genes for gene in GENES])
    totals = sample.transcripts.map.dense()[keep].sum(axis=0).astype(np.int32)
    boxes = bounding_boxes(nuclei, N)
    return survey(totals, nuclei, boxes, reach=PARAMS.reach, strength=PARAMS.stretch, um_per_px=1.0)


def oracle(sample, models, judge):
    """Labels and confidence, each model alone and everything at once."""
    in_cell, share = np.zeros(SHAPE, dtype=np.float32), np.zeros(SHAPE, dtype=np.uint8)
    for number, model in enumerate(models):
        around, mine = look(sample, model.genes), judge == number
        mine[0] = False
        density, owner = np.zeros(SHAPE, dtype=np.float32), around.nearest.owner
        predict_density(DensityData.of(around, mine), model.foreground, density, device=CPU)
        inside = mine[owner] | (owner == 0)
        levels = measure_levels(around.totals, around.nuclei, around.nearest.distance, um_per_px=1.0, inside=inside)
        assert levels.calibrated
        np.copyto(in_cell, cell_probability(around, density, levels), where=mine[owner])
        np.copyto(share, share_from_cells(around, density, levels), where=mine[owner] | (len(models) == 1))
    nuclei = sample.nuclei.labels
    labels, certainty = choose_owners(
        nuclei, around.boxes, around.axes, reach=PARAMS.reach, um_per_px=1.0, evidence=None
    )
    labels = np.where((in_cell > PARAMS.threshold) | (nuclei > 0), labels, 0).astype(np.int32)
    labels = refine_cells(labels, nuclei, bounding_boxes(labels, N))
    confidence_in_owners(labels, certainty, share)
    return labels, certainty


JUDGES = {
    "one": ([GENES], np.zeros(N + 1, dtype=np.int64)),
    "some genes": ([("b", "d")], np.zeros(N + 1, dtype=np.int64)),
    "two of other genes": ([GENES, ("b",)], (np.arange(N + 1) > 12).astype(np.int64)),
}


@pytest.mark.parametrize("case", list(JUDGES))
@pytest.mark.parametrize("tile_size", [96, 4096])
def test_cells_are_those_of_each_model_alone(sample, case, tile_size):
    """A model that sees a quarter of the transcripts does not take its cells for poor ones."""
    genes, judge = JUDGES[case]
    models = [make_model(some, seed) for seed, some in enumerate(genes)]
    made = predict(sample, models, judge, tile_size=tile_size)
    for one, expected in zip(made, oracle(sample, models, judge), strict=True):
        np.testing.assert_array_equal(one, expected)
    labels, ring = made[0], grid_of_discs(SHAPE, 25, 6) - sample.nuclei.labels
    means = [(labels > 0)[(ring > 0) & (judge[ring] == number)].mean() for number in range(len(models))]
    assert min(means) > 0.2
    assert means[-1] == pytest.approx(means[0], rel=0.3)


def test_the_same_model_for_all_regions_is_one_model_but_for_its_levels(sample):
    model, judge = make_model(GENES), (np.arange(N + 1) % 2).astype(np.int64)
    one, two = (predict(sample, models, of)[0] for models, of in (([model], 0 * judge), ([model, model], judge)))
    assert (one != two).mean() < 0.02


@pytest.mark.parametrize("ownership", ["expression", "distance"])
def test_nuclei_keep_their_pixels_and_cells_hold_them(sample, ownership):
    timings = {}
    nuclei = sample.nuclei.labels
    labels, confidence = predict(sample, [make_model(GENES)], ownership=ownership, timings=timings)
    assert (labels.dtype, confidence.dtype) == (np.int32, np.uint8)
    np.testing.assert_array_equal(labels[nuclei > 0], nuclei[nuclei > 0])
    assert (confidence[nuclei > 0] > 0).all()
    assert len(np.unique(labels)) == nuclei.max() + 1
    assert (labels > 0).sum() > 1.3 * (nuclei > 0).sum()
    assert list(timings) == ["survey", "cells", "refine"]


def test_what_was_looked_over_is_not_looked_over_again(sample, monkeypatch):
    model = make_model(GENES)
    expected = predict(sample, [model])
    overview_of(sample.transcripts, sample.nuclei.labels, GENES, model.params, sample.overviews)  # as training does
    monkeypatch.setattr("ucs.methods.density.overviews.look_over", lambda *_, **__: pytest.fail("looked over again"))
    for one, other in zip(predict(sample, [model]), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not sample.overviews  # it has told what it had to tell, and takes memory


@pytest.mark.parametrize("case", ["one", "two of other genes"])
def test_on_disk_it_is_the_same(sample, tmp_path, case):
    genes, judge = JUDGES[case]
    models = [make_model(some, seed) for seed, some in enumerate(genes)]
    expected, workspace = predict(sample, models, judge), Workspace(tmp_path)
    workspace.use_folder()
    made = predict(sample, models, judge, workspace=workspace)
    for one, other in zip(made, expected, strict=True):
        assert not isinstance(one, np.ndarray)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(in_memory(one), other)
    workspace.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tile_size", [96, 200])
def test_compressed_in_memory_it_is_the_same(sample, tmp_path, monkeypatch, tile_size):
    model, workspace = make_model(GENES), Workspace(tmp_path)
    expected = predict(sample, [model])
    monkeypatch.setattr("ucs._files.workspace.PLAIN_PIXELS", 0)
    made = predict(sample, [model], workspace=workspace, tile_size=tile_size)
    assert not workspace.on_disk
    assert not list(tmp_path.iterdir())
    for one, other in zip(workspace.settle(made), expected, strict=True):
        assert not isinstance(one, np.ndarray)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(in_memory(one), other)


def test_tiles_that_are_there_are_not_made_again(sample, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "ucs")
    model, made = make_model(GENES), []
    expected = predict(sample, [model])
    original = module.ask_nets

    def ask(task, *arguments, **options):
        if len(made) == 2:
            msg = "killed"
            raise KeyboardInterrupt(msg)
        made.append(task.number)
        return original(task, *arguments, **options)

    workspace = Workspace(tmp_path, resumable="a run")
    monkeypatch.setattr(module, "ask_nets", ask)
    with pytest.raises(KeyboardInterrupt):
        predict(sample, [model], workspace=workspace)
    assert made == [0, 1]
    made.clear()
    predict(sample, [model], workspace=workspace)
    assert made == [2, 3]
    assert "2 of 4 tiles are there already" in caplog.text
    monkeypatch.setattr(module, "ask_nets", lambda *_, **__: pytest.fail("made again"))
    again = predict(sample, [model], workspace=workspace)
    for one, other in zip(again, expected, strict=True):
        np.testing.assert_array_equal(in_memory(one), other)
    workspace.close()


# On a GPU the net works on the next tile while the CPU decides on one


@pytest.fixture
def stubs(monkeypatch):
    """What is asked and decided, in order, and by which thread."""
    log = []

    def ask(task, *_, **__):
        log.append(("ask", task, threading.get_ident()))
        if task == "bad":
            raise torch.OutOfMemoryError(task)
        return SimpleNamespace(task=task)

    def decide(density, _):
        log.append(("decide", density.task, threading.get_ident()))
        return density.task.upper()

    monkeypatch.setattr(module, "ask_nets", ask)
    monkeypatch.setattr(module, "decide", decide)
    return log


@pytest.mark.parametrize("tasks", ["", "a", "ab", "abcde"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_each_tile_is_worked_on_once_and_in_order(stubs, tasks, device):
    made = list(module._work_here(iter(tasks), None, torch.device(device), 96))
    assert made == [(task, task.upper()) for task in tasks]
    for what in ("ask", "decide"):
        assert [task for kind, task, _ in stubs if kind == what] == list(tasks)
    own = {thread == threading.get_ident() for kind, _, thread in stubs if kind == "ask"}
    assert own <= {device == "cpu"}
    assert all(thread == threading.get_ident() for kind, _, thread in stubs if kind == "decide")


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_error_of_the_net_comes_after_the_tiles_before(device):
    work = module._work_here(iter(["a", "b", "bad", "c"]), None, torch.device(device), 96)
    assert [next(work)[0], next(work)[0]] == ["a", "b"]
    with pytest.raises(torch.OutOfMemoryError, match="bad"):
        next(work)


@pytest.mark.gpu
def test_on_a_gpu(sample):
    model = make_model(GENES)
    expected = predict(sample, [model])[0]
    for tile_size in (96, 4096):
        assert (predict(sample, [model], device="cuda", tile_size=tile_size)[0] == expected).mean() > 0.995
