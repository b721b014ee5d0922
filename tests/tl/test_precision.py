"""Mixed precision: how much of the labels it may change."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

import ucs
from ucs.methods.density import training as density_training
from ucs.methods.device import precision

LEAST_ALIKE = 0.995


@pytest.mark.skipif(precision(torch.device("cpu")) == "float32", reason="this processor has no bfloat16")
def test_bfloat16_changes_few_pixels(monkeypatch):
    sdata = ucs.datasets.simulate(width_um=200, height_um=200, seed=3)
    model = ucs.tl.train(sdata, progress=False, params={"max_steps": 100})
    labels = []
    for exact in (False, True):
        if exact:
            monkeypatch.setattr(density_training, "autocast", lambda _device: contextlib.nullcontext())
        result = ucs.tl.predict(sdata, model, inplace=False, progress=False)
        labels.append(np.asarray(result.labels["ucs_cells"]))
    alike = (labels[0] == labels[1]).mean()
    assert alike >= LEAST_ALIKE
    assert alike < 1  # or both were computed alike
