from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from rasters import grid_of_discs, map_from_dense, random_map
from torch import nn

from ucs._kernels.distances import nucleus_axes
from ucs._kernels.transcripts import Window
from ucs.methods.paper import training as module
from ucs.methods.paper.background import beyond_distance
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.paper.params import PaperParams
from ucs.methods.paper.patches import IGNORED, Patch, PatchSource, Squares, TrainingData, read_transcripts
from ucs.methods.paper.training import cell_loss, foreground_loss, marker_loss, train_nets

CPU = torch.device("cpu")
LN = np.log
SMALL = partial(ForegroundNet, encoder=(16, 16, 8, 8), classifier=(32, 16, 16))
PARAMS = PaperParams(patch_size=16, max_steps=6, evaluate_every=2, cell_patches=4, cell_steps=6, held_out=0.2)


@pytest.fixture
def small_net(monkeypatch):
    """The same nets with narrower layers."""
    monkeypatch.setattr(module, "ForegroundNet", SMALL)


@pytest.fixture(scope="module")
def data():
    nuclei = grid_of_discs((60, 80), 20, 4)
    rng = np.random.default_rng(0)
    dense = rng.poisson(np.where(beyond_distance(nuclei, 3), 0.03, 0.3), size=(5, *nuclei.shape))
    return TrainingData(map_from_dense(dense), nuclei, beyond_distance(nuclei, 4))


def weights(trained):
    return {**trained.foreground.state_dict(), **{f"cell.{k}": v for k, v in trained.cell.state_dict().items()}}


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


# Losses


def test_foreground_loss_by_hand():
    logits = torch.tensor([[[0.0, LN(3), 7.0], [-LN(3), LN(9), -9.0]]])  # p: 1/2, 3/4, -, 1/4, 9/10, -
    labels = torch.tensor([[[1, 1, IGNORED], [0, 0, IGNORED]]], dtype=torch.int8)
    losses = np.array([LN(2), LN(4 / 3), LN(4 / 3), LN(10)])
    for w1, w2 in ((1.0, 1.0), (5.0, 2.0), (2, 3)):
        w = np.array([w1, w1, w2, w2])
        assert foreground_loss(logits, labels, (w1, w2)).item() == pytest.approx((w * losses).sum() / w.sum(), rel=1e-6)


def test_foreground_loss_is_the_mean_over_patches():
    """However many labelled pixels each has; patches without any do not count."""
    logits = torch.tensor([[[0.0, LN(3)]], [[-LN(3), 5.0]], [[2.0, 1.0]]])
    labels = torch.tensor([[[1, 1]], [[0, IGNORED]], [[IGNORED, IGNORED]]], dtype=torch.int8)
    expected = ((LN(2) + LN(4 / 3)) / 2 + LN(4 / 3)) / 2
    assert foreground_loss(logits, labels, (5.0, 5.0)).item() == pytest.approx(expected, rel=1e-6)


def test_ignored_pixels_have_no_say():
    logits = torch.randn(2, 5, 5, requires_grad=True)
    labels = torch.randint(-1, 2, (2, 5, 5), dtype=torch.int8)
    foreground_loss(logits, labels, (1.0, 1.0)).backward()
    assert (logits.grad[labels == IGNORED] == 0).all()
    assert (logits.grad[labels != IGNORED] != 0).all()


def test_loss_without_labelled_pixels_is_zero():
    logits = torch.randn(1, 4, 4, requires_grad=True)
    loss = foreground_loss(logits, torch.full((1, 4, 4), IGNORED, dtype=torch.int8), (1.0, 1.0))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_cell_loss_by_hand():
    """Equation 10: a weighted mean for each nucleus, then the mean over nuclei, however many pixels each has."""
    logits = torch.tensor([0.0, LN(3), -LN(3), LN(9), LN(3)])
    label = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0])
    nucleus = torch.tensor([0, 1, 0, 1, 0])
    for w3, w4 in ((1.0, 1.0), (5.0, 2.0), (2, 3)):
        first = (w3 * LN(2) + w4 * LN(4 / 3) + w3 * LN(4 / 3)) / (2 * w3 + w4)
        second = (w3 * LN(4 / 3) + w4 * LN(10)) / (w3 + w4)
        assert cell_loss(logits, nucleus, label, (w3, w4)).item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_marker_loss_leaves_nuclei_of_no_type_out():
    logits = torch.tensor([0.0, LN(3), -LN(3), LN(9), LN(3)])
    nucleus = torch.tensor([0, 2, 0, 1, 2])
    mark = torch.tensor([1.0, 1.0, 0.0, -1.0, 0.0])
    expected = cell_loss(logits[[0, 2, 1, 4]], torch.tensor([0, 0, 1, 1]), mark[[0, 2, 1, 4]], (1.0, 1.0))
    assert marker_loss(logits, nucleus, mark).item() == pytest.approx(expected.item(), rel=1e-6)
    assert marker_loss(logits, nucleus, torch.full((5,), -1.0)).item() == 0


