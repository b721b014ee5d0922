from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rasters import random_map, random_nuclei

import ucs
from ucs._kernels.lattice import BLOCK, tiles_of
from ucs._kernels.transcripts import Window
from ucs.methods import PretrainedParams, RasterSample
from ucs.methods.model import Selection
from ucs.methods.pretrained import predict as module
from ucs.methods.pretrained.assign import calibrated
from ucs.methods.pretrained.features import N_FEATURES, NucleusTable
from ucs.methods.pretrained.method import PRETRAINED
from ucs.methods.pretrained.model import WEIGHTS, pretrained_net
from ucs.methods.pretrained.net import HALO, OwnerNet
from ucs.methods.pretrained.predict import OwnerPredictor, OwnerScores, thresholds
from ucs.methods.pretrained.survey import N_RINGS, RINGS_UM, measure_tissue, pooled

CPU = torch.device("cpu")
SHAPE = (230, 310)


def make_raster(seed=0, shape=SHAPE, n_genes=8, n=20_000, um_per_px=0.5):
    nuclei = random_nuclei(seed, shape, 60)
    genes = tuple(f"g{k}" for k in range(n_genes))
    return RasterSample(random_map(seed, shape, n_genes, n), genes, n_genes, nuclei, int(nuclei.max()), um_per_px)


@pytest.fixture(scope="module")
def raster():
    return make_raster()


@pytest.fixture(scope="module")
def model(raster):
    survey = PRETRAINED.survey(raster, raster.features, PretrainedParams())
    training_set = PRETRAINED.prepare([raster], [survey], raster.features, PretrainedParams(), None, of="")
    made = training_set.fit(PretrainedParams(), device=CPU, seed=0, start=None, progress=lambda _done, _total: None)
    torch.manual_seed(1)  # a net of random weights has an opinion on every pixel
    return replace(made, net=OwnerNet().eval())


def plan_of(raster, model, **options):
    survey = measure_tissue(
        raster.transcripts,
        Selection.of_genes(model.genes, raster.features),
        raster.nuclei,
        raster.n,
        shape_exponent=0.3,
        um_per_px=raster.um_per_px,
        **options,
    )
    return PRETRAINED.plan([model], raster, np.zeros(raster.n + 1, dtype=np.int64), survey, threshold=0.5)


def cells_of(plan, shape, side):
    out = np.zeros((3, *shape), dtype=np.int32)
    for core in tiles_of(shape, side):
        found = plan.predictor.decide(plan.predictor.forward(plan.task(core), device=CPU, tile_size=side))
        out[:, *core.slices] = found.labels, found.confidence, found.foreground
    return out


def test_figures_of_the_tissue_do_not_depend_on_tiles(raster, model):
    whole, parts = plan_of(raster, model).survey, plan_of(raster, model, tile=BLOCK).survey
    for name in ("level", "area", "rings", "far", "maps"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name), err_msg=name)


def test_figures_of_nuclei_and_rings(raster, model):
    survey = plan_of(raster, model).survey
    pixels = np.bincount(raster.nuclei.ravel(), minlength=raster.n + 1)
    np.testing.assert_allclose(survey.area[1:], pixels[1:] * 0.25)
    assert survey.maps.shape[0] == 2 * N_RINGS + 2
    np.testing.assert_allclose(survey.maps[N_RINGS : 2 * N_RINGS].sum(axis=0), 1, rtol=1e-5)
    candidates = module.find_candidates(raster.nuclei, survey.boxes, survey.axes, factor=2, um_per_px=0.5)
    count, distance = pooled(raster.transcripts.totals(), 2), candidates.distance[0]
    is_far = (distance >= RINGS_UM[2]) & (pooled(raster.nuclei > 0, 2) == 0)
    assert survey.far.sum() == count[is_far].sum()


@pytest.mark.parametrize("um_per_px", [0.5, 1.0, 0.35])
def test_cells_do_not_depend_on_tiles(model, um_per_px):
    raster = make_raster(2, (130, 230), um_per_px=um_per_px)
    plan = plan_of(raster, model)
    whole = cells_of(plan, raster.shape, 11 * BLOCK)
    assert len(np.unique(whole[0])) > raster.n / 2
    for side in (BLOCK, 2 * BLOCK):
        np.testing.assert_array_equal(cells_of(plan, raster.shape, side), whole)


def test_nuclei_keep_their_pixels(raster, model):
    labels = cells_of(plan_of(raster, model), raster.shape, 11 * BLOCK)[0]
    np.testing.assert_array_equal(labels[raster.nuclei > 0], raster.nuclei[raster.nuclei > 0])


def test_the_net_sees_as_far_as_its_halo():
    torch.manual_seed(0)
    net, x = OwnerNet().eval(), torch.randn(1, N_FEATURES, 2 * HALO + 3, 2 * HALO + 3)
    with torch.inference_mode():
        assert net(x).shape == (1, 2, 3, 3, 3)
        moved = x.clone()
        moved[..., 0, 0] += 100
        changed = (net(moved) != net(x)).any(dim=(0, 1, 2))
    assert changed[0, 0]
    assert not changed[1:, 1:].any()


