"""Samples as arrays for a method: whole, or what one region holds of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import Window
from ucs.methods.base import RasterSample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ucs._read.regions import Regions
    from ucs._read.sample import Sample
    from ucs._read.transcripts import Transcripts

_FARTHEST = 256
"""Pixels from a region within which nuclei may decide where its background lies."""

_HALO = 8
"""Pixels beyond a patch that nets see: those of the methods that learn from regions."""


def raster_of(sample: Sample, markers: Mapping[str, Sequence[str]] | None, number: int = 0) -> RasterSample:
    """Return all of a sample; ``number`` is its place among the samples that a model is learned from."""
    transcripts = sample.transcripts
    return RasterSample(
        transcripts.map,
        transcripts.genes + transcripts.controls,
        len(transcripts.genes),
        sample.nuclei.labels,
        len(sample.nuclei.ids),
        transcripts.grid.um_per_px,
        markers=markers,
        cell_types=sample.cell_types,
        number=number,
        stains=sample.stains,
    )


class RegionCutter:
    """Cuts regions out of a sample, one at a time, so that they never take more memory than one of them.

    Parameters
    ----------
    raster
        The whole sample.
    regions
        Its regions.
    patch_size
        Side of the patches that will be drawn, in pixels.
    """

    def __init__(self, raster: RasterSample, regions: Regions, *, patch_size: int) -> None:
        self.raster = raster
        self.regions = regions
        self.margin = max(_FARTHEST, patch_size + _HALO)
        n = len(regions.names)
        self._boxes = bounding_boxes(regions.labels, n)
        of_nuclei = bounding_boxes(raster.nuclei, raster.n)[1:]
        region = regions.of_nucleus[1:]
        empty = self._boxes[:, 2] == 0
        self._boxes[empty, :2] = np.iinfo(np.int64).max
        np.minimum.at(self._boxes[:, :2], region, of_nuclei[:, :2])
        np.maximum.at(self._boxes[:, 2:], region, of_nuclei[:, 2:])

    def cut(self, name: str) -> RasterSample | None:
        """Return a region with its surroundings; None if the sample has none of this name."""
        if name not in self.regions.names:
            return None
        k = self.regions.names.index(name) + 1
        row0, column0, row1, column1 = (int(edge) for edge in self._boxes[k])
        window = Window(row0, column0, row1, column1).grown(self.margin).clipped(self.raster.shape)
        part = self.raster.crop(window)
        return replace(
            part,
            learned=np.where(self.regions.of_nucleus[part.nuclei] == k, part.nuclei, 0).astype(np.int32),
            inside=self.regions.labels[window.slices] == k,
        )


def own_transcripts(part: RasterSample, of: Transcripts) -> Transcripts:
    """Return the transcripts on the pixels that count, as those of a sample."""
    inside = part.inside
    return replace(of, map=part.transcripts if inside is None else part.transcripts.where(inside))
