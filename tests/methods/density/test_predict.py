"""Tiles worked on one by one against the raster as one tile."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
import torch
from rasters import random_nuclei

from ucs._kernels.lattice import bounding_boxes, tiles_of
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.density.confidence import confidence_of, share_from_cells
from ucs.methods.density.levels import measure_levels
from ucs.methods.density.ownership import Evidence, choose_owners
from ucs.methods.density.params import DensityParams
from ucs.methods.density.predict import DensityPlan, DensityPredictor, NetOnSample
from ucs.methods.density.statistics import look_over
from ucs.methods.density.surroundings import cell_probability, survey
from ucs.methods.density.training import DensityData, new_density_net, predict_density
from ucs.methods.model import Selection

CPU = torch.device("cpu")
SHAPE, REACH, STRENGTH = (230, 310), 20, 0.5
N_FEATURES, N_CLUSTERS = 4, 3
RASTERS = {"labels": np.int32, "confidence": np.uint8, "foreground": np.uint8}
ALL = Selection(np.ones(N_FEATURES, dtype=bool), np.arange(N_FEATURES), N_FEATURES)
FEW = Selection(np.array([False, True, False, True]), np.array([0, 1, 0, 0]), 2)


@pytest.fixture(scope="module")
def nuclei():
    return random_nuclei(1, SHAPE, 70, radius=(2, 7))


@pytest.fixture(scope="module")
def transcripts(nuclei):
    """Many near nuclei, few elsewhere."""
    random = np.random.default_rng(0)
    row, column = (random.integers(0, side, 60_000) for side in SHAPE)
    feature, n = random.integers(0, N_FEATURES, 60_000), int(nuclei.max())
    around = survey(nuclei, nuclei, bounding_boxes(nuclei, n), reach=REACH, strength=0.0, um_per_px=1.0)
    kept = (around.nearest.distance[row, column] < 4) | (random.random(60_000) < 0.15)
    return TranscriptMap.from_positions(
        row[kept], column[kept], feature[kept], np.ones(kept.sum(), dtype=np.int32), shape=SHAPE, n_features=N_FEATURES
    )


def lively(seed):
    net = new_density_net(DensityParams(width=6), seed).eval()
    torch.nn.init.normal_(net.head[-1].weight, generator=torch.Generator().manual_seed(seed), std=0.3)
    return net


class Setting:
    """A sample with the models that are applied to it, ready to be cut into tiles."""

    def __init__(self, transcripts, nuclei, selections=(ALL,), *, evidence=False, tile=96):
        n, n_models = int(nuclei.max()), len(selections)
        self.transcripts, self.nuclei, self.selections = transcripts, nuclei, selections
        random = np.random.default_rng(5)
        self.model_of_nucleus = random.integers(0, n_models, n + 1)
        groups = self.model_of_nucleus + 1 if n_models > 1 else None
        options = {"reach": REACH, "strength": STRENGTH, "um_per_px": 1.0, "tile": tile, "groups": groups}
        surveys = tuple(look_over(transcripts, selection, nuclei, **options) for selection in selections)
        nets = []
        for number, one in enumerate(surveys):
            mine = self.model_of_nucleus == number
            mine[0] = False
            levels = one.levels(None if groups is None else number + 1)
            nets.append(NetOnSample(lively(number), one.selection, levels, one.mean_count(mine)))
        membership = random.dirichlet(np.ones(N_CLUSTERS), n + 1).astype(np.float32)
        log_ratio = random.normal(size=(N_CLUSTERS, selections[0].n_features)).astype(np.float32)
        self.predictor = DensityPredictor(tuple(nets), log_ratio if evidence else None, 2.0, 0.3)
        self.plan = DensityPlan(
            self.predictor, surveys, self.model_of_nucleus, membership if evidence else membership[:, :0]
        )

    def tile(self, core, predictor=None):
        """The cells on one core."""
        return apply(predictor or self.predictor, self.plan.task(core))

    def cells(self, side):
        """The cells from tiles of one size."""
        made = {name: np.zeros(SHAPE, dtype=dtype) for name, dtype in RASTERS.items()}
        for core in tiles_of(SHAPE, side):
            cells = self.tile(core)
            for name, raster in made.items():
                of_tile = getattr(cells, name)
                assert of_tile.shape == core.shape
                assert of_tile.dtype == raster.dtype
                raster[core.slices] = of_tile
        return made

    @cached_property
    def as_one_tile(self):
        """The cells from a single tile."""
        return self.cells(10_000)

    def oracle(self):
        """The same with everything held at once, without tiles."""
        n = int(self.nuclei.max())
        boxes = bounding_boxes(self.nuclei, n)
        options = {"reach": REACH, "strength": STRENGTH, "um_per_px": 1.0}
        in_cell, share = np.zeros(SHAPE, dtype=np.float32), np.zeros(SHAPE, dtype=np.uint8)
        for number, selection in enumerate(self.selections):
            around = survey(selection.of(self.transcripts).totals(), self.nuclei, boxes, **options)
            owner = around.nearest.owner
            mine = self.model_of_nucleus == number
            mine[0] = False
            inside = mine[owner] | (owner == 0) if len(self.selections) > 1 else None
            distance = around.nearest.distance
            levels = measure_levels(around.totals, self.nuclei, distance, um_per_px=1.0, inside=inside)
            density = np.zeros(SHAPE, dtype=np.float32)
            predict_density(DensityData.of(around, mine), self.predictor.nets[number].net, density, device=CPU)
            where = mine[owner] if len(self.selections) > 1 else True
            np.copyto(in_cell, cell_probability(around, density, levels), where=where)
            np.copyto(share, share_from_cells(around, density, levels), where=where)
        evidence = None
        if self.predictor.log_ratio is not None:
            seen, weight = self.selections[0].of(self.transcripts), self.predictor.expression_weight_um
            evidence = Evidence(seen, self.predictor.log_ratio, self.plan.membership, weight)
        axes = self.plan.surveys[0].axes
        owner, certainty = choose_owners(self.nuclei, boxes, axes, reach=REACH, um_per_px=1.0, evidence=evidence)
        labels = np.where((in_cell > self.predictor.threshold) | (self.nuclei > 0), owner, 0)
        foreground = np.rint(255 * in_cell).astype(np.uint8)
        return {"labels": labels, "confidence": confidence_of(certainty, share), "foreground": foreground}


def apply(predictor, task):
    return predictor.decide(predictor.forward(task, device=CPU, tile_size=96))


SETTINGS = {
    "one model": {},
    "evidence": {"evidence": True},
    "other genes": {"selections": (FEW,), "evidence": True},
    "two models": {"selections": (ALL, ALL)},
    "two models of other genes": {"selections": (ALL, FEW), "evidence": True},
    "three models": {"selections": (FEW, ALL, FEW), "evidence": True},
}


@pytest.fixture(scope="module", params=list(SETTINGS))
def setting(request, transcripts, nuclei):
    return Setting(transcripts, nuclei, **SETTINGS[request.param])


def assert_same(made, expected):
    for name, raster in expected.items():
        np.testing.assert_array_equal(made[name], raster, err_msg=name)


def test_one_tile_is_the_whole(setting):
    made = setting.as_one_tile
    assert_same(made, setting.oracle())
    labels = made["labels"]
    assert 1.2 * (setting.nuclei > 0).sum() < (labels > 0).sum() < 0.9 * labels.size
    np.testing.assert_array_equal(labels[setting.nuclei > 0], setting.nuclei[setting.nuclei > 0])
    assert len(np.unique(made["foreground"])) > 20


@pytest.mark.parametrize("side", [96, 192])
def test_tiles_have_no_say(setting, side):
    assert_same(setting.cells(side), setting.as_one_tile)


def test_a_task_and_the_predictor_may_travel(setting):
    """Pickled, they are small and give the same elsewhere."""
    task = setting.plan.task(Window(96, 96, 192, 192))
    sent = pickle.dumps((task, setting.predictor), protocol=5)
    travelled, predictor = pickle.loads(sent)  # noqa: S301
    assert_same(vars(apply(predictor.on(CPU), travelled)), vars(apply(setting.predictor, task)))
    assert len(sent) < len(pickle.dumps((setting.transcripts, setting.nuclei, setting.plan.surveys)))


def test_a_part_of_the_raster_does_not_reach_beyond_itself(setting):
    """What is far from a tile has no say in it."""
    core = Window(0, 0, 96, 96)
    task, of = setting.plan.task(core), setting.transcripts
    assert task.extract.window.row1 <= 160
    assert task.extract.window.column1 <= 200
    kept = (of.rows() < 160) & (of.column < 200)
    arrays = [values[kept] for values in (of.rows(), of.column, of.feature, of.count)]
    fewer = TranscriptMap.from_positions(*arrays, shape=SHAPE, n_features=N_FEATURES)
    other = Setting(fewer, setting.nuclei, setting.selections, evidence=setting.predictor.log_ratio is not None)
    again = other.plan.task(core)
    np.testing.assert_array_equal(again.extract.transcripts.dense(), task.extract.transcripts.dense())
    same = replace(task, extract=replace(again.extract, richness=task.extract.richness))
    assert_same(vars(apply(setting.predictor, same)), vars(apply(setting.predictor, task)))


@pytest.mark.parametrize("low", [0.1, 0.4])
def test_the_threshold_shrinks_cells_and_changes_nothing_else(setting, low):
    core = Window(0, 96, 192, 288)
    wide, narrow = (setting.tile(core, replace(setting.predictor, threshold=t)) for t in (low, low + 0.2))
    assert (narrow.labels > 0).sum() < (wide.labels > 0).sum()
    kept = narrow.labels > 0
    np.testing.assert_array_equal(narrow.labels[kept], wide.labels[kept])
    nuclei = setting.nuclei[core.slices]
    np.testing.assert_array_equal(narrow.labels[nuclei > 0], nuclei[nuclei > 0])
    assert_same({"confidence": narrow.confidence, "foreground": narrow.foreground}, {
        "confidence": wide.confidence, "foreground": wide.foreground
    })  # fmt: skip


def test_tiles_without_nuclei(transcripts):
    nothing = np.zeros(SHAPE, dtype=np.int32)
    nothing[5:9, 5:9] = 1
    setting = Setting(transcripts, nothing, evidence=True)
    task = setting.plan.task(Window(192, 192, 230, 288))
    assert task.extract.ids.tolist() == [0]
    made = apply(setting.predictor, task)
    assert made.labels.shape == (38, 96)
    assert not made.labels.any()
    assert not made.confidence.any()
    assert not made.foreground.any()
    assert_same(setting.cells(96), setting.oracle())
