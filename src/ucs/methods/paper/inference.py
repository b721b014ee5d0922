"""The nets over a raster, block by block; their values are kept on those blocks only where a model was asked.

With one model per region, a raster for each would cost regions x pixels. A model is asked where its nuclei reach, so
all the blocks together are little more than one raster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ucs._kernels.lattice import BLOCK, boxes_by_block, count_blocks
from ucs._kernels.transcripts import Window
from ucs.methods.device import autocast, blocks_at_once, each_block
from ucs.methods.paper.patches import read_transcripts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap
    from ucs.methods.paper.cell import CellNet
    from ucs.methods.paper.foreground import ForegroundNet


@dataclass(frozen=True)
class BlockValues:
    """Values of several models on a raster of shape ``(h, w)``.

    Attributes
    ----------
    shape
        ``(h, w)`` of the raster.
    index
        ``(n_models, n_blocks)`` int32: which of ``blocks`` holds the values of a model on a block of the lattice
        (row-major), -1 if none does.
    blocks
        ``(n, BLOCK, BLOCK)`` float32. What of a block lies beyond the raster is undefined.
    """

    shape: tuple[int, int]
    index: NDArray[np.int32]
    blocks: NDArray[np.float32]

    @classmethod
    def empty(cls, shape: tuple[int, int], asked: NDArray[np.bool_]) -> BlockValues:
        """Make room for the blocks ``asked`` for, ``(n_models, n_blocks)`` bool; they are numbered in that order."""
        index = np.where(asked, np.cumsum(asked.ravel()).reshape(asked.shape) - 1, -1).astype(np.int32)
        return cls(shape, index, np.zeros((int(asked.sum()), BLOCK, BLOCK), dtype=np.float32))

    def raster(self, model: int = 0, *, fill: float = 0.0) -> NDArray[np.float32]:
        """Return the values of one model, ``(h, w)``; ``fill`` where it was not asked."""
        rows, columns = count_blocks(self.shape)
        padded = np.full((rows, columns, BLOCK, BLOCK), fill, dtype=np.float32)
        index = self.index[model].reshape(rows, columns)
        padded[index >= 0] = self.blocks[index[index >= 0]]
        return padded.swapaxes(1, 2).reshape(rows * BLOCK, columns * BLOCK)[: self.shape[0], : self.shape[1]]


@dataclass(frozen=True)
class PixelScores:
    """What the nets of one or several models say of the pixels that their nuclei reach.

    Attributes
    ----------
    foreground
        Logit of p_fg (paper, equation 1).
    scalar
        f(p) (paper, equation 4), on the same blocks.
    """

    foreground: BlockValues
    scalar: BlockValues

    @classmethod
    def empty(
        cls,
        shape: tuple[int, int],
        boxes: NDArray[np.int64],
        model: NDArray[np.integer],
        *,
        n_models: int = 1,
        reach: int,
        wanted: NDArray[np.bool_] | None = None,
    ) -> PixelScores:
        """Make room for the blocks that nuclei reach, those of each model by themselves.

        Parameters
        ----------
        shape
            ``(h, w)`` of the raster.
        boxes
            ``(n + 1, 4)`` bounding boxes of the nuclei.
        model
            ``(n + 1,)``, which model judges each nucleus.
        n_models
            Number of models.
        reach
            Distance in pixels beyond which nothing is asked.
        wanted
            ``(n_blocks,)`` the blocks that are asked at all; all if None.
        """
        start, ids = boxes_by_block(boxes, reach, BLOCK, *count_blocks(shape))
        asked = np.zeros((n_models, len(start) - 1), dtype=bool)
        asked[model[ids], np.repeat(np.arange(len(start) - 1), np.diff(start))] = True
        if wanted is not None:
            asked &= wanted
        foreground, scalar = BlockValues.empty(shape, asked), BlockValues.empty(shape, asked)
        return cls(foreground, scalar)

    def foreground_probability(self) -> NDArray[np.uint8]:
        """Return 255 times p_fg, ``(h, w)``: the highest of the models that were asked; 0 where none was."""
        out = np.zeros(self.foreground.shape, dtype=np.uint8)
        for number in range(len(self.foreground.index)):
            logit = self.foreground.raster(number, fill=-np.inf)
            np.maximum(out, np.rint(255 / (1 + np.exp(-logit))).astype(np.uint8), out=out)
        return out

    @property
    def n_blocks(self) -> int:
        """Number of blocks to score, over all models."""
        return len(self.scalar.blocks)


def score_pixels(
    scores: PixelScores,
    transcripts: TranscriptMap,
    foreground: ForegroundNet,
    cell: CellNet,
    *,
    model: int = 0,
    device: torch.device,
    tile_size: int = 1024,
    progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """Run both nets of one model on every block that its nuclei reach, and enter what they say into ``scores``.

    Parameters
    ----------
    scores
        Of all models.
    transcripts
        Transcripts of the genes that the nets see.
    foreground, cell
        The nets, on ``device``.
    model
        Number of the model.
    device
        Where to compute.
    tile_size
        Side in pixels of what goes through the nets at once on a GPU; less where its memory does not suffice. On a CPU
        the blocks go one by one.
    progress
        Called with the number of blocks done.
    """
    _, block_columns = count_blocks(transcripts.shape)
    wanted = np.flatnonzero(scores.scalar.index[model] >= 0)
    done = 0

    def score(chosen: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return _score(transcripts, [_block_window(k, block_columns) for k in chosen], foreground, cell, device)

    def enter(k: int, foreground_logit: NDArray[np.float32], scalar: NDArray[np.float32]) -> None:
        nonlocal done
        where = scores.scalar.index[model, k]
        scores.foreground.blocks[where], scores.scalar.blocks[where] = foreground_logit, scalar
        done += 1
        progress(done)

    at_once = blocks_at_once(device, tile_size, BLOCK)
    each_block(score, wanted.tolist(), enter, net=foreground, device=device, at_once=at_once)


def _block_window(k: int, block_columns: int) -> Window:
    row0, column0 = (k // block_columns) * BLOCK, (k % block_columns) * BLOCK
    return Window(row0, column0, row0 + BLOCK, column0 + BLOCK)


@torch.inference_mode()
def _score(
    transcripts: TranscriptMap,
    windows: list[Window],
    foreground: ForegroundNet,
    cell: CellNet,
    device: torch.device,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    batch = read_transcripts(transcripts, [window.grown(foreground.halo) for window in windows]).to(device)
    with autocast(device):
        features = foreground.features(batch)
    # The two heads decide by small differences: they stay in float32.
    features = features.float()
    return foreground.logits(features).cpu().numpy(), cell.scalar(features).cpu().numpy()
