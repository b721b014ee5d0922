"""Which genes the nets see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ucs._checks import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy.sparse import csr_matrix

    from ucs.pp._transcripts import Transcripts

N_HIGHLY_VARIABLE = 1000
"""Genes that ``"hvg"`` keeps (paper, "Preprocess")."""

BIN_UM = 10.0
"""Side of the bins on which the variability of genes is measured: there are no cells yet."""


def choose_genes(genes: str | int | Sequence[str], transcripts: Transcripts) -> tuple[str, ...]:
    """Return the genes that the nets see, in alphabetical order; controls are never among them.

    Parameters
    ----------
    genes
        ``"all"``; ``"hvg"``, the 1000 most highly variable ones; a number of them; a list of names; or a regular
        expression that whole names match.
    transcripts
        Of the sample.

    Raises
    ------
    ValueError
        If a listed gene is not in the data, a pattern fits none, a number is not positive, or the list is empty.
    ImportError
        If highly variable genes are asked for and scanpy is not installed.
    """
    available = transcripts.genes
    if isinstance(genes, str):
        if genes == "all":
            return available
        if genes == "hvg":
            return highly_variable(transcripts, N_HIGHLY_VARIABLE)
        return _fitting(genes, available)
    if isinstance(genes, int | np.integer):
        if genes < 1:
            msg = f"genes={genes!r} must be a positive number of genes."
            raise ValueError(msg)
        return highly_variable(transcripts, int(genes))
    chosen = set(genes)
    unknown = sorted(chosen - set(available))
    if unknown:
        msg = f"genes lists {len(unknown)} names that the data does not have: {listed(unknown)}."
        raise ValueError(msg)
    if not chosen:
        msg = "genes is an empty list; pass 'all' or at least one gene."
        raise ValueError(msg)
    return tuple(sorted(chosen))


def _fitting(pattern: str, available: Sequence[str]) -> tuple[str, ...]:
    try:
        fitting = tuple(name for name in available if re.fullmatch(pattern, name))
    except re.error as error:
        msg = f"genes={pattern!r} is neither 'all' nor 'hvg' and no regular expression: {error}."
        raise ValueError(msg) from error
    if not fitting:
        msg = f"genes={pattern!r} is neither 'all' nor 'hvg' and, as a pattern, fits no gene of {listed(available)}."
        raise ValueError(msg)
    return fitting


def highly_variable(transcripts: Transcripts, n: int) -> tuple[str, ...]:
    """Return the ``n`` most highly variable genes; all if there are no more.

    By scanpy on counts binned to 10 um, by the variance of Pearson residuals (Lause et al., Genome Biology 2021).
    """
    if n >= len(transcripts.genes):
        return transcripts.genes
    try:
        import scanpy as sc
    except ImportError as error:
        msg = "Highly variable genes need scanpy: pip install 'spatialdata-ucs[analysis]', or pass a list of genes."
        raise ImportError(msg) from error
    from anndata import AnnData

    bins = AnnData(binned_counts(transcripts).astype(np.float32))
    # Pearson residuals need no normalisation, which would be noise in bins with a handful of transcripts.
    sc.experimental.pp.highly_variable_genes(bins, flavor="pearson_residuals", n_top_genes=n)
    variable = bins.var["highly_variable"].to_numpy()
    return tuple(name for name, chosen in zip(transcripts.genes, variable, strict=True) if chosen)


def binned_counts(transcripts: Transcripts, *, bin_um: float = BIN_UM) -> csr_matrix:
    """Return the counts of the genes in square bins that hold any, ``(bins, genes)``."""
    from scipy.sparse import coo_matrix

    side = max(1, round(bin_um / transcripts.grid.um_per_px))
    source = transcripts.map
    of_gene = source.feature < len(transcripts.genes)
    columns = -(-source.shape[1] // side)
    key = (source.rows()[of_gene] // side).astype(np.int64) * columns + source.column[of_gene] // side
    occupied, index = np.unique(key, return_inverse=True)
    shape = (len(occupied), len(transcripts.genes))
    return coo_matrix((source.count[of_gene], (index, source.feature[of_gene])), shape=shape).tocsr()
