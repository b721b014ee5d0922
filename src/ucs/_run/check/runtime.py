"""How long training and prediction take here: the very code of both, on a small part of the sample, for a few steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._files.workspace import Workspace
from ucs._kernels.labels.ids import densify
from ucs._kernels.lattice import BLOCK, bounding_boxes, boxes_by_block, count_blocks
from ucs._kernels.transcripts import Window
from ucs._read.nuclei.onto_grid import Nuclei
from ucs._read.sample import Sample
from ucs._run.predict import predict_cells
from ucs._run.region_samples import raster_of
from ucs._run.training import train_model
from ucs._utils.log import collected
from ucs._utils.progress import Stages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._run.training import TrainingOptions
    from ucs.methods.model import UCSModel

_SIDE = 3  # blocks: a part is large enough for a patch with its surroundings
_FEW, _MORE = 2, 6  # steps: what one takes is the difference over four of them


@dataclass(frozen=True)
class Pace:
    """Seconds that a sample takes.

    Attributes
    ----------
    train
        To train one model, if training does not stop early; 0 if there is one.
    predict
        To apply the nets everywhere.
    decide
        To make cells of that.
    """

    train: float
    predict: float
    decide: float


def rehearse(sample: Sample, training: TrainingOptions, model: UCSModel | None, *, tile_size: int) -> Pace:
    """Time training and prediction on a typical part of a sample, each after a first time that is not counted.

    Parameters
    ----------
    sample
        The sample.
    training
        How a model would be trained.
    model
        One that is given.
    tile_size
        Side in pixels of what goes through the nets at once on a GPU.
    """
    part = typical_part(sample)
    seconds = 0.0
    with collected():
        if model is None:
            planned = replace(training, params=training.params.planned(sample.nuclei.labels.size))
            model, seconds = _training(part, planned)
        for _ in range(2):
            stages = Stages()
            predict_cells(
                raster_of(part, training.markers),
                model,
                tile_size=tile_size,
                device=training.device,
                workspace=Workspace(),
                stages=stages,
            )
    predict = stages.seconds.pop("cells")
    at_once = 1 if training.device == "cpu" else max(1, (tile_size // BLOCK) ** 2)
    reach = model.params.reach_px(model.um_per_px)
    batches = [-(-n_blocks(one.nuclei.labels, reach) // at_once) for one in (sample, part)]
    return Pace(
        seconds,
        predict * batches[0] / max(1, batches[1]),
        sum(stages.seconds.values()) * sample.nuclei.labels.size / part.nuclei.labels.size,
    )


def _training(part: Sample, training: TrainingOptions) -> tuple[UCSModel, float]:
    """Return a model that has learned next to nothing, and the seconds that all steps would take."""
    params, seconds = training.params, []
    counted = [name for name in _COUNTED if hasattr(params, name)]
    # Training must not stop early.
    patient: dict[str, Any] = {"patience": 10**6} if hasattr(params, "patience") else {}
    all_steps = getattr(params, "max_steps", _FEW)
    for steps in (_FEW, _FEW, _MORE):
        share = min(1.0, steps / all_steps)
        counts: dict[str, Any] = {name: max(1, round(share * getattr(params, name))) for name in counted}
        start = time.perf_counter()
        few = replace(training, params=replace(params, **patient, **counts))
        trained = train_model([part], None, few, Stages())
        seconds.append(time.perf_counter() - start)
    per_step = max(0.0, seconds[2] - seconds[1]) / (_MORE - _FEW)
    return trained.model.distinct()[0], seconds[1] + max(0, all_steps - _FEW) * per_step


_COUNTED = ("max_steps", "evaluate_every", "cell_patches", "cell_steps")
"""Parameters of the training, of methods that have them, that the time it takes is in proportion to."""


def typical_part(sample: Sample) -> Sample:
    """Return a part of a sample, of a few blocks each way, with about as many transcripts as parts have on average.

    Only parts with nuclei count. The sample itself is returned if it is no larger than a part.
    """
    height, width = sample.nuclei.labels.shape
    side = _SIDE * BLOCK
    if height <= side and width <= side:
        return sample
    totals, nuclei = sample.transcripts.map.totals(), sample.nuclei.labels
    corners = [(row, column) for row in range(0, height, side) for column in range(0, width, side)]
    windows = [Window(row, column, row + side, column + side).clipped(nuclei.shape) for row, column in corners]
    load = np.array([int(totals[window.slices].sum()) if nuclei[window.slices].any() else -1 for window in windows])
    whole = np.array([min(window.shape) * 2 > side for window in windows])
    usable = (load >= 0) & whole if ((load >= 0) & whole).any() else load >= 0
    mean = load[usable].mean()
    return cut(sample, windows[int(np.argmin(np.where(usable, np.abs(load - mean), np.inf)))])


def cut(sample: Sample, window: Window) -> Sample:
    """Return what lies in a window, as a sample of its own."""
    transcripts, grid = sample.transcripts, sample.transcripts.grid
    labels, index = densify(sample.nuclei.labels[window.slices])
    grid = replace(grid, column0=grid.column0 + window.column0, row0=grid.row0 + window.row0, shape=window.shape)
    return Sample(
        sample.source,
        sample.nuclei_key,
        replace(transcripts, grid=grid, map=transcripts.map.crop(window)),
        Nuclei(labels, sample.nuclei.ids[index - 1], 0),
        "unchecked",
    )


def n_blocks(nuclei: NDArray[np.int32], reach: int) -> int:
    """Return how many blocks the nets look at: those that nuclei reach."""
    boxes = bounding_boxes(nuclei, int(nuclei.max(initial=0)))
    start, _ = boxes_by_block(boxes, reach, BLOCK, *count_blocks(nuclei.shape))
    return int(np.count_nonzero(np.diff(start)))