# The loop


class Scripted:
    """One weight that grows by 1 with each step, and held-out losses written in advance."""

    def __init__(self, held_out, **params):
        self.net = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.net.weight)
        optimizer = torch.optim.SGD(self.net.parameters(), lr=1.0)
        self.adam = optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        self.held_out = iter(held_out) if held_out else None
        self.params = PaperParams(**params)
        self.progress = []

    def run(self):
        return module._optimise(
            self.net,
            self.adam,
            lambda: -self.net.weight.sum(),
            (lambda: next(self.held_out)) if self.held_out else None,
            self.params.max_steps,
            self.params,
            self.progress.append,
        )


def test_early_stopping_goes_back_to_the_best():
    scripted = Scripted([5.0, 3.0, 4.0, 3.0, 3.5, 1.0], max_steps=60, evaluate_every=10, patience=3)
    curve = scripted.run()
    assert (curve.stopped_at, curve.best_step) == (50, 20)
    assert scripted.net.weight.item() == 20
    assert (curve.step, curve.held_out_loss) == ([10, 20, 30, 40, 50], [5.0, 3.0, 4.0, 3.0, 3.5])
    assert curve.training_loss == [-(first + 4.5) for first in (0, 10, 20, 30, 40)]
    assert scripted.progress == list(range(1, 51))


def test_without_early_stopping_all_steps_are_taken():
    scripted = Scripted([5.0, 4.0, 3.0], max_steps=25, evaluate_every=10, patience=1)
    curve = scripted.run()
    assert (curve.step, curve.stopped_at, curve.best_step) == ([10, 20, 25], 25, 25)
    assert scripted.net.weight.item() == 25


def test_held_out_loss_that_is_no_number_stops_the_training():
    scripted = Scripted([2.0, np.nan, np.nan, 1.0], max_steps=40, evaluate_every=10, patience=2)
    assert scripted.run().stopped_at == 30
    assert scripted.net.weight.item() == 10


def test_without_held_out_pixels_the_last_weights_count():
    scripted = Scripted(None, max_steps=7, evaluate_every=3)
    curve = scripted.run()
    assert (curve.step, curve.held_out_loss, curve.stopped_at, curve.best_step) == ([3, 6, 7], [], 7, 7)
    assert scripted.net.weight.item() == 7
    assert curve.as_dict()["training_loss"] == [-1.0, -4.0, -6.0]


def test_learning_rate_rises_and_falls():
    optimizer, schedule = module._adam(nn.Linear(1, 1), 1.0, 100, PaperParams())
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert 8 <= int(np.argmax(rates)) <= 10
    assert max(rates) > 0.97
    assert (np.diff(rates[10:]) < 0).all()
    assert 0 < rates[-1] < 1e-3
    group = optimizer.param_groups[0]
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 1e-4)


# Both nets


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_one_seed_gives_one_model(data, two_threads):
    """With the layers as they are, several threads, and whatever others do with torch's random numbers."""
    params = PaperParams(patch_size=16, max_steps=3, evaluate_every=3, cell_patches=2, cell_steps=3, held_out=0.1)
    torch.manual_seed(1)
    one = train_nets([data], params, device=CPU, seed=7)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    other = train_nets([data], params, device=CPU, seed=7)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert equal(weights(one), weights(other))
    assert one.foreground_curve == other.foreground_curve
    assert one.cell_curve == other.cell_curve


def test_another_seed_gives_another_model(data, small_net):
    models = [weights(train_nets([data], PARAMS, device=CPU, seed=seed)) for seed in (0, 0, 1)]
    assert equal(models[0], models[1])
    assert not equal(models[0], models[2])


