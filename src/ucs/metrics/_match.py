"""Agreement of two segmentations: which predicted cell is which true cell, and scores of the matches."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from ucs._evaluation.arguments import checked_ids, checked_thresholds, rasters_of
from ucs._evaluation.assignment import best_pairs
from ucs._evaluation.contingency import contingency, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue

IOU_THRESHOLDS = tuple(np.arange(50, 100, 5) / 100)
"""0.5, 0.55, ..., 0.95: the thresholds over which the paper and COCO average."""


class _Overlaps(NamedTuple):
    """All pairs of a true and a predicted cell that share a pixel."""

    true_ids: NDArray
    predicted_ids: NDArray
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    iou: NDArray[np.float64]
    unique: NDArray[np.bool_]
    """Whether the IoU exceeds 0.5."""


def match(
    truth: ArrayLike | str,
    predicted: ArrayLike | str,
    *,
    thresholds: Iterable[float] = (0.5, 0.7),
    sdata: SpatialData | Tissue | None = None,
) -> pd.DataFrame:
    """Score predicted cells against true cells at one or several thresholds of the intersection over union (IoU).

    A true and a predicted cell may match where their IoU is at least the threshold, and above 0.5 if the threshold is
    0.5. Above 0.5 a cell can have one partner only (two would each hold more than half of it), so matches are unique.
    Below 0.5 they are chosen: as many pairs as possible, and of all such choices the one with the largest summed IoU.

    Parameters
    ----------
    truth, predicted
        Label images of equal shape, integers, 0 = background, NumPy or Dask. The ids of the two need not be related,
        need not be dense and may exceed 2^31. Or keys of labels, shapes or tables of ``sdata``, which are brought onto
        one raster (see :class:`Tissue`).
    thresholds
        IoU thresholds in ``(0, 1]``; ``IOU_THRESHOLDS`` are 0.5, 0.55, ..., 0.95, of which the mean is often stated.
    sdata
        Object, or :class:`Tissue`, that has the keys, if keys are given.

    Returns
    -------
    One row per threshold (the index, named ``iou_threshold``, in the order given) with the columns

    - ``f1``: ``2 n_matched / (n_true + n_predicted)``,
    - ``precision``: ``n_matched / n_predicted``; ``recall``: ``n_matched / n_true``,
    - ``ap``: average precision as for cells and nuclei, ``n_matched / (n_true + n_predicted - n_matched)``,
    - ``mean_iou``: mean IoU of the matched pairs,
    - ``pq``: panoptic quality, ``mean_iou * f1``,
    - ``n_matched``, ``n_true``, ``n_predicted``.

    A ratio without a denominator (no cells, no matches) is NaN, except that ``pq`` is 0 where nothing matches.

    Raises
    ------
    ValueError
        If shapes differ, labels are no integers, an id is negative, or a threshold lies outside ``(0, 1]``.
    TypeError
        If a key is given without ``sdata``, or an array with it.

    References
    ----------
    Panoptic quality: Kirillov et al., "Panoptic Segmentation", CVPR 2019, arXiv:1801.00868. Average precision of
    instances: Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl", Nature
    Methods 16, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1, 1, 0, 2, 2, 2]])
    >>> predicted = np.array([[7, 7, 0, 9, 9, 0]])
    >>> scores = match(truth, predicted, thresholds=[0.5, 0.7])
    >>> scores["f1"].tolist(), scores["mean_iou"].round(3).tolist()
    ([1.0, 0.5], [0.833, 1.0])
    """
    levels = checked_thresholds(thresholds)
    overlaps = _overlaps(truth, predicted, sdata)
    n_true, n_predicted = overlaps.true_ids.size, overlaps.predicted_ids.size
    rows = [_scores(overlaps.iou[_matched(overlaps, level)], n_true, n_predicted) for level in levels]
    return pd.DataFrame(rows, index=pd.Index(levels, name="iou_threshold", dtype=float))


def matched_pairs(
    truth: ArrayLike | str,
    predicted: ArrayLike | str,
    *,
    threshold: float = 0.5,
    sdata: SpatialData | Tissue | None = None,
) -> pd.DataFrame:
    """Return which predicted cell is which true cell: the matches behind :func:`match`.

    Parameters
    ----------
    truth, predicted, sdata
        As in :func:`match`.
    threshold
        IoU threshold in ``(0, 1]``.

    Returns
    -------
    One row per match with the columns ``true_id``, ``predicted_id`` and ``iou``, by ascending ``true_id``.

    Raises
    ------
    ValueError, TypeError
        As :func:`match`.

    Examples
    --------
    >>> import numpy as np
    >>> matched_pairs(np.array([[1, 1, 0, 2, 2]]), np.array([[7, 7, 0, 0, 9]]), threshold=0.4).to_dict("list")
    {'true_id': [1, 2], 'predicted_id': [7, 9], 'iou': [1.0, 0.5]}
    """
    (level,) = checked_thresholds([threshold])
    overlaps = _overlaps(truth, predicted, sdata)
    taken = _matched(overlaps, level)
    return pd.DataFrame(
        {
            "true_id": overlaps.true_ids[overlaps.row[taken]],
            "predicted_id": overlaps.predicted_ids[overlaps.column[taken]],
            "iou": overlaps.iou[taken],
        }
    )


def _overlaps(truth: ArrayLike | str, predicted: ArrayLike | str, sdata: SpatialData | Tissue | None) -> _Overlaps:
    (truth, true_names, _), (predicted, predicted_names, _) = rasters_of([truth, predicted], sdata)
    true_array, predicted_array = checked_ids(truth, "truth"), checked_ids(predicted, "predicted")
    if true_array.shape != predicted_array.shape:
        raise ValueError(
            f"truth has shape {true_array.shape} and predicted {predicted_array.shape}: both must be sampled on the "
            "same raster. For elements of a SpatialData object pass their keys and sdata=: they are brought together "
            "through their transformations."
        )
    counts = contingency(true_array, predicted_array)
    pairs = counts.overlap.tocsr().tocoo()  # in the order of the true ids
    union = counts.true_sizes[pairs.row] + counts.predicted_sizes[pairs.col] - pairs.data
    return _Overlaps(
        counts.true_ids if true_names is None else true_names,
        counts.predicted_ids if predicted_names is None else predicted_names,
        pairs.row,
        pairs.col,
        pairs.data / union,
        2 * pairs.data > union,  # whole numbers: exactly 0.5 never slips through by rounding
    )


def _matched(overlaps: _Overlaps, level: float) -> NDArray[np.bool_]:
    """Return which overlaps are matches at a threshold."""
    if level >= 0.5:
        return overlaps.unique & (overlaps.iou >= level)
    candidates = np.flatnonzero(overlaps.iou >= level)
    taken = np.zeros(len(overlaps.iou), dtype=bool)
    taken[candidates] = best_pairs(overlaps.row[candidates], overlaps.column[candidates], overlaps.iou[candidates])
    return taken


def _scores(iou: NDArray[np.float64], n_true: int, n_predicted: int) -> dict[str, float]:
    n_matched = iou.size
    f1 = ratio(2 * n_matched, n_true + n_predicted)
    mean_iou = ratio(float(iou.sum()), n_matched)
    return {
        "f1": f1,
        "precision": ratio(n_matched, n_predicted),
        "recall": ratio(n_matched, n_true),
        "ap": ratio(n_matched, n_true + n_predicted - n_matched),
        "mean_iou": mean_iou,
        "pq": mean_iou * f1 if n_matched else 0.0 * f1,
        "n_matched": n_matched,
        "n_true": n_true,
        "n_predicted": n_predicted,
    }
