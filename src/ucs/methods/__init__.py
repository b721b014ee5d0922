"""Segmentation methods, their parameters and trained models.

Three methods are built in: ``"pretrained"``, the default, ``"density"``, which learns from the sample alone, and
``"paper"``, the networks of the UCS paper. Another one is a subclass of :class:`Method` that is passed to
:func:`register`.
"""

from ucs.methods.base import (
    Method,
    RasterSample,
    TileCells,
    TilePlan,
    TilePredictor,
    TrainingSet,
    method_names,
    register,
)
from ucs.methods.density.method import DensityMethod
from ucs.methods.density.model import DensityModel
from ucs.methods.density.net import DensityNet
from ucs.methods.density.params import DensityParams
from ucs.methods.model import UCSModel
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.paper.method import PaperMethod
from ucs.methods.paper.model import PaperModel
from ucs.methods.paper.params import PaperParams
from ucs.methods.params import MethodParams, TrainingParams
from ucs.methods.pretrained.method import PretrainedMethod
from ucs.methods.pretrained.model import PretrainedModel
from ucs.methods.pretrained.params import PretrainedParams
from ucs.methods.region_models import RegionModels

__all__ = [
    "CellNet",
    "DensityMethod",
    "DensityModel",
    "DensityNet",
    "DensityParams",
    "ForegroundNet",
    "Method",
    "MethodParams",
    "PaperMethod",
    "PaperModel",
    "PaperParams",
    "PretrainedMethod",
    "PretrainedModel",
    "PretrainedParams",
    "RasterSample",
    "RegionModels",
    "TileCells",
    "TilePlan",
    "TilePredictor",
    "TrainingParams",
    "TrainingSet",
    "UCSModel",
    "method_names",
    "register",
]
