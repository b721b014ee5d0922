from __future__ import annotations

import numpy as np
import pytest
import torch

from ucs.methods.density.net import HALO, N_GEOMETRY, DensityNet, count_scale, geometry

CENTRES = (0.0, 1.5, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0)


@pytest.fixture
def net():
    """A net with a head that says something: a new one says the same of every pixel."""
    torch.manual_seed(0)
    net = DensityNet(8)
    torch.nn.init.normal_(net.head[-1].weight)
    return net.eval()


def inputs(h=6, w=9, *, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, h + 2 * HALO, w + 2 * HALO)
    counts = torch.poisson(torch.full(shape, 0.5), generator=generator)
    return counts, torch.rand((batch, N_GEOMETRY, *shape[1:]), generator=generator)


# Net


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(6, 9), (1, 1), (20, 3)])
def test_shape(net, shape):
    out = net(*inputs(*shape))
    assert out.shape == (2, *shape)
    assert out.dtype == torch.float32
    assert out.std() > 0 or shape == (1, 1)


@torch.inference_mode()
def test_a_new_net_begins_at_the_mean():
    torch.manual_seed(0)
    assert not DensityNet()(*inputs()).any()


def test_width_is_that_of_the_convolutions():
    net = DensityNet(5)
    assert net.width == 5
    assert [layer.out_channels for layer in net.convolutions] == [5] * HALO
    assert {layer.kernel_size for layer in net.convolutions} == {(3, 3)}


@torch.inference_mode()
def test_halo(net):
    """A pixel of the output depends on what lies up to 8 pixels away, along both axes, and on nothing beyond."""
    counts, place = inputs(30, 30, batch=1)
    before = net(counts, place)[0]
    for channel in (None, 0, N_GEOMETRY - 3, N_GEOMETRY - 1):
        changed, changed_place = counts.clone(), place.clone()
        (changed[0] if channel is None else changed_place[0, channel])[15 + HALO, 14 + HALO] += 20
        rows, columns = np.nonzero((net(changed, changed_place)[0] != before).numpy())
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (15 - 8, 15 + 8, 14 - 8, 14 + 8)


@torch.inference_mode()
def test_position_has_no_say(net):
    counts, place = inputs(20, 24, batch=1)
    whole = net(counts, place)[0]
    part = net(counts[:, 5 : 5 + 16 + 9, 7 : 7 + 16 + 4], place[:, :, 5 : 5 + 16 + 9, 7 : 7 + 16 + 4])[0]
    torch.testing.assert_close(part, whole[5:14, 7:11], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_samples_of_a_batch_do_not_mix(net):
    counts, place = inputs(batch=3)
    together = net(counts, place)
    for k in range(3):
        torch.testing.assert_close(net(counts[k : k + 1], place[k : k + 1])[0], together[k], atol=1e-5, rtol=1e-5)


def test_every_weight_learns():
    torch.manual_seed(0)
    net = DensityNet(8)
    torch.nn.init.normal_(net.head[-1].weight)
    net(*inputs()).square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad.abs().sum() > 0, name


# Geometry


def test_geometry_channels():
    distance = np.array([[0, 1, 3, 6.5, 50, np.inf]], dtype=np.float32)
    second = np.array([[np.inf, 1, 5, 80, 60, np.inf]], dtype=np.float32)
    richness = np.array([[0.5, 0.5, -1, -1, 0, 0]], dtype=np.float32)
    for um_per_px in (1.0, 0.5):
        made = geometry(distance, second, richness, um_per_px=um_per_px)
        assert (made.shape, made.dtype) == ((N_GEOMETRY, 1, 6), np.float32)
        d = np.minimum(distance[0] * um_per_px, 30)
        for channel, centre in zip(made, CENTRES, strict=False):
            np.testing.assert_allclose(channel[0], np.exp(-0.5 * ((d - centre) / 1.5) ** 2), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(made[-4, 0], d / 10, rtol=1e-6)
        gap = np.minimum(np.minimum(second[0] * um_per_px, 30) - d, 10)
        np.testing.assert_allclose(made[-3, 0], gap / 5, rtol=1e-6)
        np.testing.assert_array_equal(made[-2], richness)
        np.testing.assert_array_equal(made[-1, 0], [1, 0, 0, 0, 0, 0])
    assert len(CENTRES) + 4 == N_GEOMETRY


def test_geometry_is_finite_far_from_all_nuclei():
    far = np.full((3, 4), np.inf, dtype=np.float32)
    made = geometry(far, far, np.zeros_like(far), um_per_px=0.5)
    assert np.isfinite(made).all()
    assert not made[-3].any()


# Scale of the counts


@pytest.mark.parametrize("mean", [0.01, 1.0, 300.0])
def test_counts_of_any_depth_look_alike(mean):
    counts = np.random.default_rng(0).poisson(mean, 200_000)
    assert (counts * count_scale(mean)).std() == pytest.approx(np.sqrt(0.5), rel=0.03)


def test_no_counts():
    assert count_scale(0.0) == 1.0
