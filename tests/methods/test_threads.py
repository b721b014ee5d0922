"""The number of threads has no say, neither in training nor in prediction, for the nets of either method."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rasters import grid_of_discs, random_map

from ucs._kernels.lattice import BLOCK, bounding_boxes
from ucs.methods.density.params import DensityParams
from ucs.methods.density.surroundings import survey
from ucs.methods.density.training import DensityData, new_density_net, predict_density, train_density
from ucs.methods.device import each_in_one_thread, one_thread
from ucs.methods.paper.background import beyond_distance
from ucs.methods.paper.inference import PixelScores, score_pixels
from ucs.methods.paper.params import PaperParams
from ucs.methods.paper.patches import TrainingData
from ucs.methods.paper.training import new_nets, train_nets

CPU = torch.device("cpu")
DENSITY = DensityParams(patch_size=24, max_steps=3)
PAPER = PaperParams(patch_size=24, max_steps=3, cell_patches=3, cell_steps=3, evaluate_every=2)
SHAPE = (BLOCK + 5, BLOCK + 30)


@pytest.fixture(params=[2, 8])
def threads(request):
    """Call it to set so many; they are as before at the end."""
    before = torch.get_num_threads()
    yield lambda: torch.set_num_threads(request.param)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def transcripts():
    return random_map(0, SHAPE, 300, 20_000)


@pytest.fixture(scope="module")
def nuclei():
    return grid_of_discs(SHAPE, 20, 4)


@pytest.fixture(scope="module")
def density_data(transcripts, nuclei):
    n = int(nuclei.max())
    options = {"reach": 24, "strength": DENSITY.shape_exponent, "um_per_px": 1.0}
    around = survey(transcripts.totals(), nuclei, bounding_boxes(nuclei, n), **options)
    return DensityData.of(around, np.arange(n + 1) > 0)


def same_under(threads, compute):
    torch.set_num_threads(1)
    one = compute()
    threads()
    n = torch.get_num_threads()
    assert all(torch.equal(a, b) for a, b in zip(one, compute(), strict=True))
    assert torch.get_num_threads() == n > 1


def weights(*nets):
    return [value for net in nets for value in net.state_dict().values()]


def test_training_of_the_papers_nets(threads, transcripts, nuclei):
    data = TrainingData(transcripts, nuclei, beyond_distance(nuclei, 4))

    def train():
        trained = train_nets([data], PAPER, device=CPU, seed=1)
        return weights(trained.foreground, trained.cell)

    same_under(threads, train)


def test_training_of_the_density_net(threads, density_data):
    same_under(threads, lambda: weights(train_density([density_data], DENSITY, device=CPU, seed=1)[0]))


def test_scores_of_the_papers_nets(threads, transcripts, nuclei):
    nets = [net.to(memory_format=torch.channels_last).eval() for net in new_nets(300, 0)]
    boxes = bounding_boxes(nuclei, int(nuclei.max()))

    def score():
        scores = PixelScores.empty(SHAPE, boxes, np.zeros(len(boxes), dtype=int), reach=24)
        calls = []
        score_pixels(scores, transcripts, *nets, device=CPU, progress=calls.append)
        assert calls == list(range(1, 5))
        return torch.from_numpy(scores.scalar.blocks), torch.from_numpy(scores.foreground.blocks)

    same_under(threads, score)


def test_densities(threads, density_data):
    net = new_density_net(DENSITY, 0).to(memory_format=torch.channels_last).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(net.head[-1].weight)

    def predict():
        out, calls = np.zeros(SHAPE, dtype=np.float32), []
        predict_density(density_data, net, out, device=CPU, progress=lambda *call: calls.append(call))
        assert calls == [(k, 4) for k in range(1, 5)]
        return [torch.from_numpy(out)]

    same_under(threads, predict)


def test_results_are_taken_in_order_and_by_one_thread_each(threads):
    threads()
    n, taken = torch.get_num_threads(), []

    def compute(item):
        return item, torch.get_num_threads()

    each_in_one_thread(compute, range(100), lambda item, result: taken.append((item, *result)), CPU)
    assert taken == [(k, k, 1) for k in range(100)]
    assert torch.get_num_threads() == n


def test_threads_come_back_after_an_error(threads):
    threads()
    n = torch.get_num_threads()

    def fail(_item):
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        each_in_one_thread(fail, range(10), lambda *_: None, CPU)
    assert torch.get_num_threads() == n
    with pytest.raises(RuntimeError, match="on the way"), one_thread(CPU):
        fail(0)
    assert torch.get_num_threads() == n
