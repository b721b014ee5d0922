from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from ucs.methods.params import TrainParams


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("patch_size", 7, "TrainParams.patch_size=7 must be a whole number of at least 8"),
        ("patch_size", 48.0, "TrainParams.patch_size=48.0 must be a whole number of at least 8"),
        ("batch_size", 0, "batch_size=0 must be a whole number of at least 1"),
        ("max_steps", -1, "max_steps=-1 must be a whole number of at least 0"),
        ("density_width", 0, "density_width=0 must be a whole number of at least 1"),
        ("min_nuclei", 0, "min_nuclei=0 must be a whole number of at least 1"),
        ("evaluate_every", -2, "evaluate_every=-2 must be a whole number of at least 1"),
        ("patience", 0, "patience=0 must be"),
        ("cell_patches", 0, "cell_patches=0 must be"),
        ("cell_steps", "200", "cell_steps='200' must be"),
        ("reach", 0, "reach=0 must be"),
        ("learning_rate", -1e-4, "TrainParams.learning_rate=-0.0001 must not be negative"),
        ("learning_rate", float("nan"), "learning_rate=nan must not be negative"),
        ("learning_rate", float("inf"), "learning_rate=inf must not be negative"),
        ("stretch", -0.1, "TrainParams.stretch=-0.1 must lie between 0"),
        ("stretch", 1.5, "stretch=1.5 must lie between 0"),
        ("stretch", float("nan"), "stretch=nan must lie"),
        ("threshold", 0.0, "TrainParams.threshold=0.0 must lie between 0 and 1"),
        ("threshold", 1.0, "threshold=1.0 must lie"),
        ("threshold", float("nan"), "threshold=nan must lie"),
        ("cell_learning_rate", -1e-3, "cell_learning_rate=-0.001 must be positive"),
        ("tau", float("inf"), "tau=inf must be positive"),
        ("weight_decay", -1e-4, "weight_decay=-0.0001 must not be negative"),
        ("held_out", 0.6, "TrainParams.held_out=0.6 must lie between 0 and 0.5"),
        ("held_out", -0.1, "held_out=-0.1 must lie"),
        ("held_out", float("nan"), "held_out=nan must lie"),
        ("foreground_weights", (1.0, 0.0), r"foreground_weights=\(1.0, 0.0\) must be two positive numbers"),
        ("cell_weights", (1.0, 1.0, 1.0), "cell_weights=.* must be two positive numbers"),
        ("betas", (0.9, 1.0), r"betas=\(0.9, 1.0\) must be two numbers of at least 0 and below 1"),
    ],
)
def test_bounds(name, value, message):
    with pytest.raises(ValueError, match=message):
        TrainParams(**{name: value})
    with pytest.raises(ValueError, match=message):
        TrainParams.resolve({name: value})


def test_values_at_the_bounds():
    params = TrainParams(patch_size=8, held_out=0, weight_decay=0, betas=(0, 0), cell_weights=(5, 1), reach=1)
    assert params.patch_size == 8
    assert TrainParams(held_out=0.5).held_out == 0.5
    assert (TrainParams(stretch=0).stretch, TrainParams(stretch=1).stretch) == (0, 1)


def test_paper():
    params = TrainParams()
    assert (params.patch_size, params.betas, params.weight_decay, params.tau) == (48, (0.9, 0.999), 1e-4, 5.0)
    assert params.reach == params.patch_size // 2
    assert params.foreground_weights == params.cell_weights == (1.0, 1.0)


def test_each_net_fills_in_its_own_defaults():
    params = TrainParams(tau=3.0)
    density, published = params.filled(density=True), params.filled(density=False)
    assert (density.max_steps, density.learning_rate) == (300, 3e-3)
    assert (published.max_steps, published.learning_rate) == (120, 3e-4)
    assert (params.max_steps, params.learning_rate) == (0, 0.0)
    assert density.tau == published.tau == 3.0
    given = TrainParams(max_steps=7, learning_rate=1e-5)
    assert given.filled(density=True) == given.filled(density=False) == given
    assert TrainParams(max_steps=7).filled(density=True).learning_rate == 3e-3
    assert density.filled(density=False) == density  # what is filled in once stays


def test_resolve():
    given = TrainParams(tau=3.0)
    assert TrainParams.resolve(given, tau=7.0) is given
    assert TrainParams.resolve(None) == TrainParams()
    assert TrainParams.resolve(None, tau=7.0) == TrainParams(tau=7.0)
    assert TrainParams.resolve({"reach": 12}, tau=7.0) == TrainParams(reach=12, tau=7.0)
    assert TrainParams.resolve({"tau": 2.0}, tau=7.0) == TrainParams(tau=2.0)
    assert TrainParams.resolve({"betas": [0.8, 0.9]}).betas == (0.8, 0.9)
    assert TrainParams.resolve({}) == TrainParams()


def test_resolve_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"unknown fields \['epochs', 'lr'\]; known are \['batch_size', 'betas'"):
        TrainParams.resolve({"lr": 1e-4, "epochs": 3, "tau": 5.0})
    for value in (5, "fast", [("tau", 5.0)]):
        with pytest.raises(TypeError, match="must be a TrainParams, a mapping of its fields, or None"):
            TrainParams.resolve(value)


def test_json_round_trip():
    params = TrainParams(betas=(0.5, 0.9), foreground_weights=(5.0, 1.0), reach=30)
    assert TrainParams.resolve(json.loads(json.dumps(params.as_dict()))) == params


def test_frozen_and_hashable():
    params = TrainParams()
    with pytest.raises(FrozenInstanceError):
        params.tau = 3.0
    assert hash(params) == hash(TrainParams())