def test_training_learns_and_reports(data, small_net):
    calls = []
    params = PaperParams(patch_size=24, max_steps=60, learning_rate=5e-3, cell_patches=8, cell_steps=40, held_out=0.2)
    nuclei, far = data.nuclei.copy(), data.far.copy()
    trained = train_nets([data], params, device=CPU, seed=0, progress=lambda done, total: calls.append((done, total)))
    for curve in (trained.foreground_curve, trained.cell_curve):
        assert len(curve.step) == len(curve.training_loss) == len(curve.held_out_loss)
        assert curve.best_step == curve.step[int(np.argmin(curve.held_out_loss))]
        assert curve.training_loss[-1] < curve.training_loss[0]
    assert min(trained.foreground_curve.held_out_loss) < 0.6  # below that of a coin, ln 2
    assert not trained.foreground.training
    assert not trained.cell.training
    np.testing.assert_array_equal(data.nuclei, nuclei)
    np.testing.assert_array_equal(data.far, far)
    assert calls[-1] == (100, 100)
    done = [d for d, _ in calls]
    assert done == sorted(done)
    assert {total for _, total in calls} == {100}


def test_steps_grow_with_the_tissue_and_are_a_third_after_a_start(data, small_net):
    totals = []
    params = PaperParams(patch_size=16, evaluate_every=60, held_out=0)
    first = train_nets([data], params, device=CPU, progress=lambda _, total: totals.append(total))
    train_nets([data], params, device=CPU, start=(first.foreground, first.cell), progress=lambda _, t: totals.append(t))
    assert set(totals) == {120 + 200, 40 + 67}


def test_temperature_is_the_spread_of_the_logits(data, small_net):
    trained = train_nets([data], PARAMS, device=CPU)
    assert trained.cell.temperature > 0
    assert "cell.temperature" in weights(trained)


def test_held_out_pixels_do_not_move_the_foreground_net(data, small_net, monkeypatch):
    """Other labels in the held-out squares give the same weights (the mean of the far pixels is kept)."""
    monkeypatch.setattr(Squares, "mean_far_count", 1.0)
    params = PaperParams(patch_size=16, max_steps=5, evaluate_every=5, cell_patches=1, cell_steps=1, held_out=0.4)
    far = data.far.copy()
    source = PatchSource([data], size=16, halo=4, held_out=0.4, seed=3)
    windows = [patch.window for patch in source.held_out_patches(100)]
    assert len(windows) > 2
    for window in windows:
        inside = window.clipped(far.shape).slices
        far[inside] = ~far[inside]
    changed = TrainingData(data.transcripts, data.nuclei, far)
    one, other = (train_nets([d], params, device=CPU, seed=3) for d in (data, changed))
    assert one.foreground_curve.held_out_loss != other.foreground_curve.held_out_loss
    assert one.foreground_curve.training_loss == other.foreground_curve.training_loss
    assert equal(one.foreground.state_dict(), other.foreground.state_dict())


def test_held_out_pixels_are_no_pairs_of_the_cell_net(data):
    torch.manual_seed(0)
    net = SMALL(5).eval()
    patches = PatchSource([data], size=16, halo=4, held_out=0.4, seed=3)
    axes = [nucleus_axes(data.nuclei, int(data.nuclei.max()), strength=0.3)]
    everywhere = Patch(0, Window(0, 0, *data.nuclei.shape))
    held_out = patches.samples[0].is_held_out(everywhere.window).ravel()
    given = everywhere, net, patches, axes, PARAMS, CPU
    _, pixel, nucleus, softmask, label, *_ = module._cell_examples(*given, training=True)
    assert not held_out[pixel].any()
    everything = module._cell_examples(*given, training=False)
    kept = ~held_out[everything[1]]
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(everything[1][kept], pixel)
    np.testing.assert_array_equal(everything[3][kept], softmask)
    np.testing.assert_array_equal(everything[4][kept], label)
    assert set(nucleus.tolist()) == set(range(int(nucleus.max()) + 1))


# Several samples, and a start from trained nets


def other_sample():
    nuclei = grid_of_discs((40, 50), 20, 5)
    return TrainingData(random_map(3, nuclei.shape, 5, 900), nuclei, beyond_distance(nuclei, 3))


def test_several_samples_make_one_model(data, small_net):
    both = train_nets([data, other_sample()], PARAMS, device=CPU, seed=1)
    for alone in ([data], [other_sample()], [other_sample(), data]):
        assert not equal(weights(both), weights(train_nets(alone, PARAMS, device=CPU, seed=1)))
    assert equal(weights(both), weights(train_nets([data, other_sample()], PARAMS, device=CPU, seed=1)))
    assert all(torch.isfinite(value).all() for value in weights(both).values())


