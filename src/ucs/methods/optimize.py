"""What the training of all nets shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from ucs._utils.version import versions
from ucs.methods.device import precision

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

FINE_TUNING = 1 / 3
"""Share of the steps that are left to a model which begins as another one."""

_RISE = 10  # steps over which the learning rate rises: Adam's second moments are still unknown in the first ones


def cosine_schedule(optimizer: Optimizer, max_steps: int) -> LRScheduler:
    """Return a schedule of the learning rate: a short rise, then a cosine down to 0 at the last step."""
    rise = min(_RISE, max_steps)

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * step / max_steps))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def provenance(device: torch.device, seed: int, n_samples: int, *, warm_start: bool) -> dict[str, Any]:
    """Return what a model's history says of any training."""
    return {
        "seed": seed,
        "n_samples": n_samples,
        "warm_start": warm_start,
        "device": str(device),
        "precision": precision(device),
        "versions": versions(),
    }
