"""The loop over tiles, which knows nothing of the method: order, rasters, what is done already, and refinement."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from rasters import random_map, random_nuclei
from toy_method import NEAREST, NearestModel, NearestParams, NearestPredictor, nearest

from ucs._files.workspace import Workspace, in_memory
from ucs._kernels.distances import nucleus_axes
from ucs._kernels.labels.refine import refine_cells
from ucs._kernels.lattice import bounding_boxes
from ucs._run import tiles as module
from ucs._run.tiles import run_tiles
from ucs._utils.progress import Stages
from ucs.methods import RasterSample

SHAPE, N_TILES = (230, 310), 12  # of 96 px
PARAMS, RADII = NearestParams(), (3.0, 6.0)


@pytest.fixture(scope="module")
def raster():
    nuclei = random_nuclei(0, SHAPE, 60, radius=(2, 7))
    return RasterSample(random_map(0, SHAPE, 2, 10), ("a", "b"), 2, nuclei, int(nuclei.max()), 1.0)


@pytest.fixture(scope="module")
def model_of_nucleus(raster):
    return np.arange(raster.n + 1) % 2


@pytest.fixture
def plan(raster, model_of_nucleus):
    """Two models at work."""
    models = [
        NearestModel(radius=torch.tensor([radius]), genes=raster.features, params=PARAMS, um_per_px=1.0)
        for radius in RADII
    ]
    survey = NEAREST.survey(raster, raster.features, PARAMS)
    return NEAREST.plan(models, raster, model_of_nucleus, survey, threshold=0.5)


@pytest.fixture(scope="module")
def expected(raster, model_of_nucleus):
    """Decided and refined as a whole."""
    found = nearest(raster.nuclei, nucleus_axes(raster.nuclei, raster.n, strength=PARAMS.shape_exponent), PARAMS.reach)
    radius = np.float32(RADII)[model_of_nucleus][found.owner]
    in_cell = radius / (radius + found.distance)
    labels = np.where(in_cell > 0.5, found.owner, 0).astype(np.int32)
    labels = refine_cells(labels, raster.nuclei, bounding_boxes(labels, raster.n))
    foreground = np.rint(255 * in_cell).astype(np.uint8)
    return {"labels": labels, "confidence": np.where(labels > 0, foreground, 0), "foreground": foreground}


def run(plan, raster, *, workspace=None, tile_size=96, foreground=True, device="cpu", stages=None):
    made = run_tiles(
        plan,
        raster.nuclei,
        raster.n,
        len(raster.features),
        tile_size=tile_size,
        device=device,
        workspace=workspace or Workspace(),
        foreground=foreground,
        stages=stages or Stages(),
    )
    assert made.pop("moved").n_transcripts == 0  # the method gives pixels
    return made


def assert_same(made, expected, *, plain):
    for name, one in made.items():
        assert isinstance(one, np.ndarray) is plain
        assert one.dtype == (np.int32 if name == "labels" else np.uint8)
        np.testing.assert_array_equal(in_memory(one), expected[name], err_msg=name)


@pytest.mark.parametrize("tile_size", [1, 96, 200, 10_000])
def test_tiles_have_no_say(plan, raster, expected, tile_size):
    made = run(plan, raster, tile_size=tile_size)
    assert list(made) == ["labels", "confidence", "foreground"]
    assert_same(made, expected, plain=True)
    assert 1.3 * (raster.nuclei > 0).sum() < (made["labels"] > 0).sum() < 0.8 * raster.nuclei.size


def test_a_foreground_that_is_not_wanted_is_not_held(plan, raster, expected):
    made = run(plan, raster, foreground=False)
    assert list(made) == ["labels", "confidence"]
    assert_same(made, expected, plain=True)


@pytest.mark.parametrize("tile_size", [96, 200])
def test_on_disk_it_is_the_same(plan, raster, expected, tmp_path, tile_size):
    workspace = Workspace(tmp_path)
    workspace.use_folder()
    assert_same(run(plan, raster, workspace=workspace, tile_size=tile_size), expected, plain=False)
    workspace.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tile_size", [96, 200])
def test_compressed_in_memory_it_is_the_same(plan, raster, expected, tmp_path, monkeypatch, tile_size):
    workspace = Workspace(tmp_path)
    monkeypatch.setattr("ucs._files.workspace.PLAIN_PIXELS", 0)
    made = run(plan, raster, workspace=workspace, tile_size=tile_size)
    assert not workspace.on_disk
    assert not list(tmp_path.iterdir())
    names = list(made)
    assert_same(dict(zip(names, workspace.settle(list(made.values())), strict=True)), expected, plain=False)


def test_stages_are_timed_and_told(plan, raster):
    told = []

    class Listening(Stages):
        @contextlib.contextmanager
        def stage(self, name, **options):
            with super().stage(name, **options):
                yield lambda *done: told.append((name, *done))

    stages = Listening()
    run(plan, raster, stages=stages)
    assert list(stages.seconds) == ["cells", "refine"]
    assert told == [("cells", k, N_TILES) for k in range(N_TILES + 1)]


def test_models_go_to_the_device_once(plan, raster):
    @dataclass(frozen=True)
    class Moving(NearestPredictor):
        def on(self, device):
            moves.append(str(device))
            return self

    moves = []
    run(replace(plan, predictor=Moving(PARAMS.reach, 0.5)), raster)
    assert moves == ["cpu"]


# What is done already


class Mortal(NearestPredictor):
    """Counts its tiles, and dies in the one after as many as it may do."""

    made = []
    most = N_TILES

    def decide(self, scores):
        if len(self.made) == self.most:
            raise KeyboardInterrupt
        self.made.append(1)
        return super().decide(scores)


@pytest.fixture
def mortal(plan, monkeypatch):
    monkeypatch.setattr(Mortal, "made", [])
    return replace(plan, predictor=Mortal(PARAMS.reach, 0.5))


def test_tiles_that_are_there_are_not_made_again(mortal, raster, expected, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "ucs")
    workspace = Workspace(tmp_path, resumable="a run")
    monkeypatch.setattr(Mortal, "most", 5)
    with pytest.raises(KeyboardInterrupt):
        run(mortal, raster, workspace=workspace)
    assert len(Mortal.made) == 5
    Mortal.made.clear()
    monkeypatch.setattr(Mortal, "most", N_TILES)
    assert_same(run(mortal, raster, workspace=workspace), expected, plain=False)
    assert len(Mortal.made) == N_TILES - 5
    assert f"5 of {N_TILES} tiles are there already" in caplog.text
    monkeypatch.setattr(Mortal, "most", 0)
    Mortal.made.clear()
    assert_same(run(mortal, raster, workspace=workspace), expected, plain=False)
    workspace.close()


def test_without_a_run_to_be_continued_all_tiles_are_made(mortal, raster, tmp_path):
    for _ in range(2):
        workspace = Workspace(tmp_path)
        workspace.use_folder()
        run(mortal, raster, workspace=workspace)
        workspace.close()
        assert len(Mortal.made) == N_TILES
        Mortal.made.clear()


# On a GPU the net works on the next tile while the CPU decides on one


class Stub:
    """A predictor that notes what it is asked, in order, and by which thread."""

    def __init__(self):
        self.log = []

    def forward(self, task, **_):
        self.log.append(("forward", task, threading.get_ident()))
        if task == "bad":
            raise torch.OutOfMemoryError(task)
        return task

    def decide(self, scores):
        self.log.append(("decide", scores, threading.get_ident()))
        return scores.upper()


@pytest.mark.parametrize("tasks", ["", "a", "ab", "abcde"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_each_tile_is_worked_on_once_and_in_order(tasks, device):
    stub = Stub()
    made = list(module._work_here(enumerate(tasks), stub, torch.device(device), 96))
    assert made == [(number, task.upper()) for number, task in enumerate(tasks)]
    for what in ("forward", "decide"):
        assert [task for kind, task, _ in stub.log if kind == what] == list(tasks)
    own = {thread == threading.get_ident() for kind, _, thread in stub.log if kind == "forward"}
    assert own <= {device == "cpu"}
    assert all(thread == threading.get_ident() for kind, _, thread in stub.log if kind == "decide")


def test_on_a_gpu_the_next_tile_is_begun_before_one_is_decided():
    begun = threading.Event()

    class Waiting(Stub):
        def forward(self, task, **options):
            if task == "b":
                begun.set()
            return super().forward(task, **options)

        def decide(self, scores):
            if scores == "a":
                assert begun.wait(30)
            return super().decide(scores)

    made = module._work_here(enumerate("ab"), Waiting(), torch.device("meta"), 96)
    assert [cells for _, cells in made] == ["A", "B"]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_error_of_the_net_comes_after_the_tiles_before(device):
    work = module._work_here(enumerate(["a", "b", "bad", "c"]), Stub(), torch.device(device), 96)
    assert [next(work)[0], next(work)[0]] == [0, 1]
    with pytest.raises(torch.OutOfMemoryError, match="bad"):
        next(work)
