"""Whether the transcripts of a gene lie in nuclei more or less often than those of other genes of the same cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import ndtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 5  # of choosing the genes that others are compared with; they no longer change after two or three


class Localization(NamedTuple):
    """Results by gene, ``(n_genes,)`` each; NaN for genes with too few transcripts.

    Attributes
    ----------
    n, n_nuclear
        Transcripts in cells with a nucleus and cytoplasm, and those of them in nuclei.
    log2_ratio
        Logarithm of the common odds ratio: of the density in nuclei over that in cytoplasm, relative to genes without
        a preference.
    z, p
        Statistic and two-sided p value.
    """

    n: NDArray[np.float64]
    n_nuclear: NDArray[np.float64]
    log2_ratio: NDArray[np.float64]
    z: NDArray[np.float64]
    p: NDArray[np.float64]


def localization_of(nuclear: sparse.csr_array, total: sparse.csr_array, *, fewest: float, alpha: float) -> Localization:
    """Test each gene against genes without a preference, cell by cell (Mantel and Haenszel).

    In each cell the transcripts form a table: this gene or the genes it is compared with, in the nucleus or not. Given
    its margins, the expected number in the nucleus and its variance are those of the hypergeometric distribution; both
    are summed over the cells. Shapes, sizes and errors at the borders of cells are the same for both rows and cancel.
    The variance is the larger one of the hypergeometric and of that among cells, as transcripts may lie in clumps.

    All genes are compared with all others first, and then with those whose q value is above ``alpha`` and, if these are
    fewer than half, with the half with the least preference.

    Parameters
    ----------
    nuclear, total
        ``(n_cells, n_genes)`` transcripts in nuclei, and in whole cells.
    fewest
        Genes of which fewer transcripts are expected in nuclei, or out of them, are not tested.
    alpha
        False discovery rate.
    """
    used = np.asarray((total - nuclear).sum(axis=1)).ravel() * np.asarray(nuclear.sum(axis=1)).ravel() > 0
    n = total[used].tocoo()
    n.eliminate_zeros()
    k = nuclear[used].tocoo()
    row, gene, values = n.coords[0].astype(np.int64), n.coords[1].astype(np.int64), n.data.astype(np.float64)
    place = row * n.shape[1] + gene
    order = np.argsort(place)
    entry_k = np.zeros(len(values))
    at = np.searchsorted(place, k.coords[0].astype(np.int64) * n.shape[1] + k.coords[1], sorter=order)
    entry_k[order[at]] = k.data
    compared = np.ones(n.shape[1], dtype=bool)
    for _ in range(_ROUNDS):
        found = _against(entry_k, values, row, gene, n.shape, compared, fewest=fewest)
        before, compared = compared, _without_preference(found, alpha)
        if np.array_equal(before, compared):
            break
    return found


def _against(
    k: NDArray, n: NDArray, row: NDArray, gene: NDArray, shape: tuple[int, int], compared: NDArray, *, fewest: float
) -> Localization:
    """Compare all genes with some; ``k`` and ``n`` are the counts of the pairs of cell (row) and gene."""
    n_cells, n_genes = shape
    own = compared[gene]
    of_cell_k = np.bincount(row[own], k[own], n_cells)[row]
    of_cell_n = np.bincount(row[own], n[own], n_cells)[row]
    # A gene's own transcripts are in its first row, never in its second.
    both_k, both_n = of_cell_k + np.where(own, 0, k), of_cell_n + np.where(own, 0, n)
    other_k, other_n = both_k - k, both_n - n

    def summed(values: NDArray) -> NDArray[np.float64]:
        return np.bincount(gene, values, n_genes).astype(np.float64)

    difference = k - n * both_k / both_n
    last = np.maximum(both_n - 1, 1)
    given_margins = n * other_n * both_k * (both_n - both_k) / (both_n**2 * last)
    variance = np.maximum(summed(given_margins), summed(difference**2))
    up, down = summed(k * (other_n - other_k) / both_n), summed((n - k) * other_k / both_n)
    expected = summed(n * both_k / both_n)
    tested = (expected >= fewest) & (summed(n) - expected >= fewest) & (variance > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(tested, summed(difference) / np.sqrt(variance), np.nan)
        # Half a transcript on both sides: finite where all lie on one.
        log2_ratio = np.where(tested, np.log2((up + 0.5) / (down + 0.5)), np.nan)
    return Localization(summed(n), summed(k), log2_ratio, z, 2 * ndtr(-np.abs(z)))


def _without_preference(found: Localization, alpha: float) -> NDArray[np.bool_]:
    q = adjusted(found.p)
    none = ~(q <= alpha)
    if none.mean() >= 0.5:
        return none
    distance = np.abs(found.log2_ratio - np.nanmedian(found.log2_ratio))
    return none | ~(distance > np.nanmedian(distance))


def adjusted(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return q values by Benjamini and Hochberg; NaN where p is."""
    q = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        from scipy.stats import false_discovery_control  # takes a second to import

        q[known] = false_discovery_control(p[known])
    return q
