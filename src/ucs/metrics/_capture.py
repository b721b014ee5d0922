"""Capture: the share of the transcripts that are in cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._evaluation.arguments import checked_ids, tissue_for
from ucs._evaluation.contingency import ratio

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from ucs._evaluation.rasters import CellRaster
    from ucs._evaluation.tissue import Tissue


@dataclass(frozen=True)
class Capture:
    """Share of the transcripts that are in cells.

    Attributes
    ----------
    share
        ``n_assigned / n_transcripts``; NaN without transcripts.
    n_assigned, n_transcripts
        Number of transcripts in cells, and of all.
    per_gene
        One row per gene (the index) with ``n_transcripts``, ``n_assigned`` and ``share``; None if no genes were given.
    """

    share: float
    n_assigned: int
    n_transcripts: int
    per_gene: pd.DataFrame | None


def capture(
    cell_id: ArrayLike | str,
    *,
    gene: ArrayLike | None = None,
    count: ArrayLike | None = None,
    sdata: SpatialData | Tissue | None = None,
) -> Capture:
    """Return the share of the transcripts that are assigned to a cell, in total and per gene.

    It does not say whether they belong there. Larger cells capture more and are less pure, so state it together with a
    purity (:func:`mecr`, :func:`negative_marker_purity`, :func:`spurious_coexpression`).

    Parameters
    ----------
    cell_id
        ``(n,)`` integers, the cell that each transcript was assigned to, 0 = none; or the key of labels, shapes or a
        table of ``sdata``, in which the transcripts of genes are then looked up (control features do not count).
    gene
        ``(n,)`` gene of each transcript. Not with a key.
    count
        ``(n,)`` number of molecules that each entry stands for; 1 if None. Not with a key.
    sdata
        Object, or :class:`Tissue`, that has the key.

    Returns
    -------
    See :class:`Capture`.

    Raises
    ------
    ValueError
        If lengths differ, ids are no integers, or an id or a count is negative.
    TypeError
        If a key is given without ``sdata``, or an array with it.

    Examples
    --------
    >>> found = capture([1, 0, 1, 2], gene=["A", "A", "B", "B"])
    >>> found.share, found.per_gene["share"].to_dict()
    (0.75, {'A': 0.5, 'B': 1.0})
    """
    tissue = tissue_for(cell_id, sdata)
    if tissue is not None:
        if gene is not None or count is not None:
            raise ValueError("gene= and count= are known where sdata= is given: leave them out.")
        return capture_of(tissue, tissue.cells(str(cell_id)))
    assigned = checked_ids(cell_id, "cell_id")
    if assigned.ndim != 1:
        raise ValueError(f"cell_id has shape {assigned.shape}: give one id per transcript.")
    weight = np.ones(len(assigned), dtype=np.int64) if count is None else np.asarray(count)
    genes = np.zeros(len(assigned), dtype=np.int64) if gene is None else np.asarray(gene)
    for name, array in (("gene", genes), ("count", weight)):
        if array.shape != assigned.shape:
            raise ValueError(f"cell_id has shape {assigned.shape} and {name} {array.shape}: give one per transcript.")
    if weight.size and weight.min() < 0:
        raise ValueError(f"count holds {weight.min()}: numbers of molecules must be 0 or more.")
    names, code = (np.zeros(1), genes) if gene is None else _encoded(genes)
    per_gene = _per_gene(names, code, assigned > 0, weight)
    return _summed(per_gene, with_genes=gene is not None)


def capture_of(tissue: Tissue, cells: CellRaster) -> Capture:
    """Return the capture of cells on a tissue's raster."""
    transcripts, genes = tissue.transcripts.map, tissue.genes
    of_genes = transcripts.feature < len(genes)
    assigned = cells.labels[transcripts.rows(), transcripts.column] > 0
    per_gene = _per_gene(
        np.asarray(genes), transcripts.feature[of_genes], assigned[of_genes], transcripts.count[of_genes]
    )
    return _summed(per_gene, with_genes=True)


def _encoded(genes: NDArray) -> tuple[Any, NDArray[np.int64]]:
    codes, names = pd.factorize(genes, sort=True)
    if (codes < 0).any():
        raise ValueError(f"{int((codes < 0).sum())} of {len(codes)} transcripts have no gene: leave them out.")
    return names, codes


def _per_gene(names: Any, code: NDArray, assigned: NDArray[np.bool_], weight: NDArray) -> pd.DataFrame:
    n = np.bincount(code, weights=weight, minlength=len(names)).astype(np.int64)
    n_assigned = np.bincount(code[assigned], weights=weight[assigned], minlength=len(names)).astype(np.int64)
    share = np.divide(n_assigned, n, out=np.full(len(n), np.nan), where=n > 0)
    index = pd.Index(names, name="gene")
    return pd.DataFrame({"n_transcripts": n, "n_assigned": n_assigned, "share": share}, index=index)


def _summed(per_gene: pd.DataFrame, *, with_genes: bool) -> Capture:
    n, n_assigned = int(per_gene["n_transcripts"].sum()), int(per_gene["n_assigned"].sum())
    return Capture(ratio(n_assigned, n), n_assigned, n, per_gene if with_genes else None)
