"""The nets over a whole raster, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ucs._core.lattice import boxes_by_block
from ucs._core.transcripts import Window
from ucs.nn.device import autocast
from ucs.nn.foreground import HALO
from ucs.nn.patches import read_transcripts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs._core.transcripts import TranscriptMap
    from ucs.nn.cell import CellNet
    from ucs.nn.foreground import ForegroundNet

BLOCK = 96
"""Side of the blocks that go through the nets, in pixels.

Convolution libraries choose their arithmetic by the shape of their input. All blocks therefore have one shape and
lie on one lattice anchored at the grid's origin, so that a pixel's result depends on nothing but the data."""


@dataclass(frozen=True)
class PixelScores:
    """What the nets say of each pixel of the raster, ``(h, w)`` float32 each.

    Attributes
    ----------
    foreground
        Logit of p_fg (paper, equation 1); ``-inf`` in blocks that no nucleus reaches.
    scalar
        f(p) (paper, equation 4); 0 in blocks that no nucleus reaches.
    """

    foreground: NDArray[np.float32]
    scalar: NDArray[np.float32]


def score_pixels(
    transcripts: TranscriptMap,
    boxes: NDArray[np.int64],
    foreground: ForegroundNet,
    cell: CellNet,
    *,
    reach: int,
    device: torch.device,
    tile_size: int = 1024,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PixelScores:
    """Run both nets on every block that a nucleus reaches.

    Parameters
    ----------
    transcripts
        Transcripts of the genes that the nets see.
    boxes
        ``(n + 1, 4)`` bounding boxes of the nuclei.
    foreground, cell
        The nets, on ``device``.
    reach
        Distance in pixels beyond which nothing is asked.
    device
        Where to compute.
    tile_size
        Side in pixels of what goes through the nets at once. On a CPU the blocks go one by one in any case: there the
        arithmetic may depend on how many there are.
    progress
        Called with ``(blocks done, blocks)``.
    """
    h, w = transcripts.shape
    batch_size = 1 if device.type == "cpu" else max(1, (tile_size // BLOCK) ** 2)
    block_rows, block_columns = -(-h // BLOCK), -(-w // BLOCK)
    start, _ = boxes_by_block(boxes, reach, BLOCK, block_rows, block_columns)
    wanted = np.flatnonzero(np.diff(start))
    logit = np.full((h, w), -np.inf, dtype=np.float32)
    scalar = np.zeros((h, w), dtype=np.float32)
    for first in range(0, len(wanted), batch_size):
        chosen = wanted[first : first + batch_size]
        windows = [_block_window(int(k), block_columns) for k in chosen]
        windows += [windows[-1]] * (batch_size - len(windows))  # the last batch has the shape of the others
        p, f = _score(transcripts, windows, foreground, cell, device)
        for window, block_p, block_f in zip(windows[: len(chosen)], p, f, strict=False):
            inside = window.clipped((h, w))
            a, b = inside.shape
            logit[inside.slices] = block_p[:a, :b]
            scalar[inside.slices] = block_f[:a, :b]
        progress(first + len(chosen), len(wanted))
    return PixelScores(logit, scalar)


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
    batch = read_transcripts(transcripts, [window.grown(HALO) for window in windows]).to(device)
    with autocast(device):
        features = foreground.features(batch)
    # The two heads decide by small differences: they stay in float32.
    features = features.float()
    return foreground.logits(features).cpu().numpy(), cell.scalar(features).cpu().numpy()
