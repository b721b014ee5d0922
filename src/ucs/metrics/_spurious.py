"""Spurious co-expression: genes that keep apart in nuclei and meet in cells, without any reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ucs._evaluation.contingency import ratio
from ucs._evaluation.counts import counts_of, resolved_table
from ucs._evaluation.detection import common_depth, detection, found_together
from ucs._utils.checks import check_at_least, check_positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue

_MOST_GENES = 2000  # those found most often: pairs of others are next to never expected together
_FEWEST_NUCLEI = 20  # per half of the tissue
_SQUARE_UM = 50.0
_APART = -1.0  # standard deviations from chance: pairs that meet more often are not thought to avoid each other


@dataclass(frozen=True)
class SpuriousCoexpression:
    """Spurious co-expression.

    Attributes
    ----------
    cells, nuclei
        How often the pairs of genes are found in one cell (in one nucleus), relative to chance: 0 = never, 1 = as often
        as if cells were mixed at random.
    excess
        ``cells - nuclei``: what the segmentation adds.
    depth
        Transcripts per cell at which both were compared.
    n_pairs
        Pairs of genes in both halves together.
    """

    cells: float
    nuclei: float
    excess: float
    depth: float
    n_pairs: int


class Placed(NamedTuple):
    """Counts of cells, and in which half of the tissue each lies."""

    matrix: sparse.csr_array
    half: NDArray[np.int64]


def spurious_coexpression(
    table: AnnData | str,
    nuclei: AnnData | str,
    *,
    n_pairs: int = 500,
    depth: float | None = None,
    sdata: SpatialData | Tissue | None = None,
) -> SpuriousCoexpression:
    """Return how often genes that avoid each other in nuclei are found together in cells. Lower is purer.

    Nuclei are the cleanest samples of single cells that the data has. Pairs of genes that are found together least in
    them are taken, and counted in the cells: for pairs (a, b), the sum of the numbers of cells with both over the sum
    of the numbers expected if a and b were independent, n(a) n(b) / n. Chance is what each segmentation's own n(a) and
    n(b) make it, so that genes of the cytoplasm, which cells have and nuclei lack, do not count against cells. Cells
    and nuclei are compared at one depth. A pair that avoids each other by chance would not do so elsewhere: pairs are
    chosen in one half of the tissue (every other square of 50 um) and counted in the other, both ways round.

    Parameters
    ----------
    table, nuclei
        AnnData of raw counts, cells (nuclei) x the same genes, with ``obsm["spatial"]``, the centroids in um; or keys
        of labels or shapes of ``sdata``.
    n_pairs
        At most so many pairs are chosen in each half, of those of which at least one nucleus is expected to have both
        and that fall short of that by a standard deviation.
    depth
        Transcripts per cell at which all are compared (see :func:`mecr`); cells and nuclei with fewer are left out. If
        None, the lower quartile of the nuclei's totals.
    sdata
        Where the keys are to be found.

    Returns
    -------
    See :class:`SpuriousCoexpression`. Cells that are the true ones have an ``excess`` near 0. All is NaN where no genes
    avoid each other.

    Raises
    ------
    ValueError
        If tables have no positions or other genes, or a half has fewer than 20 nuclei with the depth.

    References
    ----------
    The idea, pairs of genes that nuclei keep apart: Jones et al., "Cell simulation as cell segmentation", Nature
    Methods 22, 2025, who choose pairs by how much expanding the nuclei raises P(a | b). Halves, chance and expected
    counts at one depth are this package's: with pairs chosen and counted in the same nuclei, true cells look as bad as
    expanded ones.
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
    apart = Apart.of(Placed(of_nuclei.matrix, halves[1]), n_pairs=n_pairs, depth=depth)
    return spurious_of(Placed(cells.matrix, halves[0]), apart)


def halves_of(table: Any, name: str) -> NDArray[np.int64]:
    """Return the half of the tissue, 0 or 1, that each row lies in: black and white squares of a chess board.

    Raises
    ------
    ValueError
        If the table has no positions.
    """
    if not hasattr(table, "obsm") or "spatial" not in table.obsm:
        msg = f"{name} has no obsm['spatial']: the centroids in um are needed, to part the tissue into halves."
        raise ValueError(msg)
    positions = np.asarray(table.obsm["spatial"], dtype=np.float64)[:, :2]
    half: NDArray[np.int64] = np.floor(positions / _SQUARE_UM).astype(np.int64).sum(axis=1) % 2
    return half


class Apart(NamedTuple):
    """Pairs of genes that the nuclei of each half keep apart, and how often they meet in the nuclei of the other.

    Attributes
    ----------
    genes
        Columns of the genes that are looked at.
    pairs
        For each half, the first and second ones of the pairs, as indices of ``genes``.
    in_nuclei
        As in :class:`SpuriousCoexpression`.
    depth
        Transcripts of these genes per cell.
    """

    genes: NDArray[np.intp]
    pairs: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]
    in_nuclei: float
    depth: float

    @classmethod
    def of(cls, nuclei: Placed, *, n_pairs: int = 500, depth: float | None = None) -> Apart:
        """Choose and count them."""
        depth = depth or common_depth(nuclei.matrix) or 1.0
        genes = _frequent(nuclei.matrix)
        frequent = Placed(nuclei.matrix[:, genes], nuclei.half)
        halves = [frequent.matrix[np.flatnonzero(nuclei.half == half)] for half in (0, 1)]
        pairs = tuple(_exclusive_pairs(half, n_pairs) for half in halves)
        return cls(genes, pairs, _met_in_halves(frequent, pairs, depth), depth)


def spurious_of(cells: Placed, apart: Apart) -> SpuriousCoexpression:
    """Return the spurious co-expression of placed counts; see :func:`spurious_coexpression`."""
    in_cells = _met_in_halves(Placed(cells.matrix[:, apart.genes], cells.half), apart.pairs, apart.depth)
    n = sum(len(first) for first, _ in apart.pairs)
    return SpuriousCoexpression(in_cells, apart.in_nuclei, in_cells - apart.in_nuclei, apart.depth, n)


def _met_in_halves(
    placed: Placed, pairs: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]], depth: float
) -> float:
    """Return how often the pairs of each half meet in the other, relative to chance."""
    met = np.array([_met(placed, 1 - half, of_half, depth) for half, of_half in enumerate(pairs)]).sum(axis=0)
    return ratio(float(met[0]), float(met[1]))


def _frequent(matrix: sparse.csr_array) -> NDArray[np.intp]:
    """Return the genes found in most nuclei, in the order of the columns."""
    n_nuclei = np.asarray((matrix > 0).sum(axis=0)).ravel()
    genes: NDArray[np.intp] = np.sort(np.argsort(-n_nuclei, kind="stable")[:_MOST_GENES])
    return genes


def _exclusive_pairs(matrix: sparse.csr_array, n_pairs: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
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
    order = order[score[order] <= _APART]
    return first[order], second[order]


def _met(
    placed: Placed, half: int, pairs: tuple[NDArray[np.intp], NDArray[np.intp]], depth: float
) -> tuple[float, float]:
    """Return in how many cells of a half the genes of the pairs are found together, and how many would be by chance."""
    found = detection(placed.matrix[np.flatnonzero(placed.half == half)], depth)
    if found.shape[0] == 0:
        return 0.0, 0.0
    first, second = pairs
    n_with = np.asarray(found.sum(axis=0)).ravel()
    together = found[:, first].multiply(found[:, second]).sum()
    return float(together), float((n_with[first] * n_with[second]).sum() / found.shape[0])
