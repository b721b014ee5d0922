"""Example data: simulated tissue with known cells."""

from __future__ import annotations

from ucs.datasets._layouts import LAYOUTS, Kind, Layout, Maps
from ucs.datasets._params import REGIMES, SimulationParams
from ucs.datasets._simulate import simulate

__all__ = ["LAYOUTS", "REGIMES", "Kind", "Layout", "Maps", "SimulationParams", "simulate"]
