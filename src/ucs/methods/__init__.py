"""The two networks: layers, training, a saved model."""

from ucs.methods.model import UCSModel
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.params import TrainParams
from ucs.methods.region_models import RegionModels

__all__ = ["CellNet", "ForegroundNet", "RegionModels", "TrainParams", "UCSModel"]
