"""Prediction with density nets, one tile at a time, on a part of the raster that holds what its core depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ucs.methods.base import TileCells, TilePlan, TilePredictor
from ucs.methods.density.confidence import confidence_of, share_from_cells
from ucs.methods.density.ownership import Evidence, choose_owners
from ucs.methods.density.surroundings import cell_probability
from ucs.methods.density.training import DensityData, predict_density
from ucs.methods.device import net_on

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import Window
    from ucs.methods.density.levels import Levels
    from ucs.methods.density.net import DensityNet
    from ucs.methods.density.statistics import Extract, Overview
    from ucs.methods.density.surroundings import Surroundings
    from ucs.methods.model import Selection


@dataclass(frozen=True)
class NetOnSample:
    """A density net with what it takes from one sample.

    Attributes
    ----------
    net
        On the device, or on the CPU.
    selection
        The features that it sees.
    levels
        Of the sample, on the pixels of its nuclei.
    mean
        Mean count of these pixels.
    """

    net: DensityNet
    selection: Selection
    levels: Levels
    mean: float


@dataclass(frozen=True)
class DensityTask:
    """What is to be done for one tile.

    Attributes
    ----------
    extract
        The part of the raster.
    model_of_nucleus
        ``(m + 1,)`` number of the model of each nucleus.
    richness
        ``(models, m + 1)`` of the nuclei, as each model sees them.
    membership
        ``(m + 1, clusters)`` of the nuclei.
    """

    extract: Extract
    model_of_nucleus: NDArray[np.int64]
    richness: NDArray[np.float32]
    membership: NDArray[np.float32]


@dataclass(frozen=True)
class DensityScores:
    """A task with what the nets say of it; ``(h, w)`` of its window, right in its core."""

    task: DensityTask
    around: Surroundings
    in_cell: NDArray[np.float32]
    from_cells: NDArray[np.uint8]


@dataclass(frozen=True)
class DensityPredictor(TilePredictor):
    """What is the same for all tiles.

    Attributes
    ----------
    nets
        One of each model.
    log_ratio
        ``(clusters, features)`` of the features that the first net sees; None to go by distance alone.
    expression_weight_um
        um of distance per unit of log likelihood.
    threshold
        Probability of lying in a cell above which a pixel does.
    """

    nets: tuple[NetOnSample, ...]
    log_ratio: NDArray[np.float32] | None
    expression_weight_um: float
    threshold: float

    def on(self, device: torch.device) -> DensityPredictor:
        """Return the predictor with its nets on a device; those of this object stay where they are."""
        return replace(self, nets=tuple(replace(one, net=net_on(one.net, device)) for one in self.nets))

    def forward(self, task: DensityTask, *, device: torch.device, tile_size: int) -> DensityScores:
        """Predict how likely each pixel lies in a cell."""
        part, core = task.extract, task.extract.inner
        first = part.surroundings(self.nets[0].selection.of(part.transcripts))
        in_cell = np.zeros(first.totals.shape, dtype=np.float32)
        from_cells = np.zeros(first.totals.shape, dtype=np.uint8)
        for number, one in enumerate(self.nets):
            mine = task.model_of_nucleus == number
            mine[0] = False
            if not mine.any():
                continue
            around = replace(first, richness=task.richness[number])
            if number > 0:
                around = replace(around, totals=one.selection.of(part.transcripts).totals())
            density = np.zeros(first.totals.shape, dtype=np.float32)
            data = DensityData(around, mine, one.mean)
            predict_density(data, one.net, density, device=device, core=core, tile_size=tile_size)
            probability = cell_probability(around, density, one.levels)
            share = share_from_cells(around, density, one.levels)
            if len(self.nets) == 1:
                return DensityScores(task, first, probability, share)
            inside = mine[first.nearest.owner]
            np.copyto(in_cell, probability, where=inside)
            np.copyto(from_cells, share, where=inside)
        return DensityScores(task, first, in_cell, from_cells)

    def decide(self, scores: DensityScores) -> TileCells:
        """Choose the owner of each pixel, and the pixels that lie in no cell."""
        part, around = scores.task.extract, scores.around
        evidence = None
        if self.log_ratio is not None:
            of_first = self.nets[0].selection.of(part.transcripts)
            evidence = Evidence(of_first, self.log_ratio, scores.task.membership, self.expression_weight_um)
        owner, certainty = choose_owners(
            part.nuclei, around.boxes, around.axes, reach=part.reach, um_per_px=part.um_per_px, evidence=evidence
        )
        inner = part.inner.slices
        labels, in_cell = part.ids[owner[inner]], scores.in_cell[inner]
        labels[(in_cell <= self.threshold) & (part.nuclei[inner] == 0)] = 0
        confidence = confidence_of(certainty[inner], scores.from_cells[inner])
        return TileCells(labels, confidence, np.rint(255 * in_cell).astype(np.uint8))


@dataclass(frozen=True)
class DensityPlan(TilePlan):
    """A sample and the models that are applied to it."""

    predictor: DensityPredictor
    surveys: tuple[Overview, ...]
    model_of_nucleus: NDArray[np.int64]
    membership: NDArray[np.float32]

    def task(self, core: Window) -> DensityTask:
        """Cut out one tile."""
        extract = self.surveys[0].extract(core)
        ids = extract.ids
        richness = np.stack([survey.richness[ids] for survey in self.surveys])
        return DensityTask(extract, self.model_of_nucleus[ids], richness, self.membership[ids])
