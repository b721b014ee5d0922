"""The paper's method: fit and plan; deviations from the paper's text are listed in ``docs/paper.md``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ucs._kernels.distances import nucleus_axes
from ucs._utils.log import logger
from ucs.methods.base import Method, RasterSample, TrainingSet, register
from ucs.methods.cell_types import NucleusTypes, nucleus_types
from ucs.methods.model import Selection
from ucs.methods.optimize import provenance
from ucs.methods.paper.calibrate import find_background
from ucs.methods.paper.marks import Marks, mark_pixels
from ucs.methods.paper.model import PaperModel
from ucs.methods.paper.params import PaperParams
from ucs.methods.paper.patches import TrainingData
from ucs.methods.paper.predict import NetsOnSample, PaperPlan, PaperPredictor
from ucs.methods.paper.training import train_nets

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from ucs.methods.base import Progress
    from ucs.methods.model import UCSModel
    from ucs.methods.paper.training import Trained
    from ucs.methods.params import MethodParams


class PaperMethod(Method):
    """The networks of the UCS paper (Chen et al. 2025)."""

    name: ClassVar[str] = "paper"
    params: ClassVar[type[MethodParams]] = PaperParams
    model: ClassVar[type[UCSModel]] = PaperModel
    threshold: ClassVar[float] = 0.5  # the paper's argmax over background and nuclei (equation 6)
    types_need_markers: ClassVar[bool] = True

    def uses_markers(self, params: MethodParams) -> bool:
        """The Cell Predict Net sees where markers of a nucleus' type are."""
        return True

    def learn_shared(
        self, rasters: Sequence[RasterSample], genes: tuple[str, ...], params: MethodParams, *, seed: int
    ) -> list[NucleusTypes | None]:
        """Tell the types of the nuclei of each sample by their markers."""
        return [nucleus_types(raster) for raster in rasters]

    def prepare(
        self,
        rasters: Sequence[RasterSample],
        surveys: Sequence[Any],
        genes: tuple[str, ...],
        params: MethodParams,
        shared: list[NucleusTypes | None],
        *,
        of: str,
    ) -> PaperTrainingSet:
        """Label nuclei and background (paper, equations 7 and 8)."""
        params = _paper_params(params)
        data, chosen = [], []
        for raster in rasters:
            far, how = find_background(
                raster.transcripts.totals(),
                raster.nuclei,
                params.background,
                um_per_px=raster.um_per_px,
                inside=raster.inside,
                of=of,
            )
            transcripts = Selection.of_genes(genes, raster.features).of(raster.transcripts)
            marks = _marks(raster, shared[raster.number])
            data.append(TrainingData(transcripts, raster.nuclei_to_learn, far, marks))
            chosen.append(how)
        lacks = "" if any(one.far.any() for one in data) else "no background"
        return PaperTrainingSet(data, chosen, genes, rasters[0].um_per_px, dict(rasters[0].markers or {}), of, lacks)

    def plan(
        self,
        models: Sequence[UCSModel],
        raster: RasterSample,
        model_of_nucleus: NDArray[np.int64],
        survey: Any,
        *,
        threshold: float,
    ) -> PaperPlan:
        """Select the genes of each model and find where markers are."""
        own = [_paper_model(model) for model in models]
        nets = tuple(
            NetsOnSample(one.foreground, one.cell, Selection.of_genes(one.genes, raster.features)) for one in own
        )
        params = _paper_params(own[0].params)
        types = nucleus_types(replace(raster, markers=own[0].markers))
        type_of = np.full(raster.n + 1, -1, dtype=np.int16) if types is None else types.type_of
        predictor = PaperPredictor(
            nets,
            None if types is None else types.is_marker,
            () if types is None else types.types,
            params.tau,
            params.reach,
            threshold,
        )
        axes = nucleus_axes(raster.nuclei, raster.n, strength=params.shape_exponent)
        return PaperPlan(predictor, raster, model_of_nucleus, type_of, axes)


@dataclass(frozen=True)
class PaperTrainingSet(TrainingSet):
    """What both nets learn from: the data of each sample and how their background was chosen."""

    data: list[TrainingData]
    background: list[dict[str, Any]]
    genes: tuple[str, ...]
    um_per_px: float
    markers: dict[str, Sequence[str]]
    of: str
    lacks: str = ""

    def fit(
        self,
        params: MethodParams,
        *,
        device: torch.device,
        seed: int,
        start: UCSModel | None,
        progress: Progress,
    ) -> PaperModel:
        """Train both nets."""
        params = _paper_params(params)
        if self.lacks:
            logger.warning(
                "No pixel is far enough from nuclei to serve as background%s; cells end at their reach only. A shorter "
                "distance may be given with params={'background': ...}.",
                f" of {self.of}" if self.of else "",
            )
        trained = train_nets(
            self.data,
            params,
            device=device,
            seed=seed,
            start=None if start is None else _paper_model(start).nets_for(self.genes),
            progress=progress,
        )
        _log_curves(trained, self.of)
        of_each = {str(k): one for k, one in enumerate(self.background)}  # stores have no lists of mappings
        history = {
            "background": self.background[0] if len(self.data) == 1 else of_each,
            "curves": {"foreground": trained.foreground_curve.as_dict(), "cell": trained.cell_curve.as_dict()},
            **provenance(device, seed, len(self.data), warm_start=start is not None),
        }
        return PaperModel(
            foreground=trained.foreground.cpu(),
            cell=trained.cell.cpu(),
            genes=self.genes,
            params=params,
            um_per_px=self.um_per_px,
            history=history,
            markers={name: list(marked) for name, marked in self.markers.items()},
        )


def _marks(raster: RasterSample, types: NucleusTypes | None) -> Marks | None:
    if types is None:
        return None
    return Marks(mark_pixels(raster.transcripts, types.is_marker, types.types), types.type_of)


def _paper_model(model: UCSModel) -> PaperModel:
    if not isinstance(model, PaperModel):
        msg = f"The model is of the method {model.method!r}, not 'paper'."
        raise TypeError(msg)
    return model


def _paper_params(params: MethodParams) -> PaperParams:
    if not isinstance(params, PaperParams):
        msg = f"The paper's method takes PaperParams, not {type(params).__name__}."
        raise TypeError(msg)
    return params


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


PAPER = register(PaperMethod())
