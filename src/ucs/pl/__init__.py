"""Pictures."""

from __future__ import annotations

from ucs.pl._cells import cells

__all__ = ["cells"]
