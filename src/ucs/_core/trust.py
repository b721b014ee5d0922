"""How much the transcripts at a pixel say about its owner, learned where the owner is known: in nuclei.

The transcripts are split in two. From one half each nucleus gets its kind, from the other each pixel its evidence, so
that no nucleus reads itself. The slope of a logistic regression of "own nucleus rather than a neighbour" on the
evidence is what a unit of log likelihood is really worth: less than 1, because kinds are coarse, transcripts diffuse
and neighbours are alike; next to 0 where kinds say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._core.canonical import Segment
from ucs._core.ownership import SHARPNESS_PER_UM, local_fit
from ucs._core.profiles import Profiles, fit_profiles, profiles_of_members
from ucs._core.transcripts import TranscriptMap
from ucs._memory import in_own_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Annotate = Callable[[csr_matrix], NDArray[np.float64]]

_MOST_PIXELS = 10_000
_NEIGHBOURS = 3
_NEWTON_STEPS = 50


def counts_in_nuclei(transcripts: TranscriptMap, nuclei: NDArray[np.int32], n: int) -> csr_matrix:
    """Return ``(n, n_features)`` transcripts in each nucleus; ``nuclei`` are read band by band."""
    from scipy.sparse import csr_matrix

    features = np.arange(transcripts.n_features, dtype=np.int32)
    code = np.uint16 if transcripts.n_features <= 2**16 else np.int32
    column, segments = np.zeros(0, dtype=np.int32), []
    for row0, row1, band in transcripts.bands():
        if len(band.count):
            inside = _in_nuclei(band, np.asarray(nuclei[row0:row1]), n)
            # A nucleus in the place of a row, of one column: equal entries are summed in the order of features.
            column = column if len(column) >= len(inside.count) else np.zeros(len(inside.count), dtype=np.int32)
            at, number, count = (
                in_own_pages(array, dtype)
                for array, dtype in ((inside.rows(), np.int32), (inside.feature, code), (inside.count, np.int32))
            )
            segments.append(Segment(at, column[: len(at)], number, features, count))  # one column for all
    made = TranscriptMap.from_segments(segments, shape=(n, 1), n_features=transcripts.n_features)
    indices = (made.count, made.feature, made.row_start.astype(np.int32))
    return csr_matrix(indices, shape=(n, transcripts.n_features))


def _in_nuclei(band: TranscriptMap, nuclei: NDArray[np.int32], n: int) -> TranscriptMap:
    """Return a map with a row for each of ``n`` nuclei and one column, of the transcripts in them."""
    nucleus = nuclei[band.rows(), band.column]
    inside = nucleus > 0
    row, feature, count = nucleus[inside] - 1, band.feature[inside], band.count[inside]
    return TranscriptMap.from_positions(
        row, np.zeros_like(row), feature, count, shape=(n, 1), n_features=band.n_features
    )


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
        """Return the transcripts in each nucleus, ``(n, n_features)``."""
        return counts_in_nuclei(transcripts or self.transcripts, self.nuclei, len(self.boxes) - 1)


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

    def fit(counts: Sequence[csr_matrix]) -> Profiles | None:
        if annotate is None:
            return fit_profiles(vstack(counts).tocsr(), seed=seed)
        member = [annotate_one(count) for annotate_one, count in zip(annotate, counts, strict=True)]
        return profiles_of_members(vstack(counts).tocsr(), np.concatenate(member))

    profiles = fit([tissue.counts() for tissue in tissues])
    if profiles is None:
        return None, 0.0
    halves = [_halves(tissue.transcripts, random) for tissue in tissues]
    counts = [tissue.counts(first) for tissue, (first, _) in zip(tissues, halves, strict=True)]
    of_half = fit(counts)
    if of_half is None:
        return None, 0.0
    evidence = [
        _evidence(tissue, second, of_half, of_half.membership(count), random)
        for tissue, (_, second), count in zip(tissues, halves, counts, strict=True)
    ]
    return profiles, _slope(np.concatenate(evidence)) / SHARPNESS_PER_UM


def _evidence(
    tissue: LabelledTissue,
    transcripts: TranscriptMap,
    profiles: Profiles,
    membership: NDArray[np.float32],
    random: np.random.Generator,
) -> NDArray[np.floating]:
    """Return by how much the transcripts at pixels of nuclei fit their own nucleus better than its neighbours."""
    pixels = _pixels_of_nuclei(tissue.nuclei, random)
    own = tissue.nuclei[pixels[:, 0], pixels[:, 1]]
    fit = local_fit(transcripts, profiles.log_ratio, pixels, um_per_px=tissue.um_per_px)
    of_own = (membership[own - 1] * fit).sum(axis=1)
    return np.concatenate(
        [np.zeros(0), *(of_own - (membership[other - 1] * fit).sum(axis=1) for other in _neighbours(tissue.boxes, own))]
    )


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
    return float(np.clip(slope, 0.0, 1.0))
