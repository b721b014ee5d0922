"""Readers for what spatialdata-io does not read: Stereo-seq expression matrices, row by row."""

from __future__ import annotations

from ucs.io._gef import read_gef
from ucs.io._gem import read_gem

__all__ = ["read_gef", "read_gem"]
