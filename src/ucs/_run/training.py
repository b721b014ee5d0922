"""Training on prepared samples: one model for all, or one for each region."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ucs._run.genes import choose_genes
from ucs._run.tissue import RegionCutter, Tissue
from ucs._utils.checks import listed
from ucs._utils.log import logger
from ucs._utils.memory import release_unused
from ucs._utils.progress import stage
from ucs.methods.density.learning import FINE_TUNING, DensityLesson, kinds_of_genes, learn_kind_net
from ucs.methods.device import precision, resolve_device
from ucs.methods.model import UCSModel
from ucs.methods.paper.training import Trained, train_nets
from ucs.methods.params import TrainParams
from ucs.methods.region_models import RegionModels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ucs._read.platforms import Platform
    from ucs._read.regions import Regions
    from ucs._read.sample import Sample
    from ucs.methods.density.expression import KindNet
    from ucs.methods.paper.patches import TrainingData

@dataclass(frozen=True)
class Learning:
    """How models are trained: what does not differ between them.

    Attributes
    ----------
    params
        Of the nets and their training.
    genes, background, device, seed, warm_start, genes_per_region, progress, ownership
        As in :func:`ucs.tl.segment`.
    markers
        Genes of each type, or None.
    """

    params: TrainParams
    genes: str | int | Sequence[str] = "all"
    background: str | float = "auto"
    device: str = "auto"
    seed: int = 0
    warm_start: bool = False
    genes_per_region: bool = False
    progress: bool = False
    ownership: str = "expression"
    markers: Mapping[str, Sequence[str]] | None = None

    @property
    def by_density(self) -> bool:
        """Whether the density net learns where cells are, rather than the published net from a named background."""
        return self.background == "auto"

    def gives_published(self, model: UCSModel | RegionModels | None) -> bool:
        """Whether the published nets are used: those of a model that is given, or else those that are learned."""
        return not self.by_density if model is None else model.is_published


def resolve_params(train: TrainParams | Mapping[str, Any] | None, platform: Platform, softmask: str) -> TrainParams:
    """Return the parameters of the training, with the platform's where nothing else is said."""
    params = TrainParams.resolve(train, **platform.train)
    return replace(params, stretch=0.0) if softmask == "plain" else params


def train_model(
    samples: Sequence[Sample],
    regions: Sequence[Regions] | None,
    learning: Learning,
    timings: dict[str, float],
) -> UCSModel | RegionModels:
    """Train one model, or one for each region; see :func:`ucs.tl.train`.

    Parameters
    ----------
    samples
        What to learn from.
    regions
        Those of each sample; of one name in several samples they are one region. None for one model.
    learning
        How.
    timings
        Receives the seconds that it took.
    """
    if regions is not None:
        return _RegionTraining(samples, regions, learning, timings).run()
    genes = choose_genes(learning.genes, [sample.transcripts for sample in samples])
    tissues = [Tissue.of_sample(sample, None if learning.by_density else learning.markers) for sample in samples]
    if learning.by_density:
        with stage("kinds", timings, progress=False):
            kinds = learn_kind_net(list(samples), genes, learning)
        release_unused()
        with stage("survey", timings, progress=False):
            density = DensityLesson.prepare(tissues, genes, learning)
        release_unused()
        return density.train(learning, timings, kinds)
    lesson = _Lesson.prepare(tissues, genes, learning)
    if not lesson.has_background:
        logger.warning("No pixel is far enough from nuclei to serve as background; cells end at their reach only.")
    return lesson.train(learning, timings)


@dataclass(frozen=True)
class _Lesson:
    """What one model learns from: the data of each sample, how its background was chosen, and the genes."""

    data: list[TrainingData]
    background: list[dict[str, Any]]
    genes: tuple[str, ...]
    um_per_px: float
    of: str

    @classmethod
    def prepare(cls, tissues: list[Tissue], genes: tuple[str, ...], learning: Learning, of: str = "") -> _Lesson:
        """Choose the background of tissues and select the genes; ``of`` names them in messages."""
        pairs = [tissue.training_data(genes, learning.background, of=of) for tissue in tissues]
        um_per_px = tissues[0].transcripts.grid.um_per_px
        return cls([data for data, _ in pairs], [chosen for _, chosen in pairs], genes, um_per_px, of)

    @property
    def has_background(self) -> bool:
        """Whether any pixel is far enough from nuclei."""
        return any(data.far.any() for data in self.data)

    def train(
        self, learning: Learning, timings: dict[str, float], *, start: UCSModel | None = None, detail: str = ""
    ) -> UCSModel:
        """Train both nets, from new ones or from a trained model on."""
        params, where = learning.params.filled(density=False), resolve_device(learning.device)
        if start is not None:
            params = replace(
                params,
                max_steps=math.ceil(FINE_TUNING * params.max_steps),
                cell_steps=math.ceil(FINE_TUNING * params.cell_steps),
            )
        with stage("train", timings, progress=learning.progress, unit="step", detail=detail) as update:
            trained = train_nets(
                self.data,
                params,
                device=where,
                seed=learning.seed,
                start=None if start is None else start.nets_for(self.genes),
                progress=update,
            )
        _log_curves(trained, self.of)
        history = {
            "background": self.background[0] if len(self.data) == 1 else _numbered(self.background),
            "curves": {"foreground": trained.foreground_curve.as_dict(), "cell": trained.cell_curve.as_dict()},
            "seed": learning.seed,
            "n_samples": len(self.data),
            "warm_start": start is not None,
            "device": str(where),
            "precision": precision(where),
            "versions": {name: version(name) for name in ("spatialdata-ucs", "torch", "numpy", "numba")},
        }
        return UCSModel(
            trained.foreground.cpu(),
            trained.cell.cpu(),
            self.genes,
            params,
            self.um_per_px,
            history,
            {name: list(marked) for name, marked in (learning.markers or {}).items()},
        )


