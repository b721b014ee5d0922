"""Parameters of the pretrained method."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ucs._utils.options import documented
from ucs.methods.params import MethodParams
from ucs.methods.pretrained.candidates import REACH_UM


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class PretrainedParams(MethodParams):
    """How distances follow the shape of nuclei; the net itself has learned before."""

    def reach_px(self, um_per_px: float) -> int:
        """Return 30 um in pixels."""
        return math.ceil(REACH_UM / um_per_px)
