"""Pictures."""

from __future__ import annotations

from ucs.pl._cells import cells
from ucs.pl._compare import compare
from ucs.pl._localization import localization
from ucs.pl._maps import confidence, foreground
from ucs.pl._morphology import morphology
from ucs.pl._purity_capture import purity_capture

__all__ = ["cells", "compare", "confidence", "foreground", "localization", "morphology", "purity_capture"]
