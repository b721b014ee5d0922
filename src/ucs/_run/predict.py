"""Prediction on one prepared sample: scores, decisions, refinement. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._files.workspace import Workspace
from ucs._kernels.lattice import BLOCK, bounding_boxes, count_blocks
from ucs._kernels.refine import refine_cells
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs._run.cell_types import marks_of
from ucs._utils.checks import listed
from ucs._utils.progress import stage
from ucs.methods.density.engine import predict_by_density
from ucs.methods.device import resolve_device
from ucs.methods.model import UCSModel
from ucs.methods.paper.assign import assign_pixels
from ucs.methods.paper.foreground import HALO
from ucs.methods.paper.inference import PixelScores, score_pixels
from ucs.methods.region_models import RegionModels, load_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ucs._kernels.bands import Raster
    from ucs._read.regions import Regions
    from ucs._read.sample import Sample

    Model = UCSModel | RegionModels


@dataclass(frozen=True)
class Prediction:
    """Cells on the sample's grid.

    Attributes
    ----------
    labels
        ``(h, w)`` int32, the id of the nucleus that owns the pixel.
    probability
        ``(h, w)`` uint8, 255 times the confidence in the owner: that of :mod:`ucs.methods.density.confidence`, or q
        (paper, equation 4) of the published nets.
    obs
        What more is known of each nucleus, ``(n,)`` each: further columns of the table.
    """

    labels: Raster
    probability: Raster
    obs: Mapping[str, Any] = field(default_factory=dict)


def as_model(model: object) -> Model:
    """Return a model, or one for each region; read from the directory if it is a path.

    Raises
    ------
    TypeError
        If it is neither, nor a mapping of region -> model.
    """
    if isinstance(model, UCSModel | RegionModels):
        return model
    if isinstance(model, str | Path):
        return load_model(model)
    if isinstance(model, Mapping):
        models = {str(region): as_model(one) for region, one in model.items()}
        nested = [region for region, one in models.items() if not isinstance(one, UCSModel)]
        if nested:
            msg = f"model= has models of regions for {listed(nested)}; a region has one model."
            raise TypeError(msg)
        return RegionModels({region: one for region, one in models.items() if isinstance(one, UCSModel)})
    msg = f"model={model!r} must be a UCSModel or the path of one, or a mapping of region -> either."
    raise TypeError(msg)


def check_regions_of_model(model: Model, regions: object) -> None:
    """Raise ``ValueError`` if models are one per region and no regions are asked for, or the other way round."""
    if isinstance(model, RegionModels) and regions is None:
        msg = f"model= has one model for each of the regions {listed(model)}: say with regions= where they are."
        raise ValueError(msg)
    if isinstance(model, UCSModel) and regions is not None:
        msg = f"regions={regions!r} needs one model for each region, but model= is a single one for all."
        raise ValueError(msg)


def predict_cells(
    sample: Sample,
    model: Model,
    regions: Regions | None = None,
    *,
    ownership: str = "expression",
    tile_size: int,
    device: str,
    workspace: Workspace | None = None,
    progress: bool,
    timings: dict[str, float],
) -> Prediction:
    """Apply a model, or one for each region, to one sample; see :func:`ucs.tl.predict`.

    ``workspace`` tells where rasters are held; in memory if None, large ones compressed. Those of the published nets
    are plain arrays in any case.
    """
    models, judge = judges_of(sample, model, regions)
    obs = {} if regions is None else {"model_region": regions.column()}
    if not models[0].is_published:
        labels, probability = predict_by_density(
            sample,
            models,
            judge,
            ownership=ownership,
            tile_size=tile_size,
            device=device,
            workspace=Workspace() if workspace is None else workspace,
            progress=progress,
            timings=timings,
        )
        return Prediction(labels, probability, obs)
    nuclei, params = sample.nuclei.labels, models[0].params
    n = len(sample.nuclei.ids)
    boxes = bounding_boxes(nuclei, n)
    with stage("predict", timings, progress=progress, unit="block") as update:
        scores = PixelScores.empty(nuclei.shape, boxes, judge, n_models=len(models), reach=params.reach)
        done = 0
        for number, transcripts in enumerate(_transcripts_of_each(sample, models, scores)):
            one, where = models[number], resolve_device(device)
            foreground, cell = one.published_nets()
            score_pixels(
                scores,
                transcripts,
                foreground.to(where),
                cell.to(where),
                model=number,
                device=where,
                tile_size=tile_size,
                progress=lambda blocks, before=done: update(before + blocks, scores.n_blocks),  # type: ignore[misc]
            )
            foreground.cpu()
            cell.cpu()
            done += int((scores.scalar.index[number] >= 0).sum())
    cells = [one.published_nets()[1] for one in models]
    heads = np.array([[float(x.detach()) for x in (*cell.weight_bias(), cell.mark_weight())] for cell in cells])
    with stage("assign", timings, progress=False):
        labels, probability = assign_pixels(
            nuclei,
            boxes,
            scores.scalar,
            model=judge,
            weight=heads[:, 0],
            bias=heads[:, 1],
            marks=marks_of(sample, models[0].markers),
            mark_weight=heads[:, 2],
            tau=params.tau,
            reach=params.reach,
        )
    with stage("refine", timings, progress=False):
        labels = refine_cells(labels, nuclei, bounding_boxes(labels, n))
    return Prediction(labels, probability, obs)


def regions_of_models(regions: Regions, model: Model) -> dict[str, Any]:
    """Return what ``uns["ucs"]["regions"]`` says: plain values, one of each region."""
    own = [
        isinstance(model, RegionModels) and model.get(name, model.shared) is not model.shared for name in regions.names
    ]
    return {
        "by": str(regions.rule),
        "names": list(regions.names),
        "n_nuclei": regions.n_nuclei.tolist(),
        "has_own_model": own,
        "n_nuclei_outside": regions.n_outside,
    }


def judges_of(sample: Sample, model: Model, regions: Regions | None) -> tuple[list[UCSModel], NDArray[np.int64]]:
    """Return the models that judge any nucleus, and which one judges each, ``(n + 1,)``.

    Raises
    ------
    ValueError
        If there is no model for a region, or for nuclei that lie in none, or the resolution is another.
    """
    if isinstance(model, UCSModel):
        judge = np.zeros(len(sample.nuclei.ids) + 1, dtype=np.int64)
        candidates = [model]
    else:
        judge, candidates = _judges_by_region(model, regions)
    used, judge = np.unique(judge, return_inverse=True)
    models = [candidates[k] for k in used]
    um_per_px = sample.transcripts.grid.um_per_px
    if not np.isclose(um_per_px, models[0].um_per_px, rtol=1e-6):
        msg = (
            f"The model was trained at {models[0].um_per_px:g} um per pixel, the grid has {um_per_px:g}: pass "
            f"resolution={models[0].um_per_px:g}, or train a model at this resolution."
        )
        raise ValueError(msg)
    return models, judge


def _judges_by_region(model: RegionModels, regions: Regions | None) -> tuple[NDArray[np.int64], list[UCSModel]]:
    check_regions_of_model(model, regions)
    if regions is None:
        raise AssertionError  # refused above
    unknown = [name for name in regions.names if name not in model]
    if unknown:
        msg = f"model= has no model for the regions {listed(unknown)}; it has: {listed(model)}."
        raise ValueError(msg)
    if regions.n_outside > 0 and model.shared is None:
        msg = (
            f"{regions.n_outside} nuclei lie in no region ({regions.rule}), and there is no shared model to judge "
            "them: pass ucs.methods.RegionModels(models, shared=...), or extend the regions."
        )
        raise ValueError(msg)
    candidates = model.distinct()
    number = {id(one): k for k, one in enumerate(candidates)}
    # Nuclei in no region have the shared model, which is the first if there is one; so has id 0, which is none.
    of_region = np.array([0, *(number[id(model[name])] for name in regions.names)])
    judge = of_region[regions.of_nucleus]
    judge[0] = judge[1]
    return judge, candidates


def _transcripts_of_each(
    sample: Sample, models: Sequence[UCSModel], scores: PixelScores
) -> Iterator[TranscriptMap]:
    """Select the transcripts that each model sees; only where it is asked, if the models see different genes."""
    transcripts = sample.transcripts
    features = transcripts.genes + transcripts.controls
    if all(model.genes == models[0].genes for model in models):
        selected = models[0].select_genes(transcripts.map, features)
        for _ in models:
            yield selected
        return
    for number, model in enumerate(models):
        asked = scores.scalar.index[number].reshape(count_blocks(transcripts.map.shape)) >= 0
        (rows, columns) = np.nonzero(asked)
        window = Window(*(BLOCK * np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])).tolist())
        yield model.select_genes(transcripts.map.within(window.grown(HALO)), features)
