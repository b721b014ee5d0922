"""Which genes are found in which cells, at the depth of each cell or at a common depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DEPTH_QUANTILE = 0.25  # so that three quarters of the cells have the depth


def detection(counts: sparse.csr_array, depth: float | None = None) -> sparse.csr_array:
    """Return the probability that each gene is found in each cell after thinning cells to a common depth.

    To thin a cell of N transcripts to k is to keep each with probability k / N: a gene with x of them is found with
    probability 1 - (1 - k / N)^x. Given the counts, genes are independent: the probability of finding two of them is
    the product. Without a depth the probability is 1 where there is a transcript.

    Parameters
    ----------
    counts
        ``(n_cells, n_genes)``.
    depth
        Transcripts per cell, or None.

    Returns
    -------
    Sparse ``(n_kept, n_genes)``, without the cells that have fewer transcripts than ``depth``.
    """
    if depth is None:
        found = counts.copy()
        found.data = np.ones_like(found.data)
        return found
    totals = np.asarray(counts.sum(axis=1)).ravel()
    kept = np.flatnonzero(totals >= depth)
    found = counts[kept]
    missed = np.repeat(1 - depth / totals[kept], np.diff(found.indptr))
    found.data = 1 - missed**found.data
    return found


def found_together(found: sparse.csr_array) -> NDArray[np.float64]:
    """Return the expected number of cells in which both genes of each pair are found, ``(n_genes, n_genes)``.

    The diagonal holds the expected number of cells in which the gene itself is found.
    """
    together: NDArray[np.float64] = (found.T @ found).toarray()
    np.fill_diagonal(together, np.asarray(found.sum(axis=0)).ravel())
    return together


def common_depth(counts: sparse.csr_array) -> float | None:
    """Return the lower quartile of the transcripts of cells that have any, at least 1; None if no cell has."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    return max(1.0, float(np.quantile(totals[totals > 0], _DEPTH_QUANTILE))) if totals.any() else None
