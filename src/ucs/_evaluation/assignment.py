"""One-to-one matching of cells at IoU thresholds below 0.5, where a cell may fit several others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

if TYPE_CHECKING:
    from numpy.typing import NDArray


def best_pairs(row: NDArray, column: NDArray, iou: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Choose pairs so that each row and each column is in one at most: as many as possible, then of largest summed IoU.

    Pairs that share neither row nor column with another are taken. The others are an assignment problem, solved exactly
    on its sparse graph: every row and column may stay alone, at a cost that no gain in IoU outweighs.

    Parameters
    ----------
    row, column
        ``(n,)`` candidates, no pair twice.
    iou
        ``(n,)`` in (0, 1].

    Returns
    -------
    ``(n,)`` booleans: which candidates are taken.
    """
    if len(row) == 0:
        return np.zeros(0, dtype=bool)
    alone = (np.bincount(row)[row] == 1) & (np.bincount(column)[column] == 1)
    taken = alone.copy()
    contested = np.flatnonzero(~alone)
    if len(contested):
        taken[contested] = _solve(row[contested], column[contested], iou[contested])
    return taken


def _solve(row: NDArray, column: NDArray, iou: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Solve the assignment problem on a graph in which a full matching always exists.

    Each row i gets a column i' of its own, each column j a row j'. (i, i') and (j', j) mean that they stay alone; where
    i takes j, i' and j' take each other.
    """
    rows, i = np.unique(row, return_inverse=True)
    columns, j = np.unique(column, return_inverse=True)
    n, m = len(rows), len(columns)
    alone = float(min(n, m) + 2)  # twice this exceeds any sum of the other weights by which matchings can differ
    a, b = np.arange(n), np.arange(m)
    weights = np.concatenate([2.0 - iou, np.ones(len(i)), np.full(n + m, alone)])  # above 0: 0 would be no edge
    sources = np.concatenate([i, n + j, a, n + b])
    targets = np.concatenate([j, m + i, m + a, b])
    graph = sparse.coo_array((weights, (sources, targets)), shape=(n + m, m + n)).tocsr()
    matched_row, matched_column = csgraph.min_weight_full_bipartite_matching(sparse.csr_matrix(graph))
    partner = np.full(n, -1)
    pairs = (matched_row < n) & (matched_column < m)
    partner[matched_row[pairs]] = matched_column[pairs]
    return partner[i] == j
