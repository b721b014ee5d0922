"""Patches for training: drawn from the grid by seed, so that tiling has no say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.paper.foreground import HALO, PixelTranscripts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ucs.methods.paper.marks import Marks

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
    marks
        Markers and types of the nuclei, if the Cell Predict Net is to see them.
    """

    transcripts: TranscriptMap
    nuclei: NDArray[np.int32]
    far: NDArray[np.bool_]
    marks: Marks | None = None

    def mean_far_count(self) -> float:
        """Return the mean count of the far pixels: those below it are background (paper, equation 8)."""
        n_far, total = 0, 0
        for row0 in range(0, self.far.shape[0], 1024):
            window = Window(row0, 0, row0 + 1024, self.far.shape[1]).clipped(self.far.shape)
            far = self.far[window.slices]
            n_far += int(far.sum())
            total += int(self.transcripts.totals(window)[far].sum())
        return total / n_far if n_far else 0.0


@dataclass(frozen=True)
class Patch:
    """A window of one of several samples."""

    sample: int
    window: Window


class SamplePatches:
    """The windows of one sample and what they are labelled with.

    Parameters
    ----------
    data
        What to learn from.
    size
        Side of a window in pixels.
    held_out
        Share of the lattice squares (side ``size``) with nuclei that are kept for the held-out loss.
    random
        Draws them.
    """

    def __init__(self, data: TrainingData, *, size: int, held_out: float, random: np.random.Generator) -> None:
        self.data = data
        self.size = size
        self.mean_far_count = data.mean_far_count()
        self.boxes = bounding_boxes(data.nuclei, int(data.nuclei.max(initial=0)))
        present = self.boxes[self.boxes[:, 2] > 0]
        self.centre = (present[:, :2] + present[:, 2:]) // 2
        self.held_out = self._choose_held_out(held_out, random)

    def _choose_held_out(self, share: float, random: np.random.Generator) -> NDArray[np.int64]:
        """Choose lattice squares, as sorted ``row * n_columns + column``; none if there are fewer than four."""
        square = self.centre // self.size
        squares = np.unique(square[:, 0] * self._lattice_columns + square[:, 1])
        n = max(1, round(share * len(squares))) if len(squares) >= 4 and share > 0 else 0
        return np.sort(random.permutation(squares)[:n])

    @property
    def _lattice_columns(self) -> int:
        return -(-self.data.nuclei.shape[1] // self.size)

    def held_out_windows(self, n: int, random: np.random.Generator) -> list[Window]:
        """Return at most ``n`` held-out squares."""
        chosen = self.held_out
        if len(chosen) > n:
            chosen = np.sort(random.permutation(chosen)[:n])
        rows, columns = np.divmod(chosen, self._lattice_columns)
        return [self._window(r, c) for r, c in zip(rows * self.size, columns * self.size, strict=True)]

    def around(self, nucleus: int, shift: NDArray[np.int64]) -> Window:
        """Return the window that lies ``shift`` pixels above and left of the middle of the k-th nucleus."""
        row, column = self.centre[nucleus] - shift
        return self._window(row, column)

    def _window(self, row: int, column: int) -> Window:
        return Window(int(row), int(column), int(row) + self.size, int(column) + self.size)

    def labels(self, window: Window, *, training: bool) -> NDArray[np.int8]:
        """Return 1 for nucleus pixels, 0 for background, ``IGNORED`` elsewhere, ``(size, size)``.

        In training, the held-out squares are ignored; pixels beyond the raster always are.
        """
        label = np.full(window.shape, IGNORED, dtype=np.int8)
        totals = self.data.transcripts.totals(window)
        # Where the far pixels are empty altogether none lies below their mean, but they are background all the same.
        few = (totals < self.mean_far_count) | (totals == 0)
        label[window.read(self.data.far) & few] = 0
        label[window.read(self.data.nuclei) > 0] = 1
        if training:
            label[self.is_held_out(window)] = IGNORED
        return label

    def is_held_out(self, window: Window) -> NDArray[np.bool_]:
        """Tell which pixels of a window lie in held-out squares (true for some beyond the raster, too)."""
        rows = np.arange(window.row0, window.row1) // self.size
        columns = np.arange(window.column0, window.column1) // self.size
        return np.isin(rows[:, None] * self._lattice_columns + columns[None, :], self.held_out)


class PatchSource:
    """Draws patches around nuclei, across samples in proportion to their nuclei, and reads what is in them.

    Parameters
    ----------
    data
        The samples, with the same genes.
    size
        Side of a patch in pixels.
    held_out
        Share of the lattice squares (side ``size``) with nuclei that are kept for the held-out loss, of each sample.
    seed
        Of the draws.
    """

    def __init__(self, data: Sequence[TrainingData], *, size: int, held_out: float, seed: int) -> None:
        self.size = size
        self.random = np.random.default_rng(seed)
        self.samples = [SamplePatches(one, size=size, held_out=held_out, random=self.random) for one in data]
        self._stop = np.cumsum([len(sample.centre) for sample in self.samples])

    def held_out_patches(self, n: int) -> list[Patch]:
        """Return about ``n`` held-out squares, as many of each sample and at least one (of those that have any)."""
        of_each = -(-n // len(self.samples))
        return [
            Patch(k, window)
            for k, sample in enumerate(self.samples)
            for window in sample.held_out_windows(of_each, self.random)
        ]

    def draw(self, n: int) -> list[Patch]:
        """Draw ``n`` patches, each with a nucleus chosen at random somewhere in it."""
        nuclei = self.random.integers(0, self._stop[-1], size=n)
        shifts = self.random.integers(0, self.size, size=(n, 2))
        of_sample = np.searchsorted(self._stop, nuclei, side="right")
        first = np.concatenate([[0], self._stop])[of_sample]
        return [
            Patch(int(k), self.samples[k].around(nucleus, shift))
            for k, nucleus, shift in zip(of_sample, nuclei - first, shifts, strict=True)
        ]

    def transcripts(self, patches: list[Patch]) -> PixelTranscripts:
        """Read the transcripts of patches grown by the nets' halo."""
        return join_windows(
            [self.samples[patch.sample].data.transcripts.window(patch.window.grown(HALO)) for patch in patches],
            patches[0].window.grown(HALO).shape,
        )

    def labels(self, patches: list[Patch], *, training: bool) -> torch.Tensor:
        """Return the labels of patches, ``(B, size, size)`` int8; see :meth:`SamplePatches.labels`."""
        return torch.from_numpy(
            np.stack([self.samples[patch.sample].labels(patch.window, training=training) for patch in patches])
        )


def read_transcripts(transcripts: TranscriptMap, windows: list[Window]) -> PixelTranscripts:
    """Read equal windows of a map as one batch."""
    return join_windows([transcripts.window(window) for window in windows], windows[0].shape)


def join_windows(
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]], shape: tuple[int, int]
) -> PixelTranscripts:
    """Join windows of one shape, as :meth:`TranscriptMap.window` gives them, into a batch."""
    starts, offset = [np.zeros(1, dtype=np.int64)], 0
    for start, _, _ in parts:
        starts.append(start[1:] + offset)
        offset += int(start[-1])
    return PixelTranscripts(
        torch.from_numpy(np.concatenate(starts)),
        torch.from_numpy(np.concatenate([gene for _, gene, _ in parts])),
        torch.from_numpy(np.concatenate([count for _, _, count in parts])),
        (len(parts), *shape),
    )
