"""Gives transcripts, not pixels, to cells: by where they lie and by their own gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.moved import COLUMNS
from ucs.methods.pretrained.between import MOST, read_between

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap

GENE_WEIGHT = 0.5
"""Exponent of the likelihood of a transcript's gene: the net has seen it already, among those around it."""

# Fitted on seed 0 of all regimes of ucs.datasets (RESULTS.md): by so much the odds are higher than the net says.
_ODDS = 5 / 3


@njit(cache=True, nogil=True)
def calibrated(probability: float) -> float:
    """Return the probability that a transcript comes from a cell, of what the net says."""
    return probability * _ODDS / (probability * _ODDS + (1 - probability))


def move_transcripts(
    transcripts: TranscriptMap,
    corner: tuple[int, int],
    labels: NDArray[np.int32],
    nuclei: NDArray[np.int32],
    owner: NDArray[np.int32],
    probability: NDArray[np.float32],
    first: tuple[int, int],
    grid: tuple[int, int],
    factor: int,
    threshold: NDArray[np.float64],
    membership: NDArray[np.float32],
    log_ratio: NDArray[np.float32],
) -> NDArray[np.int32]:
    """Return the transcripts that belong to another cell than their pixel; see :data:`ucs._kernels.moved.COLUMNS`.

    A transcript belongs to a candidate in proportion to the net's probability that a transcript from there comes from
    it, times the likelihood of its gene in the candidate's expression clusters (in ambient RNA for none of them) to the
    power of :data:`GENE_WEIGHT`. Those in nuclei stay.

    Parameters
    ----------
    transcripts
        ``(h, w)``, of the net's genes.
    corner
        Row and column of these pixels in the raster.
    labels, nuclei
        ``(h, w)`` ids.
    owner, probability
        ``(2, H, W)`` candidates on net pixels, and the net's probabilities ``(2, 3, H, W)``.
    first, grid
        Row and column of the first of these net pixels, and how many there are in the whole raster.
    factor
        Side of a net pixel in pixels.
    threshold
        ``(m + 1,)`` probability of coming from any cell above which a transcript is given to the nucleus.
    membership
        ``(m + 1, clusters)`` of the nuclei.
    log_ratio
        ``(clusters + 1, genes)``; the last row is ambient RNA.
    """
    out = np.empty((len(transcripts.column), len(COLUMNS)), dtype=np.int32)
    share = np.exp(log_ratio).astype(np.float32)
    n = _move(
        transcripts.row_start, transcripts.column, transcripts.feature, transcripts.count, *corner, labels, nuclei,
        owner, probability, *first, *grid, factor, threshold, membership, share, GENE_WEIGHT, out,
    )  # fmt: skip
    return out[:n].copy()


@njit(cache=True, nogil=True)
def _move(
    row_start: NDArray,
    columns: NDArray,
    features: NDArray,
    counts: NDArray,
    top: int,
    left: int,
    labels: NDArray,
    nuclei: NDArray,
    owner: NDArray,
    probability: NDArray,
    row0: int,
    column0: int,
    n_rows: int,
    n_columns: int,
    factor: int,
    threshold: NDArray,
    membership: NDArray,
    share: NDArray,
    gene_weight: float,
    out: NDArray,
) -> int:
    half = (factor - 1) / 2
    n_clusters = membership.shape[1]
    ids, place, odds = np.empty(MOST, dtype=np.int32), np.empty(MOST), np.empty(MOST)
    moved = 0
    for i in range(len(row_start) - 1):
        y = (top + i - half) / factor
        for e in range(row_start[i], row_start[i + 1]):
            j, gene = columns[e], features[e]
            if nuclei[i, j] > 0:
                continue
            x = (left + j - half) / factor
            n, _, none = read_between(owner, probability, y, x, row0, column0, n_rows, n_columns, ids, place, odds)
            if n == 0:
                continue
            total = none * share[n_clusters, gene] ** gene_weight
            in_any = 0.0
            best = 0
            for k in range(n):
                likelihood = 0.0
                for cluster in range(n_clusters):
                    likelihood += membership[ids[k], cluster] * share[cluster, gene]
                odds[k] *= likelihood**gene_weight
                in_any += odds[k]
                if odds[k] > odds[best] or (odds[k] == odds[best] and ids[k] < ids[best]):
                    best = k
            total += in_any
            found = ids[best] if total > 0 and calibrated(in_any / total) > threshold[ids[best]] else 0
            if found != labels[i, j]:
                sure = int(np.rint(255 * calibrated(odds[best] / total))) if found > 0 else 0
                out[moved, 0], out[moved, 1], out[moved, 2] = i, j, gene
                out[moved, 3], out[moved, 4], out[moved, 5] = counts[e], found, sure
                moved += 1
    return moved
