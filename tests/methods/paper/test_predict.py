"""The paper's method tile by tile against the same equations on the whole raster at once."""

from __future__ import annotations

import functools
import pickle
from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
import torch
from rasters import random_map, random_nuclei

from ucs._kernels.distances import nucleus_axes
from ucs._kernels.lattice import BLOCK, bounding_boxes, tiles_of
from ucs._kernels.transcripts import Window
from ucs.methods import DensityModel, DensityParams, PaperModel, PaperParams, RasterSample
from ucs.methods.cell_types import nucleus_types
from ucs.methods.clusters.expression import ExpressionProfiles
from ucs.methods.density.net import DensityNet
from ucs.methods.model import Selection
from ucs.methods.paper.assign import assign_pixels
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.paper.inference import PixelScores, score_pixels
from ucs.methods.paper.marks import Marks, mark_pixels
from ucs.methods.paper.method import PAPER
from ucs.methods.paper.patches import read_transcripts

CPU = torch.device("cpu")
SHAPE = (230, 310)
FEATURES = ("a", "b", "c", "d", "e", "f", "NegControl")
GENES = FEATURES[:-1]
MARKERS = {"T": ["a", "b"], "B": ["c"], "none": ["elsewhere"]}
RASTERS = {"labels": np.int32, "confidence": np.uint8, "foreground": np.uint8}


@functools.cache
def transcripts():
    return random_map(0, SHAPE, len(FEATURES), 40_000)


@pytest.fixture(scope="module")
def raster():
    nuclei = random_nuclei(1, SHAPE, 70, radius=(2, 7))
    return RasterSample(transcripts(), FEATURES, len(GENES), nuclei, int(nuclei.max()), 1.0)


def make_model(genes=GENES, seed=0, markers=None):
    """Narrow nets whose f(p), and so what they decide, varies from pixel to pixel."""
    torch.manual_seed(seed)
    foreground = ForegroundNet(len(genes), encoder=(16, 16, 8, 8), classifier=(32, 16, 16))
    foreground = foreground.to(memory_format=torch.channels_last).eval()
    cell = CellNet(foreground.feature_width, marked=bool(markers)).eval()
    pixels = read_transcripts(Selection.of_genes(genes, FEATURES).of(transcripts()), [Window(0, 0, 96, 96)])
    with torch.no_grad():
        f = cell.scalar(foreground.features(pixels))
        last = cell.scalar_net[-1]
        scale = 0.5 / f.std()
        last.weight.mul_(scale)
        last.bias.sub_(f.mean()).mul_(scale).add_(1)
        cell.head.weight.copy_(torch.tensor([-5.0, 5.0])[:, None, None, None].expand_as(cell.head.weight) / 2)
        cell.head.bias.copy_(torch.tensor([0.9, -0.9]))
    return PaperModel(
        foreground=foreground, cell=cell, genes=genes, params=PaperParams(), um_per_px=1.0, markers=markers or {}
    )


class Setting:
    """A raster with the models that are applied to it."""

    def __init__(self, raster, models, model_of_nucleus=None, *, threshold=0.5):
        self.raster, self.models, self.threshold = raster, models, threshold
        judge = np.zeros(raster.n + 1, dtype=np.int64) if model_of_nucleus is None else model_of_nucleus
        self.model_of_nucleus = judge
        self.plan = PAPER.plan(models, raster, judge, None, threshold=threshold)

    def tile(self, core, predictor=None):
        """The cells on one core."""
        return apply(predictor or self.plan.predictor, self.plan.task(core))

    def cells(self, side):
        """The cells from tiles of one size."""
        made = {name: np.zeros(self.raster.shape, dtype=dtype) for name, dtype in RASTERS.items()}
        for core in tiles_of(self.raster.shape, side):
            cells = self.tile(core)
            for name, whole in made.items():
                of_tile = getattr(cells, name)
                assert of_tile.shape == core.shape
                assert of_tile.dtype == whole.dtype
                whole[core.slices] = of_tile
        return made

    @cached_property
    def expected(self):
        """The oracle: all blocks scored, then all pixels assigned."""
        raster, models, params = self.raster, self.models, self.models[0].params
        boxes = bounding_boxes(raster.nuclei, raster.n)
        scores = PixelScores.empty(raster.shape, boxes, self.model_of_nucleus, n_models=len(models), reach=params.reach)
        for number, model in enumerate(models):
            transcripts = model.select_genes(raster.transcripts, raster.features)
            score_pixels(scores, transcripts, model.foreground, model.cell, model=number, device=CPU)
        types = nucleus_types(replace(raster, markers=models[0].markers))
        marks = None
        if types is not None:
            marks = Marks(mark_pixels(raster.transcripts, types.is_marker, types.types), types.type_of)
        heads = [[float(x.detach()) for x in (*one.cell.weight_bias(), one.cell.mark_weight())] for one in models]
        weight, bias, mark_weight = np.array(heads).T
        labels, probability = assign_pixels(
            raster.nuclei, boxes, nucleus_axes(raster.nuclei, raster.n, strength=params.shape_exponent), scores.scalar,
            model=self.model_of_nucleus, weight=weight, bias=bias, marks=marks, mark_weight=mark_weight, tau=params.tau,
            temperature=np.array([float(one.cell.temperature) for one in models]), reach=params.reach,
            threshold=self.threshold,
        )  # fmt: skip
        return {"labels": labels, "confidence": probability, "foreground": scores.foreground_probability()}


