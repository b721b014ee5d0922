"""How much the transcripts at a pixel say about its owner, learned where the owner is known: in nuclei.

The transcripts are split in two. From one half each nucleus gets its kind, from the other each pixel its evidence, so
that no nucleus reads itself. The slope of a logistic regression of "own nucleus rather than a neighbour" on the
evidence is what a unit of log likelihood is really worth: less than 1, because kinds are coarse, transcripts diffuse
and neighbours are alike; next to 0 where kinds say nothing. How far kinds are drawn towards the average is chosen
by the same regression: the prior under which the evidence tells owners best.

Kinds are learned from the cores of cells: nuclei and what lies within 2 um, more transcripts than in nuclei alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.transcripts import TranscriptMap
from ucs.methods.clusters.cores import count_in_cores
from ucs.methods.clusters.profiles import Profiles, fit_profiles, profiles_of_members
from ucs.methods.density.ownership import SHARPNESS_PER_UM, local_fit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Annotate = Callable[[csr_matrix], NDArray[np.float64]]

PRIORS = (300.0, 1000.0, 3000.0, 10_000.0)
"""Prior counts of kinds that are tried; see :func:`ucs.methods.clusters.profiles.fit_profiles`."""

_MOST_PIXELS = 10_000
_NEIGHBOURS = 3
_NEWTON_STEPS = 50
_LARGEST_SLOPE = 1.0
_STANDARD_ERRORS = 2.0  # by which evidence must be better than none


@dataclass(frozen=True)
class LabelledTissue:
    """Transcripts and the nuclei that they are compared with, on one raster.

    Attributes
    ----------
    transcripts
        Of the genes to use.
    nuclei
        ``(h, w)`` int32 ids 1..n.
    boxes
        ``(n + 1, 4)`` bounding boxes of the nuclei.
    um_per_px
        Side of a pixel in um.
    """

    transcripts: TranscriptMap
    nuclei: NDArray[np.int32]
    boxes: NDArray[np.int64]
    um_per_px: float

    def counts(self, transcripts: TranscriptMap | None = None) -> csr_matrix:
        """Return the transcripts in the core of each cell, ``(n, n_features)``."""
        return count_in_cores(
            transcripts or self.transcripts, self.nuclei, len(self.boxes) - 1, um_per_px=self.um_per_px
        )


def learn_kinds(
    tissues: Sequence[LabelledTissue], *, seed: int, annotate: Sequence[Annotate] | None = None
) -> tuple[Profiles | None, float]:
    """Return the kinds of cells and the um of distance that a unit of their evidence outweighs.

    Parameters
    ----------
    tissues
        One or several samples with the same genes.
    seed
        Of the split and the kinds.
    annotate
        For each sample, what tells from counts ``(n, n_features)`` how likely each nucleus is of each cell type; the
        types are the kinds then. None to find kinds.

    Returns
    -------
    ``(kinds, trust)``; ``(None, 0)`` if no kinds can be told apart.
    """
    from scipy.sparse import vstack

    random = np.random.default_rng(seed)

    def fit(counts: Sequence[csr_matrix], priors: Sequence[float]) -> list[Profiles]:
        if annotate is None:
            return fit_profiles(vstack(counts).tocsr(), seed=seed, prior_counts=priors)
        member = np.concatenate([annotate_one(count) for annotate_one, count in zip(annotate, counts, strict=True)])
        return [profiles_of_members(vstack(counts).tocsr(), member, prior_counts=prior) for prior in priors]

    halves = [_halves(tissue.transcripts, random) for tissue in tissues]
    counts = [tissue.counts(first) for tissue, (first, _) in zip(tissues, halves, strict=True)]
    pixels = [_pixels_of_nuclei(tissue.nuclei, random) for tissue in tissues]
    best = (-np.inf, 0.0, 0.0)
    for prior, of_half in zip(PRIORS, fit(counts, PRIORS), strict=False):  # none if there are too few nuclei
        found = [
            _evidence(tissue, second, of_half, of_half.membership(count), where)
            for tissue, (_, second), count, where in zip(tissues, halves, counts, pixels, strict=True)
        ]
        gain, slope = _gain_and_slope(found)
        if gain > best[0]:
            best = (gain, slope, prior)
    if best[0] == -np.inf:
        return None, 0.0
    profiles = fit([tissue.counts() for tissue in tissues], [best[2]])
    return (profiles[0], best[1] / SHARPNESS_PER_UM) if profiles else (None, 0.0)


def _evidence(
    tissue: LabelledTissue,
    transcripts: TranscriptMap,
    profiles: Profiles,
    membership: NDArray[np.float32],
    pixels: NDArray[np.int64],
) -> tuple[NDArray[np.floating], NDArray[np.int32]]:
    """Return by how much pixels' transcripts fit their own nucleus better than each neighbour, and their nuclei.

    ``(neighbours, n)`` and ``(n,)``.
    """
    own = tissue.nuclei[pixels[:, 0], pixels[:, 1]]
    fit = local_fit(transcripts, profiles.log_ratio, pixels, um_per_px=tissue.um_per_px)
    of_own = (membership[own - 1] * fit).sum(axis=1)
    others = [of_own - (membership[other - 1] * fit).sum(axis=1) for other in _neighbours(tissue.boxes, own)]
    return np.stack(others) if others else np.zeros((0, len(own))), own


def _gain_and_slope(found: Sequence[tuple[NDArray[np.floating], NDArray[np.int32]]]) -> tuple[float, float]:
    """Return what the evidence of several tissues gains over none, in log likelihood, and its slope.

    Both are 0 if that may be chance: the pixels of one nucleus err together, so the gain is compared with its standard
    error over nuclei.
    """
    slope = _slope(np.concatenate([evidence.ravel() for evidence, _ in found]))
    of_nuclei, size = [], []
    for evidence, own in found:
        gain = np.log(2) - np.logaddexp(0, -slope * evidence.astype(np.float64))
        of_nuclei.append(np.bincount(own, weights=gain.sum(axis=0)))
        size.append(len(evidence) * np.bincount(own))
    total, pixels = np.concatenate(of_nuclei), np.concatenate(size)
    if pixels.sum() == 0:
        return 0.0, 0.0
    mean = total.sum() / pixels.sum()
    error = np.sqrt(((total - mean * pixels) ** 2).sum()) / pixels.sum()
    return (float(mean), slope) if mean > _STANDARD_ERRORS * error else (0.0, 0.0)


def _halves(transcripts: TranscriptMap, random: np.random.Generator) -> tuple[TranscriptMap, TranscriptMap]:
    """Return two maps of which each transcript is in one or the other at random."""
    halves = [transcripts.writer(), transcripts.writer()]
    for _, _, band in transcripts.bands():
        part = random.binomial(band.count, 0.5).astype(np.int32)
        for half, count in zip(halves, (part, band.count - part), strict=True):
            some = count > 0
            n_before = np.concatenate([[0], np.cumsum(some)])
            half.append(np.diff(n_before[band.row_start]), (band.column[some], band.feature[some], count[some]))
    first, second = (half.finish() for half in halves)
    return first, second


def _pixels_of_nuclei(nuclei: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int64]:
    pixels = np.flatnonzero(nuclei)
    if len(pixels) > _MOST_PIXELS:
        pixels = random.choice(pixels, _MOST_PIXELS, replace=False)
    return np.stack(np.divmod(pixels, nuclei.shape[1]), axis=1)


def _neighbours(boxes: NDArray[np.int64], own: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Return the nuclei with the nearest centres to each of ``own``, nearest first."""
    from scipy.spatial import cKDTree

    present = np.flatnonzero(boxes[:, 2])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    k = min(_NEIGHBOURS + 1, len(present))
    if k < 2:
        return []
    _, index = cKDTree(centres[present]).query(centres[own], k=k)
    return [present[index[:, column]] for column in range(1, k)]


def _slope(evidence: NDArray[np.floating]) -> float:
    """Return the slope of a logistic regression through the origin in which every outcome is "own"."""
    evidence = evidence[evidence != 0].astype(np.float64)
    slope = 0.0
    if len(evidence) == 0:
        return slope
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(slope * evidence, -500, 500)))
        gradient = ((1 - chance) * evidence).sum()
        curvature = (chance * (1 - chance) * evidence**2).sum() + 1e-9
        step = np.clip(gradient / curvature, -0.5, 0.5)
        slope += step
        if abs(step) < 1e-6:
            break
    return float(np.clip(slope, 0.0, _LARGEST_SLOPE))
