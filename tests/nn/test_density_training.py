from __future__ import annotations

import contextlib
import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from rasters import grid_of_discs, map_from_dense, random_nuclei
from ucs._core.lattice import bounding_boxes
from ucs._core.overview import Selection, look_over
from ucs._core.surroundings import survey
from ucs._core.transcripts import Window
from ucs.nn import density_training as module
from ucs.nn.density import HALO, geometry
from ucs.nn.density_training import BLOCK, DensityData, new_density_net, predict_density, train_density, wanted_blocks
from ucs.nn.params import TrainParams

CPU = torch.device("cpu")
PARAMS = TrainParams(patch_size=24, max_steps=4, density_width=8)
REACH = 20
SHAPE = (130, 150)


@pytest.fixture
def float32(monkeypatch):
    monkeypatch.setattr(module, "autocast", lambda _: contextlib.nullcontext())


def density_field(nuclei, um_per_px=1.0):
    """Transcripts per um2: rich nuclei, cells that end 3 um from their nucleus, next to nothing beyond."""
    distance = ndimage.distance_transform_edt(nuclei == 0) * um_per_px
    return np.where(nuclei > 0, 1.2, np.where(distance <= 3, 0.6, 0.03))


def sample(shape=SHAPE, *, spacing=26, seed=0, mine=None, um_per_px=1.0, depth=1.0):
    nuclei = grid_of_discs(shape, spacing, 4)
    rate = depth * density_field(nuclei, um_per_px) * um_per_px**2
    return of(np.random.default_rng(seed).poisson(rate).astype(np.int32), nuclei, mine=mine, um_per_px=um_per_px)


def of(totals, nuclei, *, mine=None, um_per_px=1.0):
    boxes = bounding_boxes(nuclei, int(nuclei.max(initial=0)))
    around = survey(totals, nuclei, boxes, reach=REACH, strength=0.5, um_per_px=um_per_px)
    return DensityData.of(around, mine)


def train(data, params=PARAMS, *, seed=0, **options):
    data = [data] if isinstance(data, DensityData) else data
    return train_density(data, params, device=CPU, seed=seed, **options)


def predict(data, net, *, fill=-1.0, **options):
    out = np.full(data.around.totals.shape, fill, dtype=np.float32)
    predict_density(data, net, out, device=CPU, **options)
    return out


def lively(seed=0):
    """A net whose output varies: a new one says the mean of every pixel."""
    net = new_density_net(PARAMS, seed).eval()
    torch.nn.init.normal_(net.head[-1].weight, generator=torch.Generator().manual_seed(seed), std=0.3)
    return net


