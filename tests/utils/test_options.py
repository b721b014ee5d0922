"""The base of all options: what a field takes, how it is given and how it is shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from ucs._utils.options import Options, documented, option, option_fields


def _check_even(value, name):
    if value % 2:
        msg = f"{name}={value!r} must be even."
        raise ValueError(msg)


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class Baking(Options):
    """How bread is baked."""

    argument: ClassVar[str] = "baking"

    minutes: int = option(40, "Time in the oven.", least=1, most=90)
    salt: float = option(0.02, "Share of salt.", above=0, below=0.1)
    crust: str = option("thin", "Its crust.", choices=("thin", "thick"))
    seeded: bool = option(default=False, text="Whether it has seeds.")
    heat: tuple[float, float] = option((250.0, 200.0), "Heat at first and later.", above=0)
    turns: tuple[int, int] = option((1, 2), "When it is turned.", least=0)
    loaves: int = option(2, "An even number.", check=_check_even)
    tin: str | Path = option("square", "Its tin.")
    baker: str | None = option(None, "Who bakes.", flag="by")


def test_defaults_are_valid_and_nothing_is_shown_of_them():
    assert repr(Baking()) == "Baking()"
    assert Baking().changed() == []
    assert repr(Baking(minutes=30, baker="Ada")) == "Baking(minutes=30, baker='Ada')"
    assert Baking(seeded=True, heat=(240.0, 200.0)).changed() == ["seeded", "heat"]


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("minutes", 0, ValueError, r"^baking\['minutes'\]=0 must be at least 1 and at most 90\.$"),
        ("minutes", 91, ValueError, "must be at least 1 and at most 90"),
        ("minutes", 40.0, ValueError, "must be a whole number, at least 1 and at most 90"),
        ("minutes", "40", TypeError, "must be a whole number"),
        ("minutes", True, TypeError, "must be a whole number"),
        ("minutes", None, TypeError, "must be a whole number"),
        ("salt", 0.0, ValueError, r"^baking\['salt'\]=0.0 must be above 0 and below 0.1\.$"),
        ("salt", 0.1, ValueError, "must be above 0 and below 0.1"),
        ("salt", float("nan"), ValueError, "must be a number, above 0 and below 0.1"),
        ("crust", "soft", ValueError, r"^baking\['crust'\]='soft' is unknown; valid are 'thin', 'thick'\.$"),
        ("seeded", 1, TypeError, r"^baking\['seeded'\]=1 must be True or False\.$"),
        ("heat", (250.0,), ValueError, "must be 2 numbers"),
        ("heat", 250.0, ValueError, "must be 2 numbers"),
        ("heat", (250.0, 0.0), ValueError, "must be above 0"),
        ("turns", (1, 1.5), ValueError, "must be a whole number, at least 0"),
        ("loaves", 3, ValueError, r"^baking\['loaves'\]=3 must be even\.$"),
        ("tin", 4, TypeError, r"^baking\['tin'\]=4 must be a string\.$"),
    ],
)
def test_bounds(field, value, error, message):
    with pytest.raises(error, match=message):
        Baking(**{field: value})
    with pytest.raises(error, match=message):
        Baking.resolve({field: value})


def test_values_at_the_bounds():
    made = Baking(minutes=90, heat=(1, 2), turns=(0, 0), loaves=4, tin=Path("round"))
    assert (made.minutes, made.heat, made.tin) == (90, (1, 2), Path("round"))


def test_lists_become_tuples():
    assert Baking(heat=[240.0, 180.0]).heat == (240.0, 180.0)
    assert Baking.resolve(Baking(heat=(240.0, 180.0)).as_dict()).heat == (240.0, 180.0)
    assert Baking().as_dict()["heat"] == [250.0, 200.0]


def test_numbers_of_numpy_become_those_of_python():
    made = Baking(minutes=np.int64(30), salt=np.float32(0.05), heat=(np.float64(1), 2))
    assert [type(value) for value in (made.minutes, made.salt, made.heat[0])] == [int, float, float]
    json.dumps(made.as_dict())


def test_resolve():
    given = Baking(minutes=30)
    assert Baking.resolve(given, minutes=50) is given
    assert Baking.resolve(None) == Baking.resolve({}) == Baking()
    assert Baking.resolve(None, minutes=50) == Baking(minutes=50)
    assert Baking.resolve({"crust": "thick"}, minutes=50) == Baking(crust="thick", minutes=50)
    assert Baking.resolve({"minutes": 20}, minutes=50) == Baking(minutes=20)


def test_resolve_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"^baking has unknown fields: 'flour', 'water'; Baking has: 'minutes'"):
        Baking.resolve({"flour": 500, "water": 300, "salt": 0.02})
    for value in (5, "fast", [("minutes", 5)]):
        with pytest.raises(TypeError, match=r"^baking=.* must be Baking, a mapping of its fields, or None\.$"):
            Baking.resolve(value)


def test_fields_are_documented_where_they_are_declared():
    assert Baking.__doc__.startswith("How bread is baked.\n\nParameters\n----------\nminutes : default 40\n    Time in")
    assert [one.name for one in option_fields(Baking)][:3] == ["minutes", "salt", "crust"]
    assert option_fields(Baking)[-1].metadata["flag"] == "by"
    assert Baking.__doc__.count(" : default ") == len(option_fields(Baking)) == 9
