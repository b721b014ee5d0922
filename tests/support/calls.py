"""Calls of the library as tests make them: quiet, on the CPU, with fields of the options given by their own names."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from spatialdata import SpatialData

import ucs
from ucs.options import ComputeOptions, OutputKeys, ReadOptions

QUIET = {"device": "cpu", "check_alignment": False, "progress": False}
TRAINED = {**QUIET, "method": "density"}
"""Where nothing else is asked for: a method that learns from the sample goes through all that there is."""
EXACT = {"outlines": "pixels"}
"""Outlines that hold just what labels hold, for tests that compare the two."""


def segment(sdata: SpatialData, *keys: Any, **options: Any) -> SpatialData:
    """A new object with cells."""
    quiet = QUIET if options.get("model") is not None else TRAINED
    return ucs.tl.segment(sdata, *keys, **grouped(**{**quiet, **_exact(options), "inplace": False, **options}))


def predict(sdata: SpatialData, model: Any, *keys: Any, **options: Any) -> SpatialData:
    """A new object with the cells of a model."""
    return ucs.tl.predict(sdata, model, *keys, **grouped(**{**QUIET, **_exact(options), "inplace": False, **options}))


def find_missing(sdata: SpatialData, model: Any, *keys: Any, **options: Any) -> SpatialData:
    """A new object with the cells of a model, those without a nucleus among them."""
    return ucs.tl.find_missing(
        sdata, model, *keys, **grouped(**{**QUIET, **_exact(options), "inplace": False, **options})
    )


def train(sdata: SpatialData | list[SpatialData], *keys: Any, **options: Any) -> Any:
    """A model, or models of regions."""
    given = grouped(**{**TRAINED, **options})
    return ucs.tl.train(sdata, *keys, **given.pop("compute"), **given)


def check(sdata: SpatialData, *keys: Any, **options: Any) -> dict[str, Any]:
    """What a segmentation would use."""
    quiet = QUIET if options.get("model") is not None else TRAINED
    given = grouped(**{**quiet, "estimate": False, **options})
    del given["progress"]
    return ucs.pp.check(sdata, *keys, **given)


def _exact(options: dict[str, Any]) -> dict[str, Any]:
    """Outlines along pixels, unless the names of the results are given in a form that has no room for it."""
    return EXACT if isinstance(options.get("key_added", {}), str | dict) else {}


def grouped(**given: Any) -> dict[str, Any]:
    """Put fields of options into their groups: ``tile_size=40`` becomes ``compute={"tile_size": 40}``."""
    out = {}
    for of in (ReadOptions, ComputeOptions, OutputKeys):
        named = {one.name: given.pop(one.name) for one in fields(of) if one.name in given}
        if named:
            group = given.pop(of.argument, {})
            out[of.argument] = {**named, **({"prefix": group} if isinstance(group, str) else group)}
    return {**given, **out}
