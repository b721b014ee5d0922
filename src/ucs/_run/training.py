"""Training on prepared samples: one model for all, or one for each region. Unaware of the method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._run.genes import choose_genes
from ucs._run.region_samples import RegionCutter, own_transcripts, raster_of
from ucs._utils.checks import listed
from ucs._utils.log import logger
from ucs._utils.memory import release_unused
from ucs.methods.device import resolve_device
from ucs.methods.params import TrainingParams
from ucs.methods.region_models import RegionModels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ucs._read.regions import Regions
    from ucs._read.sample import Sample
    from ucs._utils.progress import Stages
    from ucs.methods.base import Method, RasterSample, TrainingSet
    from ucs.methods.model import UCSModel
    from ucs.methods.params import MethodParams


@dataclass(frozen=True)
class TrainingOptions:
    """How models are trained: what does not differ between them.

    Attributes
    ----------
    method, params
        The method and its parameters.
    genes, genes_per_region
        As in :class:`ucs.options.ReadOptions`.
    markers
        Genes of each type, or None.
    device
        Where to train.
    seed
        Of weights and random draws.
    """

    method: Method
    params: MethodParams
    genes: str | int | Sequence[str] = "all"
    genes_per_region: bool = False
    markers: Mapping[str, Sequence[str]] | None = None
    device: str = "auto"
    seed: int = 0


@dataclass
class Trained:
    """Models, and what was measured of the samples on the way.

    Attributes
    ----------
    model
        One, or one for each region.
    surveys
        Of each sample, of use for prediction with a single model; empty if models are of regions.
    """

    model: UCSModel | RegionModels
    surveys: list[Any] = field(default_factory=list)


def train_model(
    samples: Sequence[Sample], regions: Sequence[Regions] | None, options: TrainingOptions, stages: Stages
) -> Trained:
    """Train one model, or one for each region; see :func:`ucs.tl.train`.

    Parameters
    ----------
    samples
        What to learn from.
    regions
        Those of each sample; of one name in several samples they are one region. None for one model.
    options
        How.
    stages
        Times the stages.
    """
    rasters = [raster_of(sample, options.markers, number) for number, sample in enumerate(samples)]
    if regions is not None:
        return Trained(_RegionTraining(samples, rasters, regions, options, stages).run())
    genes = choose_genes(options.genes, [sample.transcripts for sample in samples])
    shared = _learn_shared(rasters, genes, options, stages)
    release_unused()
    surveys = _survey(rasters, genes, options, stages)
    release_unused()
    training_set = options.method.prepare(rasters, surveys, genes, options.params, shared, of="")
    return Trained(_fit(training_set, options, stages), surveys)


def _learn_shared(
    rasters: Sequence[RasterSample], genes: tuple[str, ...], options: TrainingOptions, stages: Stages
) -> Any:
    with stages.stage("shared"):
        return options.method.learn_shared(rasters, genes, options.params, seed=options.seed)


def _survey(
    rasters: Sequence[RasterSample], genes: tuple[str, ...], options: TrainingOptions, stages: Stages
) -> list[Any]:
    with stages.stage("survey"):
        return [options.method.survey(raster, genes, options.params) for raster in rasters]


def _fit(
    training_set: TrainingSet,
    options: TrainingOptions,
    stages: Stages,
    *,
    start: UCSModel | None = None,
    detail: str = "",
) -> UCSModel:
    with stages.stage("train", unit="step" if options.method.trains else None, detail=detail) as update:
        device = resolve_device(options.device)
        return training_set.fit(options.params, device=device, seed=options.seed, start=start, progress=update)


class _RegionTraining:
    """Training of one model for each region, and of a shared one if it is needed."""

    def __init__(
        self,
        samples: Sequence[Sample],
        rasters: Sequence[RasterSample],
        regions: Sequence[Regions],
        options: TrainingOptions,
        stages: Stages,
    ) -> None:
        if not isinstance(options.params, TrainingParams):
            msg = f"The method {options.method.name!r} does not learn from regions."
            raise TypeError(msg)
        self.samples, self.rasters, self.options, self.stages = samples, rasters, options, stages
        self.params = options.params
        self.cutters = [
            RegionCutter(raster, of_sample, patch_size=self.params.patch_size)
            for raster, of_sample in zip(rasters, regions, strict=True)
        ]
        self.names = list(dict.fromkeys(name for of_sample in regions for name in of_sample.names))
        self.n_outside = sum(of_sample.n_outside for of_sample in regions)
        self.genes = self._choose_genes()
        self.all_genes = tuple(sorted(set().union(*self.genes.values())))
        self.of_all = _learn_shared(rasters, self.all_genes, options, stages)
        self._shared: UCSModel | None = None

    def _choose_genes(self) -> dict[str, tuple[str, ...]]:
        """Choose the genes that each region's nets see."""
        of_samples = [sample.transcripts for sample in self.samples]
        if self.options.genes_per_region:
            return {
                name: choose_genes(
                    self.options.genes, [own_transcripts(part, of_samples[part.number]) for part in self._cut(name)]
                )
                for name in self.names
            }
        return dict.fromkeys(self.names, choose_genes(self.options.genes, of_samples))

    def _cut(self, name: str) -> list[RasterSample]:
        return [part for part in (cutter.cut(name) for cutter in self.cutters) if part is not None]

    def run(self) -> RegionModels:
        """Train them all."""
        # A single region that holds all nuclei is the whole tissue: there is nothing to share.
        warm = self.params.warm_start and (len(self.names) > 1 or self.n_outside > 0)
        models: dict[str, UCSModel] = {}
        poor: dict[str, str] = {}
        for number, name in enumerate(self.names, start=1):
            parts = self._cut(name)
            why = self._why_poor(parts)
            if not why:
                training_set = self._prepare(parts, self.genes[name], of=f"region {name!r}")
                why = training_set.lacks
            if why:
                poor[name] = why
                continue
            start, detail = self.shared() if warm else None, f"{number}/{len(self.names)}"
            models[name] = _fit(training_set, self.options, self.stages, start=start, detail=detail)
        if poor:
            logger.warning(
                "%d of %d regions are too poor to learn from and have a model of the whole tissue: %s.",
                len(poor),
                len(self.names),
                listed(f"{name} ({why})" for name, why in poor.items()),
            )
        if poor or self.n_outside > 0:
            self.shared()
        by_name = {name: models[name] if name in models else self.shared() for name in self.names}
        return RegionModels(by_name, self._shared)

    def _why_poor(self, parts: list[RasterSample]) -> str:
        """Say what a region lacks to be learned from; empty if nothing."""
        n_nuclei = sum(int((np.unique(part.nuclei_to_learn) > 0).sum()) for part in parts)
        n_transcripts = sum(
            int(part.transcripts.where(part.inside).n_transcripts) for part in parts if part.inside is not None
        )
        if n_nuclei < self.params.min_nuclei:
            return f"{n_nuclei} nuclei"
        if n_transcripts < n_nuclei:
            return f"{n_transcripts} transcripts for {n_nuclei} nuclei"
        return ""

    def shared(self) -> UCSModel:
        """Return the model of the whole tissue, trained when it is first asked for."""
        if self._shared is None:
            training_set = self._prepare(self.rasters, self.all_genes, of="the whole tissue")
            self._shared = _fit(training_set, self.options, self.stages, detail="shared")
        return self._shared

    def _prepare(self, parts: Sequence[RasterSample], genes: tuple[str, ...], *, of: str) -> TrainingSet:
        surveys = _survey(parts, genes, self.options, self.stages)
        return self.options.method.prepare(parts, surveys, genes, self.options.params, self.of_all, of=of)
