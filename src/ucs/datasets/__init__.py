"""Data to try things on: simulated tissue of which the truth is known."""

from __future__ import annotations

from ucs.datasets._params import REGIMES, SimulationParams
from ucs.datasets._simulate import simulate

__all__ = ["REGIMES", "SimulationParams", "simulate"]