def test_the_threshold_falls_with_the_transcripts_in_a_nucleus():
    n = np.array([0.0, 1.0, 3.0, 10.0, 1000.0], dtype=np.float32)
    table = NucleusTable(np.log(n / 30 + 1e-9), np.full(5, 30, np.float32), n, n, n)
    np.testing.assert_allclose(thresholds(0.5, table), [0.3, 0.32, 0.4, 0.4835, 0.5], atol=1e-3)


def decide_oracle(owner, probability, factor, shape, threshold, nuclei):
    """Interpolate the probability of each id as an image of its own."""
    n = int(max(owner.max(), nuclei.max()))
    h, w = owner.shape[1:]
    images = np.zeros((2, n + 1, h, w))  # owner of the place, origin of a transcript
    for number in (0, 1):
        for c in range(1, n + 1):
            images[:, c] += np.where(owner[number] == c, probability[:, number], 0)
    labels, confidence = np.zeros(shape, dtype=int), np.zeros(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            y, x = (np.array([i, j]) - (factor - 1) / 2) / factor
            low_y, low_x = int(np.floor(y)), int(np.floor(x))
            at, origin = np.zeros((2, n + 1))
            for a in (0, 1):
                for b in (0, 1):
                    weight = abs(1 - a - (y - low_y)) * abs(1 - b - (x - low_x))
                    here = images[:, :, np.clip(low_y + a, 0, h - 1), np.clip(low_x + b, 0, w - 1)]
                    at, origin = at + weight * here[0], origin + weight * here[1]
            if nuclei[i, j]:
                labels[i, j] = nuclei[i, j]
            elif at.sum() > threshold[at.argmax()]:
                labels[i, j] = at.argmax()
            confidence[i, j] = 255 * calibrated(min(origin[labels[i, j]], 1))
    return labels, confidence


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixels_are_decided_between_net_pixels(factor):
    random = np.random.default_rng(factor)
    h, w = 7, 9
    shape = (h * factor - (factor > 1), w * factor)  # the raster may end within a net pixel
    owner = random.integers(0, 4, (2, h, w)).astype(np.int32)
    owner[1] = np.where(owner[1] == owner[0], 0, owner[1])
    probability = random.dirichlet(np.ones(3), (2, h, w)).transpose(0, 3, 1, 2).astype(np.float32)
    nuclei = np.where(random.random(shape) < 0.1, 2, 0).astype(np.int32)
    core = Window(0, 0, *shape)
    few = np.zeros(5, dtype=np.float32)
    table = NucleusTable(np.log(random.uniform(0.01, 1, 5)).astype(np.float32), few + 30, few, few, few)
    task = module.OwnerTask(
        core, shape, core, np.arange(5, dtype=np.int32), nuclei, None, table, None, None, None, None
    )
    predictor = OwnerPredictor(None, None, factor, 1.0 / factor, 0.4, None)
    found = predictor.decide(OwnerScores(task, 0, 0, owner, probability))
    expected, confidence = decide_oracle(owner, probability, factor, shape, thresholds(0.4, table), nuclei)
    np.testing.assert_array_equal(found.labels, expected)
    in_cells = expected > 0
    np.testing.assert_allclose(found.confidence[in_cells], confidence[in_cells], atol=0.51)
    assert (found.foreground[nuclei > 0] == 255).all()


def test_the_model_is_saved_as_it_is(model, raster, tmp_path):
    model.save(tmp_path / "m")
    again = ucs.methods.UCSModel.load(tmp_path / "m")
    assert again.genes == model.genes
    for name, tensor in model.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name
    np.testing.assert_array_equal(
        cells_of(plan_of(raster, again), raster.shape, 11 * BLOCK),
        cells_of(plan_of(raster, model), raster.shape, 11 * BLOCK),
    )


def test_the_net_that_comes_with_the_package():
    folder = Path(module.__file__).parent
    about = json.loads((folder / "owner_net.json").read_text())
    weights = (folder / WEIGHTS).read_bytes()
    assert hashlib.sha256(weights).hexdigest() == about["sha256"]
    assert len(weights) < 2e6
    net = pretrained_net()
    assert all(torch.isfinite(weight).all() for weight in net.state_dict().values())
    assert not net.training


def test_a_sample_of_too_few_nuclei_for_clusters():
    raster = make_raster(3, shape=(90, 90), n=800)
    survey = PRETRAINED.survey(raster, raster.features, PretrainedParams())
    counts = PRETRAINED.prepare([raster], [survey], raster.features, PretrainedParams(), None, of="")
    few = replace(counts, counts=counts.counts[:5])
    made = few.fit(PretrainedParams(), device=CPU, seed=0, start=None, progress=lambda _done, _total: None)
    assert made.expression is None
    assert made.clusters.log_ratio.shape == (2, 8)


def test_regions_have_no_effect():
    sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=20, seed=0)
    with pytest.raises(ValueError, match=r"^regions= has no effect with method='pretrained'"):
        ucs.tl.segment(sdata, method="pretrained", regions=48)
