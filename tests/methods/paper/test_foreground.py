from __future__ import annotations

import numpy as np
import pytest
import torch
from rasters import random_map
from torch import nn
from torch.nn import functional

from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.paper.foreground import CONVOLUTIONS, HALO, ForegroundNet, TranscriptEmbedding
from ucs.methods.paper.patches import read_transcripts

SIZE = 12


def batch(n_genes, *, seed=0, size=SIZE, n_windows=2, density=0.7, halo=4):
    """Windows of a random map, sparse and dense: (B, N, h, w)."""
    shape = (60, 70)
    transcripts = random_map(seed, shape, n_genes, int(density * shape[0] * shape[1]))
    windows = [Window(3, 5, 3 + size, 5 + size).grown(halo), Window(50, 40, 50 + size, 40 + size).grown(halo)]
    sparse = read_transcripts(transcripts, windows[:n_windows])
    dense = np.stack([transcripts.dense(window) for window in windows[:n_windows]])
    return sparse, torch.from_numpy(dense).float()


class DenseReference(nn.Module):
    """The net as the paper draws it: three 1 x 1 convolutions on the dense map, then the rest, without padding."""

    def __init__(self, net: ForegroundNet, *, padding: int = 0) -> None:
        super().__init__()
        self.net, self.padding = net, padding
        sizes = [net.embedding.layers[0].in_features, 256, 128, 64]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        with torch.no_grad():
            for convolution, linear in zip(self.layers, net.embedding.layers, strict=True):
                convolution.weight.copy_(linear.weight[:, :, None, None])
                convolution.bias.copy_(linear.bias)

    def embed(self, dense):
        for layer in self.layers:
            dense = layer(dense)
        return dense

    def forward(self, dense):
        x = self.embed(dense)
        parts = [x]
        for block in self.net.blocks:
            for layer in block:
                if isinstance(layer, nn.Conv2d):
                    x = functional.conv2d(x, layer.weight, layer.bias, padding=self.padding)
                else:
                    x = functional.relu(x)
            parts.append(x)
        h, w = x.shape[-2:]
        cut = [(part.shape[-2] - h) // 2 for part in parts]
        x = torch.cat([part[..., c : c + h, c : c + w] for c, part in zip(cut, parts, strict=True)], dim=1)
        assert x.shape[1] == 640
        for k, layer in enumerate(self.net.classifier):
            x = functional.conv2d(functional.relu(x) if k else x, layer.weight, layer.bias)
        classes = functional.conv2d(functional.relu(x), self.net.last.weight, self.net.last.bias)
        return x, torch.softmax(classes, dim=1)[:, 1]


def make_net(n_genes, seed=0, **options):
    torch.manual_seed(seed)
    net = ForegroundNet(n_genes, **options)
    with torch.no_grad():  # biases begin at zero, where a wrong constant would not show
        for layer in net.embedding.layers:
            layer.bias.normal_()
    return net


def assert_close(actual, expected, tolerance=1e-5):
    """Equal to a tolerance relative to the size of what is compared (sums of single precision)."""
    scale = expected.abs().max().item()
    assert (actual - expected).abs().max().item() <= tolerance * max(scale, 1.0)


@pytest.mark.parametrize(("n_genes", "convolutions"), [(1, 1), (300, 1), (300, 2), (5000, 1)])
def test_sparse_equals_dense(n_genes, convolutions):
    net = make_net(n_genes, convolutions=convolutions)
    sparse, dense = batch(n_genes, halo=net.halo)
    reference = DenseReference(net)
    with torch.no_grad():
        features, probability = reference(dense)
        assert_close(net.embedding(sparse), reference.embed(dense))
        assert_close(net.features(sparse), features)
        assert_close(torch.sigmoid(net(sparse)), probability)
        assert_close(torch.sigmoid(net.logits(net.features(sparse))), probability)
    assert net.embedding(sparse).shape == (2, 64, SIZE + 2 * net.halo, SIZE + 2 * net.halo)
    assert features.shape == (2, 64, SIZE, SIZE)
    assert net(sparse).shape == (2, SIZE, SIZE)


@pytest.mark.parametrize("n_genes", [300, 5000])
def test_gradients_are_those_of_the_three_layers(n_genes):
    net = make_net(n_genes, seed=1)  # with seed 0 an activation lies so near to 0 that rounding decides its gradient
    sparse, dense = batch(n_genes)
    reference = DenseReference(net)
    target = torch.randint(0, 2, (2, SIZE, SIZE), generator=torch.Generator().manual_seed(0)).float()
    functional.binary_cross_entropy_with_logits(net(sparse), target).backward()
    ours = [(layer.weight.grad.clone(), layer.bias.grad.clone()) for layer in net.embedding.layers]
    net.zero_grad()
    functional.binary_cross_entropy(reference(dense)[1], target).backward()
    for (weight, bias), layer in zip(ours, reference.layers, strict=True):
        for gradient, expected in ((weight, layer.weight.grad[:, :, 0, 0]), (bias, layer.bias.grad)):
            assert expected.abs().max() > 0
            assert (gradient - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_steps_move_the_three_layers_alike():
    net = make_net(40)
    sparse, dense = batch(40)
    reference = DenseReference(net)
    before = net.embedding.layers[0].weight.detach().clone()
    for parameters, embed, x in (
        (net.embedding.parameters(), net.embedding, sparse),
        (reference.layers.parameters(), reference.embed, dense),
    ):
        optimizer = torch.optim.SGD(parameters, lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            embed(x).square().mean().backward()
            optimizer.step()
    for linear, convolution in zip(net.embedding.layers, reference.layers, strict=True):
        assert_close(linear.weight, convolution.weight[:, :, 0, 0])
    assert (net.embedding.layers[0].weight - before).abs().max() > 1e-4


@pytest.mark.parametrize("convolutions", CONVOLUTIONS)
def test_valid_equals_same_away_from_the_border(convolutions):
    """Without padding nothing is invented at the border; with it, as the paper has it, only the halo differs."""
    net = make_net(20, convolutions=convolutions)
    halo = net.halo
    assert halo == 4 * convolutions <= HALO
    sparse, dense = batch(20, size=24, halo=halo)
    with torch.no_grad():
        _, same = DenseReference(net, padding=1)(dense)
        inner = same[:, halo:-halo, halo:-halo]
        assert_close(torch.sigmoid(net(sparse)), inner)
        assert (inner.shape[1], same.shape[1]) == (24, 24 + 2 * halo)
        _, smaller = DenseReference(net, padding=1)(dense[..., 1:-1, 1:-1])  # the halo is not larger than need be
        assert (smaller[:, halo - 1 : 1 - halo, halo - 1 : 1 - halo] - inner).abs().max() > 1e-4


@pytest.mark.parametrize("convolutions", CONVOLUTIONS)
def test_an_output_pixel_sees_the_whole_halo(convolutions):
    net = make_net(5, convolutions=convolutions)
    last = 2 * net.halo

    def output(n, row, column):
        transcripts = TranscriptMap.from_positions(
            np.array([row]), np.array([column]), np.array([0]), np.array([n]), shape=(last + 1,) * 2, n_features=5
        )
        with torch.no_grad():
            return net(read_transcripts(transcripts, [Window(0, 0, last + 1, last + 1)])).item()

    for corner in ((0, 0), (0, last), (last, 0), (last, last)):
        assert output(50, *corner) != output(0, *corner)


def test_other_numbers_of_convolutions_are_refused():
    with pytest.raises(ValueError, match="convolutions=3 must be one of"):
        ForegroundNet(5, convolutions=3)


def test_counts_weigh_and_empty_pixels_are_the_constant():
    torch.manual_seed(0)
    embedding = TranscriptEmbedding(3)
    place = np.array([0, 0, 2])
    transcripts = TranscriptMap.from_positions(
        np.zeros(3, dtype=int), place, np.array([0, 2, 1]), np.array([1, 5, 2]), shape=(1, 4), n_features=3
    )
    table, constant = embedding.table()
    with torch.no_grad():
        embedded = embedding(read_transcripts(transcripts, [Window(0, 0, 1, 4)]))[0, :, 0]
        torch.testing.assert_close(embedded[:, 0], table[0] + 5 * table[2] + constant)
        torch.testing.assert_close(embedded[:, 2], 2 * table[1] + constant)
        assert torch.equal(embedded[:, 1], constant)
        assert torch.equal(embedded[:, 3], constant)
    assert table.shape == (3, 64)


def test_no_transcripts():
    net = make_net(4)
    none = np.zeros(0, dtype=int)
    transcripts = TranscriptMap.from_positions(none, none, none, None, shape=(30, 30), n_features=4)
    sparse = read_transcripts(transcripts, [Window(0, 0, 4, 4).grown(net.halo)] * 2)
    logits = net(sparse)
    assert logits.shape == (2, 4, 4)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert torch.isfinite(net.embedding.layers[0].weight.grad).all()


def test_a_batch_is_its_windows_one_by_one():
    net = make_net(30)
    transcripts = random_map(1, (50, 50), 30, 3000)
    windows = [Window(r, c, r + 8, c + 8).grown(net.halo) for r, c in ((0, 0), (20, 13), (45, 45), (100, 100))]
    with torch.no_grad():
        together = net(read_transcripts(transcripts, windows))
        for k, window in enumerate(windows):
            assert_close(net(read_transcripts(transcripts, [window]))[0], together[k])


def test_sums_stay_in_single_precision_under_autocast():
    net = make_net(30)
    sparse, _ = batch(30)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net.embedding(sparse)
    with torch.no_grad():
        assert torch.equal(mixed, net.embedding(sparse))
    assert mixed.dtype == torch.float32


def layer_widths(net):
    convolutions = [layer for block in net.blocks for layer in block if isinstance(layer, nn.Conv2d)]
    assert {(*c.kernel_size, *c.padding) for c in convolutions} == {(3, 3, 0, 0)}
    return [(c.in_channels, c.out_channels) for c in convolutions]


def test_layers_of_the_paper():
    net = ForegroundNet(7)
    assert [tuple(layer.weight.shape) for layer in net.embedding.layers] == [(256, 7), (128, 256), (64, 128)]
    assert layer_widths(net) == [(64, 128), (128, 256), (256, 128), (128, 64)]
    classifier = [(c.in_channels, c.out_channels) for c in [*net.classifier, net.last]]
    assert classifier == [(640, 256), (256, 128), (128, 64), (64, 2)]
    assert net.feature_width == 64
    double = ForegroundNet(7, convolutions=2)
    assert layer_widths(double)[::2] == layer_widths(net)
    assert layer_widths(double)[1::2] == [(b, b) for _, b in layer_widths(net)]
    assert [(c.in_channels, c.out_channels) for c in [*double.classifier, double.last]] == classifier


def test_only_rows_of_the_genes_that_occur_are_made():
    net = make_net(5000)
    sparse, _ = batch(5000, density=0.1)
    present = torch.unique(sparse.gene)
    table, constant = net.embedding.table()
    rows, same = net.embedding.table(present)
    assert rows.shape == (len(present), 64)
    assert_close(rows, table[present])
    assert torch.equal(constant, same)
    net.embedding(sparse).square().mean().backward()
    gradient = net.embedding.layers[0].weight.grad
    assert gradient.shape == (256, 5000)
    assert torch.flatten(gradient.abs().sum(0).nonzero()).tolist() == present.tolist()
