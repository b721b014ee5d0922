"""How long training and prediction take here: the very code of both, on a small part of the sample, for a few steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.ids import densify
from ucs._kernels.lattice import BLOCK, bounding_boxes, boxes_by_block, count_blocks
from ucs._kernels.transcripts import Window
from ucs._read.nuclei.onto_grid import Nuclei
from ucs._read.sample import Sample
from ucs._utils.log import collected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._run.training import Learning
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


def rehearse(sample: Sample, learning: Learning, model: UCSModel | None, *, tile_size: int) -> Pace:
    """Time training and prediction on a typical part of a sample, each after a first time that is not counted.

    Parameters
    ----------
    sample
        The sample.
    learning
        How a model would be trained.
    model
        One that is given.
    tile_size
        Side in pixels of what goes through the nets at once on a GPU.
    """
    from ucs._run.predict import predict_cells

    part = typical_part(sample)
    seconds = 0.0
    with collected():
        if model is None:
            model, seconds = _training(part, learning)
        for _ in range(2):
            timings: dict[str, float] = {}
            predict_cells(
                part,
                model,
                ownership=learning.ownership,
                tile_size=tile_size,
                device=learning.device,
                progress=False,
                timings=timings,
            )
    predict = timings.pop("cells" if "cells" in timings else "predict")
    at_once = 1 if learning.device == "cpu" else max(1, (tile_size // BLOCK) ** 2)
    reach = model.params.reach
    batches = [-(-n_blocks(one.nuclei.labels, reach) // at_once) for one in (sample, part)]
    return Pace(
        seconds,
        predict * batches[0] / max(1, batches[1]),
        sum(timings.values()) * sample.nuclei.labels.size / part.nuclei.labels.size,
    )


def _training(part: Sample, learning: Learning) -> tuple[UCSModel, float]:
    """Return a model that has learned next to nothing, and the seconds that all steps would take."""
    from ucs._run.training import train_model

    params = learning.params.filled(density=learning.by_density)
    seconds = []
    for steps in (_FEW, _FEW, _MORE):
        share = min(1.0, steps / params.max_steps)
        counts = {name: max(1, round(share * getattr(params, name))) for name in _COUNTED}
        start = time.perf_counter()
        model = train_model([part], None, replace(learning, params=replace(params, patience=10**6, **counts)), {})
        seconds.append(time.perf_counter() - start)
    per_step = max(0.0, seconds[2] - seconds[1]) / (_MORE - _FEW)
    return model, seconds[1] + max(0, params.max_steps - _FEW) * per_step  # type: ignore[return-value]


_COUNTED = ("max_steps", "evaluate_every", "cell_patches", "cell_steps")
"""Parameters of the training that the time it takes is in proportion to."""


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
