"""Preparation: transcripts and nuclei on one raster."""

from ucs.pp._rasterize import rasterize

__all__ = ["rasterize"]
