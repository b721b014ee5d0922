"""Types of nuclei from their transcripts, by profiles of a reference or by marker genes.

Both are mixtures of multinomials over genes. Profiles are given. Of a marker it is only known that its level is higher
in the types that it marks than in all others, where it is the same. Levels and fold changes (at least 2) are fitted to
the nuclei by expectation maximisation; all other genes count as one. A further type without markers takes the nuclei
that fit no type. After Zhang et al., "Probabilistic cell-type assignment of single-cell RNA-seq for tumor
microenvironment profiling", Nat. Methods 16:1007, 2019, who fit counts per cell instead of shares of transcripts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.count import count_in_labels
from ucs._utils.log import logger
from ucs.methods.markers import marker_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from ucs.methods.base import RasterSample

_AMBIENT = 0.1  # share of the transcripts that come from neighbours and background, distributed as in all types
_UNIFORM = 1e-3  # share that is uniform over genes, so that no gene is impossible in any type
_ITERATIONS = 25  # of expectation maximisation
_FIRST_FOLD = 8.0  # fold change of a marker before anything is fitted, and its prior
_LEAST_FOLD = 2.0  # below it a gene does not tell types apart
_PRIOR_COUNTS = 10.0  # weight of the prior of levels and folds, in transcripts
_PRIOR_NUCLEI = 5.0  # weight of equal frequencies of types, in nuclei per type
_LEAST_REST = 0.1  # smallest share of a nucleus' transcripts that counts as other genes, for panels of markers only
_LEAST_PROBABILITY = 0.5  # below it a nucleus counts as one of no type


def types_by_profiles(counts: csr_matrix, profiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each type for each nucleus, ``(n, types)``, if all types are equally frequent.

    Parameters
    ----------
    counts
        ``(n, genes)`` transcripts.
    profiles
        ``(types, genes)`` expression on a linear scale; no row is all 0.

    Returns
    -------
    Probabilities. A tenth of the transcripts is taken as ambient, distributed as the mean of all profiles. Rows without
    transcripts are uniform.
    """
    share = profiles / profiles.sum(axis=1, keepdims=True)
    share = (1 - _AMBIENT) * share + _AMBIENT * share.mean(axis=0)
    share = (1 - _UNIFORM) * share + _UNIFORM / share.shape[1]
    return _posterior(np.asarray(counts @ np.log(share).T))


def types_by_markers(counts: csr_matrix, is_marker: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the probability of each type for each nucleus, ``(n, types + 1)``; the last column is that of no type.

    Parameters
    ----------
    counts
        ``(n, genes)`` transcripts.
    is_marker
        ``(types, genes)``.
    """
    marks = is_marker.any(axis=0)
    chosen = counts[:, marks].astype(np.float64).tocsr()
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    # Levels are odds against the genes that are no markers. A panel of markers only has none: some then stand for them.
    rest = np.maximum(total - np.asarray(chosen.sum(axis=1)).ravel(), _LEAST_REST * total)
    mark = np.vstack([is_marker[:, marks], np.zeros((1, int(marks.sum())), dtype=bool)])
    outside, n_types = np.where(mark, 0.0, 1.0), len(mark)
    sums = np.asarray(chosen.sum(axis=0)).ravel()
    # Level of a gene outside its types, if all types are equally frequent.
    level = (sums + 0.5) / (rest.sum() + 1) / (1 + (_FIRST_FOLD - 1) * mark.sum(axis=0) / n_types)
    fold = np.where(mark, _FIRST_FOLD, 1.0)
    frequency = np.full(n_types, 1 / n_types)
    for _ in range(_ITERATIONS):
        odds = level * fold
        all_odds = np.log1p(odds.sum(axis=1))
        fit = np.asarray(chosen @ (np.log(odds) - all_odds[:, None]).T) - rest[:, None] * all_odds
        posterior = _posterior(fit + np.log(frequency))
        size, seen = posterior.T @ rest, np.asarray((chosen.T @ posterior).T)  # (types,), (types, markers)
        # The previous level and the first fold are priors, each worth a few transcripts.
        level = ((outside * seen).sum(axis=0) + _PRIOR_COUNTS) / (outside.T @ size + _PRIOR_COUNTS / level)
        known = (seen + _PRIOR_COUNTS * _FIRST_FOLD) / (size[:, None] * level + _PRIOR_COUNTS)
        fold = np.where(mark, np.maximum(known, _LEAST_FOLD), 1.0)
        in_type = posterior.sum(axis=0) + _PRIOR_NUCLEI
        frequency = in_type / in_type.sum()
    return posterior


def _posterior(log_likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    return likelihood / likelihood.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class NucleusTypes:
    """Cell types of the nuclei of one sample, given or told by marker genes.

    Attributes
    ----------
    types
        Names of the types that have a marker among the features.
    is_marker
        ``(types, features)`` bool.
    type_of
        ``(n + 1,)`` int16 type of each nucleus by id, -1 if unknown.
    """

    types: tuple[str, ...]
    is_marker: NDArray[np.bool_]
    type_of: NDArray[np.int16]


def nucleus_types(raster: RasterSample) -> NucleusTypes | None:
    """Return the types of the nuclei of a sample; None if it has no markers."""
    if not raster.markers:
        return None
    types, is_marker = marker_table(raster.markers, raster.features)
    if raster.cell_types is None:
        counts = count_in_labels(raster.transcripts, raster.nuclei, raster.n)[:, : raster.n_genes]
        probability = types_by_markers(counts, is_marker[:, : raster.n_genes])
        best = probability[:, :-1].argmax(axis=1)
        number = np.where(probability[:, :-1].max(axis=1) >= _LEAST_PROBABILITY, best, -1)
    else:
        by_name = {name: k for k, name in enumerate(types)}
        number = np.array([by_name.get(name, -1) for name in raster.cell_types])
    logger.info("Markers of %d types; %d of %d nuclei have one of them.", len(types), (number >= 0).sum(), len(number))
    return NucleusTypes(tuple(types), is_marker, np.concatenate([[-1], number]).astype(np.int16))


def memberships(
    rasters: Sequence[RasterSample], genes: Sequence[str]
) -> list[Callable[[csr_matrix], NDArray[np.float64]]] | None:
    """Return what tells, for each sample, how likely each nucleus is of each type.

    From counts ``(n, genes)`` it makes ``(n, types + 1)``; the last column is that of no type. None if there are
    neither markers nor types.
    """
    given = [raster.cell_types for raster in rasters if raster.cell_types is not None]
    if len(given) == len(rasters):
        names = np.array(sorted(set().union(*given) - {""}), dtype=object)
        members = [(types[:, None] == names).astype(np.float64) for types in given]
        members = [np.hstack([member, 1 - member.sum(axis=1, keepdims=True)]) for member in members]
        return [lambda _counts, member=member: member for member in members]  # type: ignore[misc]
    if rasters[0].markers is None:
        return None
    _, is_marker = marker_table(rasters[0].markers, genes)
    return [lambda counts: types_by_markers(counts, is_marker) for _ in rasters]