def apply(predictor, task):
    return predictor.decide(predictor.forward(task, device=CPU, tile_size=96))


def assert_same(made, expected):
    for name, whole in expected.items():
        np.testing.assert_array_equal(made[name], whole, err_msg=name)


SETTINGS = {
    "one model": [GENES],
    "some genes": [("f", "b")],
    "two models": [GENES, GENES],
    "three models of other genes": [GENES, ("b", "a", "e"), ("c",)],
}


@pytest.fixture(scope="module", params=[*SETTINGS, "markers", "given types", "two models with markers"])
def setting(request, raster):
    random = np.random.default_rng(2)
    genes, markers = SETTINGS.get(request.param), None
    if genes is None:
        genes, markers = [GENES] * (2 if "two" in request.param else 1), MARKERS
    if request.param == "given types":
        raster = replace(raster, cell_types=random.choice(np.array(["T", "B", "", "other"], dtype=object), raster.n))
    models = [make_model(some, seed, markers) for seed, some in enumerate(genes)]
    return Setting(raster, models, random.integers(0, len(models), raster.n + 1))


@pytest.mark.parametrize("side", [BLOCK, 2 * BLOCK, 10_000])
def test_tiles_have_no_say(setting, side):
    assert_same(setting.cells(side), setting.expected)


def test_what_is_compared_is_not_trivial(setting):
    labels, nuclei = setting.expected["labels"], setting.raster.nuclei
    np.testing.assert_array_equal(labels[nuclei > 0], nuclei[nuclei > 0])
    assert 1.2 * (nuclei > 0).sum() < (labels > 0).sum() < 0.9 * labels.size
    assert len(np.unique(setting.expected["confidence"][nuclei == 0])) > 20
    assert len(np.unique(setting.expected["foreground"])) > 3


def test_models_and_markers_have_a_say(raster):
    one = Setting(raster, [make_model()]).expected["labels"]
    other = Setting(raster, [make_model(), make_model(seed=1)], np.arange(raster.n + 1) % 2).expected["labels"]
    marked = Setting(raster, [make_model(markers=MARKERS)])
    without = replace(marked.plan.predictor, is_marker=None)
    assert (one != other).sum() > 100
    core = Window(0, 0, 192, 192)
    assert (marked.tile(core).labels != marked.tile(core, without).labels).sum() > 100


def test_nuclei_across_borders_of_tiles(raster):
    """At a corner of four tiles, along a border, longer than a tile, at the end of the raster, of one pixel."""
    nuclei = np.zeros(SHAPE, dtype=np.int32)
    nuclei[92:100, 91:101] = 1
    nuclei[190:194, 20:60] = 2
    nuclei[60:66, 90:295] = 3
    nuclei[226:230, 300:310] = 4
    nuclei[140, 95], nuclei[140, 97] = 5, 6
    setting = Setting(replace(raster, nuclei=nuclei, n=6), [make_model()])
    for side in (BLOCK, 2 * BLOCK):
        assert_same(setting.cells(side), setting.expected)
    labels = setting.expected["labels"]
    for corner in ((slice(0, 96), slice(0, 96)), (slice(96, 192), slice(96, 192))):
        assert (labels[corner] == 1).sum() > 20
    for rows in (slice(180, 190), slice(194, 204)):
        assert (labels[rows] == 2).any()


def test_an_id_that_is_used_twice(raster):
    """In places far from each other: the cells of a tile are the same though it holds only one of them."""
    nuclei = np.zeros(SHAPE, dtype=np.int32)
    nuclei[20:28, 20:28] = nuclei[200:208, 280:288] = 1
    nuclei[60:66, 100:108] = 2
    setting = Setting(replace(raster, nuclei=nuclei, n=2), [make_model()])
    made = setting.cells(BLOCK)
    for name in ("labels", "confidence"):
        np.testing.assert_array_equal(made[name], setting.expected[name])


