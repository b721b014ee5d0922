"""Which genes the nets see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.transcripts import ENTRIES_AT_ONCE
from ucs._utils.checks import listed
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from scipy.sparse import csr_matrix

    from ucs._read.transcripts import Transcripts

N_HIGHLY_VARIABLE = 1000
"""Genes that ``"hvg"`` keeps (paper, "Preprocess")."""

BIN_UM = 10.0
"""Side of the bins on which the variability of genes is measured: there are no cells yet."""

_SAME_PANEL = 0.9
_ENOUGH_IN_COMMON = 0.5


def choose_genes(genes: str | int | Sequence[str], samples: Sequence[Transcripts]) -> tuple[str, ...]:
    """Return the genes that the nets see, in alphabetical order; controls are never among them.

    Parameters
    ----------
    genes
        ``"all"``; ``"hvg"``, the 1000 most highly variable ones; a number of them; a list of names; or a regular
        expression that whole names match.
    samples
        Transcripts of the samples.

    Raises
    ------
    ValueError
        If a listed gene is not in the data, a pattern fits none, a number is not positive, the list is empty, or the
        samples are of different panels.
    ImportError
        If highly variable genes are asked for and scanpy is not installed.
    """
    panels = [transcripts.genes for transcripts in samples]
    if isinstance(genes, str):
        available = common_genes(panels)
        if genes == "all":
            return available
        return highly_variable(samples, available, N_HIGHLY_VARIABLE) if genes == "hvg" else _fitting(genes, available)
    if isinstance(genes, int | np.integer):
        if genes < 1:
            msg = f"genes={genes!r} must be a positive number of genes."
            raise ValueError(msg)
        return highly_variable(samples, common_genes(panels), int(genes))
    chosen = set(genes)
    unknown = sorted(chosen.difference(*panels))
    if unknown:
        msg = f"genes lists {len(unknown)} names that the data does not have: {listed(unknown)}."
        raise ValueError(msg)
    if not chosen:
        msg = "genes is an empty list; pass 'all' or at least one gene."
        raise ValueError(msg)
    return tuple(sorted(chosen))


def is_by_variability(genes: str | int | Sequence[str]) -> bool:
    """Tell whether :func:`choose_genes` measures counts."""
    return isinstance(genes, int | np.integer) or (isinstance(genes, str) and genes == "hvg")


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


def common_genes(panels: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the genes that several samples can be learned from together, in alphabetical order.

    A sample lists the genes that occur in it. Of one panel, rare genes may happen to be missing here or there, so all
    that occur anywhere are taken. If more than a tenth is not common to all, the panels differ: a gene that was not
    asked for is not the same as one that is not there, so only the common ones are taken, with a warning.

    Raises
    ------
    ValueError
        If less than half of the genes are common to all.
    """
    union, common = set[str]().union(*panels), set(panels[0]).intersection(*panels)
    if len(common) >= _SAME_PANEL * len(union):
        return tuple(sorted(union))
    of_each = ", ".join(str(len(panel)) for panel in panels)
    if len(common) < _ENOUGH_IN_COMMON * len(union):
        msg = (
            f"The samples have {of_each} genes, of which {len(common)} of {len(union)} are common to all: they are of "
            "different panels. Train a model for each, or list those to learn from together: read={'genes': [...]}."
        )
        raise ValueError(msg)
    logger.warning(
        "%s genes occur in the samples: %d of %d are common to all, and the nets see only these. If the samples are of "
        "one panel, name its genes: read={'genes': [...]}.",
        of_each,
        len(common),
        len(union),
    )
    return tuple(sorted(common))


def import_scanpy() -> ModuleType:
    """Return scanpy; raise ``ImportError`` that says how to get it if it is not installed."""
    try:
        import scanpy as sc
    except ImportError as error:
        msg = "Highly variable genes need scanpy: pip install 'spatialdata-ucs[analysis]', or pass a list of genes."
        raise ImportError(msg) from error
    return sc


def highly_variable(samples: Sequence[Transcripts], genes: tuple[str, ...], n: int) -> tuple[str, ...]:
    """Return the ``n`` most highly variable of ``genes``; all if there are no more.

    By scanpy on counts binned to 10 um, by the variance of Pearson residuals (Lause et al., Genome Biology 2021).
    """
    if n >= len(genes):
        return genes
    sc = import_scanpy()
    from anndata import AnnData
    from scipy.sparse import vstack

    bins = AnnData(vstack([binned_counts(transcripts, genes) for transcripts in samples]).tocsr().astype(np.float32))
    # Pearson residuals need no normalisation, which would be noise in bins with a handful of transcripts.
    sc.experimental.pp.highly_variable_genes(bins, flavor="pearson_residuals", n_top_genes=n)
    variable = bins.var["highly_variable"].to_numpy()
    return tuple(name for name, chosen in zip(genes, variable, strict=True) if chosen)


def binned_counts(transcripts: Transcripts, genes: Sequence[str], *, bin_um: float = BIN_UM) -> csr_matrix:
    """Return the counts of ``genes`` in square bins that hold any transcript of a gene, ``(bins, genes)``."""
    from scipy.sparse import coo_matrix, vstack

    side = max(1, round(bin_um / transcripts.grid.um_per_px))
    number = {gene: k for k, gene in enumerate(genes)}
    wanted = np.array([number.get(gene, -1) for gene in transcripts.genes])
    columns = -(-transcripts.map.shape[1] // side)
    per_band = max(1, round(transcripts.map.shape[0] * ENTRIES_AT_ONCE / max(len(transcripts.map.count), 1) / side))
    bands = [coo_matrix((0, len(genes)), dtype=np.int32)]
    for _, _, band in transcripts.map.bands(per_band * side):  # no bin lies in two bands
        of_gene = band.feature < len(transcripts.genes)
        key = (band.rows()[of_gene] // side).astype(np.int64) * columns + band.column[of_gene] // side
        occupied, index = np.unique(key, return_inverse=True)
        gene = wanted[band.feature[of_gene]]
        kept = gene >= 0
        entries = (band.count[of_gene][kept], (index[kept], gene[kept]))
        bands.append(coo_matrix(entries, shape=(len(occupied), len(genes))).tocsr())
    return vstack(bands).tocsr()
