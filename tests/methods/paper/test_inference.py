from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from rasters import grid_of_discs, random_map

from ucs._kernels.lattice import BLOCK, bounding_boxes
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.paper.inference import PixelScores, score_pixels
from ucs.methods.paper.patches import read_transcripts

CPU = torch.device("cpu")
REACH = 10
SHAPE = (2 * BLOCK + 13, BLOCK + 40)


@pytest.fixture(scope="module")
def nets():
    """Narrower layers than those of the paper, for speed."""
    torch.manual_seed(0)
    foreground = ForegroundNet(6, encoder=(16, 16, 8, 8), classifier=(32, 16, 16))
    return foreground.to(memory_format=torch.channels_last).eval(), CellNet(16).eval()


@pytest.fixture
def float32(monkeypatch):
    monkeypatch.setattr("ucs.methods.paper.inference.autocast", lambda _: contextlib.nullcontext())


@pytest.fixture(scope="module")
def transcripts():
    return random_map(0, SHAPE, 6, 20_000)


def boxes_of(nuclei):
    return bounding_boxes(nuclei, int(nuclei.max()))


@dataclass
class Rasters:
    """Scores of one model as rasters."""

    foreground: np.ndarray
    scalar: np.ndarray


def score(transcripts, nuclei, nets, *, device=CPU, **options):
    boxes = boxes_of(nuclei)
    scores = PixelScores.empty(transcripts.shape, boxes, np.zeros(len(boxes), dtype=int), reach=REACH)
    score_pixels(scores, transcripts, *nets, device=device, **options)
    return Rasters(scores.foreground.raster(fill=-np.inf), scores.scalar.raster())


@torch.inference_mode()
def one_window(transcripts, nets):
    foreground, cell = nets
    window = Window(0, 0, *transcripts.shape).grown(foreground.halo)
    features = foreground.features(read_transcripts(transcripts, [window]))
    return foreground.logits(features)[0].numpy(), cell.scalar(features)[0].numpy()


def test_equals_one_large_window(transcripts, nets, float32):
    """Blocks with their halo leave no seams, and the last ones are cut at the raster's border."""
    scores = score(transcripts, grid_of_discs(SHAPE, 20, 4), nets)
    logit, scalar = one_window(transcripts, nets)
    np.testing.assert_allclose(scores.foreground, logit, atol=1e-4)
    np.testing.assert_allclose(scores.scalar, scalar, atol=1e-4)
    assert scores.foreground.dtype == scores.scalar.dtype == np.float32
    assert np.ptp(logit) > 0.1
    assert np.ptp(scalar) > 0.01


def test_nearly_equals_it_in_the_arithmetic_of_the_machine(transcripts, nets):
    scores = score(transcripts, grid_of_discs(SHAPE, 20, 4), nets)
    logit, scalar = one_window(transcripts, nets)
    # bfloat16, where there is any, has 8 bits.
    np.testing.assert_allclose(scores.foreground, logit, atol=0.1 * np.abs(logit).max())
    np.testing.assert_allclose(scores.scalar, scalar, atol=0.1 * np.abs(scalar).max())


def test_tiles_have_no_say(transcripts, nets):
    nuclei = grid_of_discs(SHAPE, 20, 4)
    first = score(transcripts, nuclei, nets)
    for tile_size in (1, 128, 333, 4096):
        scores = score(transcripts, nuclei, nets, tile_size=tile_size)
        np.testing.assert_array_equal(scores.foreground, first.foreground)
        np.testing.assert_array_equal(scores.scalar, first.scalar)


