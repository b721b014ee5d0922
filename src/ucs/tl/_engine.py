"""The engine on one prepared sample: training, prediction, refinement. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._checks import check_positive
from ucs._core.assign import assign_pixels
from ucs._core.background import beyond_distance, beyond_paper_dilation
from ucs._core.calibrate import calibrate_background
from ucs._core.lattice import bounding_boxes
from ucs._core.refine import refine_cells
from ucs._logging import logger
from ucs._progress import stage
from ucs.nn.device import precision, resolve_device
from ucs.nn.inference import score_pixels
from ucs.nn.model import UCSModel, match_genes
from ucs.nn.params import TrainParams
from ucs.nn.patches import TrainingData
from ucs.nn.training import train_nets
from ucs.pp._genes import choose_genes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ucs.pp._sample import Sample


@dataclass(frozen=True)
class Prediction:
    """Cells on the sample's grid.

    Attributes
    ----------
    labels
        ``(h, w)`` int32, the id of the nucleus that owns the pixel.
    probability
        ``(h, w)`` uint8, 255 times the owner's q (paper, equation 4).
    """

    labels: NDArray[np.int32]
    probability: NDArray[np.uint8]


def check_background(background: str | float) -> None:
    """Raise ``ValueError`` unless it is ``"auto"``, ``"paper"`` or a positive distance."""
    if background in ("auto", "paper"):
        return
    if isinstance(background, str):
        msg = f"background={background!r} is unknown; pass 'auto', 'paper' or a distance in um."
        raise ValueError(msg)
    check_positive(background, "background")


def find_background(
    sample: Sample, background: str | float
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Return the pixels far enough from nuclei to be background, and what was chosen.

    Parameters
    ----------
    sample
        The sample.
    background
        ``"auto"``, ``"paper"`` or a distance in um.

    Raises
    ------
    ValueError
        If it is none of these, or leaves no pixel.
    """
    check_background(background)
    nuclei, um_per_px = sample.nuclei.labels, sample.transcripts.grid.um_per_px
    chosen: dict[str, Any]
    if background == "paper":
        far, chosen = beyond_paper_dilation(nuclei), {"method": "paper"}
    elif background == "auto":
        distance, profile = calibrate_background(
            sample.transcripts.map.totals(), nuclei, um_per_px=um_per_px
        )
        far = beyond_distance(nuclei, distance / um_per_px)
        chosen = {"method": "auto", "distance_um": distance, "profile": profile}
    else:
        far = beyond_distance(nuclei, float(background) / um_per_px)
        chosen = {"method": "given", "distance_um": float(background)}
    chosen["share_of_area"] = float(far.mean())
    logger.info(
        "Background for training (%s): %s from nuclei, %.0f %% of the area.",
        chosen["method"],
        f"beyond {chosen['distance_um']:.1f} um" if "distance_um" in chosen else "outside the paper's dilation",
        100 * chosen["share_of_area"],
    )
    if not far.any():
        logger.warning("No pixel is far enough from nuclei to serve as background; cells end at their reach only.")
    return far, chosen


def train_model(
    sample: Sample,
    *,
    genes: str | int | Sequence[str],
    train: TrainParams | Mapping[str, Any] | None,
    background: str | float,
    device: str,
    seed: int,
    progress: bool,
    timings: dict[str, float],
) -> UCSModel:
    """Train both nets on one sample; see :func:`ucs.tl.train`."""
    params = TrainParams.resolve(train)
    where = resolve_device(device)
    chosen_genes = choose_genes(genes, sample.transcripts)
    keep, index = match_genes(chosen_genes, sample.transcripts.genes + sample.transcripts.controls)
    transcripts = sample.transcripts.map.select(keep, index, len(chosen_genes))
    far, chosen = find_background(sample, background)
    with stage("train", timings, progress=progress, unit="step") as update:
        trained = train_nets(
            TrainingData(transcripts, sample.nuclei.labels, far), params, device=where, seed=seed, progress=update
        )
    curves = {"foreground": trained.foreground_curve, "cell": trained.cell_curve}
    for name, curve in curves.items():
        logger.info(
            "Trained the %s net: %d steps, best at %d, held-out loss %.3f.",
            name,
            curve.stopped_at,
            curve.best_step,
            min(curve.held_out_loss, default=float("nan")),
        )
    history = {
        "background": chosen,
        "curves": {name: curve.as_dict() for name, curve in curves.items()},
        "seed": seed,
        "device": str(where),
        "precision": precision(where),
        "versions": {name: version(name) for name in ("spatialdata-ucs", "torch", "numpy", "numba")},
    }
    return UCSModel(
        trained.foreground.cpu(),
        trained.cell.cpu(),
        chosen_genes,
        params,
        sample.transcripts.grid.um_per_px,
        history,
    )


def as_model(model: object) -> UCSModel:
    """Return a model, read from its directory if it is a path.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if isinstance(model, UCSModel):
        return model
    if not isinstance(model, str | Path):
        msg = f"model={model!r} must be a UCSModel or the path of one."
        raise TypeError(msg)
    return UCSModel.load(model)


def predict_cells(
    sample: Sample, model: UCSModel, *, tile_size: int, device: str, progress: bool, timings: dict[str, float]
) -> Prediction:
    """Apply a model to one sample; see :func:`ucs.tl.predict`."""
    where = resolve_device(device)
    um_per_px = sample.transcripts.grid.um_per_px
    if not np.isclose(um_per_px, model.um_per_px, rtol=1e-6):
        msg = (
            f"The model was trained at {model.um_per_px:g} um per pixel, the grid has {um_per_px:g}: pass "
            f"resolution={model.um_per_px:g}, or train a model at this resolution."
        )
        raise ValueError(msg)
    features = sample.transcripts.genes + sample.transcripts.controls
    transcripts = model.select_genes(sample.transcripts.map, features)
    nuclei = sample.nuclei.labels
    n = len(sample.nuclei.ids)
    boxes = bounding_boxes(nuclei, n)
    params = model.params
    foreground = model.foreground.to(where)
    cell = model.cell.to(where)
    with stage("predict", timings, progress=progress, unit="block") as update:
        scores = score_pixels(
            transcripts, boxes, foreground, cell, reach=params.reach, device=where, tile_size=tile_size, progress=update
        )
        weight, bias = (float(x.detach()) for x in cell.weight_bias())
    with stage("assign", timings, progress=False):
        labels, probability = assign_pixels(
            nuclei, boxes, scores.scalar, weight=weight, bias=bias, tau=params.tau, reach=params.reach
        )
    with stage("refine", timings, progress=False):
        labels = refine_cells(labels, nuclei, bounding_boxes(labels, n))
    model.foreground.cpu()
    model.cell.cpu()
    return Prediction(labels, probability)
