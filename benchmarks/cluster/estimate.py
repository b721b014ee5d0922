"""Seconds on other machines, from measured parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.cluster.parts import Parts

WHOLE_MPX = 41.2
"""Of the breast slide of ``benchmarks/scale``."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of slides on workers.

    Attributes
    ----------
    together
        All workers share the tiles of one slide, slide after slide.
    apart
        Each worker has slides of its own: as many jobs as workers.
    bytes_per_second
        Through the scratch folder while tiles are shared, there and back.
    bound_by
        What sets the pace of shared tiles: ``"workers"`` or ``"client"``, which cuts them out one after the other.
    """

    together: float
    apart: float
    bytes_per_second: float
    bound_by: str


def estimate(parts: Parts, *, workers: int, slides: int, mpx: float = WHOLE_MPX, nets: bool = True) -> Estimate:
    """Estimate how long slides take.

    Parameters
    ----------
    parts
        Measured on a smaller slide: whatever takes time is taken to grow with the area.
    workers, slides
        How many, all slides of one size.
    mpx
        Of each slide.
    nets
        Whether nets take the time that they take on a CPU; if not none at all, the bound for any GPU.
    """
    scale = mpx / parts.mpx
    tiles = math.ceil(parts.tiles * scale)
    beside = parts.seconds_beside * scale
    of_tile = parts.seconds_per_tile - (0.0 if nets else parts.seconds_of_nets)
    of_client = parts.seconds_per_task + parts.scheduler_seconds
    pace = max(of_tile / workers, of_client)
    together = slides * (beside + tiles * pace)
    apart = math.ceil(slides / workers) * (beside + tiles * (parts.seconds_per_task + of_tile))
    rate = (parts.bytes_per_task + parts.bytes_per_result) / pace
    return Estimate(together, apart, rate, "client" if pace == of_client else "workers")
