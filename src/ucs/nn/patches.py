"""Patches for training: drawn from the grid by seed, so that tiling has no say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ucs._core.lattice import bounding_boxes
from ucs._core.transcripts import TranscriptMap, Window
from ucs.nn.foreground import HALO, PixelTranscripts

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED = -1
"""Label of pixels that are left out of the loss."""


@dataclass(frozen=True)
class TrainingData:
    """What the nets learn from, on one raster of shape ``(h, w)``.

    Attributes
    ----------
    transcripts
        Transcripts of the genes that the nets see.
    nuclei
        ``(h, w)`` int32 ids 1..n.
    far
        ``(h, w)`` bool, pixels far enough from every nucleus to be background (paper, equation 7).
    """

    transcripts: TranscriptMap
    nuclei: NDArray[np.int32]
    far: NDArray[np.bool_]

    def mean_far_count(self) -> float:
        """Return the mean count of the far pixels: those below it are background (paper, equation 8)."""
        n_far, total = 0, 0
        for row0 in range(0, self.far.shape[0], 1024):
            window = Window(row0, 0, row0 + 1024, self.far.shape[1]).clipped(self.far.shape)
            far = self.far[window.slices]
            n_far += int(far.sum())
            total += int(self.transcripts.totals(window)[far].sum())
        return total / n_far if n_far else 0.0


class PatchSource:
    """Draws windows around nuclei and reads their transcripts and labels.

    Parameters
    ----------
    data
        What to learn from.
    size
        Side of a window in pixels.
    held_out
        Share of the lattice squares (side ``size``) with nuclei that are kept for the held-out loss.
    seed
        Of the draws.
    """

    def __init__(self, data: TrainingData, *, size: int, held_out: float, seed: int) -> None:
        self.data = data
        self.size = size
        self.random = np.random.default_rng(seed)
        self.mean_far_count = data.mean_far_count()
        self.boxes = bounding_boxes(data.nuclei, int(data.nuclei.max(initial=0)))
        self.present = np.flatnonzero(self.boxes[:, 2])
        self.held_out = self._choose_held_out(held_out)

    def _choose_held_out(self, share: float) -> NDArray[np.int64]:
        """Choose lattice squares, as sorted ``row * n_columns + column``; none if there are fewer than four."""
        centre = (self.boxes[self.present, :2] + self.boxes[self.present, 2:]) // 2 // self.size
        squares = np.unique(centre[:, 0] * self._lattice_columns + centre[:, 1])
        n = max(1, round(share * len(squares))) if len(squares) >= 4 and share > 0 else 0
        return np.sort(self.random.permutation(squares)[:n])

    @property
    def _lattice_columns(self) -> int:
        return -(-self.data.nuclei.shape[1] // self.size)

    def held_out_windows(self, n: int) -> list[Window]:
        """Return at most ``n`` held-out squares."""
        chosen = self.held_out
        if len(chosen) > n:
            chosen = np.sort(self.random.permutation(chosen)[:n])
        rows, columns = np.divmod(chosen, self._lattice_columns)
        return [
            Window(int(r) * self.size, int(c) * self.size, int(r + 1) * self.size, int(c + 1) * self.size)
            for r, c in zip(rows, columns, strict=True)
        ]

    def draw(self, n: int) -> list[Window]:
        """Draw ``n`` windows, each with a nucleus chosen at random somewhere in it."""
        nuclei = self.random.choice(self.present, size=n)
        shift = self.random.integers(0, self.size, size=(n, 2))
        centre = (self.boxes[nuclei, :2] + self.boxes[nuclei, 2:]) // 2
        corner = centre - shift
        return [Window(int(r), int(c), int(r) + self.size, int(c) + self.size) for r, c in corner]

    def transcripts(self, windows: list[Window]) -> PixelTranscripts:
        """Read the transcripts of windows grown by the nets' halo."""
        return read_transcripts(self.data.transcripts, [window.grown(HALO) for window in windows])

    def labels(self, windows: list[Window], *, training: bool) -> torch.Tensor:
        """Return 1 for nucleus pixels, 0 for background, ``IGNORED`` elsewhere, ``(B, size, size)`` int8.

        In training, the held-out squares are ignored; pixels beyond the raster always are.
        """
        out = np.full((len(windows), self.size, self.size), IGNORED, dtype=np.int8)
        for label, window in zip(out, windows, strict=True):
            totals = self.data.transcripts.totals(window)
            # Where the far pixels are empty altogether none lies below their mean, but they are background all the
            # same.
            few = (totals < self.mean_far_count) | (totals == 0)
            label[window.read(self.data.far) & few] = 0
            label[window.read(self.data.nuclei) > 0] = 1
            if training:
                label[self.is_held_out(window)] = IGNORED
        return torch.from_numpy(out)

    def is_held_out(self, window: Window) -> NDArray[np.bool_]:
        """Tell which pixels of a window lie in held-out squares (true for some beyond the raster, too)."""
        rows = np.arange(window.row0, window.row1) // self.size
        columns = np.arange(window.column0, window.column1) // self.size
        return np.isin(rows[:, None] * self._lattice_columns + columns[None, :], self.held_out)


def read_transcripts(transcripts: TranscriptMap, windows: list[Window]) -> PixelTranscripts:
    """Read equal windows of a map as one batch."""
    parts = [transcripts.window(window) for window in windows]
    starts, offset = [np.zeros(1, dtype=np.int64)], 0
    for start, _, _ in parts:
        starts.append(start[1:] + offset)
        offset += int(start[-1])
    return PixelTranscripts(
        torch.from_numpy(np.concatenate(starts)),
        torch.from_numpy(np.concatenate([gene for _, gene, _ in parts])),
        torch.from_numpy(np.concatenate([count for _, _, count in parts])),
        (len(windows), *windows[0].shape),
    )
