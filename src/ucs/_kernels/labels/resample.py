"""Nearest-neighbour sampling of labels through an affine.

Pixel (i, j) covers [j, j + 1) x [i, i + 1) in (x, y), its centre lies at (j + 0.5, i + 0.5), in source and destination
alike. A destination pixel takes the label of the source pixel in which its centre falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.binning import BORDER_TOLERANCE
from ucs._utils.parallel import in_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["sample_labels", "source_window"]

# Sampling fewer pixels takes some milliseconds, too few for threads to pay off.
_PIXELS_FOR_THREADS = 2_000_000


def sample_labels(
    source: NDArray,
    matrix: ArrayLike,
    shape: tuple[int, int],
    *,
    row0: int = 0,
    col0: int = 0,
    source_origin: tuple[int, int] = (0, 0),
) -> NDArray:
    """Return the source labels at the pixel centres of a destination window.

    The result for a pixel depends on the pixel and the matrix alone, so windows of any size and sources read in any
    pieces give the same labels.

    Parameters
    ----------
    source
        Labels, shape (rows, columns), any dtype.
    matrix
        Shape (3, 3): maps destination pixel coordinates (x, y, 1) to source pixel coordinates.
    shape
        (rows, columns) of the destination window.
    row0, col0
        First row and column of the window in the destination raster.
    source_origin
        Row and column, in the whole source, of ``source[0, 0]``, if that is a part of it (see :func:`source_window`).

    Returns
    -------
    Labels of the given shape and the source's dtype; 0 where a centre falls outside the source.

    Raises
    ------
    ValueError
        If the source is not two-dimensional or the matrix is no invertible affine.
    """
    if source.ndim != 2:
        raise ValueError(f"source must have two dimensions (rows, columns), not the shape {source.shape}.")
    affine = _checked_affine(matrix)
    sampled = np.zeros(shape, dtype=source.dtype)
    if source.size == 0 or sampled.size == 0:
        return sampled
    source_row0, source_col0 = source_origin
    arguments = source, affine, row0, col0, source_row0, source_col0, sampled
    if sampled.size < _PIXELS_FOR_THREADS:
        _sample(0, len(sampled), *arguments)
    else:
        in_threads(_sample, len(sampled), *arguments)
    return sampled


def source_window(
    matrix: ArrayLike, destination_window: tuple[int, int, int, int], source_shape: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the part of the source that :func:`sample_labels` looks at for a window of the destination.

    Parameters
    ----------
    matrix
        Shape (3, 3): maps destination pixel coordinates (x, y, 1) to source pixel coordinates.
    destination_window
        (row0, column0, row1, column1), ends excluded.
    source_shape
        (rows, columns) of the source.

    Returns
    -------
    (row0, column0, row1, column1) in the source, ends excluded; (0, 0, 0, 0) if the window does not meet the source.

    Raises
    ------
    ValueError
        If the matrix is no invertible affine.
    """
    affine = _checked_affine(matrix)
    row0, column0, row1, column1 = destination_window
    if row1 <= row0 or column1 <= column0:
        return 0, 0, 0, 0
    # Rounding keeps the order of sums and products, so no centre falls outside the corners' range by even one bit.
    corners = [(i, j) for i in (row0, row1 - 1) for j in (column0, column1 - 1)]
    positions = np.array([_source_position(affine, i, j) for i, j in corners])
    # Clipped before the cast: positions may exceed any integer.
    first = np.maximum(positions.min(axis=0), 0)
    stop = np.minimum(positions.max(axis=0) + 1, np.asarray(source_shape, dtype=float))
    if (first >= stop).any():
        return 0, 0, 0, 0
    return int(first[0]), int(first[1]), int(stop[0]), int(stop[1])


def _checked_affine(matrix: ArrayLike) -> NDArray:
    """Return the upper two rows of the matrix as float64, or raise."""
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not np.array_equal(matrix[2], (0, 0, 1)):
        raise ValueError(
            f"matrix must be a finite 3 x 3 affine with the last row (0, 0, 1), but is {matrix.tolist()}; "
            "leave out other axes (z, c) first."
        )
    if matrix[0, 0] * matrix[1, 1] == matrix[0, 1] * matrix[1, 0]:
        raise ValueError(f"matrix maps the raster onto a line or a point (its determinant is 0): {matrix.tolist()}.")
    return np.ascontiguousarray(matrix[:2])


@njit(cache=True, nogil=True)
def _source_position(affine: NDArray, row: int, column: int) -> tuple[float, float]:
    """Return the source row and column, as whole floats, in which the centre of a destination pixel falls."""
    x, y = column + 0.5, row + 0.5
    source_x = affine[0, 0] * x + affine[0, 1] * y + affine[0, 2]
    source_y = affine[1, 0] * x + affine[1, 1] * y + affine[1, 2]
    return np.floor(source_y + BORDER_TOLERANCE), np.floor(source_x + BORDER_TOLERANCE)


@njit(cache=True, nogil=True)
def _sample(
    first: int,
    stop: int,
    source: NDArray,
    affine: NDArray,
    row0: int,
    col0: int,
    source_row0: int,
    source_col0: int,
    sampled: NDArray,
) -> None:
    """Fill in rows of `sampled`, of which [0, 0] is the destination pixel (row0, col0)."""
    for i in range(first, stop):
        for j in range(sampled.shape[1]):
            row, column = _source_position(affine, row0 + i, col0 + j)
            row -= source_row0
            column -= source_col0
            if 0 <= row < source.shape[0] and 0 <= column < source.shape[1]:
                sampled[i, j] = source[int(row), int(column)]
