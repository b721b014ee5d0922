"""Stability of a segmentation when transcripts are removed."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._evaluation.arguments import checked_thresholds
from ucs._evaluation.tissue import Tissue
from ucs._utils.checks import choose_one
from ucs._utils.elements import shallow_copy
from ucs.metrics._match import match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dask.dataframe import DataFrame as DaskDataFrame
    from spatialdata import SpatialData

_FULL, _PART = "cells_of_all", "cells_of_some"


def subsample_stability(
    sdata: SpatialData | Tissue,
    segmentation: Callable[[SpatialData], Any] | None = None,
    *,
    fractions: Iterable[float] = (0.8, 0.4, 0.2),
    thresholds: Iterable[float] = (0.5,),
    labels_key: str = "ucs_cells",
    full: Any = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Segment a tissue with random parts of its transcripts and compare the cells with those of all transcripts.

    Parameters
    ----------
    sdata
        Object with transcripts, and what the segmentation needs.
    segmentation
        Function that is called with a copy of the object in which only the points are replaced. It returns the cells
        as a labels or shapes element, or an object that has them under ``labels_key``; or it adds them to the object it
        is given and returns None. If ``segmentation`` is None, :func:`ucs.tl.segment` with its defaults, trained anew
        on each part as in the paper.
    fractions
        Shares of the transcripts to keep, in (0, 1].
    thresholds
        IoU thresholds in (0, 1].
    labels_key
        Key of the cells in the objects of ``segmentation``.
    full
        Cells of all transcripts, if they are known: an element, or an object with ``labels_key``. Segmented if None.
    seed
        Seed of the random choice. Smaller parts are subsets of larger ones, unless rows have counts: there each
        molecule is drawn anew for each part.

    Returns
    -------
    One row per fraction (the index) with ``n_transcripts`` kept, ``n_cells`` found and, for each threshold, the F1 of
    :func:`match` against the full result: ``f1_0.5``, ...

    Raises
    ------
    ValueError
        If a fraction or a threshold lies outside (0, 1], or the transcripts are bins.
    TypeError
        If the segmentation returns neither an element nor an object.

    References
    ----------
    The paper: F1 above 0.9 with 80, 40 and 20 % of the transcripts.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> def grow(part):  # a segmentation that looks at nuclei only
    ...     return ucs.metrics.expand_nuclei("nucleus_labels", 3, sdata=part)
    >>> ucs.metrics.subsample_stability(sdata, grow, fractions=[0.5])["f1_0.5"].tolist()
    [1.0]
    """
    shares = [float(fraction) for fraction in fractions]
    bad = [share for share in shares if not 0 < share <= 1]
    if bad or not shares:
        raise ValueError(f"fractions {bad or shares} given: each must lie in (0, 1], and one is needed at least.")
    levels = checked_thresholds(thresholds)
    tissue = Tissue.of(sdata)
    run = segmentation or _segment
    if full is None:
        complete = _with_points(tissue, 1.0, seed)
        full = run(complete)
        full = complete if full is None else full
    rows = []
    for share in shares:
        part = _with_points(tissue, share, seed)
        found = run(part)
        cells = cells_in(part if found is None else found, labels_key)
        compared = tissue.holding({_FULL: cells_in(full, labels_key), _PART: cells})
        scores = match(_FULL, _PART, thresholds=levels, sdata=compared)
        rows.append(
            {"n_transcripts": _n_transcripts(part, tissue), "n_cells": int(scores["n_predicted"].iloc[0])}
            | {f"f1_{level:g}": f1 for level, f1 in scores["f1"].items()}
        )
    return pd.DataFrame(rows, index=pd.Index(shares, name="fraction"))


def cells_in(found: Any, labels_key: str) -> Any:
    """Return the element with the cells."""
    if not hasattr(found, "gen_elements"):
        if not hasattr(found, "attrs"):
            msg = f"The segmentation returned a {type(found).__name__}: an element is needed, or an object with one."
            raise TypeError(msg)
        return found
    there = [*found.labels, *found.shapes]
    return found[choose_one(labels_key, there, (), argument="labels_key", what="labels or shapes element")]


def _with_points(tissue: Tissue, share: float, seed: int) -> SpatialData:
    """Return an object of the same elements with a part of the transcripts."""
    sdata = shallow_copy(tissue.sdata)
    for part in tissue.source.elements:
        if part.table_key is not None:
            msg = f"{part.key!r} holds bins: transcripts can only be removed from points."
            raise ValueError(msg)
        if share < 1:
            sdata.points[part.key] = _thinned(sdata.points[part.key], part.columns.count, share, seed)
    return sdata


def _thinned(points: DaskDataFrame, count: str | None, share: float, seed: int) -> DaskDataFrame:
    """Return a points element in which each molecule is kept with a probability; lazy, with the same partitions."""
    import dask.dataframe as dd
    from dask.delayed import delayed

    thin = delayed(_thin)
    pieces = [thin(piece, count, share, (seed, number)) for number, piece in enumerate(points.to_delayed())]
    thinned = dd.from_delayed(pieces, meta=points._meta, verify_meta=False)
    thinned.attrs.update(deepcopy(dict(points.attrs)))
    return thinned


def _thin(frame: pd.DataFrame, count: str | None, share: float, seed: tuple[int, int]) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    if count is None:
        return frame[rng.random(len(frame)) < share]
    kept = rng.binomial(frame[count].to_numpy().astype(np.int64), share).astype(frame[count].dtype)
    return frame.assign(**{count: kept})[kept > 0]


def _n_transcripts(sdata: SpatialData, tissue: Tissue) -> int:
    """Return the number of molecules of any quality."""
    n = 0
    for part in tissue.source.elements:
        points, count = sdata.points[part.key], part.columns.count
        n += len(points) if count is None else int(points[count].sum().compute())
    return n


def _segment(sdata: SpatialData) -> Any:
    import ucs  # here and by its public name: ucs.tl imports ucs.metrics, not the other way round

    return ucs.tl.segment(sdata, inplace=False, progress=False)
