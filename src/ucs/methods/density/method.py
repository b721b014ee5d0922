"""The density method: fit and plan; see ``docs/concepts.md``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ucs._kernels.labels.ids import ids_in, renumber
from ucs._kernels.lattice import bounding_boxes, tiles_of
from ucs._utils.log import logger
from ucs._utils.memory import release_unused
from ucs.methods.base import Method, RasterSample, TrainingSet, register
from ucs.methods.cell_types import memberships
from ucs.methods.clusters.cores import count_in_cores
from ucs.methods.clusters.expression import ExpressionProfiles
from ucs.methods.density.expression_weight import LabelledTissue, learn_kinds
from ucs.methods.density.model import DensityModel
from ucs.methods.density.params import DensityParams
from ucs.methods.density.predict import DensityPlan, DensityPredictor, NetOnSample
from ucs.methods.density.statistics import look_over
from ucs.methods.density.training import DensityData, train_density
from ucs.methods.model import Selection
from ucs.methods.optimize import FINE_TUNING, provenance

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from ucs.methods.base import Progress
    from ucs.methods.density.levels import Levels
    from ucs.methods.density.statistics import Overview
    from ucs.methods.model import UCSModel
    from ucs.methods.params import MethodParams

_ENOUGH_NUCLEI = 20_000  # from which clusters are learned: more change nothing and take memory
_PART = 768  # px, side of a part of a sample with more nuclei than that
_CURVE_POINTS = 20  # of the loss curve that are kept in the model
_NUCLEI_AT_ONCE = 8192  # whose counts are copied at once


class DensityMethod(Method):
    """A net predicts held-out transcripts; owners are chosen by distance and expression."""

    name: ClassVar[str] = "density"
    params: ClassVar[type[MethodParams]] = DensityParams
    model: ClassVar[type[UCSModel]] = DensityModel
    # Chosen on seed 0 of the simulated regimes and on the prostate (benchmarks/accuracy/RESULTS.md).
    threshold: ClassVar[float] = 0.35

    def uses_markers(self, params: MethodParams) -> bool:
        """Types are the expression clusters by which owners are chosen, unless distance alone decides."""
        return _density_params(params).ownership == "expression"

    def survey(
        self,
        raster: RasterSample,
        genes: tuple[str, ...],
        params: MethodParams,
        *,
        model_of_nucleus: NDArray[np.int64] | None = None,
        progress: Progress = lambda _done, _total: None,
    ) -> Overview:
        """Measure distances, areas and densities of the nuclei, tile by tile."""
        return look_over(
            raster.transcripts,
            Selection.of_genes(genes, raster.features),
            raster.nuclei,
            reach=params.reach_px(raster.um_per_px),
            strength=params.shape_exponent,
            um_per_px=raster.um_per_px,
            groups=None if model_of_nucleus is None else model_of_nucleus + 1,
            update=progress,
        )

    def learn_shared(
        self, rasters: Sequence[RasterSample], genes: tuple[str, ...], params: MethodParams, *, seed: int
    ) -> SharedClusters:
        """Learn expression clusters from whole samples: regions differ in where cells end, not in what cells are."""
        return SharedClusters(genes, _learn_clusters(rasters, genes, params, seed))

    def prepare(
        self,
        rasters: Sequence[RasterSample],
        surveys: Sequence[Any],
        genes: tuple[str, ...],
        params: MethodParams,
        shared: SharedClusters,
        *,
        of: str,
    ) -> DensityTrainingSet:
        """Collect the statistics of each raster; no background needs to be named."""
        data = []
        for raster, survey in zip(rasters, surveys, strict=True):
            mine = np.zeros(len(survey.boxes), dtype=bool)
            mine[ids_in(raster.nuclei_to_learn)] = True
            data.append(DensityData.of(survey, mine))
        return DensityTrainingSet(data, genes, rasters[0].um_per_px, shared.of_genes(genes), of)

    def plan(
        self,
        models: Sequence[UCSModel],
        raster: RasterSample,
        model_of_nucleus: NDArray[np.int64],
        survey: Overview,
        *,
        threshold: float,
    ) -> DensityPlan:
        """Measure densities per model and the nuclei's memberships in clusters.

        Which of two nuclei a pixel belongs to is a comparison, for which one measure must serve all: the clusters of
        the first model.
        """
        groups = model_of_nucleus if len(models) > 1 else None
        surveys = {models[0].genes: survey}
        for model in models:
            if model.genes not in surveys:
                surveys[model.genes] = self.survey(raster, model.genes, model.params, model_of_nucleus=groups)
        nets = []
        for number, model in enumerate(models):
            mine = model_of_nucleus == number
            mine[0] = False
            own = surveys[model.genes]
            levels = own.levels(None if groups is None else number + 1)
            _log(levels)
            nets.append(NetOnSample(_density_model(model).net, own.selection, levels, own.mean_count(mine)))
        clusters = models[0].expression
        if clusters is None or clusters.profiles is None:
            predictor = DensityPredictor(tuple(nets), None, 0.0, threshold)
            membership = np.zeros((len(model_of_nucleus), 0), dtype=np.float32)
        else:
            weight = float(clusters.expression_weight_um)
            predictor = DensityPredictor(tuple(nets), clusters.profiles.log_ratio, weight, threshold)
            counts = count_in_cores(raster.transcripts, raster.nuclei, raster.n, um_per_px=raster.um_per_px)
            membership = _memberships(clusters, survey.selection, counts)
        lean = {genes: one.without_bins() for genes, one in surveys.items()}  # distances of all pixels are large
        return DensityPlan(predictor, tuple(lean[model.genes] for model in models), model_of_nucleus, membership)


@dataclass(frozen=True)
class SharedClusters:
    """Expression clusters of the whole tissue, and the genes that they are made of."""

    genes: tuple[str, ...]
    clusters: ExpressionProfiles

    def of_genes(self, wanted: tuple[str, ...]) -> ExpressionProfiles:
        """Return the clusters as some of the genes show them."""
        if wanted == self.genes:
            return self.clusters
        number = {gene: k for k, gene in enumerate(self.genes)}
        return self.clusters.of_columns([number[gene] for gene in wanted])


@dataclass(frozen=True)
class DensityTrainingSet(TrainingSet):
    """What one density net learns from."""

    data: list[DensityData]
    genes: tuple[str, ...]
    um_per_px: float
    clusters: ExpressionProfiles
    of: str

    def fit(
        self,
        params: MethodParams,
        *,
        device: torch.device,
        seed: int,
        start: UCSModel | None,
        progress: Progress,
    ) -> DensityModel:
        """Train the net."""
        params = _density_params(params)
        if start is not None:
            params = replace(params, max_steps=math.ceil(FINE_TUNING * params.max_steps))
        net, losses = train_density(
            self.data,
            params,
            device=device,
            seed=seed,
            start=None if start is None else _density_model(start).net,
            progress=progress,
        )
        curve = _curve(losses)
        logger.info(
            "Trained the density net%s: %d steps, loss %.4f in the first ones, %.4f in the last quarter.",
            f" of {self.of}" if self.of else "",
            params.max_steps,
            curve["loss"][0],
            np.mean(losses[-(len(losses) // 4 + 1) :]),
        )
        history = {
            "curves": {"density": curve},
            "expression_weight_um": float(self.clusters.expression_weight_um),
            **provenance(device, seed, len(self.data), warm_start=start is not None),
        }
        return DensityModel(
            net=net.cpu(),
            clusters=self.clusters,
            genes=self.genes,
            params=params,
            um_per_px=self.um_per_px,
            history=history,
        )


def _density_model(model: UCSModel) -> DensityModel:
    if not isinstance(model, DensityModel):
        msg = f"The model is of the method {model.method!r}, not 'density'."
        raise TypeError(msg)
    return model


def _density_params(params: MethodParams) -> DensityParams:
    if not isinstance(params, DensityParams):
        msg = f"The density method takes DensityParams, not {type(params).__name__}."
        raise TypeError(msg)
    return params


def _learn_clusters(
    rasters: Sequence[RasterSample], genes: tuple[str, ...], params: MethodParams, seed: int
) -> ExpressionProfiles:
    """Learn expression clusters; none if expression is not to decide."""
    if _density_params(params).ownership == "distance":
        return ExpressionProfiles(0, len(genes))
    annotate = memberships(rasters, genes)
    tissues = [part for raster in rasters for part in _labelled(raster, genes, seed, whole=annotate is not None)]
    profiles, weight_um = learn_kinds(tissues, seed=seed, annotate=annotate)
    if profiles is None:
        logger.warning(
            "Too few nuclei with transcripts for expression clusters: pixels go to the nearest nucleus. Take a larger "
            "piece of tissue, a model= of a like sample, or method='pretrained'."
        )
    else:
        logger.info(
            "%d expression clusters; expression weight: %.2f um per unit of log likelihood.",
            len(profiles.log_share),
            weight_um,
        )
    release_unused()
    return ExpressionProfiles.of(profiles, weight_um, len(genes))


def _labelled(raster: RasterSample, genes: tuple[str, ...], seed: int, *, whole: bool) -> list[LabelledTissue]:
    """Return a sample, or random parts of it that have enough nuclei."""
    selection, nuclei, n = Selection.of_genes(genes, raster.features), raster.nuclei, raster.n
    if whole or n <= _ENOUGH_NUCLEI:
        boxes = bounding_boxes(nuclei, n)
        return [LabelledTissue(selection.of(raster.transcripts), nuclei, boxes, raster.um_per_px)]
    tiles = list(tiles_of(nuclei.shape, _PART))
    parts, n_found = [], 0
    for k in np.random.default_rng(seed).permutation(len(tiles)):
        ids, local = renumber(nuclei[tiles[k].slices], n)
        if len(ids) <= 2:  # no nucleus has a neighbour
            continue
        part = selection.of(raster.transcripts.crop(tiles[k]))
        parts.append(LabelledTissue(part, local, bounding_boxes(local, len(ids) - 1), raster.um_per_px))
        n_found += len(ids) - 1
        if n_found >= _ENOUGH_NUCLEI:
            break
    return parts


def _memberships(clusters: ExpressionProfiles, selection: Selection, counts: csr_matrix) -> NDArray[np.float32]:
    """Return ``(n + 1, clusters)`` of counts ``(n, all features)``, part by part: a copy of all would be large."""
    n = counts.shape[0]
    out = np.zeros((n + 1, len(clusters.log_share)), dtype=np.float32)
    for first in range(0, n, _NUCLEI_AT_ONCE):
        stop = min(first + _NUCLEI_AT_ONCE, n)
        out[first + 1 : stop + 1] = clusters.membership(selection.of_columns(counts[first:stop]))[1:]
    return out


def _curve(losses: list[float]) -> dict[str, list[float] | list[int]]:
    """Return means of the loss over equal parts of the training."""
    edges = np.unique(np.linspace(0, len(losses), min(_CURVE_POINTS, len(losses)) + 1).astype(int))
    means = [float(np.mean(losses[a:b])) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return {"step": edges[1:].tolist(), "loss": means}


def _log(levels: Levels) -> None:
    logger.info(
        "Transcripts per um2: %.3g in nuclei, %.3g in cytoplasm, %.3g in background; cells reach %.1f um from "
        "nuclei%s.",
        levels.nucleus,
        levels.cytoplasm,
        levels.background,
        levels.reach_um,
        "" if levels.calibrated else " (usual values: the density around the nuclei does not fall)",
    )


DENSITY = register(DensityMethod())
