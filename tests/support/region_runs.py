"""Runs with one model for each region, and the scene with areas that may be such regions."""

from __future__ import annotations

from scenes import TINY, X0, Y0, boxes, scene
from spatialdata.models import ShapesModel
from spatialdata.transformations import Identity

import ucs

QUIET = {"progress": False, "check_alignment": False, "device": "cpu", "inplace": False}
LEARN = {"train": {**TINY, "min_nuclei": 1}, "background": 5.0, "seed": 3}


def segment(sdata, **options):
    return ucs.tl.segment(sdata, **{**LEARN, **QUIET, **options})


def train(sdata, **options):
    return ucs.tl.train(sdata, **{**LEARN, **{key: QUIET[key] for key in QUIET if key != "inplace"}, **options})


def scene_with(*polygons, index=None):
    """The scene with polygons (x0, y0, x1, y1) in pixels."""
    sdata = scene().sdata()
    frame = boxes(*[(X0 + a, Y0 + b, X0 + c, Y0 + d) for a, b, c, d in polygons], index=index)
    sdata["areas"] = ShapesModel.parse(frame, transformations={"global": Identity()})
    return sdata
