"""Kinds of cells in a sample, from the transcripts in its nuclei: a mixture of multinomials.

Nothing is annotated. The kinds serve to tell whether the transcripts at a pixel fit one nucleus rather than its
neighbour; how much such evidence is worth is learned where the truth is known: on the pixels of nuclei themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_MOST_KINDS = 16
_NUCLEI_PER_KIND = 20
_MOST_NUCLEI = 20_000  # more tell the same
_ITERATIONS = 30

PRIOR_COUNTS = 1000.0
"""Transcripts of the average nucleus that each kind begins with, where nothing tells how many serve best."""


@dataclass(frozen=True)
class Profiles:
    """Kinds of cells.

    Attributes
    ----------
    log_ratio
        ``(kinds, genes)`` float32, log of a gene's share in a kind over its share in all nuclei.
    log_share
        ``(kinds,)`` log of each kind's share of the nuclei.
    """

    log_ratio: NDArray[np.float32]
    log_share: NDArray[np.float64]

    def membership(self, counts: csr_matrix) -> NDArray[np.float32]:
        """Return the probability of each kind for each row of counts ``(n, genes)``: ``(n, kinds)``."""
        return _responsibilities(counts, self.log_ratio.astype(np.float64), self.log_share).astype(np.float32)


def fit_profiles(counts: csr_matrix, *, seed: int, prior_counts: Sequence[float] = (PRIOR_COUNTS,)) -> list[Profiles]:
    """Fit the kinds by expectation maximisation, once for each prior, all from the same start.

    Parameters
    ----------
    counts
        ``(nuclei, genes)`` transcripts in nuclei.
    seed
        Of the first choice of kinds (:mod:`ucs.methods.clusters.profiles`).
    prior_counts
        Transcripts of the average nucleus that each kind begins with: the more, the less is made of rare genes.

    Returns
    -------
    The kinds (at most 16) for each prior; empty if there are too few nuclei with transcripts to tell any apart.
    """
    random = np.random.default_rng(seed)
    counts = counts[np.asarray(counts.sum(axis=1)).ravel() > 0]
    n_kinds = min(_MOST_KINDS, counts.shape[0] // _NUCLEI_PER_KIND)
    if n_kinds < 2:
        return []
    if counts.shape[0] > _MOST_NUCLEI:
        counts = counts[np.sort(random.choice(counts.shape[0], _MOST_NUCLEI, replace=False))]
    counts = counts.astype(np.float64)
    first = np.full((counts.shape[0], n_kinds), 0.1 / n_kinds)
    first[np.arange(len(first)), group_by_composition(counts, n_kinds, random)] += 0.9
    found = []
    for prior in prior_counts:
        member = first
        for _ in range(_ITERATIONS):
            log_ratio, log_share = _means(counts, member, prior)
            member = _responsibilities(counts, log_ratio, log_share)
        found.append(Profiles(log_ratio.astype(np.float32), log_share))
    return found


def profiles_of_members(
    counts: csr_matrix, member: NDArray[np.float64], *, prior_counts: float = PRIOR_COUNTS
) -> Profiles:
    """Return the profiles of kinds whose members are known, such as annotated cell types.

    Parameters
    ----------
    counts
        ``(nuclei, genes)`` transcripts in nuclei.
    member
        ``(nuclei, kinds)`` how likely each nucleus is of each kind.
    prior_counts
        As for :func:`fit_profiles`.
    """
    log_ratio, log_share = _means(counts.astype(np.float64), member, prior_counts)
    return Profiles(log_ratio.astype(np.float32), log_share)


def _means(
    counts: csr_matrix, member: NDArray[np.float64], prior_counts: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total = np.asarray(counts.sum(axis=0)).ravel() + 1
    overall = total / total.sum()
    profile = np.asarray((counts.T @ member).T) + prior_counts * overall
    log_ratio = np.log(profile / profile.sum(axis=1, keepdims=True)) - np.log(overall)
    return log_ratio, np.log((member.sum(axis=0) + 1) / (len(member) + member.shape[1]))


def _responsibilities(
    counts: csr_matrix, log_ratio: NDArray[np.float64], log_share: NDArray[np.float64]
) -> NDArray[np.float64]:
    fit = np.asarray(counts @ log_ratio.T) + log_share
    fit = np.exp(fit - fit.max(axis=1, keepdims=True))
    return fit / fit.sum(axis=1, keepdims=True)


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


def _k_means(position: NDArray[np.float64], n_groups: int, random: np.random.Generator) -> NDArray[np.intp]:
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
