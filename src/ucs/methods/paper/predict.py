"""Prediction with the paper's nets, one tile at a time, on a part of the raster that holds what its core depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.labels.ids import renumber
from ucs._kernels.lattice import BLOCK, bounding_boxes, count_blocks
from ucs.methods.base import TileCells, TilePlan, TilePredictor
from ucs.methods.device import net_on
from ucs.methods.paper.assign import assign_pixels
from ucs.methods.paper.inference import PixelScores, score_pixels
from ucs.methods.paper.marks import Marks, mark_pixels

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap, Window
    from ucs.methods.base import RasterSample
    from ucs.methods.model import Selection
    from ucs.methods.paper.cell import CellNet
    from ucs.methods.paper.foreground import ForegroundNet


@dataclass(frozen=True)
class NetsOnSample:
    """Both nets of one model, and the features of the sample that they see."""

    foreground: ForegroundNet
    cell: CellNet
    selection: Selection


@dataclass(frozen=True)
class PaperTask:
    """What is to be done for one tile; ids are numbered anew, in the same order.

    Attributes
    ----------
    core, window
        The pixels that are wanted, and those that are held, in the raster. Both begin on the lattice.
    ids
        ``(m + 1,)`` int32, the id in the raster of each id here; 0 is 0.
    nuclei
        ``(h, w)`` int32 ids 0..m on the window.
    transcripts
        All features, on the window.
    model_of_nucleus
        ``(m + 1,)`` number of the model of each nucleus.
    type_of
        ``(m + 1,)`` int16 cell type of each nucleus, -1 for none.
    axes
        ``(m + 1, 3)`` of :func:`ucs._kernels.distances.nucleus_axes`: of whole nuclei, which the window may cut.
    """

    core: Window
    window: Window
    ids: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    transcripts: TranscriptMap
    model_of_nucleus: NDArray[np.int64]
    type_of: NDArray[np.int16]
    axes: NDArray[np.float64]

    def wanted_blocks(self) -> NDArray[np.bool_]:
        """Return which blocks of the window's lattice lie in the core, row by row."""
        rows, columns = count_blocks(self.nuclei.shape)
        inner = self.core.seen_from(self.window)
        out = np.zeros((rows, columns), dtype=bool)
        out[inner.row0 // BLOCK : -(-inner.row1 // BLOCK), inner.column0 // BLOCK : -(-inner.column1 // BLOCK)] = True
        return out.ravel()


@dataclass(frozen=True)
class PaperScores:
    """A task with what the nets say of its blocks."""

    task: PaperTask
    boxes: NDArray[np.int64]
    scores: PixelScores


@dataclass(frozen=True)
class PaperPredictor(TilePredictor):
    """What is the same for all tiles.

    Attributes
    ----------
    nets
        Those of each model.
    is_marker
        ``(types, features)`` bool; None without markers.
    types
        Names of the types.
    tau, reach
        In pixels.
    threshold
        Probability of lying in a cell above which a pixel does.
    """

    nets: tuple[NetsOnSample, ...]
    is_marker: NDArray[np.bool_] | None
    types: tuple[str, ...]
    tau: float
    reach: int
    threshold: float

    def on(self, device: torch.device) -> PaperPredictor:
        """Return the predictor with its nets on a device; those of this object stay where they are."""
        nets = [
            replace(one, foreground=net_on(one.foreground, device), cell=net_on(one.cell, device)) for one in self.nets
        ]
        return replace(self, nets=tuple(nets))

    def forward(self, task: PaperTask, *, device: torch.device, tile_size: int) -> PaperScores:
        """Score the pixels that the nuclei of each model reach."""
        boxes = bounding_boxes(task.nuclei, len(task.ids) - 1)
        scores = PixelScores.empty(
            task.nuclei.shape,
            boxes,
            task.model_of_nucleus,
            n_models=len(self.nets),
            reach=self.reach,
            wanted=task.wanted_blocks(),
        )
        for number, one in enumerate(self.nets):
            if (scores.scalar.index[number] >= 0).any():
                transcripts = one.selection.of(task.transcripts)
                score_pixels(
                    scores, transcripts, one.foreground, one.cell, model=number, device=device, tile_size=tile_size
                )
        return PaperScores(task, boxes, scores)

    def decide(self, scores: PaperScores) -> TileCells:
        """Give each pixel to a nucleus or to the background (paper, equations 5 and 6)."""
        task, marks = scores.task, None
        if self.is_marker is not None:
            marks = Marks(mark_pixels(task.transcripts, self.is_marker, self.types), task.type_of)
        heads = np.array(
            [
                [float(x.detach()) for x in (*one.cell.weight_bias(), one.cell.temperature, one.cell.mark_weight())]
                for one in self.nets
            ]
        )
        labels, probability = assign_pixels(
            task.nuclei,
            scores.boxes,
            task.axes,
            scores.scores.scalar,
            model=task.model_of_nucleus,
            weight=heads[:, 0],
            bias=heads[:, 1],
            temperature=heads[:, 2],
            marks=marks,
            mark_weight=heads[:, 3],
            tau=self.tau,
            reach=self.reach,
            threshold=self.threshold,
            wanted=task.wanted_blocks(),
        )
        inner = task.core.seen_from(task.window).slices
        foreground = scores.scores.foreground_probability()[inner].copy()
        return TileCells(task.ids[labels[inner]], probability[inner].copy(), foreground)


@dataclass(frozen=True)
class PaperPlan(TilePlan):
    """A sample and the models that are applied to it."""

    predictor: PaperPredictor
    raster: RasterSample
    model_of_nucleus: NDArray[np.int64]
    type_of: NDArray[np.int16]
    axes: NDArray[np.float64]

    def task(self, core: Window) -> PaperTask:
        """Cut out one tile with whole blocks around it, as far as nuclei reach."""
        around = -(-(self.predictor.reach + 1) // BLOCK) * BLOCK
        core = core.clipped(self.raster.shape)
        window = core.grown(around).clipped(self.raster.shape)
        part = self.raster.crop(window)
        ids, nuclei = renumber(part.nuclei, self.raster.n)
        return PaperTask(
            core, window, ids, nuclei, part.transcripts, self.model_of_nucleus[ids], self.type_of[ids], self.axes[ids]
        )
