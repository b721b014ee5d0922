"""Cells against cells: which predicted cell is which true cell, and how many are found.

All that is needed of two label images is their contingency table: how many pixels carry each pair of ids. It is built
from runs of equal pairs along the rows rather than from pixels, of which there are some ten times fewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray


class Contingency(NamedTuple):
    """Sizes of two labellings of the same elements and of their overlaps, background (id 0) left out.

    Attributes
    ----------
    true_ids, predicted_ids
        The ids found, ascending, shapes ``(n_true,)`` and ``(n_predicted,)``.
    true_sizes, predicted_sizes
        Number of elements of each id, whatever the other labelling says of them.
    overlap
        Sparse matrix ``(n_true, n_predicted)``: number of elements that carry both ids.
    """

    true_ids: NDArray[np.integer]
    predicted_ids: NDArray[np.integer]
    true_sizes: NDArray[np.int64]
    predicted_sizes: NDArray[np.int64]
    overlap: sparse.csr_array


def contingency(true: NDArray[np.integer], predicted: NDArray[np.integer]) -> Contingency:
    """Count how often each true id meets each predicted id.

    Parameters
    ----------
    true, predicted
        Ids of the same elements, of equal shape; 0 = background. Any integer type, so that ids may exceed 2^31.
    """
    true, predicted = true.ravel(), predicted.ravel()
    starts = np.ones(true.size, dtype=bool)
    starts[1:] = (true[1:] != true[:-1]) | (predicted[1:] != predicted[:-1])
    start = np.flatnonzero(starts)
    length = np.diff(start, append=true.size)
    true_ids, row = np.unique(true[start], return_inverse=True)
    predicted_ids, column = np.unique(predicted[start], return_inverse=True)
    table = sparse.coo_array((length, (row, column)), shape=(true_ids.size, predicted_ids.size)).tocsr()
    keep_true, keep_predicted = true_ids != 0, predicted_ids != 0
    return Contingency(
        true_ids[keep_true],
        predicted_ids[keep_predicted],
        np.asarray(table.sum(axis=1), dtype=np.int64)[keep_true],
        np.asarray(table.sum(axis=0), dtype=np.int64)[keep_predicted],
        table[keep_true][:, keep_predicted],
    )


def match(truth: ArrayLike, predicted: ArrayLike, *, thresholds: Iterable[float] = (0.5, 0.7)) -> pd.DataFrame:
    """Score predicted cells against true cells at one or several thresholds of the intersection over union (IoU).

    A predicted and a true cell match where their IoU is at least the threshold and above 0.5. Above 0.5 a cell can have
    one partner only (two would each hold more than half of it), so no assignment problem has to be solved.

    Parameters
    ----------
    truth, predicted
        Label images of equal shape, integers, 0 = background. The ids of the two need not be related, need not be
        dense and may exceed 2^31.
    thresholds
        IoU thresholds in ``[0.5, 1]``.

    Returns
    -------
    One row per threshold (the index, named ``iou_threshold``, in the order given) with the columns

    - ``f1``: ``2 n_matched / (n_true + n_predicted)``,
    - ``precision``: ``n_matched / n_predicted``; ``recall``: ``n_matched / n_true``,
    - ``mean_iou``: mean IoU of the matched pairs,
    - ``pq``: panoptic quality, ``mean_iou * f1``,
    - ``n_matched``, ``n_true``, ``n_predicted``.

    A ratio without a denominator (no cells, no matches) is NaN, except that ``pq`` is 0 where nothing matches.

    Raises
    ------
    ValueError
        Shapes differ, labels are not integers or are negative, or a threshold lies outside ``[0.5, 1]``.

    References
    ----------
    Panoptic quality: Kirillov et al., "Panoptic Segmentation", CVPR 2019, arXiv:1801.00868.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1, 1, 0, 2, 2, 2]])
    >>> predicted = np.array([[7, 7, 0, 9, 9, 0]])
    >>> scores = match(truth, predicted, thresholds=[0.5, 0.7])
    >>> scores["f1"].tolist(), scores["mean_iou"].round(3).tolist()
    ([1.0, 0.5], [0.833, 1.0])
    """
    levels = _checked_thresholds(thresholds)
    truth, predicted = checked_ids(truth, "truth"), checked_ids(predicted, "predicted")
    if truth.shape != predicted.shape:
        raise ValueError(
            f"truth has shape {truth.shape} and predicted {predicted.shape}: both must be sampled on the same raster."
        )
    counts = contingency(truth, predicted)
    pairs = counts.overlap.tocoo()
    union = counts.true_sizes[pairs.row] + counts.predicted_sizes[pairs.col] - pairs.data
    iou = (pairs.data / union)[2 * pairs.data > union]  # whole numbers: exactly 0.5 never slips through by rounding
    n_true, n_predicted = counts.true_ids.size, counts.predicted_ids.size
    rows = [_scores(iou[iou >= level], n_true, n_predicted) for level in levels]
    return pd.DataFrame(rows, index=pd.Index(levels, name="iou_threshold", dtype=float))


def checked_ids(ids: ArrayLike, name: str) -> NDArray[np.integer]:
    """Return ``ids`` as an array, having checked that they are whole and not negative."""
    array = np.asarray(ids)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {array.dtype} values: ids must be integers, 0 = background.")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        raise ValueError(f"{name} holds the negative id {array.min()}: ids must be positive, 0 = background.")
    return array


def _checked_thresholds(thresholds: Iterable[float]) -> list[float]:
    levels = [float(level) for level in thresholds]
    bad = [level for level in levels if not 0.5 <= level <= 1]
    if bad or not levels:
        raise ValueError(
            f"thresholds {bad or levels} given: each must lie in [0.5, 1], and one is needed at least. "
            "Below 0.5 a cell may overlap several others enough to match, and a match would not be unique."
        )
    return levels


def _scores(iou: NDArray[np.float64], n_true: int, n_predicted: int) -> dict[str, float]:
    n_matched = iou.size
    f1 = _ratio(2 * n_matched, n_true + n_predicted)
    mean_iou = _ratio(float(iou.sum()), n_matched)
    return {
        "f1": f1,
        "precision": _ratio(n_matched, n_predicted),
        "recall": _ratio(n_matched, n_true),
        "mean_iou": mean_iou,
        "pq": mean_iou * f1 if n_matched else 0.0 * f1,
        "n_matched": n_matched,
        "n_true": n_true,
        "n_predicted": n_predicted,
    }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
