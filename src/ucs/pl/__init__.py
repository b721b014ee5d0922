"""Pictures."""

from __future__ import annotations

from ucs.pl._cells import cells
from ucs.pl._purity_capture import purity_capture

__all__ = ["cells", "purity_capture"]
