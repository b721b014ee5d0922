"""Runs with one model for each region, and the scene with areas that may be such regions."""

from __future__ import annotations

from typing import Any

import calls
from scenes import PAPER_TINY, TINY, X0, Y0, boxes, scene
from spatialdata import SpatialData
from spatialdata.models import ShapesModel
from spatialdata.transformations import Identity

from ucs.methods import RegionModels

PARAMS = {"density": TINY, "paper": PAPER_TINY}


def segment(sdata: SpatialData, **options: Any) -> SpatialData:
    """A new object with cells, after a training that is short and in which all regions take part."""
    return calls.segment(sdata, **_with_params(options))


def train(sdata: SpatialData, **options: Any) -> RegionModels:
    """The models of such a training."""
    return calls.train(sdata, **_with_params(options))


def _with_params(options: dict[str, Any]) -> dict[str, Any]:
    method = options.get("method", "density")
    params = {**PARAMS[method], **({} if options.get("regions") is None else {"min_nuclei": 1})}
    return {"seed": 3, **options, "params": {**params, **options.get("params", {})}}


def scene_with(*polygons: tuple[float, float, float, float], index: Any = None) -> SpatialData:
    """The scene with polygons (x0, y0, x1, y1) in pixels."""
    sdata = scene().sdata()
    frame = boxes(*[(X0 + a, Y0 + b, X0 + c, Y0 + d) for a, b, c, d in polygons], index=index)
    sdata["areas"] = ShapesModel.parse(frame, transformations={"global": Identity()})
    return sdata
