"""Densities that the density net predicts block by block, and memory of the device that does not suffice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from density_samples import CPU, PARAMS, REACH, SHAPE, lively, of, overviewed, predict, sample
from rasters import random_nuclei

from ucs._kernels.transcripts import Window
from ucs.methods.density import training as module
from ucs.methods.density.net import HALO
from ucs.methods.density.training import (
    BLOCK,
    DensityData,
    new_density_net,
    predict_density,
    train_density,
    wanted_blocks,
)


@pytest.fixture(scope="module")
def data():
    return sample()


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


def test_what_is_looked_at_window_by_window_cannot_be_predicted_as_a_whole(data):
    with pytest.raises(TypeError):
        predict_density(overviewed(data), lively(), np.zeros(SHAPE, dtype=np.float32), device=CPU)


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
