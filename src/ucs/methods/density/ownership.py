"""Which nucleus each pixel goes to: by distance, and by whether its transcripts fit.

For pixel p and nucleus c the score is ``-d_c(p) + trust * evidence_c(p)``: the stretched distance in um, and the log
likelihood of the transcripts around p (Gaussian, 1.5 um) under the nucleus' kind against all nuclei. ``trust`` is
learned on the pixels of nuclei, whose owner is known; where there are no transcripts, or the kinds do not differ, the
evidence is 0 and the nearest nucleus wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.distances import stretched_distance
from ucs._kernels.lattice import boxes_by_block
from ucs._utils.parallel import in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap

BLOCK = 128
SIGMA_UM = 1.5
"""Standard deviation of the Gaussian over which the transcripts around a pixel are counted."""

SHARPNESS_PER_UM = 1.0
"""Log odds of one owner over another per um of score, for the probability of the owner."""


@dataclass(frozen=True)
class Evidence:
    """What is needed to judge transcripts.

    Attributes
    ----------
    transcripts
        Of the sample, with the features of ``log_ratio``.
    log_ratio
        ``(kinds, n_features)`` float32 of :class:`ucs.methods.clusters.profiles.Profiles`.
    membership
        ``(n + 1, kinds)`` float32, by nucleus id; zeros for no nucleus.
    expression_weight_um
        um of distance that a unit of log likelihood outweighs.
    """

    transcripts: TranscriptMap
    log_ratio: NDArray[np.float32]
    membership: NDArray[np.float32]
    expression_weight_um: float


def choose_owners(
    nuclei: NDArray[np.int32],
    boxes: NDArray[np.int64],
    axes: NDArray[np.float64],
    *,
    reach: int,
    um_per_px: float,
    evidence: Evidence | None,
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Choose the owner of each pixel among the nuclei within reach.

    Parameters
    ----------
    nuclei, boxes, axes, reach
        As for :func:`ucs._kernels.distances.nearest_nuclei`.
    um_per_px
        Side of a pixel in um.
    evidence
        None to go by distance alone.

    Returns
    -------
    ``(owner, probability)``: ``(h, w)`` int32, 0 where no nucleus is near; and uint8, 255 times the probability of the
    owner among the candidates. Ties go to the lower id.
    """
    h, w = nuclei.shape
    block_rows, block_columns = -(-h // BLOCK), -(-w // BLOCK)
    start, ids = boxes_by_block(boxes, reach, BLOCK, block_rows, block_columns)
    owner = nuclei.copy()
    probability = np.where(nuclei > 0, np.uint8(255), np.uint8(0))
    if evidence is None:
        row_start, column = np.zeros(h + 1, dtype=np.int64), np.zeros(0, dtype=np.int32)
        feature, count = column, column
        log_ratio, membership = np.zeros((0, 1), dtype=np.float32), np.zeros((len(boxes), 0), dtype=np.float32)
        trust = 0.0
    else:
        of = evidence.transcripts
        row_start, column, feature, count = of.row_start, of.column, of.feature, of.count
        log_ratio, membership, trust = evidence.log_ratio, evidence.membership, evidence.expression_weight_um
    in_threads(
        _choose_in_blocks, len(start) - 1, nuclei, boxes, axes, int(reach), float(um_per_px), row_start, column,
        feature, count, np.ascontiguousarray(log_ratio.T), membership, float(trust), _gaussian(um_per_px),
        block_columns, start, ids, owner, probability,
    )  # fmt: skip
    return owner, probability


def local_fit(
    transcripts: TranscriptMap, log_ratio: NDArray[np.float32], pixels: NDArray[np.int64], *, um_per_px: float
) -> NDArray[np.float32]:
    """Return the log likelihood ratio of the transcripts around given pixels for each kind, ``(n, kinds)``.

    Parameters
    ----------
    transcripts, log_ratio
        As in :class:`Evidence`.
    pixels
        ``(n, 2)`` row and column.
    um_per_px
        Side of a pixel in um.
    """
    kernel = _gaussian(um_per_px)
    order = np.lexsort((pixels[:, 1], pixels[:, 0]))
    out = np.empty((len(pixels), len(log_ratio)), dtype=np.float32)
    found = np.empty_like(out)
    _fit_at(
        transcripts.row_start, transcripts.column, transcripts.feature, transcripts.count,
        np.ascontiguousarray(log_ratio.T), kernel, pixels[order], found,
    )  # fmt: skip
    out[order] = found
    return out


def evidence_reach(um_per_px: float) -> int:
    """Return how far from a pixel transcripts have a say on its owner, in pixels."""
    return len(_gaussian(um_per_px)) - 1


def _gaussian(um_per_px: float) -> NDArray[np.float32]:
    """Return half a Gaussian from its centre outwards.

    Scaled so that the weights in the plane add up to its effective area, 4 pi sigma^2.
    """
    sigma = SIGMA_UM / um_per_px
    x = np.arange(int(np.ceil(3 * sigma)) + 1)
    weight = np.exp(-0.5 * (x / sigma) ** 2)
    return (weight * np.sqrt(2)).astype(np.float32)  # 4 pi s^2 / (2 pi s^2) = 2 in the plane, its root on each axis


@njit(cache=True, nogil=True)
def _fit_at(
    row_start: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    log_ratio: NDArray,
    kernel: NDArray,
    pixels: NDArray,
    out: NDArray,
) -> None:
    half, h = len(kernel) - 1, len(row_start) - 1
    for n in range(len(pixels)):
        i, j = pixels[n, 0], pixels[n, 1]
        out[n] = 0
        for y in range(max(0, i - half), min(h, i + half + 1)):
            start, stop = row_start[y], row_start[y + 1]
            first = start + np.searchsorted(column[start:stop], j - half)
            for e in range(first, stop):
                if column[e] > j + half:
                    break
                weight = kernel[abs(y - i)] * kernel[abs(column[e] - j)] * count[e]
                for k in range(log_ratio.shape[1]):
                    out[n, k] += weight * log_ratio[feature[e], k]


@njit(cache=True, nogil=True)
def _block_fit(
    row_start: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    log_ratio: NDArray,
    kernel: NDArray,
    top: int,
    left: int,
    out: NDArray,
) -> None:
    """Fill ``out`` ``(a, b, kinds)`` with what :func:`_fit_at` gives for each pixel of a block."""
    a, b, kinds = out.shape
    half, h = len(kernel) - 1, len(row_start) - 1
    summed = np.zeros((a + 2 * half, b, kinds), dtype=np.float32)
    for i in range(a + 2 * half):
        y = top - half + i
        if y < 0 or y >= h:
            continue
        start, stop = row_start[y], row_start[y + 1]
        for e in range(start + np.searchsorted(column[start:stop], left - half), stop):
            j = column[e] - left
            if j >= b + half:
                break
            for x in range(max(0, j - half), min(b, j + half + 1)):
                weight = kernel[abs(x - j)] * count[e]
                for k in range(kinds):
                    summed[i, x, k] += weight * log_ratio[feature[e], k]
    out[:] = 0
    for i in range(a):
        for t in range(2 * half + 1):
            weight = kernel[abs(t - half)]
            for j in range(b):
                for k in range(kinds):
                    out[i, j, k] += weight * summed[i + t, j, k]


@njit(cache=True, nogil=True)
def _choose_in_blocks(
    first: int,
    stop: int,
    nuclei: NDArray,
    boxes: NDArray,
    axes: NDArray,
    reach: int,
    um_per_px: float,
    row_start: NDArray,
    column: NDArray,
    feature: NDArray,
    count: NDArray,
    log_ratio: NDArray,
    membership: NDArray,
    trust: float,
    kernel: NDArray,
    block_columns: int,
    start: NDArray,
    ids: NDArray,
    owner: NDArray,
    probability: NDArray,
) -> None:
    h, w = nuclei.shape
    kinds = membership.shape[1]
    for k in range(first, stop):
        if start[k + 1] == start[k]:
            continue
        top, left = (k // block_columns) * BLOCK, (k % block_columns) * BLOCK
        a, b = min(top + BLOCK, h) - top, min(left + BLOCK, w) - left
        fit = np.zeros((a, b, kinds), dtype=np.float32)
        if kinds > 0 and trust > 0:
            _block_fit(row_start, column, feature, count, log_ratio, kernel, top, left, fit)
        best = np.full((a, b), -np.inf)
        odds = np.zeros((a, b))  # sum of the candidates' odds against the best one
        for c in ids[start[k] : start[k + 1]]:  # ascending: the lower id wins ties
            row0, row1 = max(boxes[c, 0] - reach, top), min(boxes[c, 2] + reach, top + a)
            column0, column1 = max(boxes[c, 1] - reach, left), min(boxes[c, 3] + reach, left + b)
            if row1 <= row0 or column1 <= column0:
                continue
            distance = np.empty((row1 - row0, column1 - column0), dtype=np.float32)
            stretched_distance(nuclei, boxes[c], c, axes[c], row0, column0, distance, reach)
            for i in range(row0 - top, row1 - top):
                for j in range(column0 - left, column1 - left):
                    d = distance[i + top - row0, j + left - column0]
                    if d == np.inf or nuclei[top + i, left + j] > 0:
                        continue
                    score = -np.float64(d) * um_per_px
                    if trust > 0:
                        for m in range(kinds):
                            score += trust * membership[c, m] * fit[i, j, m]
                    if score > best[i, j]:
                        odds[i, j] = 1.0 + odds[i, j] * np.exp(SHARPNESS_PER_UM * (best[i, j] - score))
                        best[i, j] = score
                        owner[top + i, left + j] = c
                    else:
                        odds[i, j] += np.exp(SHARPNESS_PER_UM * (score - best[i, j]))
        for i in range(a):
            for j in range(b):
                if nuclei[top + i, left + j] == 0 and odds[i, j] > 0:
                    probability[top + i, left + j] = np.uint8(np.rint(255.0 / odds[i, j]))
