from __future__ import annotations

import pytest
import torch
from torch import nn

from ucs.methods.paper.cell import CellNet


@pytest.fixture
def net():
    torch.manual_seed(0)
    return CellNet()


def test_q_is_the_softmax_over_the_two_channels_of_h(net):
    """Equation 4 as it stands, with a map of f s for each nucleus."""
    features = torch.randn(2, 64, 5, 6)
    softmask = torch.rand(2, 5, 6)
    with torch.no_grad():
        f = net.scalar_net(features)  # (2, 1, 5, 6)
        q = torch.softmax(net.head(f * softmask[:, None]), dim=1)[:, 1]
        pixel = torch.arange(2 * 5 * 6)
        torch.testing.assert_close(torch.sigmoid(net(features, pixel, softmask.flatten())), q.flatten())
        torch.testing.assert_close(torch.sigmoid(net.pair_logits(f[:, 0], softmask)), q)
        torch.testing.assert_close(net.scalar(features), f[:, 0])
        weight, bias = net.weight_bias()
        torch.testing.assert_close(torch.sigmoid(weight * f[:, 0] * softmask + bias), q)


def test_pairs_index_pixels_in_batch_row_column_order(net):
    features = torch.randn(2, 64, 3, 4)
    pixel, softmask = torch.tensor([0, 4, 23, 23, 11]), torch.tensor([0.1, 0.5, 0.9, 0.2, 0.7])
    at = [(0, 0, 0), (0, 1, 0), (1, 2, 3), (1, 2, 3), (0, 2, 3)]
    with torch.no_grad():
        scalar = torch.stack([net.scalar(features)[place] for place in at])
        torch.testing.assert_close(net(features, pixel, softmask), net.pair_logits(scalar, softmask))


def test_channels_last_features_have_the_same_pixels(net):
    features = torch.randn(1, 64, 4, 7)
    pixel, softmask = torch.arange(28), torch.rand(28)
    with torch.no_grad():
        torch.testing.assert_close(
            net(features.to(memory_format=torch.channels_last), pixel, softmask), net(features, pixel, softmask)
        )


def test_gradients_reach_all_layers(net):
    net(torch.randn(1, 64, 3, 3), torch.arange(9), torch.rand(9)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_layers_of_the_paper(net):
    assert [(c.in_channels, c.out_channels, *c.kernel_size) for c in net.scalar_net if isinstance(c, nn.Conv2d)] == [
        (64, 32, 1, 1),
        (32, 16, 1, 1),
        (16, 1, 1, 1),
    ]
    assert [type(layer) for layer in net.scalar_net[1::2]] == [nn.ReLU, nn.ReLU]
    assert (net.head.in_channels, net.head.out_channels) == (1, 2)


def test_no_pairs(net):
    assert net(torch.randn(1, 64, 2, 2), torch.zeros(0, dtype=torch.int64), torch.zeros(0)).shape == (0,)


def test_q_with_markers_is_the_softmax_over_two_inputs():
    """The second input of H is the mask of markers."""
    torch.manual_seed(1)
    net = CellNet(marked=True)
    features, softmask = torch.randn(1, 64, 4, 5), torch.rand(4, 5)
    mark = (torch.rand(4, 5) < 0.3).float()
    with torch.no_grad():
        f = net.scalar_net(features)[0, 0]
        q = torch.softmax(net.head(torch.stack([f * softmask, mark])[None]), dim=1)[0, 1]
        logits = net(features, torch.arange(20), softmask.flatten(), mark.flatten())
    torch.testing.assert_close(torch.sigmoid(logits), q.flatten())


def test_without_markers_a_mark_has_no_weight(net):
    assert net.mark_weight().item() == 0
    f, softmask = torch.randn(7), torch.rand(7)
    torch.testing.assert_close(net.pair_logits(f, softmask, torch.ones(7)), net.pair_logits(f, softmask))


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_training_starts_where_pixels_far_from_a_nucleus_are_background(seed, marked):
    torch.manual_seed(seed)
    net = CellNet(marked=marked)
    assert net.weight_bias()[1].item() == -2
    assert net.temperature == 1