def test_a_start_from_trained_nets(data, small_net):
    """What is learned goes on from there, and the nets that were given stay as they are."""
    params = PaperParams(patch_size=24, max_steps=60, learning_rate=5e-3, cell_patches=8, cell_steps=40, held_out=0.2)
    first = train_nets([data], params, device=CPU, seed=0)
    before = {name: value.clone() for name, value in weights(first).items()}
    few = PaperParams(patch_size=24, max_steps=2, learning_rate=1e-5, cell_patches=8, cell_steps=2, held_out=0.2)
    again = train_nets([data], few, device=CPU, seed=0, start=(first.foreground, first.cell))
    assert equal(before, weights(first))
    assert not equal(before, weights(again))
    for name, value in weights(again).items():
        if name == "cell.temperature":  # no weight: it is measured anew
            continue
        torch.testing.assert_close(value, before[name], atol=0.05, rtol=0.05)
    fresh = train_nets([data], few, device=CPU, seed=0)
    assert again.foreground_curve.held_out_loss[0] < fresh.foreground_curve.held_out_loss[0] - 0.02


# Samples with hardly anything in them


def sample(case):
    shape = (40, 50)
    nuclei = grid_of_discs(shape, 20, 4)
    transcripts = random_map(0, shape, 5, 1000)
    far = beyond_distance(nuclei, 4)
    match case:
        case "one nucleus":
            nuclei = np.where(nuclei == 1, 1, 0).astype(np.int32)
        case "one gene":
            transcripts = random_map(0, shape, 1, 1000)
        case "one transcript":
            transcripts = random_map(0, shape, 5, 1)
        case "no transcript":
            transcripts = random_map(0, shape, 5, 0)
        case "no far pixel":
            far = np.zeros(shape, dtype=bool)
        case "one-pixel nuclei":
            nuclei = np.zeros(shape, dtype=np.int32)
            nuclei[[0, 10, 30, 39], [0, 30, 10, 49]] = 1, 2, 3, 4
        case "smaller than a patch":
            nuclei, transcripts = grid_of_discs((9, 11), 20, 4), random_map(0, (9, 11), 5, 60)
            far = nuclei == 0
        case "one pixel":
            nuclei, far, transcripts = np.ones((1, 1), np.int32), np.zeros((1, 1), bool), random_map(0, (1, 1), 5, 3)
        case "nothing but nuclei":
            nuclei, far = grid_of_discs(shape, 20, 40), np.zeros(shape, dtype=bool)
    return TrainingData(transcripts, nuclei, far)


@pytest.mark.parametrize(
    "case",
    [
        "one nucleus",
        "one gene",
        "one transcript",
        "no transcript",
        "no far pixel",
        "one-pixel nuclei",
        "smaller than a patch",
        "one pixel",
        "nothing but nuclei",
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_poor_samples(case, batch_size, small_net):
    data = sample(case)
    assert data.nuclei.any()
    params = PaperParams(
        patch_size=16, batch_size=batch_size, max_steps=4, evaluate_every=2, cell_patches=3, cell_steps=4, held_out=0.5
    )
    trained = train_nets([data], params, device=CPU)
    assert all(torch.isfinite(value).all() for value in weights(trained).values())
    for curve in (trained.foreground_curve, trained.cell_curve):
        assert np.isfinite(curve.training_loss).all()
        assert np.isfinite(curve.held_out_loss).all()


def test_adam_in_one_pass_is_adam(data):
    """Also with weights in channels-last order, whose gradients come in the same."""
    torch.manual_seed(0)
    nets = [SMALL(5).to(memory_format=torch.channels_last)]
    nets.append(copy.deepcopy(nets[0]))
    batch = read_transcripts(data.transcripts, [Window(5, 5, 40, 40)])
    ours, _ = module._adam(nets[0], 1e-3, 10**6, PARAMS)
    options = {"betas": PARAMS.betas, "weight_decay": PARAMS.weight_decay}
    plain = torch.optim.Adam(nets[1].parameters(), lr=ours.param_groups[0]["lr"], foreach=False, **options)
    assert ours.param_groups[0]["fused"]
    for net, adam in zip(nets, (ours, plain), strict=True):
        for _ in range(3):
            adam.zero_grad()
            net(batch).square().mean().backward()
            adam.step()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
