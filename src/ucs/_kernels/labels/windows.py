"""Rectangles of pixels, and tiles that share out a raster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels ``[row0, row1) x [column0, column1)``, which may extend beyond the raster."""

    row0: int
    column0: int
    row1: int
    column1: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.row1 - self.row0, self.column1 - self.column0

    def grown(self, by: int) -> Window:
        """Return the window with ``by`` pixels more on each side."""
        return Window(self.row0 - by, self.column0 - by, self.row1 + by, self.column1 + by)

    def clipped(self, shape: tuple[int, ...]) -> Window:
        """Return the part inside a raster of ``shape``."""
        row0, column0 = min(max(self.row0, 0), shape[0]), min(max(self.column0, 0), shape[1])
        row1, column1 = max(min(self.row1, shape[0]), row0), max(min(self.column1, shape[1]), column0)
        return Window(row0, column0, row1, column1)

    def meet(self, other: Window) -> Window:
        """Return the intersection with another window; empty if there is none."""
        row0, column0 = max(self.row0, other.row0), max(self.column0, other.column0)
        row1, column1 = max(min(self.row1, other.row1), row0), max(min(self.column1, other.column1), column0)
        return Window(row0, column0, row1, column1)

    def seen_from(self, other: Window) -> Window:
        """Return the same window with rows and columns counted from the corner of another."""
        row0, column0 = other.row0, other.column0
        return Window(self.row0 - row0, self.column0 - column0, self.row1 - row0, self.column1 - column0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in a raster that contains it."""
        return slice(self.row0, self.row1), slice(self.column0, self.column1)

    def read(self, raster: NDArray, fill: float = 0) -> NDArray:
        """Return the window of a raster ``(h, w)``, with ``fill`` outside of it."""
        inside = self.clipped(raster.shape)
        if inside == self:
            return raster[self.slices]
        out = np.full(self.shape, fill, dtype=raster.dtype)
        rows = slice(inside.row0 - self.row0, inside.row1 - self.row0)
        columns = slice(inside.column0 - self.column0, inside.column1 - self.column0)
        out[rows, columns] = raster[inside.slices]
        return out


def smallest_window(windows: Sequence[Window]) -> Window:
    """Return the smallest window that holds others."""
    return Window(
        min(window.row0 for window in windows),
        min(window.column0 for window in windows),
        max(window.row1 for window in windows),
        max(window.column1 for window in windows),
    )


def tiles(shape: tuple[int, int], side: int) -> list[Window]:
    """Return tiles that share out the pixels of a raster, in raster order; those at the far edges may be smaller."""
    h, w = shape
    return [
        Window(row0, column0, min(row0 + side, h), min(column0 + side, w))
        for row0 in range(0, h, side)
        for column0 in range(0, w, side)
    ]
