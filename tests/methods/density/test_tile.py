"""Tiles worked on one by one against the raster as one tile."""

from __future__ import annotations

import pickle
from functools import cached_property

import numpy as np
import pytest
import torch
from rasters import random_nuclei
from ucs.methods.density.tile import Judge, Judges, TileTask, ask_nets, cells_of_tile, decide
from ucs.methods.params import TrainParams

from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.density.confidence import share_from_cells
from ucs.methods.density.levels import measure_levels
from ucs.methods.density.ownership import Evidence, choose_owners
from ucs.methods.density.statistics import Selection, look_over, tiles_of
from ucs.methods.density.surroundings import cell_probability, survey
from ucs.methods.density.training import DensityData, new_density_net, predict_density

CPU = torch.device("cpu")
SHAPE, REACH, STRENGTH = (230, 310), 20, 0.5
N_FEATURES, N_KINDS = 4, 3
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
    net = new_density_net(TrainParams(density_width=6), seed).eval()
    torch.nn.init.normal_(net.head[-1].weight, generator=torch.Generator().manual_seed(seed), std=0.3)
    return net


class Setting:
    """A sample with the models that judge it: what the density engine makes tasks of."""

    def __init__(self, transcripts, nuclei, selections=(ALL,), *, evidence=False, tile=96):
        n, n_models = int(nuclei.max()), len(selections)
        self.transcripts, self.nuclei, self.selections = transcripts, nuclei, selections
        random = np.random.default_rng(5)
        self.judge = random.integers(0, n_models, n + 1)
        groups = self.judge + 1 if n_models > 1 else None
        options = {"reach": REACH, "strength": STRENGTH, "um_per_px": 1.0, "tile": tile, "groups": groups}
        self.overviews = [look_over(transcripts, selection, nuclei, **options) for selection in selections]
        judges = []
        for number, overview in enumerate(self.overviews):
            mine = self.judge == number
            mine[0] = False
            levels = overview.levels(None if groups is None else number + 1)
            judges.append(Judge(lively(number), overview.selection, levels, overview.mean_count(mine)))
        membership = random.dirichlet(np.ones(N_KINDS), n + 1).astype(np.float32)
        self.membership = membership if evidence else membership[:, :0]
        log_ratio = random.normal(size=(N_KINDS, selections[0].n_features)).astype(np.float32)
        self.judges = Judges(tuple(judges), log_ratio if evidence else None, 2.0, 0.3)

    def task(self, number, core):
        extract = self.overviews[0].extract(core)
        richness = np.stack([overview.richness[extract.ids] for overview in self.overviews])
        return TileTask(number, extract, self.judge[extract.ids], richness, self.membership[extract.ids])

    def cells(self, side, **options):
        """Labels, certainty and share of cells, from tiles of one size."""
        made = [np.zeros(SHAPE, dtype=dtype) for dtype in (np.int32, np.uint8, np.uint8)]
        for number, core in enumerate(tiles_of(SHAPE, side)):
            cells = cells_of_tile(self.task(number, core), self.judges, device=CPU, tile_size=side, **options)
            for raster, of_tile in zip(made, (cells.labels, cells.certainty, cells.from_cells), strict=True):
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
            mine = self.judge == number
            mine[0] = False
            inside = mine[owner] | (owner == 0) if len(self.selections) > 1 else None
            distance = around.nearest.distance
            levels = measure_levels(around.totals, self.nuclei, distance, um_per_px=1.0, inside=inside)
            density = np.zeros(SHAPE, dtype=np.float32)
            predict_density(DensityData.of(around, mine), self.judges.judges[number].net, density, device=CPU)
            where = mine[owner] if len(self.selections) > 1 else True
            np.copyto(in_cell, cell_probability(around, density, levels), where=where)
            np.copyto(share, share_from_cells(around, density, levels), where=where)
        evidence = None
        if self.judges.log_ratio is not None:
            seen = self.selections[0].of(self.transcripts)
            evidence = Evidence(seen, self.judges.log_ratio, self.membership, self.judges.trust_um)
        axes = self.overviews[0].axes
        owner, certainty = choose_owners(self.nuclei, boxes, axes, reach=REACH, um_per_px=1.0, evidence=evidence)
        labels = np.where((in_cell > self.judges.threshold) | (self.nuclei > 0), owner, 0)
        return [labels, certainty, share]


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
    for name, one, other in zip(("labels", "certainty", "from_cells"), made, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_one_tile_is_the_whole(setting):
    made = setting.as_one_tile
    assert_same(made, setting.oracle())
    labels = made[0]
    assert 1.2 * (setting.nuclei > 0).sum() < (labels > 0).sum() < 0.9 * labels.size
    np.testing.assert_array_equal(labels[setting.nuclei > 0], setting.nuclei[setting.nuclei > 0])


@pytest.mark.parametrize("side", [96, 192])
def test_tiles_have_no_say(setting, side):
    assert_same(setting.cells(side), setting.as_one_tile)


def test_a_task_and_judges_may_travel(setting):
    """Pickled, they are small and give the same elsewhere."""
    core = Window(96, 96, 192, 192)
    task = setting.task(7, core)
    sent = pickle.dumps((task, setting.judges), protocol=5)
    travelled, judges = pickle.loads(sent)  # noqa: S301
    assert travelled.number == 7
    made = cells_of_tile(travelled, judges.on(CPU), device=CPU, tile_size=96)
    expected = cells_of_tile(task, setting.judges, device=CPU, tile_size=96)
    for name in ("labels", "certainty", "from_cells"):
        np.testing.assert_array_equal(getattr(made, name), getattr(expected, name))
    assert len(sent) < len(pickle.dumps((setting.transcripts, setting.nuclei, setting.overviews)))


def test_a_part_of_the_raster_does_not_reach_beyond_itself(setting):
    """What is far from a tile has no say in it."""
    core = Window(0, 0, 96, 96)
    expected = cells_of_tile(setting.task(0, core), setting.judges, device=CPU, tile_size=96)
    nuclei, of = setting.nuclei.copy(), setting.transcripts
    kept = (of.rows() < 160) & (of.column < 200)
    arrays = [values[kept] for values in (of.rows(), of.column, of.feature, of.count)]
    fewer = TranscriptMap.from_positions(*arrays, shape=SHAPE, n_features=N_FEATURES)
    task = setting.task(0, core)
    extract = task.extract
    assert extract.window.row1 <= 160
    assert extract.window.column1 <= 200
    other = Setting(fewer, nuclei, setting.selections, evidence=setting.judges.log_ratio is not None)
    again = other.task(0, core)
    np.testing.assert_array_equal(again.extract.transcripts.dense(), extract.transcripts.dense())
    task = TileTask(0, again.extract, task.judge, task.richness, task.membership)
    made = cells_of_tile(task, setting.judges, device=CPU, tile_size=96)
    np.testing.assert_array_equal(made.labels, expected.labels)


def test_nets_may_be_asked_ahead_of_the_decision(setting):
    task, told = setting.task(0, Window(0, 0, 96, 192)), []
    density = ask_nets(task, setting.judges, device=CPU, tile_size=96, update=lambda *done: told.append(done))
    assert density.task is task
    assert told
    assert all(done <= total for done, total in told)
    made = decide(density, setting.judges)
    np.testing.assert_array_equal(made.labels, cells_of_tile(task, setting.judges, device=CPU, tile_size=96).labels)


def test_tiles_without_nuclei(transcripts):
    nothing = np.zeros(SHAPE, dtype=np.int32)
    nothing[5:9, 5:9] = 1
    setting = Setting(transcripts, nothing, evidence=True)
    task = setting.task(0, Window(192, 192, 230, 288))
    assert task.extract.ids.tolist() == [0]
    made = cells_of_tile(task, setting.judges, device=CPU, tile_size=96)
    assert made.labels.shape == (38, 96)
    assert not made.labels.any()
    assert not made.certainty.any()
    assert_same(setting.cells(96), setting.oracle())
