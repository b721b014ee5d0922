"""The density method on whole samples: what it learns, and the cells of one model and of several."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rasters import grid_of_discs, random_map

import ucs
from ucs._files.workspace import Workspace
from ucs._kernels.labels.refine import refine_cells
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import TranscriptMap
from ucs._read.sample import find_source, prepare
from ucs._run.region_samples import raster_of
from ucs._run.tiles import run_tiles
from ucs._utils.progress import Stages
from ucs.methods import DensityModel, DensityParams, PaperModel, PaperParams, RasterSample
from ucs.methods.clusters.expression import ExpressionProfiles
from ucs.methods.density import method as module
from ucs.methods.density.confidence import confidence_of, share_from_cells
from ucs.methods.density.levels import measure_levels
from ucs.methods.density.method import DENSITY
from ucs.methods.density.ownership import choose_owners
from ucs.methods.density.surroundings import cell_probability, survey
from ucs.methods.density.training import DensityData, new_density_net, predict_density
from ucs.methods.paper.training import new_nets

GENES = ("a", "b", "c", "d")
SHAPE = (100, 150)
N = 24
PARAMS = DensityParams(width=4)
CPU = torch.device("cpu")


def make_model(genes, seed=0):
    net = new_density_net(PARAMS, seed).eval()
    torch.nn.init.normal_(net.head[-1].weight, generator=torch.Generator().manual_seed(seed), std=0.2)
    clusters = ExpressionProfiles(0, len(genes))
    return DensityModel(net=net, clusters=clusters, genes=genes, params=PARAMS, um_per_px=1.0)


@pytest.fixture(scope="module")
def raster():
    """Transcripts in cells that end 3 um from their nuclei, genes anywhere."""
    nuclei = grid_of_discs(SHAPE, 25, 4)
    cells = grid_of_discs(SHAPE, 25, 7)
    of = random_map(0, SHAPE, len(GENES), 12_000)
    kept = cells[of.rows(), of.column] > 0
    kept |= np.random.default_rng(0).random(len(kept)) < 0.1
    transcripts = TranscriptMap.from_positions(
        of.rows()[kept], of.column[kept], of.feature[kept], of.count[kept], shape=SHAPE, n_features=len(GENES)
    )
    return RasterSample(transcripts, GENES, len(GENES), nuclei, N, 1.0)


def plan_of(raster, models, model_of_nucleus=None):
    judge = np.zeros(N + 1, dtype=np.int64) if model_of_nucleus is None else model_of_nucleus
    groups = judge if len(models) > 1 else None
    seen = DENSITY.survey(raster, models[0].genes, PARAMS, model_of_nucleus=groups)
    return DENSITY.plan(models, raster, judge, seen, threshold=DENSITY.threshold)


def predict(raster, models, model_of_nucleus=None, *, tile_size=96, device="cpu"):
    """Labels and confidence."""
    made = run_tiles(
        plan_of(raster, models, model_of_nucleus),
        raster.nuclei,
        N,
        len(raster.features),
        tile_size=tile_size,
        device=device,
        workspace=Workspace(),
        foreground=False,
        stages=Stages(),
    )
    return made["labels"], made["confidence"]


def look(raster, genes):
    """The surroundings as a model of some genes sees them."""
    keep = np.array([gene in genes for gene in GENES])
    totals = raster.transcripts.dense()[keep].sum(axis=0).astype(np.int32)
    boxes = bounding_boxes(raster.nuclei, N)
    return survey(totals, raster.nuclei, boxes, reach=PARAMS.reach, strength=PARAMS.shape_exponent, um_per_px=1.0)


def oracle(raster, models, model_of_nucleus):
    """Labels and confidence, each model alone and everything at once."""
    in_cell, share = np.zeros(SHAPE, dtype=np.float32), np.zeros(SHAPE, dtype=np.uint8)
    for number, model in enumerate(models):
        around, mine = look(raster, model.genes), model_of_nucleus == number
        mine[0] = False
        density, owner = np.zeros(SHAPE, dtype=np.float32), around.nearest.owner
        predict_density(DensityData.of(around, mine), model.net, density, device=CPU)
        inside = mine[owner] | (owner == 0)
        levels = measure_levels(around.totals, around.nuclei, around.nearest.distance, um_per_px=1.0, inside=inside)
        assert levels.calibrated
        np.copyto(in_cell, cell_probability(around, density, levels), where=mine[owner])
        np.copyto(share, share_from_cells(around, density, levels), where=mine[owner] | (len(models) == 1))
    nuclei = raster.nuclei
    labels, certainty = choose_owners(
        nuclei, around.boxes, around.axes, reach=PARAMS.reach, um_per_px=1.0, evidence=None
    )
    labels = np.where((in_cell > DENSITY.threshold) | (nuclei > 0), labels, 0).astype(np.int32)
    labels = refine_cells(labels, nuclei, bounding_boxes(labels, N))
    return labels, np.where(labels > 0, confidence_of(certainty, share), 0)


CASES = {
    "one": ([GENES], np.zeros(N + 1, dtype=np.int64)),
    "some genes": ([("b", "d")], np.zeros(N + 1, dtype=np.int64)),
    "two of other genes": ([GENES, ("b",)], (np.arange(N + 1) > 12).astype(np.int64)),
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("tile_size", [96, 4096])
def test_cells_are_those_of_each_model_alone(raster, case, tile_size):
    """A model that sees a quarter of the transcripts does not take its cells for poor ones."""
    genes, model_of_nucleus = CASES[case]
    models = [make_model(some, seed) for seed, some in enumerate(genes)]
    made = predict(raster, models, model_of_nucleus, tile_size=tile_size)
    for one, expected in zip(made, oracle(raster, models, model_of_nucleus), strict=True):
        np.testing.assert_array_equal(one, expected)
    labels, ring = made[0], grid_of_discs(SHAPE, 25, 6) - raster.nuclei
    means = [(labels > 0)[(ring > 0) & (model_of_nucleus[ring] == number)].mean() for number in range(len(models))]
    assert min(means) > 0.2
    assert means[-1] == pytest.approx(means[0], rel=0.3)


def test_the_same_model_for_all_regions_is_one_model_but_for_its_levels(raster):
    model, region = make_model(GENES), (np.arange(N + 1) % 2).astype(np.int64)
    one, two = (predict(raster, models, of)[0] for models, of in (([model], 0 * region), ([model, model], region)))
    assert (one != two).mean() < 0.02


def test_nuclei_keep_their_pixels_and_cells_hold_them(raster):
    nuclei = raster.nuclei
    labels, confidence = predict(raster, [make_model(GENES)])
    assert (labels.dtype, confidence.dtype) == (np.int32, np.uint8)
    np.testing.assert_array_equal(labels[nuclei > 0], nuclei[nuclei > 0])
    assert (confidence[nuclei > 0] > 0).all()
    assert len(np.unique(labels)) == nuclei.max() + 1
    assert (labels > 0).sum() > 1.3 * (nuclei > 0).sum()


@pytest.mark.parametrize(("genes", "more"), [([GENES], 0), ([("b",), ("b",)], 0), ([GENES, ("b",), ("b",)], 1)])
def test_what_the_survey_has_measured_is_not_measured_again(raster, monkeypatch, genes, more):
    """Only what models of other genes see is measured in addition, once."""
    surveyed, original = [], module.look_over
    monkeypatch.setattr(module, "look_over", lambda *a, **k: (surveyed.append(1), original(*a, **k))[1])
    plan_of(raster, [make_model(some, seed) for seed, some in enumerate(genes)], np.arange(N + 1) % len(genes))
    assert len(surveyed) == 1 + more


def test_models_of_another_method_are_refused(raster):
    foreground, cell = new_nets(len(GENES), 0)
    other = PaperModel(foreground=foreground, cell=cell, genes=GENES, params=PaperParams(), um_per_px=1.0)
    with pytest.raises(TypeError, match="The model is of the method 'paper', not 'density'"):
        plan_of(raster, [other])
    with pytest.raises(TypeError, match="The density method takes DensityParams, not PaperParams"):
        DENSITY.learn_shared([raster], GENES, PaperParams(), seed=0)


@pytest.mark.gpu
def test_on_a_gpu(raster):
    model = make_model(GENES)
    expected = predict(raster, [model])[0]
    for tile_size in (96, 4096):
        assert (predict(raster, [model], device="cuda", tile_size=tile_size)[0] == expected).mean() > 0.995


# Expression clusters, learned from parts of samples that are too large to be looked at as a whole


@pytest.fixture(scope="module")
def tissue():
    sdata = ucs.datasets.simulate(width_um=260, height_um=220, n_genes=30, seed=4)
    return raster_of(prepare(sdata, find_source(sdata, None), progress=False), None)


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(module, "_ENOUGH_NUCLEI", 60)
    monkeypatch.setattr(module, "_PART", 96)


def genes_of(tissue):
    return tissue.features[: tissue.n_genes]


def parts_of(tissue, seed=0, *, whole=False):
    return module._labelled(tissue, genes_of(tissue), seed, whole=whole)


def learned(tissue, **params):
    return DENSITY.learn_shared([tissue], genes_of(tissue), DensityParams(**params), seed=0)


def test_a_small_sample_is_taken_whole(tissue):
    (part,) = parts_of(tissue)
    np.testing.assert_array_equal(part.nuclei, tissue.nuclei)
    of = tissue.transcripts
    assert part.transcripts.n_transcripts == of.count[of.feature < tissue.n_genes].sum()


@pytest.mark.usefixtures("in_parts")
def test_of_a_large_one_there_are_parts_with_enough_nuclei(tissue):
    nuclei = tissue.nuclei
    dense, parts = tissue.transcripts.dense()[: tissue.n_genes], parts_of(tissue)
    n_nuclei = [int(part.nuclei.max()) for part in parts]
    assert sum(n_nuclei) >= 60 > sum(n_nuclei[:-1])
    places = [(row, column) for row in range(0, nuclei.shape[0], 96) for column in range(0, nuclei.shape[1], 96)]
    for part, n in zip(parts, n_nuclei, strict=True):
        assert len(part.boxes) == n + 1
        assert set(np.unique(part.nuclei)) - {0} == set(range(1, n + 1))
        height, width = part.nuclei.shape
        found = [
            (row, column)
            for row, column in places
            if np.array_equal(dense[:, row : row + 96, column : column + 96], part.transcripts.dense())
            and np.array_equal(nuclei[row : row + 96, column : column + 96] > 0, part.nuclei > 0)
        ]
        assert len(found) == 1, (height, width)
        places.remove(found[0])  # no part is taken twice


@pytest.mark.usefixtures("in_parts")
def test_the_seed_decides_which(tissue):
    def shapes(seed):
        return [(part.nuclei.shape, part.transcripts.n_transcripts) for part in parts_of(tissue, seed)]

    assert shapes(0) == shapes(0)
    assert len({tuple(shapes(seed)) for seed in range(6)}) > 1


@pytest.mark.usefixtures("in_parts")
def test_types_by_markers_are_told_of_all_nuclei(tissue):
    """Memberships are given for nuclei by id: the sample stays whole."""
    (part,) = parts_of(tissue, whole=True)
    np.testing.assert_array_equal(part.nuclei, tissue.nuclei)


@pytest.mark.usefixtures("in_parts")
def test_clusters_are_learned_from_parts(tissue):
    clusters = learned(tissue).clusters
    assert len(clusters.log_share) > 0
    assert clusters.log_ratio.shape[1] == tissue.n_genes
    np.testing.assert_array_equal(clusters.log_ratio.numpy(), learned(tissue).clusters.log_ratio.numpy())


def test_models_of_some_genes_share_the_clusters_of_all(tissue):
    shared, genes = learned(tissue), genes_of(tissue)
    assert shared.of_genes(genes) is shared.clusters
    some = (genes[7], genes[2])
    np.testing.assert_array_equal(shared.of_genes(some).log_ratio.numpy(), shared.clusters.log_ratio.numpy()[:, [7, 2]])
    data = DENSITY.survey(tissue, some, PARAMS)
    made = DENSITY.prepare([tissue], [data], some, PARAMS, shared, of="")
    np.testing.assert_array_equal(made.clusters.log_ratio.numpy(), shared.of_genes(some).log_ratio.numpy())


def test_where_distance_decides_there_are_no_clusters(tissue):
    assert learned(tissue, ownership="distance").clusters.profiles is None


def test_windows_are_drawn_around_the_nuclei_of_the_region(tissue):
    region = replace(tissue, learned=np.where(tissue.nuclei % 3 == 1, tissue.nuclei, 0).astype(np.int32))
    genes = genes_of(tissue)
    made = DENSITY.prepare(
        [region], [DENSITY.survey(region, genes, PARAMS)], genes, PARAMS, learned(tissue, ownership="distance"), of=""
    )
    np.testing.assert_array_equal(np.flatnonzero(made.data[0].mine) % 3, 1)
    assert made.data[0].mine.sum() == len(np.unique(region.learned)) - 1
