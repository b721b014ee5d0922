"""Prediction with the pretrained net, one tile at a time, and the decision on the raster, finer than the net's grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numba import njit

from ucs._kernels.labels.ids import renumber
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.moved import FEATURE, OWNER, no_moves
from ucs._kernels.transcripts import Window
from ucs.methods.base import TileCells, TilePlan, TilePredictor
from ucs.methods.device import autocast, blocks_at_once, each_block, net_on, sent
from ucs.methods.pretrained.assign import calibrated, move_transcripts
from ucs.methods.pretrained.between import MOST, read_between
from ucs.methods.pretrained.candidates import Candidates, find_candidates
from ucs.methods.pretrained.features import CONTEXT_UM, NucleusTable, net_features, read_maps
from ucs.methods.pretrained.net import CLASSES, HALO, OwnerNet
from ucs.methods.pretrained.survey import window_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap
    from ucs.methods.pretrained.stains import StainTables
    from ucs.methods.pretrained.survey import TissueSurvey

BLOCK = 177
"""Side in net pixels of the blocks that go through the net: three cover a tile of 1056 px at 0.5 um with its rim."""
_RIM = 1  # net px beyond the core that decisions between net pixels need
# Chosen on two seeds of nine regimes of ucs.datasets (benchmarks/accuracy/RESULTS.md).
_FEW = 3.0  # transcripts in a nucleus, at which the threshold has fallen half of the way
_LOWEST = 0.6  # of the threshold, where there is none


@dataclass(frozen=True)
class OwnerTask:
    """What the pixels of one tile depend on. Ids are numbered anew, in the same order.

    Attributes
    ----------
    core
        In the raster; ``shape`` is that of the raster.
    window
        The pixels that are held, in the raster; its corner lies on the grid of net pixels.
    ids
        ``(m + 1,)`` int32, the id in the raster of each id here.
    nuclei
        ``(h, w)`` int32 ids 0..m on the window.
    axes, table
        Of the nuclei here.
    transcripts
        Of the net's genes, on the window.
    maps
        Of the survey, at the net pixels of the window.
    middles
        ``(m + 1, 2)`` rows and columns in the raster of the middles of the nuclei's bounding boxes.
    stain
        ``(2, h, w)`` codes of the ridge and the level of stains on the window; None without stains.
    """

    core: Window
    shape: tuple[int, int]
    window: Window
    ids: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    axes: NDArray[np.float64]
    table: NucleusTable
    transcripts: TranscriptMap
    maps: NDArray[np.float32]
    middles: NDArray[np.float64]
    stain: NDArray[np.uint8] | None


@dataclass(frozen=True)
class OwnerScores:
    """A task with what the net says: probabilities ``(2, 3, h, w)`` and candidates on net pixels around its core.

    ``row0, column0`` is the first of these net pixels, counted in the whole grid.
    """

    task: OwnerTask
    row0: int
    column0: int
    owner: NDArray[np.int32]
    probability: NDArray[np.float32]


@dataclass(frozen=True)
class OwnerPredictor(TilePredictor):
    """What is the same for all tiles.

    Attributes
    ----------
    net
        On the device, or on the CPU.
    log_ratio
        Of :class:`ucs.methods.pretrained.clusters.Clusters`.
    factor, um_per_px
        Side of a net pixel in pixels, and of a pixel in um.
    threshold
        Probability of lying in any cell above which a pixel does; see :func:`thresholds`.
    features
        ``(genes,)`` number of each gene among the features of the raster, to give transcripts to cells; None to give
        pixels.
    stains
        What stains tell; None without any.
    """

    net: OwnerNet
    log_ratio: NDArray[np.float32]
    factor: int
    um_per_px: float
    threshold: float
    features: NDArray[np.int32] | None
    stains: StainTables | None = None

    def on(self, device: torch.device) -> OwnerPredictor:
        """Return the predictor with its net on a device; that of this object stays where it is."""
        return replace(self, net=net_on(self.net, device))

    def forward(self, task: OwnerTask, *, device: torch.device, tile_size: int) -> OwnerScores:
        """Compute candidates, features and the net's probabilities around the core of a tile."""
        factor = self.factor
        candidates = find_candidates(
            task.nuclei,
            bounding_boxes(task.nuclei, len(task.ids) - 1),
            task.axes,
            factor=factor,
            um_per_px=self.um_per_px,
        )
        features = net_features(
            task.transcripts, task.nuclei, candidates, task.table, task.maps, self.log_ratio, factor=factor,
            um_per_px=self.um_per_px,
        )  # fmt: skip
        origin = task.window.row0 // factor, task.window.column0 // factor
        core = task.core
        wanted = Window(
            core.row0 // factor - _RIM - origin[0],
            core.column0 // factor - _RIM - origin[1],
            -(-core.row1 // factor) + _RIM - origin[0],
            -(-core.column1 // factor) + _RIM - origin[1],
        )
        held = Window(0, 0, *features.shape[1:])
        inside = wanted.meet(held)
        probability = self._probabilities(features, candidates, inside, device, tile_size // factor)
        return OwnerScores(
            task, inside.row0 + origin[0], inside.column0 + origin[1], candidates.owner[:, *inside.slices], probability
        )

    def _probabilities(
        self,
        features: NDArray[np.float32],
        candidates: Candidates,
        inside: Window,
        device: torch.device,
        tile_size: int,
    ) -> NDArray[np.float32]:
        """Return the net's probabilities, ``(2, 3, h, w)``; where there is no candidate, no nucleus owns the place."""
        h, w = inside.shape
        out = np.zeros((2, CLASSES, h, w), dtype=np.float32)
        out[:, -1] = 1
        owner = candidates.owner[:, *inside.slices]
        blocks = [
            (i, j)
            for i in range(0, h, BLOCK)
            for j in range(0, w, BLOCK)
            if (owner[0, i : i + BLOCK, j : j + BLOCK] > 0).any()
        ]

        @torch.inference_mode()
        def compute(some: Sequence[tuple[int, int]]) -> tuple[NDArray[np.float32]]:
            corners = [(inside.row0 + i - HALO, inside.column0 + j - HALO) for i, j in some]
            seen = np.stack([_read(features, *corner, BLOCK + 2 * HALO) for corner in corners])
            with autocast(device):
                logits = self.net(sent(seen, device).contiguous(memory_format=torch.channels_last))
            return (logits.float().cpu().numpy(),)

        def enter(block: tuple[int, int], logits: NDArray[np.float32]) -> None:
            i, j = block
            part = np.s_[i : min(i + BLOCK, h), j : min(j + BLOCK, w)]
            _enter_probabilities(logits, owner[:, *part], out[:, :, *part])

        at_once = blocks_at_once(device, tile_size, BLOCK)
        each_block(compute, blocks, enter, net=self.net, device=device, at_once=at_once)
        return out

    def decide(self, scores: OwnerScores) -> TileCells:
        """Give each pixel of the raster an owner: probabilities are read between net pixels, nucleus by nucleus."""
        task = scores.task
        if self.stains is not None and task.stain is not None:
            corner = task.window.row0, task.window.column0
            probability = self.stains.revised(
                scores.owner,
                scores.probability,
                (scores.row0 * self.factor - corner[0], scores.column0 * self.factor - corner[1]),
                task.nuclei,
                task.middles - corner,
                task.stain,
                factor=self.factor,
                um_per_px=self.um_per_px,
            )
            scores = replace(scores, probability=probability)
        shape = task.core.shape
        nuclei = task.nuclei[task.core.seen_from(task.window).slices]
        labels = np.zeros(shape, dtype=np.int32)
        confidence, foreground = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
        grid = -(-task.shape[0] // self.factor), -(-task.shape[1] // self.factor)
        threshold = thresholds(self.threshold, task.table)
        _decide(
            scores.owner, scores.probability, scores.row0, scores.column0, *grid, task.core.row0, task.core.column0,
            self.factor, threshold, nuclei, labels, confidence, foreground,
        )  # fmt: skip
        moves = no_moves()
        if self.features is not None:
            moves = move_transcripts(
                task.transcripts.crop(task.core.seen_from(task.window)), (task.core.row0, task.core.column0), labels,
                nuclei, scores.owner, scores.probability, (scores.row0, scores.column0), grid, self.factor,
                threshold, task.table.membership, self.log_ratio,
            )  # fmt: skip
            moves[:, OWNER] = task.ids[moves[:, OWNER]]
            moves[:, FEATURE] = self.features[moves[:, FEATURE]]
        return TileCells(task.ids[labels], confidence, foreground, moves)


def thresholds(threshold: float, table: NucleusTable) -> NDArray[np.float64]:
    """Return the threshold of each nucleus, ``(m + 1,)``: lower where it holds few transcripts.

    The places with the largest expected overlap with a cell are those whose probability exceeds half of that overlap
    (as F1). It is near 1 where there are many transcripts. With few of them nothing is certain, and what exceeds the
    same threshold as elsewhere is less than the cell.
    """
    weight = 1 / (1 + (np.exp(table.level.astype(np.float64)) * table.area / _FEW) ** 2)
    return threshold * (1 - (1 - _LOWEST) * weight)


def _read(features: NDArray[np.float32], row0: int, column0: int, side: int) -> NDArray[np.float32]:
    """Return a square of the features; beyond their edge the nearest ones."""
    rows = np.clip(np.arange(row0, row0 + side), 0, features.shape[1] - 1)
    columns = np.clip(np.arange(column0, column0 + side), 0, features.shape[2] - 1)
    return features[:, rows[:, None], columns]


@njit(cache=True, nogil=True)
def _enter_probabilities(logits: NDArray, owner: NDArray, out: NDArray) -> None:
    """Turn logits ``(2, 3, a, b)`` into probabilities of the candidates that there are, ``(2, 3, h, w)``.

    One pixel at a time: torch's softmax rounds the last pixels of a row in another way than the others.
    """
    odds = np.empty(3)
    for i in range(owner.shape[1]):
        for j in range(owner.shape[2]):
            for kind in range(2):
                highest = logits[kind, 2, i, j]
                for number in range(2):
                    if owner[number, i, j] > 0:
                        highest = max(highest, logits[kind, number, i, j])
                for number in range(3):
                    is_there = number == 2 or owner[number, i, j] > 0
                    odds[number] = np.exp(np.float64(logits[kind, number, i, j] - highest)) if is_there else 0.0
                for number in range(3):
                    out[kind, number, i, j] = odds[number] / (odds[0] + odds[1] + odds[2])


@njit(cache=True, nogil=True)
def _decide(
    owner: NDArray,
    probability: NDArray,
    row0: int,
    column0: int,
    n_rows: int,
    n_columns: int,
    top: int,
    left: int,
    factor: int,
    threshold: NDArray,
    nuclei: NDArray,
    labels: NDArray,
    confidence: NDArray,
    foreground: NDArray,
) -> None:
    half = (factor - 1) / 2
    ids, place, origin = np.empty(MOST, dtype=np.int32), np.empty(MOST), np.empty(MOST)
    for i in range(labels.shape[0]):
        y = (top + i - half) / factor
        for j in range(labels.shape[1]):
            x = (left + j - half) / factor
            n, in_any, _ = read_between(owner, probability, y, x, row0, column0, n_rows, n_columns, ids, place, origin)
            own = nuclei[i, j]
            best = -1
            for k in range(n):
                if own > 0:
                    if ids[k] == own:
                        best = k
                elif best < 0 or place[k] > place[best] or (place[k] == place[best] and ids[k] < ids[best]):
                    best = k
            if own > 0:
                labels[i, j] = own
                foreground[i, j] = 255
            else:
                foreground[i, j] = np.uint8(np.rint(255 * min(in_any, 1.0)))
                if best >= 0 and in_any > threshold[ids[best]]:
                    labels[i, j] = ids[best]
            if best >= 0:
                confidence[i, j] = np.uint8(np.rint(255 * calibrated(min(origin[best], 1.0))))


@dataclass(frozen=True)
class OwnerPlan(TilePlan):
    """A sample with the figures of its nuclei, and the two measures ``(2, h, w)`` of stains that tell something."""

    predictor: OwnerPredictor
    survey: TissueSurvey
    table: NucleusTable
    stain: NDArray[np.uint8] | None = None

    def task(self, core: Window) -> OwnerTask:
        """Cut out one tile with all that its pixels depend on."""
        survey, factor = self.survey, self.survey.factor
        core = core.clipped(survey.shape)
        seen = core.grown((HALO + _RIM) * factor)
        distances = window_of(seen, survey.nuclei, survey.boxes, survey.axes, survey.um_per_px)
        context = seen.grown(int(np.ceil(CONTEXT_UM / survey.um_per_px)) + 2 * factor).clipped(survey.shape)
        window = Window(
            min(distances.row0, context.row0) // factor * factor,
            min(distances.column0, context.column0) // factor * factor,
            max(distances.row1, context.row1),
            max(distances.column1, context.column1),
        )
        ids, nuclei = renumber(survey.nuclei[window.slices], len(survey.boxes) - 1)
        shape = -(-window.shape[0] // factor), -(-window.shape[1] // factor)
        maps = read_maps(survey.maps, window.row0 // factor, window.column0 // factor, shape)
        transcripts = survey.selection.of(survey.transcripts.crop(window))
        boxes = survey.boxes[ids]
        return OwnerTask(
            core=core,
            shape=survey.shape,
            window=window,
            ids=ids,
            nuclei=nuclei,
            axes=survey.axes[ids],
            table=self.table.of(ids),
            transcripts=transcripts,
            maps=maps,
            middles=(boxes[:, :2] + boxes[:, 2:] - 1) / 2,
            stain=None if self.stain is None else self.stain[:, *window.slices],
        )