class _RegionTraining:
    """Training of one model for each region, and of a shared one if it is needed."""

    def __init__(
        self, samples: Sequence[Sample], regions: Sequence[Regions], learning: Learning, timings: dict[str, float]
    ) -> None:
        self.samples = samples
        self.learning = learning
        self.timings = timings
        self.cutters = [
            RegionCutter(
                sample,
                of_sample,
                patch_size=learning.params.patch_size,
                markers=None if learning.by_density else learning.markers,
            )
            for sample, of_sample in zip(samples, regions, strict=True)
        ]
        self.names = list(dict.fromkeys(name for of_sample in regions for name in of_sample.names))
        self.n_outside = sum(of_sample.n_outside for of_sample in regions)
        self.genes = self._choose_genes()
        self._shared: UCSModel | None = None
        self._kinds: KindNet | None = None

    def _choose_genes(self) -> dict[str, tuple[str, ...]]:
        """Choose the genes that each region's nets see."""
        if self.learning.genes_per_region:
            return {
                name: choose_genes(self.learning.genes, [tissue.own_transcripts for tissue in self._cut(name)])
                for name in self.names
            }
        genes = choose_genes(self.learning.genes, [sample.transcripts for sample in self.samples])
        return dict.fromkeys(self.names, genes)

    def _cut(self, name: str) -> list[Tissue]:
        return [tissue for tissue in (cutter.cut(name) for cutter in self.cutters) if tissue is not None]

    def run(self) -> RegionModels:
        """Train them all."""
        # A single region that holds all nuclei is the whole tissue: there is nothing to share.
        warm = self.learning.warm_start and (len(self.names) > 1 or self.n_outside > 0)
        models: dict[str, UCSModel] = {}
        poor: dict[str, str] = {}
        for number, name in enumerate(self.names, start=1):
            tissues = self._cut(name)
            lesson = self._prepare(tissues, self.genes[name], of=f"region {name!r}")
            why = self._why_poor(tissues, lesson)
            if why:
                poor[name] = why
                continue
            start, detail = self.shared() if warm else None, f"{number}/{len(self.names)}"
            models[name] = self._train(lesson, start, detail)
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

    def _why_poor(self, tissues: list[Tissue], lesson: _Lesson | DensityLesson) -> str:
        """Say what a region lacks to be learned from; empty if nothing."""
        n_nuclei = sum(tissue.n_nuclei for tissue in tissues)
        n_transcripts = sum(tissue.own_transcripts.map.n_transcripts for tissue in tissues)
        if n_nuclei < self.learning.params.min_nuclei:
            return f"{n_nuclei} nuclei"
        if n_transcripts < n_nuclei:
            return f"{n_transcripts} transcripts for {n_nuclei} nuclei"
        return "" if lesson.has_background else "no background"

    def shared(self) -> UCSModel:
        """Return the model of the whole tissue, trained when it is first asked for."""
        if self._shared is None:
            genes = tuple(sorted(set().union(*self.genes.values())))
            lesson = self._prepare([cutter.whole() for cutter in self.cutters], genes, of="the whole tissue")
            self._shared = self._train(lesson, None, "shared")
        return self._shared

    def _prepare(self, tissues: list[Tissue], genes: tuple[str, ...], *, of: str) -> _Lesson | DensityLesson:
        kind = DensityLesson if self.learning.by_density else _Lesson
        return kind.prepare(tissues, genes, self.learning, of=of)

    def _train(self, lesson: _Lesson | DensityLesson, start: UCSModel | None, detail: str) -> UCSModel:
        if isinstance(lesson, _Lesson):
            return lesson.train(self.learning, self.timings, start=start, detail=detail)
        # Kinds of cells are those of the whole tissue: regions differ in where cells end, not in what cells there are.
        genes = tuple(sorted(set().union(*self.genes.values())))
        if self._kinds is None:
            with stage("kinds", self.timings, progress=False):
                self._kinds = learn_kind_net(list(self.samples), genes, self.learning)
        kinds = kinds_of_genes(self._kinds, genes, lesson.genes)
        return lesson.train(self.learning, self.timings, kinds, start=start, detail=detail)


def _log_curves(trained: Trained, of: str) -> None:
    for name, curve in (("foreground", trained.foreground_curve), ("cell", trained.cell_curve)):
        logger.info(
            "Trained the %s net%s: %d steps, best at %d, held-out loss %.3f.",
            name,
            f" of {of}" if of else "",
            curve.stopped_at,
            curve.best_step,
            min(curve.held_out_loss, default=float("nan")),
        )


def _numbered(values: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return values by their number: stores have no lists of mappings."""
    return {str(k): value for k, value in enumerate(values)}
