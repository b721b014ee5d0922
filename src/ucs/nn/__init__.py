"""The two networks: layers, training, a saved model."""

from ucs.nn.cell import CellNet
from ucs.nn.foreground import ForegroundNet
from ucs.nn.model import UCSModel
from ucs.nn.params import TrainParams

__all__ = ["CellNet", "ForegroundNet", "TrainParams", "UCSModel"]
