"""The pretrained method: fit and plan; see ``docs/concepts.md``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ucs._utils.log import logger
from ucs.methods.base import Method, RasterSample, TrainingSet, register
from ucs.methods.cell_types import memberships
from ucs.methods.clusters.cores import count_in_cores
from ucs.methods.clusters.profiles import profiles_of_members
from ucs.methods.model import Selection
from ucs.methods.optimize import provenance
from ucs.methods.pretrained.clusters import Clusters
from ucs.methods.pretrained.features import NucleusTable
from ucs.methods.pretrained.learn_stains import learn_stains
from ucs.methods.pretrained.limits import warn_of_unknown
from ucs.methods.pretrained.model import PretrainedModel, pretrained_net
from ucs.methods.pretrained.params import PretrainedParams
from ucs.methods.pretrained.predict import OwnerPlan, OwnerPredictor
from ucs.methods.pretrained.survey import TissueSurvey, measure_tissue

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from ucs.methods.base import Progress
    from ucs.methods.model import UCSModel
    from ucs.methods.params import MethodParams


# Measured at 0.5 um on tiles of 192 to 1056 px: what lies around a core, the features and what they are made of, and
# what the net holds of two blocks.
_AROUND_TILE, _BYTES_PER_TILE_PIXEL, _BYTES_OF_NET = 200, 180, 80_000_000


class PretrainedMethod(Method):
    """A net that was trained on randomised tissue decides; of the sample only expression clusters are learned."""

    name: ClassVar[str] = "pretrained"
    params: ClassVar[type[MethodParams]] = PretrainedParams
    model: ClassVar[type[UCSModel]] = PretrainedModel
    threshold: ClassVar[float] = 0.5
    finest_um: ClassVar[float | None] = 0.5
    uses_stains: ClassVar[bool] = True

    def uses_markers(self, params: MethodParams) -> bool:
        """Types are the expression clusters."""
        return True

    def survey(
        self,
        raster: RasterSample,
        genes: tuple[str, ...],
        params: MethodParams,
        *,
        model_of_nucleus: NDArray[np.int64] | None = None,
        progress: Progress = lambda _done, _total: None,
    ) -> TissueSurvey:
        """Measure levels of nuclei and of density around them, tile by tile."""
        return measure_tissue(
            raster.transcripts,
            Selection.of_genes(genes, raster.features),
            raster.nuclei,
            raster.n,
            shape_exponent=params.shape_exponent,
            um_per_px=raster.um_per_px,
            progress=progress,
        )

    def prepare(
        self,
        rasters: Sequence[RasterSample],
        surveys: Sequence[Any],
        genes: tuple[str, ...],
        params: MethodParams,
        shared: Any,
        *,
        of: str,
    ) -> NucleusCounts:
        """Collect the counts of the nuclei and of places far from them."""
        from scipy.sparse import vstack

        counts = vstack([_counts(raster, genes) for raster in rasters]).tocsr()
        annotate = memberships(rasters, genes)
        members = None
        if annotate is not None:
            members = np.concatenate(
                [one(_counts(raster, genes)) for one, raster in zip(annotate, rasters, strict=True)]
            )
        far = np.sum([survey.far for survey in surveys], axis=0)
        return NucleusCounts(counts, far, members, genes, rasters[0].um_per_px, len(rasters))

    def plan(
        self,
        models: Sequence[UCSModel],
        raster: RasterSample,
        model_of_nucleus: NDArray[np.int64],
        survey: TissueSurvey,
        *,
        threshold: float,
    ) -> OwnerPlan:
        """Measure the nuclei's memberships in clusters; those of the first model, so that one measure serves all."""
        model = models[0]
        if not isinstance(model, PretrainedModel):
            msg = f"The model is of the method {model.method!r}, not 'pretrained'."
            raise TypeError(msg)
        warn_of_unknown(survey)
        membership = model.clusters.membership(_counts(raster, model.genes))
        log_ratio = model.clusters.log_ratio.numpy()
        table = NucleusTable.measure(survey, membership, log_ratio)
        features = _features_of_genes(survey.selection) if model.params.by_transcript else None
        predictor = OwnerPredictor(model.net, log_ratio, survey.factor, survey.um_per_px, threshold, features)
        plan = OwnerPlan(predictor, survey, table)
        if raster.stains is None:
            return plan
        learned = learn_stains(plan, raster.stains.names, raster.stains.measures)
        if learned is None:
            return plan
        stains, which = learned
        return replace(plan, predictor=replace(predictor, stains=stains), stain=raster.stains.measures[which])

    def bytes_of_tile(self, side: int, n_pixels: int) -> int:
        """Return the bytes that are held of a tile of this side while it is worked on."""
        return min((side + _AROUND_TILE) ** 2, n_pixels) * _BYTES_PER_TILE_PIXEL + _BYTES_OF_NET


def _features_of_genes(selection: Selection) -> NDArray[np.int32]:
    """Return the number of each gene among the features of the raster, ``(genes,)``; -1 for those that it lacks."""
    out = np.full(selection.n_features, -1, dtype=np.int32)
    kept = np.flatnonzero(selection.keep)
    out[np.asarray(selection.new_index)[kept]] = kept
    return out


def _counts(raster: RasterSample, genes: tuple[str, ...]) -> Any:
    selection = Selection.of_genes(genes, raster.features)
    return selection.of_columns(count_in_cores(raster.transcripts, raster.nuclei, raster.n, um_per_px=raster.um_per_px))


@dataclass(frozen=True)
class NucleusCounts(TrainingSet):
    """Counts ``(n, genes)`` in nuclei and ``(genes,)`` far from them; ``(n, types)`` members if types are given."""

    counts: Any
    far: NDArray[np.int64]
    members: NDArray[np.float64] | None
    genes: tuple[str, ...]
    um_per_px: float
    n_samples: int

    def fit(
        self, params: MethodParams, *, device: torch.device, seed: int, start: UCSModel | None, progress: Progress
    ) -> PretrainedModel:
        """Fit the clusters."""
        given = None if self.members is None else profiles_of_members(self.counts, self.members)
        clusters = Clusters.fit(self.counts, self.far, seed=seed, profiles=given)
        logger.info("%d expression clusters.", len(clusters.log_share))
        progress(1, 1)
        return PretrainedModel(
            net=pretrained_net(),
            clusters=clusters,
            genes=self.genes,
            params=params,
            um_per_px=self.um_per_px,
            history=provenance(device, seed, self.n_samples, warm_start=start is not None),
        )


PRETRAINED = register(PretrainedMethod())
