"""A whole segmentation method: a pixel goes to the nearest nucleus, if that is near enough.

How near is learned: within ``radius`` lies a given share of the transcripts around nuclei. Importing this module makes
the method known, as ``method="nearest"``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ucs._kernels.distances import NearestNuclei, nearest_nuclei, nucleus_axes
from ucs._kernels.labels.ids import renumber
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import Window
from ucs._utils.options import documented, option
from ucs.methods import (
    Method,
    RasterSample,
    TileCells,
    TilePlan,
    TilePredictor,
    TrainingParams,
    TrainingSet,
    UCSModel,
    register,
)
from ucs.methods.model import Selection
from ucs.methods.optimize import provenance


@documented
@dataclass(frozen=True, kw_only=True, repr=False)
class NearestParams(TrainingParams):
    """How far cells reach."""

    share: float = option(0.5, "Share of the transcripts around nuclei that lie in cells.", above=0, below=1)


@dataclass(frozen=True, kw_only=True, repr=False)
class NearestModel(UCSModel):
    """The distance in pixels, ``(1,)``, at which a pixel is as likely in a cell as not."""

    method = "nearest"
    radius: torch.Tensor

    def tensors(self):
        return {"radius": self.radius}

    @classmethod
    def from_tensors(cls, tensors, description, genes, params, um_per_px, history):
        return cls(radius=tensors["radius"], genes=genes, params=params, um_per_px=um_per_px, history=history)


@dataclass(frozen=True)
class Distances(TrainingSet):
    """How far from its nucleus each transcript around nuclei lies."""

    distance: NDArray[np.float32]
    genes: tuple[str, ...]
    um_per_px: float

    @property
    def lacks(self):
        return "" if len(self.distance) else "no transcripts around nuclei"

    def fit(self, params, *, device, seed, start, progress):
        if self.lacks:
            raise ValueError(f"There are {self.lacks} to learn from.")
        radius = torch.tensor([np.quantile(self.distance, params.share)], dtype=torch.float32)
        progress(1, 1)
        history = provenance(device, seed, 1, warm_start=start is not None)
        return NearestModel(
            radius=radius, genes=self.genes, params=params, um_per_px=self.um_per_px, history=history
        )


class Task(NamedTuple):
    """A part of the raster, and which pixels of it are wanted. Ids are numbered anew, so rows are those of the part."""

    inner: Window
    ids: NDArray[np.int32]  # (m + 1,) in the whole raster
    nuclei: NDArray[np.int32]  # (h, w)
    axes: NDArray[np.float64]  # (m + 1, 3)
    radius: NDArray[np.float32]  # (m + 1,)


@dataclass(frozen=True)
class NearestPredictor(TilePredictor):
    """Decides on tiles."""

    reach: int
    threshold: float

    def on(self, device):
        return self  # there is no net

    def forward(self, task, *, device, tile_size):
        return task, nearest(task.nuclei, task.axes, self.reach)

    def decide(self, scores):
        task, found = scores
        owner, distance = found.owner[task.inner.slices], found.distance[task.inner.slices]
        in_cell = task.radius[owner] / (task.radius[owner] + distance)
        labels = np.where(in_cell > self.threshold, task.ids[owner], 0)
        share = np.rint(255 * in_cell).astype(np.uint8)
        return TileCells(labels, confidence=share, foreground=share)


@dataclass(frozen=True)
class NearestPlan(TilePlan):
    """A raster with the radius of each nucleus."""

    predictor: NearestPredictor
    raster: RasterSample
    axes: NDArray[np.float64]
    radius: NDArray[np.float32]

    def task(self, core):
        around = math.ceil(self.predictor.reach / self.axes[:, 2].min() ** 2)  # distances follow the nuclei's shape
        window = core.grown(around).clipped(self.raster.shape)
        ids, nuclei = renumber(self.raster.nuclei[window.slices], self.raster.n)
        return Task(core.seen_from(window), ids, nuclei, self.axes[ids], self.radius[ids])


class NearestMethod(Method):
    """The nearest nucleus."""

    name = "nearest"
    params = NearestParams
    model = NearestModel

    def survey(self, raster, genes, params, *, model_of_nucleus=None, progress=lambda _done, _total: None):
        return nucleus_axes(raster.nuclei, raster.n, strength=params.shape_exponent)

    def prepare(self, rasters, surveys, genes, params, shared, *, of):
        distances = []
        for raster, axes in zip(rasters, surveys, strict=True):
            found = nearest(raster.nuclei, axes, params.reach)
            wanted = np.isfinite(found.distance) & (found.distance > 0) & np.isin(found.owner, raster.nuclei_to_learn)
            totals = Selection.of_genes(genes, raster.features).of(raster.transcripts).totals()
            distances.append(np.repeat(found.distance[wanted], totals[wanted]))
        return Distances(np.concatenate(distances), genes, rasters[0].um_per_px)

    def plan(self, models, raster, model_of_nucleus, survey, *, threshold):
        radius = np.concatenate([model.radius.numpy() for model in models])[model_of_nucleus]
        return NearestPlan(NearestPredictor(models[0].params.reach, threshold), raster, survey, radius)


def nearest(nuclei: NDArray[np.int32], axes: NDArray[np.float64], reach: int) -> NearestNuclei:
    """Return the nearest nucleus of each pixel, and how far it is."""
    return nearest_nuclei(nuclei, bounding_boxes(nuclei, len(axes) - 1), axes, reach=reach)


NEAREST = register(NearestMethod())
