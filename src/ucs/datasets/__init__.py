"""Example data: simulated tissue with known cells, and a small real sample."""

from __future__ import annotations

from ucs.datasets._breast import xenium_breast
from ucs.datasets._layouts import LAYOUTS
from ucs.datasets._params import REGIMES, SimulationParams
from ucs.datasets._simulate import simulate

__all__ = ["LAYOUTS", "REGIMES", "SimulationParams", "simulate", "xenium_breast"]
