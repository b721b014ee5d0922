"""Example data: simulated tissue with known cells."""

from __future__ import annotations

from ucs.datasets._layouts import LAYOUTS
from ucs.datasets._params import REGIMES, SimulationParams
from ucs.datasets._simulate import simulate

__all__ = ["LAYOUTS", "REGIMES", "SimulationParams", "simulate"]