@pytest.mark.parametrize("n", [0, 1])
def test_tiles_without_nuclei(raster, n):
    nuclei = np.zeros(SHAPE, dtype=np.int32)
    nuclei[5 : 5 + 4 * n, 5:9] = 1
    setting = Setting(replace(raster, nuclei=nuclei, n=n), [make_model()])
    task = setting.plan.task(Window(192, 192, 230, 288))
    assert task.ids.tolist() == [0]
    scores = setting.plan.predictor.forward(task, device=CPU, tile_size=96)
    assert scores.scores.n_blocks == 0
    made = setting.plan.predictor.decide(scores)
    assert made.labels.shape == (38, 96)
    assert not any(getattr(made, name).any() for name in RASTERS)
    assert_same(setting.cells(BLOCK), setting.expected)
    assert (setting.expected["labels"] > 0).any() == bool(n)


def test_only_the_blocks_of_the_core_go_through_the_nets(raster):
    setting = Setting(raster, [make_model()])
    task = setting.plan.task(Window(96, 96, 192, 192))
    assert task.window == Window(0, 0, 230, 288)
    assert setting.plan.predictor.forward(task, device=CPU, tile_size=96).scores.n_blocks == 1


def test_a_task_and_the_predictor_may_travel(setting):
    """Pickled, they are small and give the same elsewhere."""
    task = setting.plan.task(Window(0, 96, 96, 192))
    sent = pickle.dumps((task, setting.plan.predictor), protocol=5)
    travelled, predictor = pickle.loads(sent)  # noqa: S301
    assert_same(vars(apply(predictor.on(CPU), travelled)), vars(apply(setting.plan.predictor, task)))
    assert len(pickle.dumps(task)) < len(pickle.dumps(setting.plan))


def test_foreground_is_the_probability_of_the_foreground_net(raster):
    """Equation 1, where nuclei reach the block."""
    model = make_model()
    core = Window(96, 96, 192, 192)
    batch = read_transcripts(
        model.select_genes(raster.transcripts, raster.features), [core.grown(model.foreground.halo)]
    )
    with torch.inference_mode():
        logit = model.foreground.logits(model.foreground.features(batch))[0].numpy()
    made = Setting(raster, [model]).tile(core).foreground
    np.testing.assert_allclose(made, 255 / (1 + np.exp(-logit)), atol=0.51)


def test_of_several_models_the_highest_foreground_counts(raster):
    core, models = Window(0, 0, 96, 96), [make_model(), make_model(seed=1)]
    both = Setting(raster, models, np.arange(raster.n + 1) % 2).tile(core).foreground
    each = [Setting(raster, [model]).tile(core).foreground for model in models]
    np.testing.assert_array_equal(both, np.maximum(*each))


def test_the_threshold_shrinks_cells_and_changes_nothing_else(setting):
    core = Window(0, 96, 192, 288)
    nuclei = setting.raster.nuclei[core.slices]
    before = None
    for threshold in (0.2, 0.35, 0.5, 0.65, 0.9):
        made = setting.tile(core, replace(setting.plan.predictor, threshold=threshold))
        np.testing.assert_array_equal(made.labels[nuclei > 0], nuclei[nuclei > 0])
        if before is not None:
            kept = made.labels > 0
            assert kept.sum() < (before.labels > 0).sum()
            np.testing.assert_array_equal(made.labels[kept], before.labels[kept])
            np.testing.assert_array_equal(made.foreground, before.foreground)
        before = made


def test_the_default_threshold_is_the_papers_argmax(raster):
    setting = Setting(raster, [make_model()], threshold=PAPER.threshold)
    assert_same(setting.cells(10_000), setting.expected)
    assert PAPER.threshold == 0.5  # adds nothing to the background's logit


def test_models_of_another_method_are_refused(raster):
    other = DensityModel(
        net=DensityNet(4), clusters=ExpressionProfiles(0, 1), genes=GENES, params=DensityParams(), um_per_px=1.0
    )
    with pytest.raises(TypeError, match="The model is of the method 'density', not 'paper'"):
        Setting(raster, [other])


@pytest.mark.gpu
def test_on_a_gpu(setting):
    device = torch.device("cuda")
    predictor = setting.plan.predictor.on(device)
    task = setting.plan.task(Window(0, 0, *SHAPE))
    made = predictor.decide(predictor.forward(task, device=device, tile_size=300))
    assert (made.labels == setting.expected["labels"]).mean() > 0.99
