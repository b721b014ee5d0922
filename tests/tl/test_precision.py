"""Mixed precision: how much of the labels it may change."""

from __future__ import annotations

import contextlib

import pytest
import torch
from calls import predict, train
from scenes import PAPER_SHORT, labels_of

import ucs
from ucs.methods.density import training as density_training
from ucs.methods.device import precision
from ucs.methods.paper import inference as paper_inference

LEAST_ALIKE = 0.995


@pytest.mark.skipif(precision(torch.device("cpu")) == "float32", reason="this processor has no bfloat16")
@pytest.mark.parametrize(("method", "params"), [("density", {"max_steps": 100}), ("paper", PAPER_SHORT)])
def test_bfloat16_changes_few_pixels(monkeypatch, method, params):
    sdata = ucs.datasets.simulate(width_um=200, height_um=200, seed=3)
    model = train(sdata, method=method, params=params)
    labels = []
    for exact in (False, True):
        if exact:
            for module in (density_training, paper_inference):
                monkeypatch.setattr(module, "autocast", lambda _device: contextlib.nullcontext())
        labels.append(labels_of(predict(sdata, model)))
    alike = (labels[0] == labels[1]).mean()
    assert alike >= LEAST_ALIKE
    assert alike < 1  # or both were computed alike