def test_a_larger_raster_has_no_say(transcripts, nets):
    """What a pixel gets depends on what is around it: neither on the raster's size nor on other nuclei."""
    nuclei = grid_of_discs(SHAPE, 20, 4)
    first = score(transcripts, nuclei, nets)
    larger = TranscriptMap.from_positions(
        transcripts.rows(),
        transcripts.column,
        transcripts.feature,
        transcripts.count,
        shape=(SHAPE[0] + 50, SHAPE[1] + 70),
        n_features=6,
    )
    scores = score(larger, np.where(nuclei > 40, nuclei, 0), nets)
    computed = np.isfinite(scores.foreground[: SHAPE[0], : SHAPE[1]])
    assert computed.any()
    for name in ("foreground", "scalar"):
        np.testing.assert_array_equal(
            getattr(scores, name)[: SHAPE[0], : SHAPE[1]][computed], getattr(first, name)[computed]
        )


def test_blocks_far_from_nuclei_are_not_computed(nets):
    shape = (3 * BLOCK, 3 * BLOCK - 5)
    transcripts = random_map(1, shape, 6, 5000)
    nuclei = np.zeros(shape, dtype=np.int32)
    nuclei[3, 4] = 1
    nuclei[BLOCK + REACH + 1, 2 * BLOCK - REACH - 2] = 2  # its reach ends one pixel within its block
    nuclei[-1, -REACH:] = 4
    calls = []
    scores = score(transcripts, nuclei, nets, progress=calls.append)
    computed = np.zeros((3, 3), dtype=bool)
    computed[0, 0] = computed[1, 1] = computed[2, 2] = True
    np.testing.assert_array_equal(np.isfinite(scores.foreground), np.kron(computed, np.ones((BLOCK, BLOCK)))[:, :-5])
    assert (scores.foreground[~np.isfinite(scores.foreground)] == -np.inf).all()
    assert (scores.scalar[~np.isfinite(scores.foreground)] == 0).all()
    assert calls == [1, 2, 3]

    nuclei[BLOCK + REACH - 1, BLOCK + 50] = 5  # one pixel nearer: the block above is in reach
    assert np.isfinite(score(transcripts, nuclei, nets).foreground[BLOCK - 1, BLOCK + 50])


def test_every_pixel_in_reach_is_computed(nets):
    shape = (2 * BLOCK + 3, 2 * BLOCK + 3)
    nuclei = np.zeros(shape, dtype=np.int32)
    nuclei[BLOCK - 2 : BLOCK + 2, BLOCK : BLOCK + 3] = 1
    nuclei[-3:, :2] = 2
    scores = score(random_map(2, shape, 6, 3000), nuclei, nets)
    grown = [(box[:2] - REACH).clip(0).tolist() + (box[2:] + REACH).tolist() for box in boxes_of(nuclei)[1:]]
    for row0, column0, row1, column1 in grown:
        assert np.isfinite(scores.foreground[row0:row1, column0:column1]).all()


