"""Reference expression per cell type, from profiles or from single cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from ucs._evaluation.counts import group_means
from ucs._utils.checks import listed
from ucs._utils.log import logger

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

Scale = Literal["linear", "log1p"]
_LARGEST_LOG = 15.0  # log1p of 3 million; of linear scales in use only proportions stay below
_FEWEST_SHARED = 10  # genes: with fewer, a reference is likely to be misspelt or transposed


class Reference(NamedTuple):
    """Mean expression per cell type, on a linear scale.

    Attributes
    ----------
    profiles
        Types x genes, 0 or above.
    detected
        Share of a type's cells in which a gene was found, types x genes; None for a reference of profiles.
    n_cells
        Cells (or given profiles) of each type.
    """

    profiles: pd.DataFrame
    detected: pd.DataFrame | None
    n_cells: pd.Series

    def of_genes(self, genes: pd.Index) -> Reference:
        """Return the reference for some of its genes."""
        detected = None if self.detected is None else self.detected[genes]
        return Reference(self.profiles[genes], detected, self.n_cells)


def as_reference(
    reference: AnnData | pd.DataFrame | Reference, *, type_key: str | None = None, scale: Scale | None = None
) -> Reference:
    """Return mean expression per cell type from any form of a reference.

    Parameters
    ----------
    reference
        Single cells as an AnnData with their types in ``obs[type_key]``, or profiles as a DataFrame, types x genes. The
        types of a DataFrame are its index, or a column ``type_key``; profiles of one type are averaged, and columns
        that hold no numbers are left out.
    type_key
        Column of the types, see above; required for an AnnData.
    scale
        ``"linear"`` (counts, counts per 10,000, proportions) or ``"log1p"``, which is undone before averaging; if None,
        values that look like logarithms are refused.

    Raises
    ------
    TypeError
        If the reference is neither.
    KeyError
        If there is no column ``type_key``.
    ValueError
        If a value is negative, NaN or infinite, or looks like a logarithm and ``scale`` is None, or types are missing.
    """
    if isinstance(reference, Reference):
        return reference
    if scale not in (None, "linear", "log1p"):
        msg = f"scale={scale!r} is unknown; pass 'linear' or 'log1p'."
        raise ValueError(msg)
    if isinstance(reference, pd.DataFrame):
        values, genes, types = _of_frame(reference, type_key)
    elif hasattr(reference, "obs") and hasattr(reference, "X"):
        values, genes, types = _of_cells(reference, type_key)
    else:
        msg = f"reference is of type {type(reference).__name__}: pass an AnnData or a DataFrame, types x genes."
        raise TypeError(msg)
    if types.isna().any():
        msg = f"{int(types.isna().sum())} of {len(types)} rows of the reference have no type: leave them out."
        raise ValueError(msg)
    genes = pd.Index(genes).astype(str)
    if not genes.is_unique:
        msg = f"The reference names genes more than once: {listed(genes[genes.duplicated()].unique())}."
        raise ValueError(msg)
    _check_scale(values, scale, logged=hasattr(reference, "uns") and "log1p" in reference.uns)
    if scale == "log1p":
        values = values.copy()
        values.data = np.expm1(values.data)
    is_cells = not isinstance(reference, pd.DataFrame)
    return _averaged(values, genes, types.astype(str), is_cells=is_cells)


def _of_frame(frame: pd.DataFrame, type_key: str | None) -> tuple[sparse.csr_array, Any, pd.Series]:
    if type_key is None:
        types = pd.Series(frame.index)
    elif type_key in frame.columns:
        types = frame[type_key].reset_index(drop=True)
        frame = frame.drop(columns=type_key)
    else:
        msg = f"type_key={type_key!r} is no column of the reference; without it its index gives the types."
        raise KeyError(msg)
    numbers = frame.select_dtypes("number")
    if numbers.empty:
        msg = f"The reference has no numbers (shape {frame.shape}): genes x types is its transpose, pass reference.T."
        raise ValueError(msg)
    return sparse.csr_array(numbers.to_numpy(dtype=np.float64)), numbers.columns, types


def _of_cells(cells: Any, type_key: str | None) -> tuple[sparse.csr_array, Any, pd.Series]:
    if type_key is None or type_key not in cells.obs:
        msg = f"type_key={type_key!r} must be a column of the reference's obs; there are: {listed(cells.obs.columns)}."
        raise KeyError(msg)
    types = cells.obs[type_key].reset_index(drop=True).astype(object)
    return sparse.csr_array(cells.X, dtype=np.float64), cells.var_names, types


def _check_scale(values: sparse.csr_array, scale: Scale | None, *, logged: bool) -> None:
    data = values.data
    if not np.isfinite(data).all():
        msg = f"The reference has {int((~np.isfinite(data)).sum())} NaN or infinite values."
        raise ValueError(msg)
    if data.size and data.min() < 0:
        msg = (
            f"The reference has {int((data < 0).sum())} negative values (lowest {data.min():g}): it has been scaled or "
            "centred. Pass counts or their means."
        )
        raise ValueError(msg)
    if scale is None and (logged or _looks_logged(values)):
        why = "its uns says so" if logged else f"none is above {data.max():.3g}, and they are not whole"
        msg = (
            f"The values of the reference look like logarithms ({why}). Pass scale='log1p' if they are "
            "log(1 + x), which is then undone, or scale='linear' if they are not."
        )
        raise ValueError(msg)


def _looks_logged(values: sparse.csr_array) -> bool:
    data = values.data
    if data.size == 0 or data.max() > _LARGEST_LOG or np.array_equal(data, np.round(data)):
        return False
    are_proportions = values.sum(axis=1).max() <= 1 + 1e-6
    return not are_proportions


def _averaged(values: sparse.csr_array, genes: pd.Index, types: pd.Series, *, is_cells: bool) -> Reference:
    names, code = np.unique(types.to_numpy(dtype=str), return_inverse=True)
    profiles, detected = (pd.DataFrame(mean, names, genes) for mean in group_means(values, code, len(names)))
    return Reference(profiles, detected if is_cells else None, pd.Series(np.bincount(code), index=names))


def shared_genes(genes: pd.Index, reference_genes: pd.Index) -> pd.Index:
    """Return the genes of a table that a reference has too, in the table's order; those that it lacks are logged.

    Raises
    ------
    ValueError
        If they share fewer than 10 genes, and not all of the table.
    """
    there = genes.isin(reference_genes)
    if there.sum() < min(_FEWEST_SHARED, len(genes)) or not there.any():
        msg = (
            f"The reference shares {int(there.sum())} genes with the table, {_FEWEST_SHARED} are needed. It has "
            f"{len(reference_genes)} ({listed(reference_genes[:5])}), the table {len(genes)} ({listed(genes[:5])}). "
            "Are names spelled alike, and is it types x genes (else pass its transpose, .T)?"
        )
        raise ValueError(msg)
    if not there.all():
        missing = genes[~there]
        logger.warning(
            "The reference lacks %d of %d genes of the table, left out: %s.", len(missing), len(genes), listed(missing)
        )
    return genes[there]


def logarithms(profiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(1 + counts per 10,000) of each row; 0 for a row without counts."""
    totals = profiles.sum(axis=1, keepdims=True)
    return np.log1p(np.divide(1e4 * profiles, totals, out=np.zeros_like(profiles), where=totals > 0))
