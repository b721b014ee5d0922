"""Mutually exclusive co-expression: markers of different cell types in one cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._evaluation.counts import Counts, counts_of
from ucs._evaluation.detection import detection, found_together
from ucs._evaluation.reference import Reference, Scale, as_reference, shared_genes
from ucs._utils.checks import check_positive
from ucs.methods.markers import Markers, marker_matrix
from ucs.metrics._markers import markers_from_reference

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue


@dataclass(frozen=True)
class Mecr:
    """Mutually exclusive co-expression.

    Attributes
    ----------
    rate
        Mean rate of the pairs; NaN if no gene of any pair was found.
    pairs
        One row per pair with ``gene_1``, ``gene_2``, ``n_both`` and ``n_either`` (numbers of cells, expected numbers at
        a depth) and ``rate``, NaN if neither gene was found.
    n_cells
        Number of cells that were compared.
    """

    rate: float
    pairs: pd.DataFrame
    n_cells: int


def mecr(
    table: AnnData | pd.DataFrame | str,
    markers: Markers | None = None,
    *,
    reference: AnnData | pd.DataFrame | Reference | None = None,
    type_key: str | None = None,
    scale: Scale | None = None,
    depth: float | None = None,
    sdata: SpatialData | Tissue | None = None,
) -> Mecr:
    """Return the mutually exclusive co-expression rate (MECR): how often markers of different types share a cell.

    The rate of a pair of genes is the number of cells with both, over the number of cells with at least one of them.
    The MECR is the mean over all pairs of genes that are markers of no common type. Transcripts of a neighbour raise
    it, but so does depth: a cell with more transcripts shows more genes of every origin. State it together with
    :func:`capture`, or compare at one ``depth``.

    Parameters
    ----------
    table
        Raw counts, cells x genes; or the key of a table, labels or shapes of ``sdata``.
    markers
        Type -> genes, or a DataFrame: long (columns ``type`` and ``gene``), or wide (types x genes, 0 and 1).
    reference, type_key, scale
        Instead of ``markers``: the reference that :func:`markers_from_reference` takes them from.
    depth
        Number of transcripts to which every cell is thinned (see Notes); cells with fewer are left out. No thinning if
        None.
    sdata
        Object, or :class:`Tissue`, that has the key.

    Returns
    -------
    See :class:`Mecr`.

    Raises
    ------
    TypeError
        If not exactly one of ``markers`` and ``reference`` is given.
    ValueError
        If fewer than two types have a marker in the table, no pair is exclusive, or no cell has the depth.

    Notes
    -----
    In a cell with N transcripts, x of them of a gene, thinning to k transcripts leaves at least one of the gene with
    probability 1 - (1 - k / N)^x. Both numbers of cells are expectations under these probabilities: nothing is drawn at
    random.

    References
    ----------
    Hartman and Satija, "Comparative analysis of multiplexed in situ gene expression profiling technologies", eLife
    13:RP96949, 2024. They draw at most 25 markers at random; here all pairs count. The depth is this package's.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"CD3E": [3, 1, 0], "EPCAM": [0, 2, 5]})
    >>> mecr(table, {"T cell": ["CD3E"], "epithelium": ["EPCAM"]}).rate  # one cell of three has both
    0.3333333333333333
    """
    counts = counts_of(table, sdata)
    return mecr_of(counts, _exclusive_markers(counts, markers, reference, type_key, scale), depth=depth)


def _exclusive_markers(
    counts: Counts,
    markers: Markers | None,
    reference: AnnData | pd.DataFrame | Reference | None,
    type_key: str | None,
    scale: Scale | None,
) -> pd.DataFrame:
    """Return the markers given or those of a reference as booleans, types x genes; see :func:`mecr`."""
    if (markers is None) == (reference is None):
        msg = "Pass either markers= or reference=, from which markers are taken: " + (
            "neither is given." if markers is None else "both are given."
        )
        raise TypeError(msg)
    if reference is not None:
        found = as_reference(reference, type_key=type_key, scale=scale)
        genes = shared_genes(counts.genes, found.profiles.columns)
        markers = markers_from_reference(found, genes=genes)
        if len(markers) < 2:
            msg = (
                f"Only {len(markers)} types of the reference have a marker among {len(genes)} shared genes: its types "
                "are too alike. Merge similar types, or pass markers=."
            )
            raise ValueError(msg)
    return marker_matrix(markers, counts.genes)


def mecr_of(counts: Counts, is_marker: pd.DataFrame, *, depth: float | None = None) -> Mecr:
    """Return the MECR of counted cells for markers as booleans, types x genes; see :func:`mecr`."""
    if depth is not None:
        check_positive(depth, "depth")
    member = is_marker.to_numpy(dtype=np.int64)
    first, second = np.nonzero(np.triu(member.T @ member == 0, k=1))
    if len(first) == 0:
        msg = "No two markers are exclusive: each is a marker of a type of every other."
        raise ValueError(msg)
    found = detection(counts.matrix, depth)
    if found.shape[0] == 0:
        msg = f"No cell has depth={depth:g} transcripts or more."
        raise ValueError(msg)
    together = found_together(found[:, counts.genes.get_indexer(is_marker.columns)])
    n_cells_with = np.diag(together)
    both = together[first, second]
    either = n_cells_with[first] + n_cells_with[second] - both
    rates = np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)
    names = is_marker.columns.to_numpy()
    pairs = pd.DataFrame(
        {"gene_1": names[first], "gene_2": names[second], "n_both": both, "n_either": either, "rate": rates}
    )
    return Mecr(float(pairs["rate"].mean()), pairs, found.shape[0])
