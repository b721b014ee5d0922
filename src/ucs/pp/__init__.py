"""Preparation: transcripts and nuclei on one raster."""

from ucs.pp._check import check
from ucs.pp._nuclei import nuclei
from ucs.pp._rasterize import rasterize

__all__ = ["check", "nuclei", "rasterize"]
