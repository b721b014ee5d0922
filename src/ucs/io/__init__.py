"""Ways in and out: Stereo-seq expression matrices, other programs' segmentations, and exports of cells."""

from __future__ import annotations

from ucs.io._gef import read_gef
from ucs.io._gem import read_gem
from ucs.io._geojson import to_geojson
from ucs.io._segmentation import read_segmentation
from ucs.io._xenium_explorer import to_xenium_explorer
from ucs.io._xenium_ranger import to_xenium_ranger

__all__ = ["read_gef", "read_gem", "read_segmentation", "to_geojson", "to_xenium_explorer", "to_xenium_ranger"]
