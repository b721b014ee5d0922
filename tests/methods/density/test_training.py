"""Training of the density net: what it is given, what its loss counts, and what it learns."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from density_samples import CPU, PARAMS, density_field, lively, of, overviewed, predict, sample

from ucs._kernels.transcripts import Window
from ucs.methods.density import training as module
from ucs.methods.density.net import HALO, geometry
from ucs.methods.density.params import DensityParams
from ucs.methods.density.training import DensityData, new_density_net, train_density


def train(data, params=PARAMS, *, seed=0, **options):
    data = [data] if isinstance(data, DensityData) else data
    return train_density(data, params, device=CPU, seed=seed, **options)


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
    for name, value in start.state_dict().items():
        torch.testing.assert_close(still.state_dict()[name], value, rtol=0, atol=1e-25)  # zeros move by the rate
    assert not start.training


def test_defaults_of_the_density_net(data, monkeypatch):
    monkeypatch.setattr(module, "_loss", lambda net, *_: next(net.parameters()).sum())  # for speed
    assert len(train(data, DensityParams(width=1))[1]) == 300


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
    net, _ = train(data, DensityParams(patch_size=48, max_steps=120, width=16, batch_size=1))
    made, truth = predict(data, net), density_field(data.around.nuclei)
    inside, beyond = distance_ring(data, 1, 2.5), distance_ring(data, 5, 12)
    assert made[inside].mean() == pytest.approx(truth[inside].mean(), rel=0.25)
    assert made[beyond].mean() < 0.1
    outside = distance_ring(data, 1, 12)
    assert np.corrcoef(made[outside], truth[outside])[0, 1] > 0.85


def test_training_window_by_window_is_training_on_the_whole(data):
    seen = overviewed(data)
    assert seen.mean == data.mean
    (one, losses), (other, others) = train(data), train(seen)
    assert losses == others
    assert equal(one, other)
