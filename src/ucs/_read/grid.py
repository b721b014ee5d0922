"""The raster of a sample and its transformations to coordinate systems.

A :class:`Grid` is defined in the *intrinsic* coordinates of the points. Pixel ``(i, j)`` (row, column) covers
``[x0 + j*r, x0 + (j+1)*r) x [y0 + i*r, y0 + (i+1)*r)``, ``r`` being :attr:`Grid.step`: transcripts are binned with
``floor``, pixel centres lie at ``+0.5`` (SpatialData's convention). ``x0`` and ``y0`` are whole multiples of ``r``, so
that two runs over different parts of one data set bin alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._kernels.binning import BORDER_TOLERANCE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from spatialdata.transformations import BaseTransformation


@dataclass(frozen=True)
class Grid:
    """A raster in the intrinsic coordinates of the points.

    Attributes
    ----------
    column0, row0
        Index of the first column and row, in pixels from the intrinsic origin (may be negative):
        ``x0 = column0 * step``, ``y0 = row0 * step``.
    shape
        ``(height, width)`` in pixels.
    step
        Side of a pixel in intrinsic units.
    um_per_unit
        Length of one intrinsic unit in um (1 for points in um).
    """

    column0: int
    row0: int
    shape: tuple[int, int]
    step: float
    um_per_unit: float = 1.0

    @property
    def um_per_px(self) -> float:
        """Side of a pixel in um."""
        return self.step * self.um_per_unit

    @property
    def origin(self) -> tuple[float, float]:
        """Intrinsic ``(x0, y0)`` of the outer corner of pixel ``(0, 0)``."""
        return self.column0 * self.step, self.row0 * self.step

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def px_to_intrinsic(self) -> NDArray[np.float64]:
        """The ``(3, 3)`` matrix from ``(column, row, 1)`` (corners at whole numbers) to intrinsic ``(x, y, 1)``."""
        x0, y0 = self.origin
        return np.array([[self.step, 0.0, x0], [0.0, self.step, y0], [0.0, 0.0, 1.0]])

    def rows_columns(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return row and column of each intrinsic position, ``(n,)`` each; positions outside exceed the shape."""
        return pixel_index(y, self.step) - self.row0, pixel_index(x, self.step) - self.column0

    def transformations(
        self, points_transformations: dict[str, Any], to_points: NDArray[np.floating] | None = None
    ) -> dict[str, BaseTransformation]:
        """Return the transformations of the grid to the coordinate systems of the points.

        Parameters
        ----------
        points_transformations
            Coordinate system -> transformation, as ``get_transformation(points, get_all=True)`` returns it.
        to_points
            ``(3, 3)`` matrix from the coordinates of the grid to those of the points, if they differ.
        """
        from spatialdata.transformations import Affine, Sequence

        axes = {"input_axes": ("x", "y"), "output_axes": ("x", "y")}
        matrix = self.px_to_intrinsic if to_points is None else to_points @ self.px_to_intrinsic
        to_intrinsic = Affine(matrix, **axes)
        return {
            name: Sequence([to_intrinsic, transformation])
            for name, transformation in planar(points_transformations).items()
        }


@dataclass(frozen=True)
class PixelBox:
    """Rows ``row0`` to ``row1`` and columns ``column0`` to ``column1`` of pixels of side ``step``, the last included.

    They are counted from the origin of the frame, so that the box is just the grid of the transcripts in it.
    """

    row0: int
    row1: int
    column0: int
    column1: int
    step: float

    def holds(self, x: NDArray, y: NDArray) -> NDArray[np.bool_]:
        """Return which positions lie in it, ``(n,)``."""
        row, column = pixel_index(y, self.step), pixel_index(x, self.step)
        return (self.row0 <= row) & (row <= self.row1) & (self.column0 <= column) & (column <= self.column1)


def planar(transformations: dict[str, Any]) -> dict[str, BaseTransformation]:
    """Return transformations reduced to the axes x and y, for elements without z."""
    from spatialdata.transformations import Affine

    axes = {"input_axes": ("x", "y"), "output_axes": ("x", "y")}
    return {name: Affine(t.to_affine_matrix(**axes), **axes) for name, t in transformations.items()}


def pixel_index(position: ArrayLike, step: float) -> NDArray[np.int64]:
    """Return ``floor(position / step)``, the pixel of a position counted from the intrinsic origin.

    Rounding does not move positions to another pixel: those of single precision are widened before the division, and a
    position on the border of two pixels lies in the later one, also if the quotient comes out a little below it.
    """
    return np.floor(np.asarray(position, dtype=np.float64) / step + BORDER_TOLERANCE).astype(np.int64)