def equal(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.fixture(scope="module")
def data():
    return sample()


# Data


def test_mean_is_that_of_pixels_nearest_to_nuclei_that_count(data):
    around = data.around
    owner = np.where(around.nuclei > 0, 0, around.nearest.owner)
    assert data.mean == pytest.approx(around.totals[owner > 0].mean())
    some = np.zeros(len(around.boxes), dtype=bool)
    some[[0, 3, 7]] = True
    before = some.copy()
    part = DensityData.of(around, some)
    assert part.mean == pytest.approx(around.totals[np.isin(owner, [3, 7])].mean())
    assert not part.mine[0]
    np.testing.assert_array_equal(some, before)
    np.testing.assert_array_equal(np.flatnonzero(part.boxes().any(axis=1)), [3, 7])
    np.testing.assert_array_equal(part.boxes()[3], around.boxes[3])


@pytest.mark.parametrize("mine", [None, np.zeros(2, dtype=bool)])
def test_mean_without_anything_to_measure(mine):
    ones = np.ones((9, 9), dtype=np.int32)
    assert of(ones, ones, mine=mine).mean > 0  # no pixel outside
    nucleus = np.pad(np.ones((3, 3), dtype=np.int32), 3)
    assert of(0 * ones, nucleus, mine=mine).mean > 0  # no transcripts


def test_what_is_seen_of_windows_inside_and_beyond(data):
    around, nearest = data.around, data.around.nearest
    whole = geometry(nearest.distance, nearest.second, around.richness[nearest.owner], um_per_px=1.0)
    window = Window(-5, 140, 20, 160)
    seen, made = data.look(window)
    np.testing.assert_array_equal(seen.totals, window.read(around.totals))
    np.testing.assert_array_equal(seen.distance, window.read(nearest.distance, fill=np.inf))
    np.testing.assert_array_equal(made[:, 5:, :10], whole[:, :20, 140:150])
    far = geometry(*np.full((2, 1, 1), np.inf, dtype=np.float32), np.zeros((1, 1), np.float32), um_per_px=1.0)
    np.testing.assert_array_equal(made[:, :5], np.broadcast_to(far, (len(far), 5, 20)))
    np.testing.assert_array_equal(data.look(Window(3, 4, 40, 50))[1], whole[:, 3:40, 4:50])


# Training


def test_loss_falls(data):
    params = replace(PARAMS, max_steps=60, patch_size=48, batch_size=2)
    net, losses = train(data, params)
    assert len(losses) == 60
    assert np.mean(losses[-15:]) < np.mean(losses[:5]) - 0.01
    assert not net.training


def test_loss_of_a_new_net_by_hand(data, float32):
    """Poisson log-likelihood of a fifth of the counts at the mean density, on pixels outside nuclei alone."""
    net = new_density_net(PARAMS, 0)
    window, random = Window(20, 30, 60, 80), np.random.default_rng(3)
    loss = module._loss(net, [data], [(0, window)], random, CPU)
    grown = window.grown(HALO)
    totals = grown.read(data.around.totals)
    unseen = totals - np.random.default_rng(3).binomial(totals, 0.8)
    outside = window.read(data.around.nuclei) == 0
    target = unseen[HALO:-HALO, HALO:-HALO][outside]
    assert loss.item() == pytest.approx(0.2 * data.mean - (target * np.log(data.mean)).mean(), rel=1e-5)


def test_nucleus_pixels_and_what_lies_beyond_have_no_say_in_the_loss(data, float32, monkeypatch):
    """Whatever the net says of them, the loss is the same, and their own outputs learn nothing."""
    window = Window(-6, 100, 40, 160)
    outside = window.read(data.around.nearest.distance, fill=np.inf)
    counted = torch.from_numpy((outside > 0) & np.isfinite(outside))
    shift = torch.zeros(window.shape, requires_grad=True)
    net = lively()
    loss = module._loss(lambda *x: net(*x) + shift, [data], [(0, window)], np.random.default_rng(0), CPU)
    loss.backward()
    assert 0 < counted.sum() < counted.numel()
    assert (shift.grad[~counted] == 0).all()
    assert (shift.grad[counted] != 0).all()
    changed = copy.copy(shift.detach())
    changed[~counted] = 3.0
    again = module._loss(lambda *x: net(*x) + changed, [data], [(0, window)], np.random.default_rng(0), CPU)
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)


def test_the_net_does_not_see_what_it_predicts(data, float32, monkeypatch):
    seen = []

    def spy(counts, place):
        seen.append(counts.numpy())
        return torch.zeros(1, 40, 50)

    window = Window(20, 30, 60, 80)
    module._loss(spy, [data], [(0, window)], np.random.default_rng(0), CPU)
    totals = window.grown(HALO).read(data.around.totals)
    kept = seen[0][0] * 0.8 / module.count_scale(data.mean)
    np.testing.assert_allclose(kept, np.rint(kept), atol=1e-3)
    assert (kept <= totals + 1e-3).all()
    assert kept.sum() / totals.sum() == pytest.approx(0.8, abs=0.05)


def test_a_window_of_nuclei_alone_has_no_loss():
    ones = np.ones((60, 60), dtype=np.int32)
    net, losses = train(of(ones, ones), replace(PARAMS, max_steps=2))
    assert losses == [0, 0]
    assert all(torch.isfinite(weight).all() for weight in net.parameters())


