"""Contamination by neighbours: markers of another type in the cells that lie beside cells of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from ucs._evaluation.counts import counts_of, resolved_table
from ucs._evaluation.types import types_of
from ucs._utils.checks import check_at_least, check_positive
from ucs.methods.markers import Markers, marker_matrix

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue


@dataclass(frozen=True)
class NeighbourContamination:
    """Contamination by neighbours.

    Attributes
    ----------
    excess
        Share of the transcripts of cells beside another type that is explained by that type's markers being more
        frequent there: the mean of ``per_pair["excess"]``, weighted by ``n_beside``. NaN without any pair.
    per_pair
        One row per ordered pair of types (``type``, ``neighbour``): the share of the transcripts of the cells of
        ``type`` that are of markers of ``neighbour`` alone, among the ``n_beside`` cells beside a cell of ``neighbour``
        (``beside``) and among the ``n_apart`` others (``apart``), and the ``excess`` of the former.
    """

    excess: float
    per_pair: pd.DataFrame


def neighbour_contamination(
    table: AnnData | pd.DataFrame | str,
    markers: Markers,
    types: ArrayLike | str,
    *,
    positions: ArrayLike | None = None,
    within_um: float = 20.0,
    min_cells: int = 10,
    sdata: SpatialData | Tissue | None = None,
) -> NeighbourContamination:
    """Return how much more of a type's markers cells have that lie beside it than cells of their type that do not.

    Cells of one type differ in what lies beside them; what they gain from it is what the segmentation gave to the wrong
    cell, or what diffused. Without contamination the excess is 0 but for noise, also if a type does express some of the
    other's markers.

    Parameters
    ----------
    table
        Raw counts, cells x genes; or the key of a table, labels or shapes of ``sdata``.
    markers
        Type -> genes, in any form that :func:`mecr` accepts. A gene that marks both types of a pair does not count.
    types
        Type of each cell, or the column of ``obs`` with it. Cells without a type are no neighbours either. Types should
        not depend on the segmentations that are compared: take those of the nuclei.
    positions
        ``(n_cells, 2)`` centres in um; ``obsm["spatial"]`` of an AnnData if None, which for tables of
        :func:`ucs.tl.segment` is in um.
    within_um
        Distance of centres up to which cells lie beside each other.
    min_cells
        Cells of a type that a pair needs on either side.
    sdata
        Object, or :class:`Tissue`, that has the key.

    Returns
    -------
    See :class:`NeighbourContamination`.

    Raises
    ------
    ValueError
        If there are no positions, or fewer than two types with markers.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"CD3E": [9, 9, 2, 0], "EPCAM": [0, 0, 8, 10]})  # the third cell has some of its neighbour
    >>> found = neighbour_contamination(
    ...     table, {"T": ["CD3E"], "epithelium": ["EPCAM"]}, ["T", "T", "epithelium", "epithelium"],
    ...     positions=[[0, 0], [5, 0], [10, 0], [90, 0]], min_cells=1,
    ... )
    >>> found.per_pair[["type", "neighbour", "beside", "apart"]].values.tolist()
    [['epithelium', 'T', 0.2, 0.0]]
    """
    check_positive(within_um, "within_um")
    check_at_least(min_cells, 1, "min_cells")
    counts = counts_of(table, sdata)
    kinds = types_of(counts, types, None)
    is_marker = marker_matrix(markers, counts.genes)
    places = _positions(resolved_table(table, sdata, "table"), positions, len(counts.cells))
    x = counts.of_genes(is_marker.columns)
    total = np.asarray(counts.matrix.sum(axis=1)).ravel()
    code = is_marker.index.get_indexer(pd.Index(kinds.astype(object)))
    beside = _types_beside(places, code, len(is_marker), within_um)
    rows = []
    for a, b in permutations(range(len(is_marker)), 2):
        of_other = (is_marker.iloc[b] & ~is_marker.iloc[a]).to_numpy()
        cells = (code == a) & (total > 0)
        share = x[cells][:, of_other].sum(axis=1) / total[cells]
        at = beside[cells, b]
        if min(at.sum(), (~at).sum()) < min_cells or not of_other.any():
            continue
        means = float(share[at].mean()), float(share[~at].mean())
        names = is_marker.index[a], is_marker.index[b]
        rows.append((*names, *means, means[0] - means[1], int(at.sum()), int((~at).sum())))
    columns = ["type", "neighbour", "beside", "apart", "excess", "n_beside", "n_apart"]
    per_pair = pd.DataFrame(rows, columns=columns)
    weight = per_pair["n_beside"]
    excess = float(np.average(per_pair["excess"], weights=weight)) if len(per_pair) else float("nan")
    return NeighbourContamination(excess, per_pair)


def _types_beside(
    places: NDArray[np.float64], code: NDArray[np.integer], n_types: int, within_um: float
) -> NDArray[np.bool_]:
    """Return whether a cell of each type lies beside each cell, ``(n_cells, n_types)``; code -1 is no type."""
    near = cKDTree(places).query_pairs(within_um, output_type="ndarray")
    beside = np.zeros((len(code), n_types), dtype=bool)
    for one, other in (near.T, near.T[::-1]):
        known = code[other] >= 0
        beside[one[known], code[other[known]]] = True
    return beside


def _positions(table: Any, positions: ArrayLike | None, n: int) -> NDArray[np.float64]:
    if positions is None:
        if not hasattr(table, "obsm") or "spatial" not in table.obsm:
            msg = "The table has no obsm['spatial']: pass positions=, (n_cells, 2) in um."
            raise ValueError(msg)
        positions = table.obsm["spatial"]
    found = np.asarray(positions, dtype=np.float64)
    if found.ndim != 2 or len(found) != n or found.shape[1] < 2 or not np.isfinite(found).all():
        msg = f"positions has shape {found.shape}; finite values (n_cells = {n}, 2) are needed."
        raise ValueError(msg)
    return found[:, :2]
