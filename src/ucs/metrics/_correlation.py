"""Correlation of the mean expression of cell types with a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._evaluation.counts import Counts, counts_of, group_means
from ucs._evaluation.reference import Reference, Scale, as_reference, logarithms, shared_genes
from ucs._evaluation.types import types_of
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue


@dataclass(frozen=True)
class ReferenceCorrelation:
    """Correlation of cell types with a reference.

    Attributes
    ----------
    mean
        Mean of the correlations over the types.
    per_type
        One row per type (the index) with ``pcc`` and ``n_cells``.
    """

    mean: float
    per_type: pd.DataFrame


def reference_correlation(
    table: AnnData | pd.DataFrame | str,
    reference: AnnData | pd.DataFrame | Reference,
    types: ArrayLike | str | None = None,
    *,
    type_key: str | None = None,
    scale: Scale | None = None,
    min_cells: int = 10,
    sdata: SpatialData | Tissue | None = None,
) -> ReferenceCorrelation:
    """Correlate the mean expression of each cell type with that in a reference.

    For each type it is Pearson's correlation, over the shared genes, between log(1 + counts per 10,000) of the mean
    count of its cells and the same of its mean in the reference.

    Parameters
    ----------
    table
        Raw counts, cells x genes; or the key of a table, labels or shapes of ``sdata``.
    reference, type_key, scale
        Single cells (AnnData with types in ``obs[type_key]``) or profiles (DataFrame, types x genes); ``scale="log1p"``
        if its values are logarithms.
    types
        Type of each cell, or the column of ``obs`` with it; None transfers them from the reference (see
        :func:`transfer_types`). Cells without a type, or of one that the reference does not have, are left out.
    min_cells
        Fewest cells of a type; types with fewer are left out.
    sdata
        Object, or :class:`Tissue`, that has the key.

    Returns
    -------
    See :class:`ReferenceCorrelation`.

    Raises
    ------
    ValueError
        If no type remains; or the reference shares fewer than 10 genes with the table, has negative values, or has
        values that look like logarithms and ``scale`` is None.

    References
    ----------
    The paper: Pearson's correlation (PCC) of mean expression per cell type with scRNA-seq.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=100, height_um=100, n_genes=30, n_cell_types=2, seed=0)
    >>> reference = sdata["true_table"]  # single cells; here those of the tissue itself
    >>> found = ucs.metrics.reference_correlation("true_cells", reference, type_key="cell_type", sdata=sdata)
    >>> found.mean > 0.9
    True
    """
    counts = counts_of(table, sdata)
    found = as_reference(reference, type_key=type_key, scale=scale)
    return correlation_of(counts, types_of(counts, types, found), found, min_cells=min_cells)


def correlation_of(
    counts: Counts, types: pd.Categorical, reference: Reference, *, min_cells: int = 10
) -> ReferenceCorrelation:
    """Return the correlation of typed cells with a reference; see :func:`reference_correlation`."""
    genes = shared_genes(counts.genes, reference.profiles.columns)
    n = pd.Series(types).value_counts()
    known = reference.profiles.index
    names = known[known.isin(n.index[n >= min_cells])]
    if len(names) == 0:
        msg = (
            f"No type has {min_cells} cells or more in the table and is known to the reference. In the table: "
            f"{listed(f'{name} ({count})' for name, count in n.items() if count)}; known: {listed(known)}."
        )
        raise ValueError(msg)
    mean, _ = group_means(counts.of_genes(genes), names.get_indexer(pd.Index(types.astype(object))), len(names))
    pcc = _row_correlations(logarithms(mean), logarithms(reference.profiles.loc[names, genes].to_numpy()))
    per_type = pd.DataFrame({"pcc": pcc, "n_cells": n.reindex(names).to_numpy()}, index=pd.Index(names, name="type"))
    return ReferenceCorrelation(float(per_type["pcc"].mean()), per_type)


def _row_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each row of ``a`` with that of ``b``; NaN where one is constant."""
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), norm, out=np.full(len(a), np.nan), where=norm > 0)
