"""What a model learns from: a whole sample, or what one region holds of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import Window
from ucs._run.cell_types import marks_of
from ucs.methods.model import match_genes
from ucs.methods.paper.find_background import find_background
from ucs.methods.paper.foreground import HALO
from ucs.methods.paper.patches import TrainingData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ucs._read.regions import Regions
    from ucs._read.sample import Sample
    from ucs._read.transcripts import Transcripts
    from ucs.methods.density.statistics import Overview
    from ucs.methods.paper.marks import Marks

_FARTHEST = 256
"""Pixels from a region within which nuclei may decide where its background lies."""


@dataclass(frozen=True)
class Tissue:
    """Transcripts and nuclei on a raster, and which of them count.

    Attributes
    ----------
    transcripts
        All in the window; the nets see those of other regions too.
    nuclei
        ``(h, w)`` ids of all nuclei, from which background keeps its distance.
    learned
        ``(h, w)`` ids of the nuclei to learn from.
    inside
        ``(h, w)``, the pixels that background is taken from; all if None.
    marks
        Markers and types of the nuclei, if the nets are to see them.
    """

    transcripts: Transcripts
    nuclei: NDArray[np.int32]
    learned: NDArray[np.int32]
    inside: NDArray[np.bool_] | None = None
    marks: Marks | None = None
    overviews: dict[Any, Overview] = field(default_factory=dict, compare=False)
    """As in :class:`ucs._read.sample.Sample`."""

    @classmethod
    def of_sample(cls, sample: Sample, markers: Mapping[str, Sequence[str]] | None = None) -> Tissue:
        """Take all of a sample, with its markers if there are any."""
        labels = sample.nuclei.labels
        return cls(sample.transcripts, labels, labels, marks=marks_of(sample, markers), overviews=sample.overviews)

    @property
    def own_transcripts(self) -> Transcripts:
        """The transcripts on the pixels that count."""
        if self.inside is None:
            return self.transcripts
        return replace(self.transcripts, map=self.transcripts.map.where(self.inside))

    @property
    def n_nuclei(self) -> int:
        """Number of nuclei to learn from."""
        ids = np.unique(self.learned)
        return int((ids > 0).sum())

    def training_data(
        self, genes: Sequence[str], background: str | float, *, of: str = ""
    ) -> tuple[TrainingData, dict[str, Any]]:
        """Return what the nets learn from, and how background was chosen; ``of`` names the tissue in messages."""
        transcripts = self.transcripts
        far, chosen = find_background(
            transcripts.map.totals(),
            self.nuclei,
            background,
            um_per_px=transcripts.grid.um_per_px,
            inside=self.inside,
            of=of,
        )
        keep, index = match_genes(genes, transcripts.genes + transcripts.controls)
        return TrainingData(transcripts.map.select(keep, index, len(genes)), self.learned, far, self.marks), chosen


class RegionCutter:
    """Cuts regions out of a sample, one at a time, so that they never take more memory than one of them.

    Parameters
    ----------
    sample
        The sample.
    regions
        Its regions.
    patch_size
        Side of the patches that will be drawn, in pixels.
    markers
        Genes of each type, if the nets are to see them.
    """

    def __init__(
        self,
        sample: Sample,
        regions: Regions,
        *,
        patch_size: int,
        markers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.sample = sample
        self.marks = marks_of(sample, markers)
        self.regions = regions
        self.margin = max(_FARTHEST, patch_size + HALO)
        n = len(regions.names)
        self._boxes = bounding_boxes(regions.labels, n)
        of_nuclei = bounding_boxes(sample.nuclei.labels, len(sample.nuclei.ids))[1:]
        region = regions.of_nucleus[1:]
        empty = self._boxes[:, 2] == 0
        self._boxes[empty, :2] = np.iinfo(np.int64).max
        np.minimum.at(self._boxes[:, :2], region, of_nuclei[:, :2])
        np.maximum.at(self._boxes[:, 2:], region, of_nuclei[:, 2:])

    def whole(self) -> Tissue:
        """Return all of the sample."""
        labels = self.sample.nuclei.labels
        return Tissue(self.sample.transcripts, labels, labels, marks=self.marks, overviews=self.sample.overviews)

    def cut(self, name: str) -> Tissue | None:
        """Return a region with its surroundings; None if the sample has none of this name."""
        if name not in self.regions.names:
            return None
        k = self.regions.names.index(name) + 1
        row0, column0, row1, column1 = (int(edge) for edge in self._boxes[k])
        transcripts, nuclei = self.sample.transcripts, self.sample.nuclei.labels
        window = Window(row0, column0, row1, column1).grown(self.margin).clipped(nuclei.shape)
        grid = transcripts.grid
        part = replace(grid, column0=grid.column0 + window.column0, row0=grid.row0 + window.row0, shape=window.shape)
        nuclei = nuclei[window.slices]
        return Tissue(
            replace(transcripts, grid=part, map=transcripts.map.crop(window)),
            nuclei,
            np.where(self.regions.of_nucleus[nuclei] == k, nuclei, 0).astype(np.int32),
            self.regions.labels[window.slices] == k,
            None if self.marks is None else self.marks.crop(window),
        )
