"""Kinds of cells in a sample, from the transcripts in its nuclei: a mixture of multinomials.

Nothing is annotated. The kinds serve to tell whether the transcripts at a pixel fit one nucleus rather than its
neighbour; how much such evidence is worth is learned where the truth is known: on the pixels of nuclei themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_MOST_KINDS = 16
_NUCLEI_PER_KIND = 20
_MOST_NUCLEI = 20_000  # more tell the same
_PRIOR_COUNTS = 25.0  # transcripts of the average nucleus that each kind begins with
_ITERATIONS = 30


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


def fit_profiles(counts: csr_matrix, *, seed: int) -> Profiles | None:
    """Fit the kinds by expectation maximisation.

    Parameters
    ----------
    counts
        ``(nuclei, genes)`` transcripts in nuclei.
    seed
        Of the first choice of kinds.

    Returns
    -------
    The kinds (at most 16); None if there are too few nuclei with transcripts to tell any apart.
    """
    random = np.random.default_rng(seed)
    counts = counts[np.asarray(counts.sum(axis=1)).ravel() > 0]
    n_kinds = min(_MOST_KINDS, counts.shape[0] // _NUCLEI_PER_KIND)
    if n_kinds < 2:
        return None
    if counts.shape[0] > _MOST_NUCLEI:
        counts = counts[np.sort(random.choice(counts.shape[0], _MOST_NUCLEI, replace=False))]
    counts = counts.astype(np.float64)
    member = _first_members(counts, n_kinds, random)
    for _ in range(_ITERATIONS):
        log_ratio, log_share = _means(counts, member)
        member = _responsibilities(counts, log_ratio, log_share)
    return Profiles(log_ratio.astype(np.float32), log_share)


def profiles_of_members(counts: csr_matrix, member: NDArray[np.float64]) -> Profiles:
    """Return the profiles of kinds whose members are known, such as annotated cell types.

    Parameters
    ----------
    counts
        ``(nuclei, genes)`` transcripts in nuclei.
    member
        ``(nuclei, kinds)`` how likely each nucleus is of each kind.
    """
    log_ratio, log_share = _means(counts.astype(np.float64), member)
    return Profiles(log_ratio.astype(np.float32), log_share)


def _means(counts: csr_matrix, member: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total = np.asarray(counts.sum(axis=0)).ravel() + 1
    overall = total / total.sum()
    profile = np.asarray((counts.T @ member).T) + _PRIOR_COUNTS * overall
    log_ratio = np.log(profile / profile.sum(axis=1, keepdims=True)) - np.log(overall)
    return log_ratio, np.log((member.sum(axis=0) + 1) / (len(member) + member.shape[1]))


def _responsibilities(
    counts: csr_matrix, log_ratio: NDArray[np.float64], log_share: NDArray[np.float64]
) -> NDArray[np.float64]:
    fit = np.asarray(counts @ log_ratio.T) + log_share
    fit = np.exp(fit - fit.max(axis=1, keepdims=True))
    return fit / fit.sum(axis=1, keepdims=True)


def _first_members(counts: csr_matrix, n_kinds: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Choose nuclei far from each other (k-means++ on Hellinger distances) and give every nucleus to the nearest."""
    from scipy.sparse import diags

    root = diags(1 / np.asarray(counts.sum(axis=1)).ravel()) @ counts
    root = root.sqrt().tocsr()  # rows of length 1
    chosen = [int(random.integers(root.shape[0]))]
    similarity = [np.asarray((root @ root[chosen[0]].T).todense()).ravel()]
    for _ in range(n_kinds - 1):
        squared = np.maximum(1 - np.max(similarity, axis=0), 0)
        weight = squared / squared.sum() if squared.sum() > 0 else None
        chosen.append(int(random.choice(len(squared), p=weight)))
        similarity.append(np.asarray((root @ root[chosen[-1]].T).todense()).ravel())
    member = np.full((root.shape[0], n_kinds), 0.1 / n_kinds)
    member[np.arange(root.shape[0]), np.argmax(similarity, axis=0)] += 0.9
    # Single nuclei are poor kinds: a few rounds of means in the same space first.
    for _ in range(5):
        centre = np.asarray((root.T @ (member > 0.5)).T)
        centre /= np.maximum(np.linalg.norm(centre, axis=1, keepdims=True), 1e-12)
        best = np.argmax(np.asarray(root @ centre.T), axis=1)
        member[:] = 0.1 / n_kinds
        member[np.arange(len(best)), best] += 0.9
    return member
