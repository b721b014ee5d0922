"""Baseline characteristics of a segmentation, as in the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._evaluation.counts import Counts, counts_of

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue

_AREA = "area_um2"


def summary(
    table: AnnData | pd.DataFrame | str, *, area_um2: ArrayLike | None = None, sdata: SpatialData | Tissue | None = None
) -> pd.Series:
    """Return the six baseline characteristics of a segmentation that the paper reports.

    Parameters
    ----------
    table
        Counts, cells x genes; or the key of a table of ``sdata``, or of labels or shapes, in which the transcripts are
        then counted.
    area_um2
        ``(n_cells,)`` areas; ``obs["area_um2"]`` if None.
    sdata
        Object, or :class:`Tissue`, that has the key.

    Returns
    -------
    A series with

    - ``n_cells``, ``n_transcripts``: numbers of cells and of transcripts in cells,
    - ``area_um2``, ``transcripts_per_cell``, ``transcripts_per_um2``, ``genes_per_cell`` (genes with a transcript in
      the cell): medians over the cells,
    - ``mean_area_um2``, ...: the means of these four.

    The paper's transcripts per pixel are ``transcripts_per_um2`` times the area of a pixel. Without areas the figures
    that need them are NaN.

    Raises
    ------
    ValueError
        If there is not one area per cell, or an area is not positive.

    References
    ----------
    The paper's figures of baseline characteristics: cell number, assigned transcripts, area, transcripts per cell,
    transcripts per pixel, genes per cell.

    Examples
    --------
    >>> import pandas as pd
    >>> found = summary(pd.DataFrame({"A": [3, 0], "B": [1, 2]}), area_um2=[10, 20])
    >>> found[["n_cells", "transcripts_per_um2"]].tolist()
    [2.0, 0.25]
    """
    counts = counts_of(table, sdata)
    return summary_of(counts, _areas(counts, area_um2))


def summary_of(counts: Counts, area_um2: np.ndarray) -> pd.Series:
    """Return the characteristics of counted cells with areas ``(n_cells,)``, NaN if unknown; see :func:`summary`."""
    per_cell = pd.DataFrame(
        {
            _AREA: area_um2,
            "transcripts_per_cell": np.asarray(counts.matrix.sum(axis=1)).ravel(),
            "genes_per_cell": np.diff(counts.matrix.indptr),
        }
    )
    per_cell["transcripts_per_um2"] = per_cell["transcripts_per_cell"] / per_cell[_AREA]
    per_cell = per_cell[[_AREA, "transcripts_per_cell", "transcripts_per_um2", "genes_per_cell"]]
    totals = {"n_cells": len(per_cell), "n_transcripts": per_cell["transcripts_per_cell"].sum()}
    return pd.concat([pd.Series(totals), per_cell.median(), per_cell.mean().add_prefix("mean_")])


def _areas(counts: Counts, area_um2: ArrayLike | None) -> np.ndarray:
    n = counts.matrix.shape[0]
    if area_um2 is None:
        if _AREA not in counts.obs:
            return np.full(n, np.nan)
        area_um2 = counts.obs[_AREA].to_numpy()
    areas = np.asarray(area_um2, dtype=np.float64)
    if areas.shape != (n,):
        msg = f"area_um2 has shape {areas.shape}: one area for each of the {n} cells is needed."
        raise ValueError(msg)
    if (areas <= 0).any():
        msg = f"area_um2 has {int((areas <= 0).sum())} values of 0 or below: areas must be positive."
        raise ValueError(msg)
    return areas
