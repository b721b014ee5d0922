"""Cell types of cells, from their counts and a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._evaluation.counts import Counts, counts_of
from ucs._evaluation.reference import Reference, Scale, as_reference, shared_genes
from ucs._utils.checks import listed
from ucs.methods.cell_types import types_by_profiles

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray
    from scipy import sparse
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue


def transfer_types(
    table: AnnData | pd.DataFrame | str,
    reference: AnnData | pd.DataFrame | Reference,
    *,
    type_key: str | None = None,
    scale: Scale | None = None,
    sdata: SpatialData | Tissue | None = None,
) -> pd.DataFrame:
    """Return the type of each cell: the one of the reference under which its counts are most likely.

    The transcripts of a cell are taken as independent draws from the profile of its type; a tenth of them are draws
    from the mean of all profiles, as neighbours and background contribute to every cell.

    Parameters
    ----------
    table
        Raw counts, cells x genes; or the key of a table, labels or shapes of ``sdata``.
    reference, type_key, scale
        Single cells (AnnData with types in ``obs[type_key]``) or profiles (DataFrame, types x genes); ``scale="log1p"``
        if its values are logarithms.
    sdata
        Object, or :class:`Tissue`, that has the key.

    Returns
    -------
    One row per cell with ``type`` (missing for a cell without transcripts of shared genes) and ``probability``, that of
    the type if all types are equally frequent. It is too high, as transcripts are not independent.

    Raises
    ------
    ValueError
        If the reference shares fewer than 10 genes with the table, has negative values, or has values that look like
        logarithms and ``scale`` is None.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=100, height_um=100, n_genes=30, n_cell_types=2, seed=0)
    >>> truth = sdata["true_table"]
    >>> types = ucs.metrics.transfer_types(truth, truth, type_key="cell_type")
    >>> bool((types["type"] == truth.obs["cell_type"]).mean() > 0.9)
    True
    """
    counts = counts_of(table, sdata)
    types, probability = likeliest_types(counts, as_reference(reference, type_key=type_key, scale=scale))
    return pd.DataFrame({"type": types, "probability": probability}, index=counts.cells)


def type_probabilities(counts: sparse.csr_array, genes: pd.Index, reference: Reference) -> pd.DataFrame:
    """Return the probability of each type of a reference for each cell, all types being equally frequent.

    Parameters
    ----------
    counts
        ``(n_cells, n_features)`` transcripts, whose first columns are ``genes``.
    genes
        Names of these columns.
    reference
        Expression per type.

    Returns
    -------
    Cells x types; NaN for cells without transcripts of shared genes.

    Raises
    ------
    ValueError
        If the reference shares too few genes, or a type has no expression in them.
    """
    shared = shared_genes(genes, reference.profiles.columns)
    profiles = reference.profiles[shared]
    empty = profiles.index[profiles.sum(axis=1) == 0]
    if len(empty):
        msg = (
            f"Types of the reference have no expression in the {len(shared)} shared genes: {listed(empty)}. Drop them."
        )
        raise ValueError(msg)
    of_shared = counts[:, genes.get_indexer(shared)]
    probability = pd.DataFrame(types_by_profiles(of_shared, profiles.to_numpy()), columns=profiles.index)
    probability[np.asarray(of_shared.sum(axis=1)).ravel() == 0] = np.nan
    return probability


def likeliest_types(counts: Counts, reference: Reference) -> tuple[pd.Categorical, NDArray[np.float64]]:
    """Return the type of each cell and its probability; see :func:`transfer_types`."""
    probability = type_probabilities(counts.matrix, counts.genes, reference)
    values = probability.to_numpy()
    best = np.where(np.isnan(values[:, 0]), -1, values.argmax(axis=1))
    return pd.Categorical.from_codes(best, categories=probability.columns), values.max(axis=1)


def types_of(counts: Counts, types: ArrayLike | str | None, reference: Reference | None) -> pd.Categorical:
    """Return given types, those of a column of ``obs``, or, if None, the likeliest ones of the reference.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If there is not one type per cell, or neither types nor a reference.
    """
    if types is None:
        if reference is None:
            msg = "Cell types are needed: pass types=, or a reference from which they can be transferred."
            raise ValueError(msg)
        return likeliest_types(counts, reference)[0]
    if isinstance(types, str):
        if types not in counts.obs:
            msg = f"types={types!r} is no column of the table's obs; there are: {listed(counts.obs.columns)}."
            raise KeyError(msg)
        types = counts.obs[types]
    given = pd.Categorical(_as_text(types))
    if len(given) != len(counts.cells):
        msg = f"types has {len(given)} entries: one for each of the {len(counts.cells)} cells is needed."
        raise ValueError(msg)
    return given


def _as_text(types: Any) -> Any:
    """Return types as text, missing ones as None."""
    series = pd.Series(np.asarray(types, dtype=object))
    return series.where(series.isna(), series.astype(str)).to_numpy()
