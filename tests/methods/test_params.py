"""Parameters of both methods: bounds, defaults, and what is valid for the one and not for the other."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

import ucs
from ucs._utils.options import option_fields
from ucs.methods import DensityParams, MethodParams, PaperParams

BOTH = [DensityParams, PaperParams]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("patch_size", 7, r"params\['patch_size'\]=7 must be at least 8"),
        ("patch_size", 48.0, r"params\['patch_size'\]=48.0 must be a whole number, at least 8"),
        ("batch_size", 0, r"\['batch_size'\]=0 must be at least 1"),
        ("min_nuclei", 0, r"\['min_nuclei'\]=0 must be at least 1"),
        ("reach", 0, r"\['reach'\]=0 must be"),
        ("learning_rate", -1e-4, r"\['learning_rate'\]=-0.0001 must be above 0"),
        ("learning_rate", 0.0, r"\['learning_rate'\]=0.0 must be above 0"),
        ("shape_exponent", -0.1, r"\['shape_exponent'\]=-0.1 must be .* 0 .* 1"),
        ("shape_exponent", 1.5, r"\['shape_exponent'\]=1.5 must be .* 0 .* 1"),
        ("weight_decay", -1e-4, r"\['weight_decay'\]=-0.0001 must be at least 0"),
        ("betas", (0.9, 1.0), r"\['betas'\]\[1\]=1.0 must be at least 0 and below 1"),
        ("betas", (0.9,), r"\['betas'\]=\(0.9,\) must be 2 numbers"),
    ],
)
def test_bounds_of_both(cls, name, value, message):
    with pytest.raises(ValueError, match=message):
        cls(**{name: value})
    with pytest.raises(ValueError, match=message):
        cls.resolve({name: value})


@pytest.mark.parametrize(
    ("cls", "name", "value", "message"),
    [
        (DensityParams, "width", 0, r"params\['width'\]=0 must be at least 1"),
        (DensityParams, "ownership", "voronoi", r"\['ownership'\]='voronoi' is unknown; valid are 'expression', 'd"),
        (PaperParams, "evaluate_every", -2, r"params\['evaluate_every'\]=-2 must be at least 1"),
        (PaperParams, "patience", 0, r"\['patience'\]=0 must be"),
        (DensityParams, "max_steps", 0, r"\['max_steps'\]=0 must be at least 1"),
        (PaperParams, "max_steps", -1, r"\['max_steps'\]=-1 must be at least 0"),
        (PaperParams, "cell_patches", -1, r"\['cell_patches'\]=-1 must be"),
        (PaperParams, "cell_steps", -1, r"\['cell_steps'\]=-1 must be"),
        (PaperParams, "cell_learning_rate", -1e-3, r"\['cell_learning_rate'\]=-0.001 must be above 0"),
        (PaperParams, "tau", 0, r"\['tau'\]=0 must be above 0"),
        (PaperParams, "held_out", 0.6, r"params\['held_out'\]=0.6 must be at least 0 and at most 0.5"),
        (PaperParams, "held_out", -0.1, r"\['held_out'\]=-0.1 must be"),
        (PaperParams, "foreground_weights", (1.0, 0.0), r"\['foreground_weights'\]\[1\]=0.0 must be above 0"),
        (PaperParams, "cell_weights", (1.0, 1.0, 1.0), r"\['cell_weights'\]=.* must be 2 numbers"),
        (PaperParams, "marker_weight", -1.0, r"\['marker_weight'\]=-1.0 must be at least 0"),
        (PaperParams, "background", "far", r"\['background'\]='far' is unknown; valid are 'auto', 'paper' or a dist"),
        (PaperParams, "background", 0.0, r"\['background'\]=0.0 must be"),
    ],
)
def test_bounds_of_one(cls, name, value, message):
    with pytest.raises(ValueError, match=message):
        cls.resolve({name: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "3e-4", None, True])
@pytest.mark.parametrize("name", ["learning_rate", "tau", "weight_decay"])
def test_what_is_no_number(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"params\['{name}'\]=.* must be a number, "):
        PaperParams(**{name: value})


def test_values_at_the_bounds():
    params = PaperParams(patch_size=8, held_out=0, weight_decay=0, betas=(0, 0), cell_weights=(5, 1), reach=1)
    assert params.patch_size == 8
    assert PaperParams(held_out=0.5).held_out == 0.5
    assert (DensityParams(shape_exponent=0).shape_exponent, DensityParams(shape_exponent=1).shape_exponent) == (0, 1)
    for background in ("auto", "paper", 5, 2.5):
        assert PaperParams(background=background).background == background


def test_paper():
    for cls in BOTH:
        params = cls()
        assert (params.patch_size, params.betas, params.weight_decay) == (48, (0.9, 0.999), 1e-4)
        assert params.reach == params.patch_size // 2
    assert PaperParams().tau == 5.0
    assert PaperParams().foreground_weights == PaperParams().cell_weights == (1.0, 1.0)


def test_each_method_has_its_own_defaults():
    assert (DensityParams().max_steps, DensityParams().learning_rate) == (300, 3e-3)
    assert (PaperParams().max_steps, PaperParams().learning_rate) == (0, 3e-4)  # 0: by the size of the tissue


def test_each_method_has_its_own_fields():
    shared = {one.name for one in option_fields(MethodParams)}
    density, paper = ({one.name for one in option_fields(cls)} for cls in BOTH)
    assert density & paper > shared
    for name in sorted(paper - density):
        with pytest.raises(ValueError, match=rf"params has unknown fields: '{name}'; DensityParams has: "):
            DensityParams.resolve({name: 1})
    for name in sorted(density - paper):
        with pytest.raises(ValueError, match=rf"params has unknown fields: '{name}'; PaperParams has: "):
            PaperParams.resolve({name: 1})


def test_the_methods_refuse_each_others_instances():
    for cls, other in (BOTH, reversed(BOTH)):
        with pytest.raises(TypeError, match=rf"must be {cls.__name__}, a mapping of its fields, or None"):
            cls.resolve(other())


@pytest.mark.parametrize("cls", BOTH)
def test_json_round_trip(cls):
    params = cls(betas=(0.5, 0.9), reach=30)
    assert cls.resolve(json.loads(json.dumps(params.as_dict()))) == params


@pytest.mark.parametrize("cls", BOTH)
def test_frozen_and_hashable(cls):
    params = cls()
    with pytest.raises(FrozenInstanceError):
        params.reach = 3
    assert hash(params) == hash(cls())


@pytest.mark.parametrize("cls", BOTH)
def test_they_are_public_and_documented(cls):
    assert getattr(ucs.methods, cls.__name__) is cls
    for one in option_fields(cls):
        assert f"{one.name} : default {one.default!r}\n    {one.metadata['text']}" in cls.__doc__


def test_steps_of_the_paper_grow_with_the_tissue():
    plans = [PaperParams().planned(n * 48**2) for n in (1, 40, 150, 300, 20_000)]
    assert [plan.max_steps for plan in plans] == [120, 120, 150, 300, 480]
    assert [plan.cell_patches for plan in plans] == [48, 48, 150, 192, 192]
    assert [plan.cell_steps for plan in plans] == [200, 200, 400, 400, 400]
    assert PaperParams(batch_size=4).planned(800 * 48**2).max_steps == 200
    named = PaperParams(max_steps=7, cell_steps=8, cell_patches=9)
    assert named.planned(500) == named
    assert DensityParams().planned(500) == DensityParams()


def test_what_softmasks_ask_for():
    assert PaperParams().shape_exponent == 0.3
    assert PaperParams(shape_exponent="literal").shape_exponent == "literal"
    for wrong in ("round", -0.1, 1.5):
        with pytest.raises(ValueError, match=r"shape_exponent.*'literal'"):
            PaperParams(shape_exponent=wrong)
    with pytest.raises(ValueError, match="encoder_convolutions"):
        PaperParams(encoder_convolutions=3)