def test_several_models_are_asked_where_their_nuclei_reach(transcripts, nets):
    """Each gives there what it gives alone, and takes no memory elsewhere."""
    torch.manual_seed(1)
    other = ForegroundNet(6, encoder=(16, 16, 8, 8), classifier=(32, 16, 16)).eval(), CellNet(16).eval()
    nuclei = grid_of_discs(SHAPE, 20, 4)
    boxes = boxes_of(nuclei)
    model = (boxes[:, 1] >= 60).astype(int)  # the second one judges the nuclei on the right
    scores = PixelScores.empty(SHAPE, boxes, model, n_models=2, reach=REACH)
    rows, columns = -(-SHAPE[0] // BLOCK), 2
    asked = scores.scalar.index.reshape(2, rows, columns) >= 0
    np.testing.assert_array_equal(asked, [[[True, False]] * rows, [[True, True]] * rows])
    assert scores.n_blocks == asked.sum() == len(scores.foreground.blocks)
    for number, both in enumerate((nets, other)):
        score_pixels(scores, transcripts, *both, model=number, device=CPU)
    for number, both in enumerate((nets, other)):
        alone = score(transcripts, np.where(model[nuclei] == number, nuclei, 0), both)
        np.testing.assert_array_equal(scores.scalar.raster(number), alone.scalar)
        np.testing.assert_array_equal(scores.foreground.raster(number, fill=-np.inf), alone.foreground)


def test_no_nuclei(transcripts, nets):
    scores = score(transcripts, np.zeros(SHAPE, dtype=np.int32), nets)
    assert (scores.foreground == -np.inf).all()
    assert not scores.scalar.any()


def test_raster_smaller_than_a_block(nets, float32):
    transcripts = random_map(3, (5, 7), 6, 100)
    scores = score(transcripts, np.ones((5, 7), dtype=np.int32), nets)
    logit, scalar = one_window(transcripts, nets)
    np.testing.assert_allclose(scores.foreground, logit, atol=1e-4)
    np.testing.assert_allclose(scores.scalar, scalar, atol=1e-4)


def test_the_nets_of_the_paper(float32):
    torch.manual_seed(0)
    nets = ForegroundNet(6).to(memory_format=torch.channels_last).eval(), CellNet().eval()
    transcripts = random_map(4, (BLOCK + 9, 30), 6, 3000)
    scores = score(transcripts, grid_of_discs(transcripts.shape, 20, 4), nets)
    logit, scalar = one_window(transcripts, nets)
    np.testing.assert_allclose(scores.foreground, logit, atol=1e-4 * max(1, np.abs(logit).max()))
    np.testing.assert_allclose(scores.scalar, scalar, atol=1e-4 * max(1, np.abs(scalar).max()))


def test_an_encoder_of_two_convolutions_a_block(transcripts, float32):
    torch.manual_seed(0)
    foreground = ForegroundNet(6, convolutions=2, encoder=(16, 16, 8, 8), classifier=(32, 16, 16)).eval()
    nets = foreground, CellNet(16).eval()
    scores = score(transcripts, grid_of_discs(SHAPE, 20, 4), nets)
    logit, scalar = one_window(transcripts, nets)
    np.testing.assert_allclose(scores.foreground, logit, atol=1e-4 * max(1, np.abs(logit).max()))
    np.testing.assert_allclose(scores.scalar, scalar, atol=1e-4 * max(1, np.abs(scalar).max()))


def test_foreground_probability(transcripts, nets):
    """255 p_fg, of the model that says the most where there are several, 0 where none was asked."""
    nuclei = grid_of_discs(SHAPE, 20, 4)
    boxes = boxes_of(nuclei)
    model = (boxes[:, 1] >= 60).astype(int)
    scores = PixelScores.empty(SHAPE, boxes, model, n_models=2, reach=REACH)
    torch.manual_seed(1)
    other = ForegroundNet(6, encoder=(16, 16, 8, 8), classifier=(32, 16, 16)).eval(), CellNet(16).eval()
    for number, both in enumerate((nets, other)):
        score_pixels(scores, transcripts, *both, model=number, device=CPU)
    logits = [scores.foreground.raster(number, fill=-np.inf).astype(float) for number in range(2)]
    found = scores.foreground_probability()
    assert found.dtype == np.uint8
    expected = 255 / (1 + np.exp(-np.maximum(*logits)))
    np.testing.assert_allclose(found, expected, atol=0.5 + 1e-3)
    nowhere = PixelScores.empty(SHAPE, boxes[:1], model[:1], reach=REACH)
    assert not nowhere.foreground_probability().any()


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(transcripts, nets, float32):
    nuclei = grid_of_discs(SHAPE, 20, 4)
    on_cpu = score(transcripts, nuclei, nets)
    device = torch.device("cuda")
    try:
        on_gpu = score(transcripts, nuclei, [net.to(device) for net in nets], device=device)
    finally:
        for net in nets:
            net.cpu()
    np.testing.assert_allclose(on_gpu.foreground, on_cpu.foreground, atol=0.05)  # TensorFloat-32 convolutions
    np.testing.assert_allclose(on_gpu.scalar, on_cpu.scalar, atol=0.05)
