"""Spurious co-expression: pairs of genes that avoid each other in nuclei and meet in cells. No reference is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ucs._evaluation.contingency import ratio
from ucs._evaluation.counts import counts_of, resolved_table
from ucs._evaluation.detection import common_depth, detection, found_together
from ucs._utils.checks import check_at_least, check_positive

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue

    GenePairs = tuple[NDArray[np.intp], NDArray[np.intp]]  # first and second genes, indices of columns

_MOST_GENES = 2000  # the most frequent ones: pairs of rarer genes are hardly ever expected in one nucleus
_FEWEST_NUCLEI = 20  # per half: with fewer, chance alone keeps most pairs apart
_SQUARE_UM = 50.0  # several cells across: few lie on a border, yet both halves have the same tissue
_HIGHEST_SCORE = -1.0  # standard deviations from chance: pairs above do not avoid each other


@dataclass(frozen=True)
class SpuriousCoexpression:
    """Spurious co-expression.

    Attributes
    ----------
    cells, nuclei
        How often the pairs of genes are found in one cell (in one nucleus), relative to chance: 0 = never, 1 = as often
        as if transcripts were mixed at random.
    excess
        ``cells - nuclei``: what the segmentation adds.
    depth
        Transcripts per cell at which both were compared.
    n_pairs
        Number of pairs, of both halves together.
    """

    cells: float
    nuclei: float
    excess: float
    depth: float
    n_pairs: int


class CountsByHalf(NamedTuple):
    """Counts, cells x genes, and the half of the tissue (0 or 1) that each cell lies in."""

    matrix: sparse.csr_array
    half: NDArray[np.int64]


class AvoidingPairs(NamedTuple):
    """Pairs of genes that avoid each other in nuclei.

    Attributes
    ----------
    genes
        Columns of the genes that were considered.
    pairs
        For each half of the tissue, the pairs that avoid each other there, as indices of ``genes``.
    in_nuclei
        Co-occurrence of each half's pairs in the nuclei of the other, relative to chance.
    depth
        Transcripts per cell at which cells are compared.
    """

    genes: NDArray[np.intp]
    pairs: tuple[GenePairs, ...]
    in_nuclei: float
    depth: float


def spurious_coexpression(
    table: AnnData | str,
    nuclei: AnnData | str,
    *,
    n_pairs: int = 500,
    depth: float | None = None,
    sdata: SpatialData | Tissue | None = None,
) -> SpuriousCoexpression:
    """Return how often genes that avoid each other in nuclei are found together in cells. Lower is purer.

    Nuclei are the purest samples of single cells in the data. The pairs of genes that are found together least in them
    are counted in the cells: the number of cells with both genes, over the number expected if they were independent,
    n(a) n(b) / n, both summed over the pairs (a, b). n(a) and n(b) are those of the segmentation itself, so that genes
    of the cytoplasm, which nuclei lack, do not count against cells. Cells and nuclei are compared at one depth. Pairs
    are chosen in one half of the tissue (every other square of 50 um) and counted in the other, and the other way
    round, so that pairs which avoid each other by chance do not count.

    Parameters
    ----------
    table, nuclei
        AnnData of raw counts, cells (nuclei) x the same genes, with ``obsm["spatial"]``, the centroids in um; or keys
        of labels or shapes of ``sdata``.
    n_pairs
        Largest number of pairs in each half. Pairs are candidates if at least one nucleus is expected to have both
        genes, and if those that have both fall short of this number by one standard deviation or more.
    depth
        Transcripts per cell at which all are compared (see :func:`mecr`); cells and nuclei with fewer are left out. If
        None, the lower quartile of the nuclei.
    sdata
        Object, or :class:`Tissue`, that has the keys.

    Returns
    -------
    See :class:`SpuriousCoexpression`. True cells have an ``excess`` near 0. The rates are NaN if no genes avoid each
    other.

    Raises
    ------
    ValueError
        If tables have no positions or share fewer than two genes, or a half has fewer than 20 nuclei.

    References
    ----------
    Pairs of genes that nuclei keep apart: Jones et al., "Cell simulation as cell segmentation", Nature Methods 22,
    2025, who choose pairs by how much expanding the nuclei raises P(a | b). Halves, chance and expected counts at one
    depth are this package's: with pairs chosen and counted in the same nuclei, true cells look as bad as expanded ones.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=160, height_um=160, n_genes=40, seed=0)
    >>> tissue = ucs.metrics.Tissue(sdata, resolution=1.0)
    >>> sdata["grown"] = ucs.metrics.expand_nuclei("nucleus_labels", 10, sdata=tissue)
    >>> true = ucs.metrics.spurious_coexpression("true_cells", "nucleus_labels", sdata=tissue)
    >>> grown = ucs.metrics.spurious_coexpression("grown", "nucleus_labels", sdata=tissue)
    >>> true.cells < grown.cells
    True
    """
    check_at_least(n_pairs, 1, "n_pairs")
    if depth is not None:
        check_positive(depth, "depth")
    tables = [resolved_table(table, sdata, "table"), resolved_table(nuclei, sdata, "nuclei")]
    cells, of_nuclei = counts_of(tables[0], None), counts_of(tables[1], None, "nuclei")
    if not of_nuclei.genes.equals(cells.genes):
        shared = cells.genes[cells.genes.isin(of_nuclei.genes)]
        if len(shared) < 2:
            msg = f"table and nuclei share {len(shared)} genes: both must count the same ones."
            raise ValueError(msg)
        cells, of_nuclei = cells.only(shared), of_nuclei.only(shared)
    halves = [halves_of(one, name) for one, name in zip(tables, ("table", "nuclei"), strict=True)]
    avoiding = avoiding_pairs(CountsByHalf(of_nuclei.matrix, halves[1]), n_pairs=n_pairs, depth=depth)
    return spurious_of(CountsByHalf(cells.matrix, halves[0]), avoiding)


def halves_of(table: Any, name: str) -> NDArray[np.int64]:
    """Return the half of the tissue, 0 or 1, that each row lies in: black and white squares of a chess board.

    Raises
    ------
    ValueError
        If the table has no positions.
    """
    if not hasattr(table, "obsm") or "spatial" not in table.obsm:
        msg = f"{name} has no obsm['spatial']: the centroids in um are needed to divide the tissue into halves."
        raise ValueError(msg)
    positions = np.asarray(table.obsm["spatial"], dtype=np.float64)[:, :2]
    half: NDArray[np.int64] = np.floor(positions / _SQUARE_UM).astype(np.int64).sum(axis=1) % 2
    return half


def avoiding_pairs(nuclei: CountsByHalf, *, n_pairs: int = 500, depth: float | None = None) -> AvoidingPairs:
    """Choose the pairs of genes that avoid each other in nuclei; see :func:`spurious_coexpression`."""
    depth = depth or common_depth(nuclei.matrix) or 1.0
    genes = _most_frequent(nuclei.matrix)
    frequent = CountsByHalf(nuclei.matrix[:, genes], nuclei.half)
    pairs = tuple(_exclusive_pairs(frequent.matrix[np.flatnonzero(nuclei.half == half)], n_pairs) for half in (0, 1))
    return AvoidingPairs(genes, pairs, _relative_to_chance(frequent, pairs, depth), depth)


def spurious_of(cells: CountsByHalf, avoiding: AvoidingPairs) -> SpuriousCoexpression:
    """Return the spurious co-expression of counted cells; see :func:`spurious_coexpression`."""
    frequent = CountsByHalf(cells.matrix[:, avoiding.genes], cells.half)
    in_cells = _relative_to_chance(frequent, avoiding.pairs, avoiding.depth)
    n_pairs = sum(len(first) for first, _ in avoiding.pairs)
    return SpuriousCoexpression(in_cells, avoiding.in_nuclei, in_cells - avoiding.in_nuclei, avoiding.depth, n_pairs)


def _relative_to_chance(cells: CountsByHalf, pairs: tuple[GenePairs, ...], depth: float) -> float:
    """Return how often the pairs of each half occur together in the other, relative to chance."""
    sums = [_cooccurrence(cells, 1 - half, of_half, depth) for half, of_half in enumerate(pairs)]
    observed, expected = np.array(sums).sum(axis=0)
    return ratio(float(observed), float(expected))


def _most_frequent(matrix: sparse.csr_array) -> NDArray[np.intp]:
    """Return the genes found in most nuclei, in the order of the columns."""
    n_nuclei = np.asarray((matrix > 0).sum(axis=0)).ravel()
    genes: NDArray[np.intp] = np.sort(np.argsort(-n_nuclei, kind="stable")[:_MOST_GENES])
    return genes


def _exclusive_pairs(matrix: sparse.csr_array, n_pairs: int) -> GenePairs:
    """Return the pairs of genes that are found together least, measured in standard deviations from chance."""
    if matrix.shape[0] < _FEWEST_NUCLEI:
        msg = f"A half of the tissue has {matrix.shape[0]} nuclei, {_FEWEST_NUCLEI} are needed to see which genes meet."
        raise ValueError(msg)
    together = found_together(detection(matrix))
    n_with = np.diag(together)
    expected = np.outer(n_with, n_with) / matrix.shape[0]
    likely = np.triu(expected >= 1, k=1)
    first, second = np.nonzero(likely)
    by_chance = expected[likely]
    score = (together[likely] - by_chance) / np.sqrt(by_chance)
    order = np.argsort(score, kind="stable")[:n_pairs]
    order = order[score[order] <= _HIGHEST_SCORE]
    return first[order], second[order]


def _cooccurrence(cells: CountsByHalf, half: int, pairs: GenePairs, depth: float) -> tuple[float, float]:
    """Return the number of cells of a half with both genes of a pair, summed over the pairs, and that by chance."""
    found = detection(cells.matrix[np.flatnonzero(cells.half == half)], depth)
    if found.shape[0] == 0:
        return 0.0, 0.0
    first, second = pairs
    n_with = np.asarray(found.sum(axis=0)).ravel()
    together = found[:, first].multiply(found[:, second]).sum()
    return float(together), float((n_with[first] * n_with[second]).sum() / found.shape[0])
