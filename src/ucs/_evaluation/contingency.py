"""Contingency tables: how often the ids of two labellings of the same elements meet.

They are built from runs of equal pairs, of which a raster of cells has some ten times fewer than elements, and piece by
piece, so that the memory they need beside the labels does not grow with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from ucs._evaluation.arguments import check_not_negative

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_PIECE = 2**24  # elements at once, so that temporary arrays are small beside the labels of a slide


class Contingency(NamedTuple):
    """Sizes of two labellings of the same elements and of their overlaps, background (id 0) left out.

    Attributes
    ----------
    true_ids, predicted_ids
        Ids that occur, ascending, ``(n_true,)`` and ``(n_predicted,)``.
    true_sizes, predicted_sizes
        Number of elements of each id, background of the other labelling included.
    overlap
        Sparse matrix ``(n_true, n_predicted)``: number of elements that carry both ids.
    """

    true_ids: NDArray[np.integer]
    predicted_ids: NDArray[np.integer]
    true_sizes: NDArray[np.int64]
    predicted_sizes: NDArray[np.int64]
    overlap: sparse.csr_array


def contingency(true: Any, predicted: Any) -> Contingency:
    """Count how often each true id meets each predicted id.

    Parameters
    ----------
    true, predicted
        Ids of the same elements, of equal shape, of any integer type; 0 = background. NumPy or Dask arrays; of the
        latter some rows are computed at a time.
    """
    parts = [_sum_equal(*_runs(*piece)) for piece in _pieces(true, predicted)]
    first, second, count = (np.concatenate(column) for column in zip(*parts, strict=True))
    first, second, count = _sum_equal(first, second, count)
    true_ids, row = np.unique(first, return_inverse=True)
    predicted_ids, column = np.unique(second, return_inverse=True)
    table = sparse.coo_array((count, (row, column)), shape=(true_ids.size, predicted_ids.size)).tocsr()
    keep_true, keep_predicted = true_ids != 0, predicted_ids != 0
    return Contingency(
        true_ids[keep_true],
        predicted_ids[keep_predicted],
        np.asarray(table.sum(axis=1), dtype=np.int64)[keep_true],
        np.asarray(table.sum(axis=0), dtype=np.int64)[keep_predicted],
        table[keep_true][:, keep_predicted],
    )


def _pieces(true: Any, predicted: Any) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield both arrays, flattened, some rows at a time; at least one piece, which may be empty."""
    rows = len(true) if true.ndim else 1
    at_once = max(1, _PIECE * rows // max(true.size, 1))
    for first in range(0, max(rows, 1), at_once):
        pair = [np.asarray(array[first : first + at_once] if array.ndim else array) for array in (true, predicted)]
        for array, name in zip(pair, ("truth", "predicted"), strict=True):
            check_not_negative(array, name)  # a Dask array has not been checked before
        yield pair[0].ravel(), pair[1].ravel()


def _runs(true: NDArray, predicted: NDArray) -> tuple[NDArray, NDArray, NDArray[np.int64]]:
    """Return the pair of ids of each run of equal pairs, and how long it is."""
    starts = np.ones(true.size, dtype=bool)
    starts[1:] = (true[1:] != true[:-1]) | (predicted[1:] != predicted[:-1])
    start = np.flatnonzero(starts)
    return true[start], predicted[start], np.diff(start, append=true.size)


def _sum_equal(first: NDArray, second: NDArray, count: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray[np.int64]]:
    """Sum the counts of equal pairs."""
    first_ids, row = np.unique(first, return_inverse=True)
    second_ids, column = np.unique(second, return_inverse=True)
    shape = (max(first_ids.size, 1), max(second_ids.size, 1))
    summed = sparse.coo_array((count, (row, column)), shape=shape).tocsr().tocoo()
    return first_ids[summed.row], second_ids[summed.col], summed.data.astype(np.int64)


def ratio(numerator: float, denominator: float) -> float:
    """Return the quotient, NaN if the denominator is 0."""
    return numerator / denominator if denominator else float("nan")
