"""Nuclei grouped by the composition of their transcripts: the start of the mixture model in ``profiles``.

Counts of single nuclei are mostly noise, the more so the more genes there are. Correspondence analysis (Greenacre 1984)
takes from each count what the totals of its nucleus and its gene imply, divides by its Poisson standard deviation, and
keeps the axes of largest variance, on which noise is the same in all directions: there k-means finds groups that no
distance between raw counts shows. To the variance of each gene that of an average one is added, as otherwise single
transcripts of rare genes would be axes of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_SPARE_AXES = 8
_POWER_ROUNDS = 6
_STARTS = 8
_ROUNDS = 30


def group_by_composition(counts: csr_matrix, n_groups: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Return the group of each nucleus, ``(n,)``, 0 to ``n_groups - 1``; some may be empty.

    Parameters
    ----------
    counts
        ``(n, genes)`` transcripts in nuclei, none of which is empty.
    n_groups
        At least 1.
    random
        Of the first axes and the first centres.
    """
    return _k_means(composition_axes(counts, n_groups, random), n_groups, random)


def composition_axes(counts: csr_matrix, n_axes: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return where each nucleus lies on the main axes of correspondence analysis, ``(n, up to n_axes)``.

    Randomised subspace iteration (Halko, Martinsson, Tropp, 2011); the matrix of residuals is never made.

    Parameters
    ----------
    counts
        ``(n, genes)``, no row of zeros.
    n_axes
        Number of axes; fewer if there are fewer nuclei or genes.
    random
        Of the first subspace.
    """
    from scipy.sparse import diags

    of_nucleus, of_gene = (np.asarray(counts.sum(axis=axis), dtype=np.float64).ravel() for axis in (1, 0))
    total, variance = of_nucleus.sum(), of_gene + of_gene.mean()
    scaled = (diags(np.sqrt(total / of_nucleus)) @ counts @ diags(1 / np.sqrt(variance))).tocsr()
    transposed = scaled.T.tocsr()
    row, column = np.sqrt(of_nucleus)[:, None], (of_gene / np.sqrt(variance * total))[:, None]

    def of_genes(basis: NDArray[np.float64]) -> NDArray[np.float64]:
        return transposed @ basis - column @ (row.T @ basis)

    size = min(n_axes + _SPARE_AXES, *counts.shape)
    basis = np.linalg.qr(random.normal(size=(counts.shape[0], size)))[0]
    for _ in range(_POWER_ROUNDS):
        there = of_genes(basis)
        basis = np.linalg.qr(scaled @ there - row @ (column.T @ there))[0]
    left, length, _ = np.linalg.svd(of_genes(basis).T, full_matrices=False)
    return (basis @ (left * length))[:, :n_axes]


def _k_means(
    position: NDArray[np.float64], n_groups: int, random: np.random.Generator
) -> NDArray[np.intp]:
    """Return the best of several runs from centres far apart (k-means++)."""
    best, group = np.inf, np.zeros(len(position), dtype=np.intp)
    for _ in range(_STARTS):
        centre = _far_apart(position, n_groups, random)
        for _ in range(_ROUNDS):
            found = _squared_distances(position, centre).argmin(axis=1)
            size = np.bincount(found, minlength=n_groups)
            sums = np.stack([np.bincount(found, weights=axis, minlength=n_groups) for axis in position.T], axis=1)
            moved = np.where(size[:, None] > 0, sums / np.maximum(size, 1)[:, None], centre)
            if np.array_equal(moved, centre):
                break
            centre = moved
        squared = _squared_distances(position, centre)
        if squared.min(axis=1).sum() < best:
            best, group = squared.min(axis=1).sum(), squared.argmin(axis=1)
    return group


def _far_apart(position: NDArray[np.float64], n_groups: int, random: np.random.Generator) -> NDArray[np.float64]:
    chosen = [int(random.integers(len(position)))]
    squared = ((position - position[chosen[0]]) ** 2).sum(axis=1)
    for _ in range(n_groups - 1):
        weight = squared / squared.sum() if squared.sum() > 0 else None
        chosen.append(int(random.choice(len(position), p=weight)))
        squared = np.minimum(squared, ((position - position[chosen[-1]]) ** 2).sum(axis=1))
    return position[chosen]


def _squared_distances(position: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    return (position**2).sum(axis=1)[:, None] - 2 * position @ centre.T + (centre**2).sum(axis=1)
