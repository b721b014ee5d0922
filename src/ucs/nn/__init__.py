"""The two networks: layers, training, a saved model."""

from ucs.nn.cell import CellNet
from ucs.nn.foreground import ForegroundNet
from ucs.nn.model import UCSModel
from ucs.nn.params import TrainParams
from ucs.nn.region_models import RegionModels

__all__ = ["CellNet", "ForegroundNet", "RegionModels", "TrainParams", "UCSModel"]
