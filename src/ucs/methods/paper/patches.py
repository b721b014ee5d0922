"""Patches for training: drawn from the grid by seed, so that tiling has no say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.paper.foreground import PixelTranscripts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ucs.methods.paper.marks import Marks

IGNORED = -1
"""Label of pixels that are left out of the loss."""

MOST_HELD_OUT = 12
"""Squares of a sample that are held out at most: looking at more takes time from the training."""

_TISSUE = 0.1  # of the transcripts of a square with nuclei: sections lie on glass, where debris is sparser than that


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


@dataclass(frozen=True)
class Patch:
    """A window of one of several samples."""

    sample: int
    window: Window


@dataclass(frozen=True)
class Squares:
    """What the squares of a lattice hold, which begins at the raster's first pixel: ``(rows, columns)`` each.

    Attributes
    ----------
    pixels, nucleus, far
        Number of pixels on the raster, in nuclei, and far enough from nuclei to be background.
    transcripts, far_transcripts
        Number of transcripts, and of those on far pixels.
    """

    pixels: NDArray[np.int64]
    nucleus: NDArray[np.int64]
    far: NDArray[np.int64]
    transcripts: NDArray[np.int64]
    far_transcripts: NDArray[np.int64]

    @classmethod
    def of(cls, data: TrainingData, size: int) -> Squares:
        """Count them, in strips: whole slides have many pixels."""
        h, w = data.nuclei.shape
        rows = []
        for row0 in range(0, h, size):
            window = Window(row0, 0, min(row0 + size, h), w)
            totals, far = data.transcripts.totals(window), data.far[window.slices]
            values = [np.ones_like(far), data.nuclei[window.slices] > 0, far, totals, totals * far]
            first = np.arange(0, w, size)
            rows.append([np.add.reduceat(value.sum(axis=0, dtype=np.int64), first) for value in values])
        return cls(*np.array(rows).swapaxes(0, 1))

    @property
    def mean_far_count(self) -> float:
        """The mean count of all far pixels: those below it are background (paper, equation 8)."""
        return float(self.far_transcripts.sum() / max(self.far.sum(), 1))

    def to_learn_from(self) -> NDArray[np.bool_]:
        """Tell which squares lie in the tissue and have labels.

        Squares with nuclei do, and those with far pixels and a tenth of the transcripts, per pixel, of the median
        square with nuclei. Glass around the tissue is left out: it would teach nothing, and be most of some slides.
        """
        has_nucleus = self.nucleus > 0
        density = self.transcripts / self.pixels
        least = _TISSUE * np.median(density[has_nucleus]) if has_nucleus.any() else 0.0
        return has_nucleus | ((self.far > 0) & (density >= least))


class SamplePatches:
    """The windows of one sample and what they are labelled with.

    Parameters
    ----------
    data
        What to learn from.
    size
        Side of a window in pixels.
    held_out
        Share of the lattice squares (side ``size``) of the tissue that are kept for the held-out loss.
    random
        Draws them.
    """

    def __init__(self, data: TrainingData, *, size: int, held_out: float, random: np.random.Generator) -> None:
        self.data = data
        self.size = size
        self.squares = Squares.of(data, size)
        self.mean_far_count = self.squares.mean_far_count
        self.boxes = bounding_boxes(data.nuclei, int(data.nuclei.max(initial=0)))
        self.learned = np.flatnonzero(self.squares.to_learn_from())
        self.held_out = self._choose_held_out(held_out, random)
        self.learned = np.setdiff1d(self.learned, self.held_out)

    def _choose_held_out(self, share: float, random: np.random.Generator) -> NDArray[np.int64]:
        """Choose squares, as ``row * n_columns + column``; none if fewer than four have nuclei.

        They are squares with nuclei and background, as far as there are any, and else as many with either: a held-out
        loss of one class alone falls as the net forgets the other.
        """
        has_nucleus, has_far = self.squares.nucleus.ravel() > 0, self.squares.far.ravel() > 0
        n_with_nuclei = int(has_nucleus.sum())
        if n_with_nuclei < 4 or share == 0:
            return np.zeros(0, dtype=np.int64)
        # Half of the nuclei at least are left to learn from.
        n = min(max(1, round(share * len(self.learned))), n_with_nuclei // 2, MOST_HELD_OUT)
        order = random.permutation(self.learned)
        mixed: list[int] = []
        for square in order[(has_nucleus & has_far)[order]]:
            if len(mixed) < n and (self.labels(self.window(square), training=False) == 0).any():
                mixed.append(square)
        if not mixed:
            n = max(n, 2)  # one of each class
        n_each = (n - len(mixed) + 1) // 2
        single = [order[mask[order]][:n_each] for mask in (has_nucleus & ~has_far, has_far & ~has_nucleus)]
        return np.concatenate([mixed, *single])[:n].astype(np.int64)

    @property
    def _lattice_columns(self) -> int:
        return self.squares.pixels.shape[1]

    def held_out_windows(self, n: int) -> list[Window]:
        """Return at most ``n`` held-out squares."""
        return [self.window(square) for square in self.held_out[:n]]

    def window(self, square: int) -> Window:
        """Return a square; the last ones of a row or column may reach beyond the raster."""
        row, column = divmod(int(square), self._lattice_columns)
        return self._window(row * self.size, column * self.size)

    def about(self, square: int, shift: NDArray[np.int64]) -> Window:
        """Return the window ``shift`` pixels below and right of a square, moved onto the raster where that has room."""
        room = np.maximum(np.array(self.data.nuclei.shape) - self.size, 0)
        row, column = divmod(int(square), self._lattice_columns)
        return self._window(*np.clip(np.array([row, column]) * self.size + shift, 0, room))

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
    """Draws patches from the tissue of all samples, in proportion to its area, and reads what is in them.

    Parameters
    ----------
    data
        The samples, with the same genes.
    size
        Side of a patch in pixels.
    halo
        Pixels around a patch that the nets see, on each side.
    held_out
        Share of the lattice squares (side ``size``) of the tissue that are kept for the held-out loss, of each sample.
    seed
        Of the draws.
    """

    def __init__(self, data: Sequence[TrainingData], *, size: int, halo: int, held_out: float, seed: int) -> None:
        self.size = size
        self.halo = halo
        self.random = np.random.default_rng(seed)
        self.samples = [SamplePatches(one, size=size, held_out=held_out, random=self.random) for one in data]
        self._sample = np.repeat(np.arange(len(self.samples)), [len(sample.learned) for sample in self.samples])
        self._square = np.concatenate([sample.learned for sample in self.samples])
        self._pixels, self._has_nucleus = (
            np.concatenate([values(sample.squares).ravel()[sample.learned] for sample in self.samples])
            for values in (lambda squares: squares.pixels, lambda squares: squares.nucleus > 0)
        )

    def __len__(self) -> int:
        """Number of patches that cover the tissue, but for what is held out."""
        return len(self._square)

    def held_out_patches(self, n: int) -> list[Patch]:
        """Return about ``n`` held-out squares, as many of each sample and at least one (of those that have any)."""
        of_each = -(-n // len(self.samples))
        return [
            Patch(k, window) for k, sample in enumerate(self.samples) for window in sample.held_out_windows(of_each)
        ]

    def draw(self, n: int, *, with_nuclei: bool = False) -> list[Patch]:
        """Draw ``n`` patches, each about a square of the tissue, or else of those with nuclei, by the squares' area."""
        weight = self._pixels * self._has_nucleus if with_nuclei else self._pixels
        chosen = self.random.choice(len(self), size=n, p=weight / weight.sum())
        shifts = self.random.integers(-(self.size // 2), self.size - self.size // 2, size=(n, 2))
        return [
            Patch(int(self._sample[k]), self.samples[self._sample[k]].about(self._square[k], shift))
            for k, shift in zip(chosen, shifts, strict=True)
        ]

    def transcripts(self, patches: list[Patch]) -> PixelTranscripts:
        """Read the transcripts of patches grown by the nets' halo."""
        windows = [patch.window.grown(self.halo) for patch in patches]
        return join_windows(
            [self.samples[patch.sample].data.transcripts.window(w) for patch, w in zip(patches, windows, strict=True)],
            windows[0].shape,
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
