"""Negative marker purity: how little cells express genes that their type lacks in a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from ucs._evaluation.counts import Counts, counts_of, group_means
from ucs._evaluation.reference import Reference, Scale, as_reference, shared_genes
from ucs._evaluation.types import types_of
from ucs._utils.checks import listed
from ucs.methods.markers import Markers, marker_matrix

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue


@dataclass(frozen=True)
class NegativeMarkerPurity:
    """Negative marker purity.

    Attributes
    ----------
    reads
        1 minus the mean excess, over the negative pairs of type and gene, of the type's share of the expression of the
        gene.
    cells
        1 minus the mean excess, over the negative pairs, of the share of the type's cells in which the gene is found;
        NaN for a reference of profiles.
    per_type
        One row per type (the index) with both, ``n_cells`` in the table, and ``n_genes``, the number of its negative
        genes for ``reads``.
    """

    reads: float
    cells: float
    per_type: pd.DataFrame


def negative_marker_purity(
    table: AnnData | pd.DataFrame | str,
    types: ArrayLike | str | None = None,
    *,
    reference: AnnData | pd.DataFrame | Reference | None = None,
    negative_markers: Markers | None = None,
    type_key: str | None = None,
    scale: Scale | None = None,
    max_share: float = 0.005,
    min_cells: int = 10,
    sdata: SpatialData | Tissue | None = None,
) -> NegativeMarkerPurity:
    """Return how free cells are of transcripts that their type does not express: 1 if they have none.

    A pair of a type t and a gene g is negative if s(t, g) < ``max_share`` in the reference. The purity is
    1 - max(0, mean of s in the table - mean of s in the reference), both over the negative pairs. For ``reads``,
    s(t, g) is the mean count of g in the cells of t over the sum of these means over all types. For ``cells``, it is
    the share of the cells of t in which g is found. Types count if both have them, with at least ``min_cells`` cells in
    the table (and in a reference of single cells).

    Parameters
    ----------
    table
        Raw counts, cells x genes; or the key of a table, labels or shapes of ``sdata``.
    types
        Type of each cell, or the column of ``obs`` with it; None transfers them from the reference (see
        :func:`transfer_types`). Cells without a type are left out. Types that are transferred from contaminated counts
        follow the contamination: to compare segmentations, pass types that do not depend on them, such as those of the
        nuclei.
    reference, type_key, scale
        Single cells (AnnData with types in ``obs[type_key]``) or profiles (DataFrame, types x genes); ``scale="log1p"``
        if its values are logarithms.
    negative_markers
        Instead of ``reference``: the negative genes of each type, in any form that :func:`mecr` accepts for markers.
        Their expected expression is 0. ``types`` must be given.
    max_share, min_cells
        Limits of negative pairs and of types, see above.
    sdata
        Object, or :class:`Tissue`, that has the key.

    Returns
    -------
    See :class:`NegativeMarkerPurity`.

    Raises
    ------
    TypeError
        If not exactly one of ``reference`` and ``negative_markers`` is given.
    ValueError
        If fewer than two types remain, or no pair is negative.

    References
    ----------
    Marco Salas et al., "Optimizing Xenium In Situ data utility by quality assessment and best-practice analysis
    workflows", Nature Methods 22, 2025; limits as in txsim.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"CD3E": [9, 8, 0], "EPCAM": [0, 1, 9]})  # the second T cell has EPCAM of its neighbour
    >>> negative = {"T": ["EPCAM"], "epithelium": ["CD3E"]}
    >>> found = negative_marker_purity(table, ["T", "T", "epithelium"], negative_markers=negative, min_cells=1)
    >>> round(found.reads, 3), found.cells
    (0.974, 0.75)
    """
    if (reference is None) == (negative_markers is None):
        msg = "Pass either reference= or negative_markers=."
        raise TypeError(msg)
    counts = counts_of(table, sdata)
    if reference is None:
        return _of_markers(counts, types_of(counts, types, None), negative_markers, min_cells)
    found = as_reference(reference, type_key=type_key, scale=scale)
    return purity_of(counts, types_of(counts, types, found), found, max_share=max_share, min_cells=min_cells)


def purity_of(
    counts: Counts, types: pd.Categorical, reference: Reference, *, max_share: float = 0.005, min_cells: int = 10
) -> NegativeMarkerPurity:
    """Return the purity of typed cells against a reference; see :func:`negative_marker_purity`."""
    genes = shared_genes(counts.genes, reference.profiles.columns)
    enough = reference.n_cells.index
    if reference.detected is not None:
        enough = enough[reference.n_cells >= min_cells]
    names = _kept_types(types, enough, min_cells)
    x = counts.of_genes(genes)
    mean, found = _means_of_types(x, types, names)
    expected = _shares(reference.profiles.loc[names, genes].to_numpy())
    reads = _Excess(_shares(mean), expected, expected < max_share)
    cells = None
    if reference.detected is not None:
        expected = reference.detected.loc[names, genes].to_numpy()
        cells = _Excess(found, expected, expected < max_share)
    return _purity(reads, cells, names, types)


def _of_markers(
    counts: Counts, types: pd.Categorical, negative_markers: Markers, min_cells: int
) -> NegativeMarkerPurity:
    is_negative = marker_matrix(negative_markers, counts.genes, fewest_types=1)
    names = _kept_types(types, is_negative.index, min_cells)
    mean, found = _means_of_types(counts.of_genes(is_negative.columns), types, names)
    negative = is_negative.loc[names].to_numpy()
    zero = np.zeros_like(mean)
    return _purity(_Excess(_shares(mean), zero, negative), _Excess(found, zero, negative), names, types)


class _Excess(NamedTuple):
    """Shares in the table and in the reference, and which pairs are negative, each types x genes."""

    observed: NDArray[np.float64]
    expected: NDArray[np.float64]
    negative: NDArray[np.bool_]

    def purity(self, rows: slice = slice(None)) -> float:
        known = self.negative[rows] & np.isfinite(self.observed[rows])
        if not known.any():
            return float("nan")
        return 1.0 - max(0.0, float(self.observed[rows][known].mean() - self.expected[rows][known].mean()))


def _purity(reads: _Excess, cells: _Excess | None, names: pd.Index, types: pd.Categorical) -> NegativeMarkerPurity:
    if not reads.negative.any():
        msg = "No type lacks any gene in the reference, so there is no negative pair: raise max_share, or merge types."
        raise ValueError(msg)
    rows = [slice(k, k + 1) for k in range(len(names))]
    per_type = pd.DataFrame(
        {
            "reads": [reads.purity(row) for row in rows],
            "cells": [float("nan") if cells is None else cells.purity(row) for row in rows],
            "n_cells": pd.Series(types).value_counts().reindex(names).to_numpy(),
            "n_genes": reads.negative.sum(axis=1),
        },
        index=pd.Index(names, name="type"),
    )
    return NegativeMarkerPurity(reads.purity(), float("nan") if cells is None else cells.purity(), per_type)


def _kept_types(types: pd.Categorical, known: pd.Index, min_cells: int) -> pd.Index:
    n = pd.Series(types).value_counts()
    names = known[known.isin(n.index[n >= min_cells])]
    if len(names) < 2:
        msg = (
            f"{len(names)} types have {min_cells} cells or more in the table and are known to the reference, 2 are "
            f"needed. In the table: {listed(f'{name} ({count})' for name, count in n.items() if count)}; known: "
            f"{listed(known)}. Lower min_cells, or merge types."
        )
        raise ValueError(msg)
    return names


def _means_of_types(x: sparse.csr_array, types: pd.Categorical, names: pd.Index) -> tuple[NDArray, NDArray]:
    """Return the mean count of each gene and the share of the cells that have it, types x genes."""
    return group_means(x, names.get_indexer(pd.Index(types.astype(object))), len(names))


def _shares(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each type's share of a gene's expression; NaN for a gene without any."""
    totals = mean.sum(axis=0, keepdims=True)
    return np.divide(mean, totals, out=np.full_like(mean, np.nan), where=totals > 0)
