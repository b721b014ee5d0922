"""Which nucleus owns each pixel (paper, equations 4-6), every pixel at the centre of its own patch.

For pixel p the candidates are the nuclei within ``reach`` pixels. The network's scalar ``f(p)`` and two numbers of its
head give ``logit q_c(p) = w f(p) s_c(p) + b``; the background's probability is the mean of ``1 - q_c`` over the
candidates. The pixel goes to the larger of the background's logit and the best candidate's. Logits are compared, not
probabilities: where several ``q_c`` have rounded to 1 the order of the nuclei would decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._core.lattice import boxes_by_block
from ucs._core.parallel import in_threads
from ucs._core.softmask import sigmoid, signed_distance, softmask

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 128


def assign_pixels(
    nuclei: NDArray[np.int32],
    boxes: NDArray[np.int64],
    scalar: NDArray[np.float32],
    *,
    weight: float,
    bias: float,
    tau: float,
    reach: int,
    threshold: float = 0.0,
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Give every pixel to one nucleus or to the background.

    Parameters
    ----------
    nuclei
        ``(h, w)`` nucleus ids 1..n, 0 elsewhere. A pixel of a nucleus always belongs to it.
    boxes
        ``(n + 1, 4)`` of :func:`ucs._core.lattice.bounding_boxes`.
    scalar
        ``(h, w)`` the network's f(p).
    weight, bias
        ``w`` and ``b`` of the head.
    tau
        Softness in pixels.
    reach
        R, in pixels between pixel centres.
    threshold
        Added to the background's logit: above 0 cells become smaller.

    Returns
    -------
    ``(labels, probability)``: ``(h, w)`` int32, and uint8 with ``round(255 q)`` of the owner (0 where there is none).
    """
    h, w = nuclei.shape
    block_rows, block_columns = -(-h // BLOCK), -(-w // BLOCK)
    start, ids = boxes_by_block(boxes, reach, BLOCK, block_rows, block_columns)
    labels = np.zeros((h, w), dtype=np.int32)
    probability = np.zeros((h, w), dtype=np.uint8)
    numbers = (float(weight), float(bias), float(tau), int(reach), float(threshold), block_columns)
    in_threads(_assign_blocks, len(start) - 1, nuclei, boxes, scalar, *numbers, start, ids, labels, probability)
    return labels, probability


@njit(cache=True, nogil=True)
def _assign_blocks(
    first: int,
    stop: int,
    nuclei: NDArray,
    boxes: NDArray,
    scalar: NDArray,
    weight: float,
    bias: float,
    tau: float,
    reach: int,
    threshold: float,
    block_columns: int,
    start: NDArray,
    ids: NDArray,
    labels: NDArray,
    probability: NDArray,
) -> None:
    h, w = nuclei.shape
    for k in range(first, stop):
        top, left = (k // block_columns) * BLOCK, (k % block_columns) * BLOCK
        bottom, right = min(top + BLOCK, h), min(left + BLOCK, w)
        if start[k + 1] > start[k]:
            _assign_block(
                nuclei,
                boxes,
                scalar[top:bottom, left:right],
                weight,
                bias,
                tau,
                reach,
                threshold,
                top,
                left,
                ids[start[k] : start[k + 1]],
                labels[top:bottom, left:right],
                probability[top:bottom, left:right],
            )


@njit(cache=True, nogil=True)
def _assign_block(
    nuclei: NDArray,
    boxes: NDArray,
    scalar: NDArray,
    weight: float,
    bias: float,
    tau: float,
    reach: int,
    threshold: float,
    top: int,
    left: int,
    candidates: NDArray,
    labels: NDArray,
    probability: NDArray,
) -> None:
    h, w = labels.shape
    owned = np.zeros((h, w), dtype=np.float64)  # sum of q over the candidates
    free = np.zeros((h, w), dtype=np.float64)  # sum of 1 - q
    best_logit = np.full((h, w), -np.inf)
    best_distance = np.full((h, w), -np.inf)
    for c in candidates:  # ascending: sums have one order, and the lower id wins a tie of logit and distance
        row0, row1 = max(boxes[c, 0] - reach, top), min(boxes[c, 2] + reach, top + h)
        column0, column1 = max(boxes[c, 1] - reach, left), min(boxes[c, 3] + reach, left + w)
        if row1 <= row0 or column1 <= column0:
            continue
        distance = np.empty((row1 - row0, column1 - column0), dtype=np.float64)
        signed_distance(nuclei, boxes[c], c, row0, column0, distance, float(reach))
        for a in range(row1 - row0):
            i = row0 - top + a
            for b in range(column1 - column0):
                d = distance[a, b]
                if d == -np.inf:
                    continue
                j = column0 - left + b
                logit = weight * scalar[i, j] * softmask(d, tau) + bias
                owned[i, j] += sigmoid(logit)
                free[i, j] += sigmoid(-logit)
                if logit > best_logit[i, j] or (logit == best_logit[i, j] and d > best_distance[i, j]):
                    best_logit[i, j] = logit
                    best_distance[i, j] = d
                    labels[i, j] = c
    for i in range(h):
        for j in range(w):
            nucleus = nuclei[top + i, left + j]
            if nucleus > 0:
                labels[i, j] = nucleus
                probability[i, j] = 255
                continue
            if labels[i, j] == 0:
                continue
            # Background = mean(1 - q), so 1 - background = mean(q): its logit needs both sums and no subtraction
            # from 1.
            background = np.log(free[i, j]) - np.log(owned[i, j]) + threshold
            if best_logit[i, j] > background:
                probability[i, j] = np.uint8(np.rint(255.0 * sigmoid(best_logit[i, j])))
            else:
                labels[i, j] = 0
