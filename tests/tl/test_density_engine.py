from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rasters import grid_of_discs, random_map
from ucs._core.confidence import share_from_cells
from ucs._core.lattice import bounding_boxes
from ucs._core.levels import measure_levels
from ucs._core.surroundings import cell_probability, survey
from ucs._core.transcripts import TranscriptMap
from ucs.nn.density_training import DensityData, new_density_net, predict_density
from ucs.nn.kinds import KindNet
from ucs.nn.model import UCSModel
from ucs.nn.params import TrainParams
from ucs.tl import _density_engine as module

GENES = ("a", "b", "c", "d")
SHAPE = (100, 150)
PARAMS = TrainParams(density_width=4)
CPU = torch.device("cpu")


def make_model(genes, seed=0):
    net = new_density_net(PARAMS, seed).eval()
    torch.nn.init.normal_(net.head[-1].weight, generator=torch.Generator().manual_seed(seed), std=0.2)
    return UCSModel(net, KindNet(0, len(genes)), genes, PARAMS, 1.0)


@pytest.fixture(scope="module")
def sample():
    """Transcripts in cells that end 3 um from their nuclei, genes anywhere; what the engine asks of a sample."""
    nuclei = grid_of_discs(SHAPE, 25, 4)
    cells = grid_of_discs(SHAPE, 25, 7)
    transcripts = random_map(0, SHAPE, len(GENES), 12_000)
    kept = cells[transcripts.rows(), transcripts.column] > 0
    kept |= np.random.default_rng(0).random(len(kept)) < 0.1
    of = transcripts
    transcripts = TranscriptMap.from_positions(
        of.rows()[kept], of.column[kept], of.feature[kept], of.count[kept], shape=SHAPE, n_features=len(GENES)
    )
    grid = SimpleNamespace(um_per_px=1.0)
    return SimpleNamespace(
        nuclei=SimpleNamespace(labels=nuclei, ids=np.arange(1, nuclei.max() + 1)),
        transcripts=SimpleNamespace(map=transcripts, genes=GENES, controls=(), grid=grid),
    )


def look(sample, genes):
    """The surroundings as a model of some genes sees them."""
    nuclei = sample.nuclei.labels
    keep = np.array([gene in genes for gene in GENES])
    totals = sample.transcripts.map.dense()[keep].sum(axis=0).astype(np.int32)
    boxes = bounding_boxes(nuclei, int(nuclei.max()))
    return survey(totals, nuclei, boxes, reach=PARAMS.reach, strength=PARAMS.stretch, um_per_px=1.0)


def in_cells(sample, models, judge):
    seen = []
    made = module._in_cells(
        sample, models, judge, look(sample, models[0].genes), device="cpu", tile_size=96,
        update=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}
    assert [one.dtype for one in made] == [np.float32, np.uint8]
    return made


def oracle(sample, model, mine=None):
    """One model alone: the density and the levels of the transcripts that it sees."""
    around = look(sample, model.genes)
    density = np.zeros(SHAPE, dtype=np.float32)
    predict_density(DensityData.of(around, mine), model.foreground, density, device=CPU)
    owner = around.nearest.owner
    inside = None if mine is None else mine[owner] | (owner == 0)
    levels = measure_levels(around.totals, around.nuclei, around.nearest.distance, um_per_px=1.0, inside=inside)
    assert levels.calibrated
    return cell_probability(around, density, levels), share_from_cells(around, density, levels)


def test_one_model(sample):
    model, judge = make_model(GENES), np.zeros(25, dtype=np.int64)
    for made, expected in zip(in_cells(sample, [model], judge), oracle(sample, model), strict=True):
        np.testing.assert_array_equal(made, expected)


def test_models_of_other_genes_measure_in_their_own_transcripts(sample):
    """A model that sees a quarter of the transcripts does not take its cells for poor ones."""
    models = [make_model(GENES), make_model(("b",), seed=1)]
    judge = (np.arange(25) > 12).astype(np.int64)
    made = in_cells(sample, models, judge)
    owner = look(sample, GENES).nearest.owner
    for number, model in enumerate(models):
        mine = (judge == number) & (np.arange(25) > 0)
        for one, expected in zip(made, oracle(sample, model, mine), strict=True):
            np.testing.assert_array_equal(one[mine[owner]], expected[mine[owner]])
    ring = grid_of_discs(SHAPE, 25, 6) - sample.nuclei.labels
    means = [made[0][(ring > 0) & (judge[ring] == number)].mean() for number in (0, 1)]
    assert means[1] == pytest.approx(means[0], rel=0.3)


def test_the_same_model_for_all_regions_is_one_model_but_for_its_levels(sample):
    model, judge = make_model(GENES), (np.arange(25) % 2).astype(np.int64)
    one, two = in_cells(sample, [model], 0 * judge)[0], in_cells(sample, [model, model], judge)[0]
    assert np.abs(one - two).mean() < 0.05
    np.testing.assert_array_equal(one == 0, two == 0)


def test_decisions(monkeypatch):
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 3)
    random = np.random.default_rng(0)
    nuclei = grid_of_discs((20, 30), 10, 2)
    owner = random.integers(1, 7, nuclei.shape, dtype=np.int32)
    in_cell = random.random(nuclei.shape).astype(np.float32)
    labels = owner.copy()
    module._decide(labels, in_cell, nuclei, threshold=0.4)
    np.testing.assert_array_equal(labels, np.where((in_cell > 0.4) | (nuclei > 0), owner, 0))


@pytest.mark.parametrize("ownership", ["expression", "distance"])
def test_nuclei_keep_their_pixels_and_cells_hold_them(sample, ownership):
    timings = {}
    nuclei = sample.nuclei.labels
    labels, confidence = module.predict_by_density(
        sample, [make_model(GENES)], np.zeros(25, dtype=np.int64), ownership=ownership, tile_size=96, device="cpu",
        progress=False, timings=timings,
    )  # fmt: skip
    assert (labels.dtype, confidence.dtype) == (np.int32, np.uint8)
    np.testing.assert_array_equal(labels[nuclei > 0], nuclei[nuclei > 0])
    assert (confidence[nuclei > 0] > 0).all()
    assert len(np.unique(labels)) == nuclei.max() + 1
    assert (labels > 0).sum() > 1.3 * (nuclei > 0).sum()
    assert {"survey", "predict", "assign", "refine"} <= set(timings)
