"""Marker genes of cell types, found in a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._evaluation.reference import Reference, Scale, as_reference
from ucs._utils.checks import listed
from ucs.methods.markers import Markers as Markers
from ucs.methods.markers import marker_matrix as marker_matrix

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray


def markers_from_reference(
    reference: AnnData | pd.DataFrame | Reference,
    *,
    type_key: str | None = None,
    scale: Scale | None = None,
    genes: Iterable[str] | None = None,
    min_share: float = 0.25,
    max_share: float = 0.01,
    min_fold: float = 5.0,
) -> dict[str, list[str]]:
    """Return the genes that one cell type of a reference expresses and all others lack.

    Parameters
    ----------
    reference, type_key, scale
        Single cells (AnnData with types in ``obs[type_key]``) or profiles (DataFrame, types x genes); ``scale="log1p"``
        if its values are logarithms.
    genes
        Candidates; all genes if None.
    min_share, max_share
        For single cells: a marker is found in more than ``min_share`` of the cells of its type and in less than
        ``max_share`` of all others.
    min_fold
        For profiles, where such shares are unknown: the mean of a marker is at least ``min_fold`` times that of any
        other type, and at least the median of the genes that its type expresses.

    Returns
    -------
    Type -> genes, for the types that have any. A gene is a marker of at most one type.

    Raises
    ------
    ValueError
        If there are fewer than two types; or values are negative, or look like logarithms and ``scale`` is None.

    References
    ----------
    Shares and limits for single cells: Hartman and Satija, "Comparative analysis of multiplexed in situ gene expression
    profiling technologies", eLife 13:RP96949, 2024.

    Examples
    --------
    >>> import pandas as pd
    >>> genes = {"CD3E": [20, 0, 1], "EPCAM": [0, 30, 1], "ACTB": [5, 5, 5]}
    >>> markers_from_reference(pd.DataFrame(genes, index=["T cell", "epithelium", "fibroblast"]))
    {'T cell': ['CD3E'], 'epithelium': ['EPCAM']}
    """
    found = as_reference(reference, type_key=type_key, scale=scale)
    if genes is not None:
        found = found.of_genes(found.profiles.columns[found.profiles.columns.isin(list(genes))])
    if len(found.profiles) < 2:
        msg = f"The reference has {len(found.profiles)} type ({listed(found.profiles.index)}): two are needed at least."
        raise ValueError(msg)
    if found.detected is None:
        is_marker = _by_fold(found, min_fold)
    else:
        is_marker = _by_share(found.detected.to_numpy(), found.n_cells.to_numpy()[:, None], min_share, max_share)
    names = found.profiles.columns
    return {
        str(name): names[row].tolist() for name, row in zip(found.profiles.index, is_marker, strict=True) if row.any()
    }


def _by_share(within: NDArray[np.float64], n: NDArray, min_share: float, max_share: float) -> NDArray[np.bool_]:
    elsewhere = ((n * within).sum(axis=0) - n * within) / (n.sum() - n)
    return (within > min_share) & (elsewhere < max_share)


def _by_fold(reference: Reference, min_fold: float) -> NDArray[np.bool_]:
    mean = reference.profiles.to_numpy()
    mean = mean / np.maximum(mean.sum(axis=1, keepdims=True), 1e-300)  # types differ in their total expression
    highest = mean.argmax(axis=0)
    second = np.partition(mean, -2, axis=0)[-2]
    expressed = np.where(mean > 0, mean, np.nan)
    with np.errstate(invalid="ignore"):
        typical = np.nanmedian(expressed, axis=1, keepdims=True)
    is_highest = np.arange(len(mean))[:, None] == highest
    return is_highest & (mean > 0) & (mean >= min_fold * second) & (mean >= typical)