@pytest.mark.parametrize("totals", [0, 1])
def test_no_transcripts_or_one(totals):
    nucleus = np.pad(np.ones((3, 3), dtype=np.int32), 8)
    counts = np.zeros(nucleus.shape, dtype=np.int32)
    counts[5, 5] = totals
    data = of(counts, nucleus)
    net, losses = train(data)
    assert np.isfinite(losses).all()
    made = predict(data, net)
    assert np.isfinite(made).all()
    assert made.max() < 1


def test_the_seed_decides(data):
    one, again, other = (train(data, seed=seed) for seed in (0, 0, 1))
    assert one[1] == again[1] != other[1]
    assert equal(one[0], again[0])
    assert not equal(one[0], other[0])


def test_training_leaves_the_generators_of_the_user_alone(data):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(data, replace(PARAMS, max_steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_going_on_from_a_trained_net(data):
    start, _ = train(data)
    before = copy.deepcopy(start)
    net, _ = train(data, start=start)
    assert equal(start, before)
    assert not equal(net, start)
    still, _ = train(data, replace(PARAMS, learning_rate=1e-30), start=start)
    assert equal(still, start)
    assert not start.training


def test_defaults_of_the_density_net(data, monkeypatch):
    monkeypatch.setattr(module, "_loss", lambda net, *_: next(net.parameters()).sum())  # for speed
    assert len(train(data, TrainParams(density_width=1))[1]) == 300


def test_progress(data):
    seen = []
    train(data, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_windows_hold_nuclei_that_count():
    some = np.zeros(31, dtype=bool)
    some[[4, 17]] = True
    data = [sample(mine=some), sample(seed=1), sample(seed=2, mine=np.zeros(31, dtype=bool))]
    windows = module._Windows(data, 24, np.random.default_rng(0))
    drawn = windows.draw(600)
    assert all(window.shape == (24, 24) for _, window in drawn)
    numbers = np.array([number for number, _ in drawn])
    assert set(numbers) == {0, 1}
    assert (numbers == 0).mean() == pytest.approx(2 / 32, abs=0.04)  # in proportion to the nuclei that count
    for number, window in drawn[:100]:
        ids = np.unique(window.read(data[number].around.nuclei))
        assert np.isin(ids, np.flatnonzero(data[number].mine)).any()
    corners = np.array([(w.row0, w.column0) for number, w in drawn if number == 1])
    assert len(np.unique(corners % 24, axis=0)) > 250  # anywhere around them


def test_several_samples(float32):
    """One of them four times as deep: what the net learns is relative to the mean of each."""
    data = [sample((80, 80)), sample((80, 80), seed=1, depth=4)]
    net, _ = train(data, replace(PARAMS, max_steps=60, patch_size=40, batch_size=2))
    ratios = []
    for one in data:
        made = predict(one, net)
        ratios.append([made[distance_ring(one, *ring)].mean() / one.mean for ring in ((1, 2), (5, 12))])
    ratios = np.array(ratios)
    assert (ratios[:, 0] > 2 * ratios[:, 1]).all()
    np.testing.assert_allclose(ratios[0, 0], ratios[1, 0], rtol=0.6)


def distance_ring(data, low, high):
    distance = data.around.nearest.distance
    return (distance >= low) & (distance <= high)


def test_recovers_a_known_field():
    """Roughly, from little training: cells end where they end, at the right densities."""
    data = sample((200, 200))
    net, _ = train(data, TrainParams(patch_size=48, max_steps=120, density_width=16, batch_size=1))
    made, truth = predict(data, net), density_field(data.around.nuclei)
    inside, beyond = distance_ring(data, 1, 2.5), distance_ring(data, 5, 12)
    assert made[inside].mean() == pytest.approx(truth[inside].mean(), rel=0.25)
    assert made[beyond].mean() < 0.1
    outside = distance_ring(data, 1, 12)
    assert np.corrcoef(made[outside], truth[outside])[0, 1] > 0.85


# Prediction


@torch.inference_mode()
def test_prediction_equals_one_large_window(data, float32):
    net = lively()
    window = Window(0, 0, *data.around.totals.shape).grown(HALO)
    counts = torch.from_numpy(window.read(data.around.totals).astype(np.float32) * module.count_scale(data.mean))
    expected = torch.exp(net(counts[None], torch.from_numpy(data.look(window)[1])[None]))[0].numpy() * data.mean
    made = predict(data, net)
    near = data.around.nearest.owner > 0
    np.testing.assert_allclose(made[near], expected[near], rtol=1e-4)
    assert np.ptp(np.log(made[near])) > 0.2
    assert (made[~near] == -1).all()


def test_densities_are_per_area(float32):
    """The same counts and distances on smaller pixels: the same net gives densities in transcripts per um2."""
    one = sample((60, 60))
    flat = new_density_net(PARAMS, 0).eval()  # gives the mean
    half = replace(one, around=replace(one.around, um_per_px=0.5))
    np.testing.assert_allclose(predict(half, flat, fill=0), 4 * predict(one, flat, fill=0))
    assert predict(one, flat)[3, 3] == pytest.approx(one.mean)


@pytest.mark.parametrize("tile_size", [1, 96, 200, 4096])
def test_tile_size_has_no_say(data, tile_size):
    net = lively()
    np.testing.assert_array_equal(predict(data, net, tile_size=tile_size), predict(data, net))


def test_each_nucleus_is_judged_alone(data):
    """Pixels of other nuclei are left as they are; those of its own do not depend on who else is asked."""
    net, n = lively(), len(data.around.boxes)
    whole = predict(data, net)
    some = np.zeros(n, dtype=bool)
    some[[1, 12, 30]] = True
    part = predict(replace(data, mine=some), net)
    own = some[data.around.nearest.owner]
    np.testing.assert_array_equal(part[own], whole[own])
    assert (part[~own] == -1).all()
    out = np.full(whole.shape, -1, dtype=np.float32)
    for mine in (some, ~some & (np.arange(n) > 0)):  # in turn into one raster
        predict_density(replace(data, mine=mine), net, out, device=CPU)
    np.testing.assert_array_equal(out, whole)


def test_blocks_that_are_asked():
    nuclei = np.zeros((3 * BLOCK, 3 * BLOCK + 5), dtype=np.int32)
    nuclei[10:13, 10:13], nuclei[150:153, 150:153], nuclei[-3:, -3:] = 1, 2, 3
    data = of(np.ones_like(nuclei), nuclei)
    whole = Window(0, 0, *nuclei.shape)
    assert wanted_blocks(data, whole)[1] == 4
    assert wanted_blocks(data, whole)[0].tolist() == [0, 5, 10, 11]
    only = DensityData.of(data.around, np.array([True, True, False, False]))
    assert wanted_blocks(only, whole)[0].tolist() == [0]
    seen = []
    made = predict(data, lively(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    np.testing.assert_array_equal(made >= 0, data.around.nearest.owner > 0)


@pytest.mark.parametrize("seed", range(8))
def test_blocks_of_a_core_are_those_that_the_reach_of_a_nucleus_meets(seed):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 500, 2))
    nuclei = random_nuclei(seed, shape, 6)
    data = of(np.ones(shape, dtype=np.int32), nuclei, mine=random.random(nuclei.max() + 1) < 0.7)
    corner = [int(random.integers(0, side)) for side in shape]
    core = Window(*corner, *(int(random.integers(low, side)) + 1 for low, side in zip(corner, shape, strict=True)))
    numbers, columns = wanted_blocks(data, core)
    assert columns == -(-core.shape[1] // BLOCK)
    expected = []
    for k in range(-(-core.shape[0] // BLOCK) * columns):
        row, column = core.row0 + k // columns * BLOCK, core.column0 + k % columns * BLOCK
        if any(
            row < box[2] + REACH and box[0] - REACH < row + BLOCK
            and column < box[3] + REACH and box[1] - REACH < column + BLOCK
            for box in data.boxes() if box[2] > 0
        ):  # fmt: skip
            expected.append(k)
    assert numbers.tolist() == expected


@pytest.mark.parametrize("core", [Window(96, 0, 130, 96), Window(0, 96, 96, 150), Window(96, 96, 130, 150)])
def test_a_core_on_the_lattice_gets_what_the_whole_gets_and_nothing_else(data, core):
    net = lively()
    expected = np.full(data.around.totals.shape, -1, dtype=np.float32)
    expected[core.slices] = predict(data, net)[core.slices]
    np.testing.assert_array_equal(predict(data, net, core=core), expected)


def overviewed(data):
    """The same data, not held as a whole but looked at window by window."""
    around = data.around
    selection = Selection(np.ones(1, dtype=bool), np.zeros(1, dtype=np.int64), 1)
    transcripts = map_from_dense(around.totals[None])
    seen = look_over(transcripts, selection, around.nuclei, reach=REACH, strength=0.5, um_per_px=1.0, tile=96)
    return DensityData.of(seen, data.mine)


def test_training_window_by_window_is_training_on_the_whole(data):
    seen = overviewed(data)
    assert seen.mean == data.mean
    (one, losses), (other, others) = train(data), train(seen)
    assert losses == others
    assert equal(one, other)


def test_what_is_looked_at_window_by_window_cannot_be_predicted_as_a_whole(data):
    with pytest.raises(TypeError):
        predict_density(overviewed(data), lively(), np.zeros(SHAPE, dtype=np.float32), device=CPU)


# Memory of the device


class Cramped(torch.nn.Module):
    """A net on a device that takes no more than some blocks at once."""

    def __init__(self, most):
        super().__init__()
        self.net, self.most, self.asked = lively(), most, []

    def forward(self, counts, place):
        self.asked.append(len(counts))
        if len(counts) > self.most:
            msg = "no memory"
            raise torch.OutOfMemoryError(msg)
        return self.net(counts, place)


def blocks(data, n):
    looks = [data.look(Window(0, 10 * k, BLOCK, 10 * k + BLOCK).grown(HALO)) for k in range(n)]
    return np.stack([look.totals for look, _ in looks]).astype(np.float32), np.stack([place for _, place in looks])


@pytest.mark.parametrize(("most", "n", "size"), [(1, 4, 8), (3, 7, 8), (4, 5, 6), (8, 3, 8)])
def test_too_little_memory_on_the_device_halves_what_goes_through_at_once(data, float32, caplog, most, n, size):
    given, net = blocks(data, n), Cramped(most)
    batches = module._Batches(net, CPU, size, 1.0)
    made = batches.run(*given)
    expected = module._Batches(lively(), CPU, 1, 1.0).run(*given)
    np.testing.assert_allclose(made, expected, rtol=1e-5)
    assert batches.size <= most
    assert ("on with" in caplog.text) == (size > most)
    net.asked.clear()
    np.testing.assert_array_equal(batches.run(*given), made)  # what does not fit is not tried again
    assert max(net.asked) <= most


def test_of_no_block_that_fits_the_error_is_told(data):
    batches = module._Batches(Cramped(0), CPU, 4, 1.0)
    with pytest.raises(torch.OutOfMemoryError, match="no memory"):
        batches.run(*blocks(data, 3))
    assert batches.size == 1


def test_no_nuclei():
    data = of(np.ones((30, 30), dtype=np.int32), np.zeros((30, 30), dtype=np.int32))
    assert len(wanted_blocks(data, Window(0, 0, 30, 30))[0]) == 0
    assert (predict(data, lively()) == -1).all()


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (BLOCK, BLOCK), (BLOCK + 1, 3)])
def test_rasters_of_any_size(shape):
    nuclei = np.zeros(shape, dtype=np.int32)
    nuclei[0, 0] = 1
    made = predict(of(np.ones(shape, dtype=np.int32), nuclei), lively())
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    np.testing.assert_array_equal(made > 0, np.hypot(rows, columns) <= REACH)


@pytest.mark.gpu
def test_on_a_gpu(data):
    device = torch.device("cuda")
    net, losses = train_density([data], PARAMS, device=device, seed=0)
    assert np.isfinite(losses).all()
    out = np.full(data.around.totals.shape, -1, dtype=np.float32)
    predict_density(data, net, out, device=device, tile_size=300)
    expected = predict(data, net.cpu())
    np.testing.assert_allclose(np.log(out[expected > 0]), np.log(expected[expected > 0]), atol=0.05)
