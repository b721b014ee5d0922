"""Agreement of transcripts: whether each is assigned to the cell that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ucs._evaluation.arguments import checked_ids, tissue_for
from ucs._evaluation.contingency import contingency, ratio
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from ucs._evaluation.contingency import Contingency
    from ucs._evaluation.rasters import CellRaster
    from ucs._evaluation.tissue import Tissue


def transcript_assignment(
    true_id: ArrayLike | str,
    predicted_id: ArrayLike | str,
    *,
    matching: Literal["overlap", "id"] = "overlap",
    sdata: SpatialData | Tissue | None = None,
) -> dict[str, float]:
    """Score the assignment of transcripts to cells against the cells that they came from.

    Every predicted cell stands for one true cell (see ``matching``). A transcript is *right* if its predicted cell
    stands for the true cell that it came from.

    Parameters
    ----------
    true_id
        ``(n,)`` integers, the cell that each transcript came from, 0 = none (background); or, with ``sdata``, the
        column of the transcripts that holds it.
    predicted_id
        ``(n,)`` integers, the cell that each transcript was assigned to, 0 = none; or, with ``sdata``, the key of the
        labels, shapes or table in which they are looked up.
    matching
        Which true cell a predicted cell stands for. ``"overlap"``: the one that most of its transcripts came from
        (background not counted; the lower id at a tie), none for a cell of background only. Several predicted cells
        may stand for one true cell, so that only ``ari`` punishes cells that are cut up. ``"id"``: the one with the
        same id, for cells that keep the id of their nucleus.
    sdata
        Object, or :class:`Tissue`, that has column and key. Transcripts of low quality and control features are left
        out.

    Returns
    -------
    A dict with

    - ``precision``: right transcripts / transcripts assigned by the prediction,
    - ``recall``: right transcripts / transcripts that came from a cell,
    - ``f1``: harmonic mean of the two, ``2 right / (assigned + from a cell)``,
    - ``ari``: adjusted Rand index over the transcripts that are in a cell in both; independent of ``matching``, and of
      how much is captured (see ``recall``),
    - ``n_true``, ``n_assigned``, ``n_right``: numbers of transcripts that came from a cell, were assigned, are right.

    A ratio without a denominator is NaN.

    Raises
    ------
    ValueError
        If lengths differ, ids are no integers, an id is negative, ``matching`` is unknown, or the transcripts are bins.
    TypeError, KeyError
        If a key is given without ``sdata``, or the column or the key is missing.

    References
    ----------
    Adjusted Rand index: Hubert and Arabie, "Comparing partitions", Journal of Classification 2, 1985.

    Examples
    --------
    >>> scores = transcript_assignment([1, 1, 1, 2, 2, 0], [5, 5, 0, 5, 6, 6])
    >>> scores["precision"], scores["recall"]
    (0.6, 0.6)
    """
    if matching not in ("overlap", "id"):
        raise ValueError(f"matching={matching!r} is unknown: use 'overlap' or 'id'.")
    tissue = tissue_for(predicted_id, sdata)
    if tissue is not None:
        true_id, predicted_id = _looked_up(tissue, tissue.cells(str(predicted_id)), str(true_id))
    true, predicted = checked_ids(true_id, "true_id"), checked_ids(predicted_id, "predicted_id")
    if true.shape != predicted.shape or true.ndim != 1:
        raise ValueError(
            f"true_id has shape {true.shape} and predicted_id {predicted.shape}: give one id per transcript in both, "
            "in the same order."
        )
    counts = contingency(true, predicted)
    right = int(np.count_nonzero((true == predicted) & (true != 0))) if matching == "id" else _right_by_overlap(counts)
    n_true, n_assigned = int(counts.true_sizes.sum()), int(counts.predicted_sizes.sum())
    return {
        "precision": ratio(right, n_assigned),
        "recall": ratio(right, n_true),
        "f1": ratio(2 * right, n_assigned + n_true),
        "ari": _adjusted_rand_index(counts),
        "n_true": n_true,
        "n_assigned": n_assigned,
        "n_right": right,
    }


def _right_by_overlap(counts: Contingency) -> int:
    """Return the sum, over the predicted cells, of the transcripts of the true cell that contributed most."""
    if 0 in counts.overlap.shape:
        return 0
    return int(counts.overlap.max(axis=0).sum())


def _adjusted_rand_index(counts: Contingency) -> float:
    overlap = counts.overlap
    together = _n_pairs(overlap.data)
    true = _n_pairs(np.asarray(overlap.sum(axis=1)))
    predicted = _n_pairs(np.asarray(overlap.sum(axis=0)))
    total = _n_pairs(np.asarray([overlap.sum()]))
    if total == 0:
        return float("nan")
    expected = true * predicted / total
    largest = (true + predicted) / 2
    return 1.0 if largest == expected else (together - expected) / (largest - expected)


def _n_pairs(sizes: NDArray[np.integer]) -> float:
    sizes = sizes.astype(np.float64)
    return float((sizes * (sizes - 1) / 2).sum())


def _looked_up(tissue: Tissue, cells: CellRaster, column: str) -> tuple[NDArray, NDArray]:
    """Return a column of the transcripts and the id of the cell under each, 0 = none; other names count from 1."""
    from ucs._read.fields import find_fields

    fields = find_fields(tissue.sdata, tissue.source)
    names = cells.ids if cells.ids.dtype.kind in "iu" else np.arange(1, len(cells.ids) + 1)
    names = np.concatenate([np.zeros(1, names.dtype), names])
    found: list[tuple[NDArray, NDArray]] = []
    for k, part in enumerate(tissue.source.elements):
        if part.table_key is not None:
            raise ValueError(f"{part.key!r} holds bins, not transcripts of known origin.")
        points = tissue.sdata.points[part.key]
        if column not in points.columns:
            there = listed(points.columns)
            raise KeyError(f"points[{part.key!r}] has no column {column!r}; there are: {there}.")
        for piece in points[[*part.columns.names(), column]].to_delayed():
            frame = piece.compute()
            frame = frame[part.columns.kept(frame)]
            frame = frame[frame[part.columns.gene].astype(str).isin(tissue.genes)]
            x, y = part.place(frame)
            kept = np.ones(len(frame), dtype=bool) if fields is None else fields.owner(k).owns(x, y)
            row, at = tissue.grid.rows_columns(x[kept], y[kept])  # the raster covers them all
            found.append((frame[column].to_numpy()[kept], names[cells.labels[row, at]]))
    true, predicted = (np.concatenate(pieces) for pieces in zip(*found, strict=True))
    return true, predicted
