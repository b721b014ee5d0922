"""Which nucleus owns each pixel (paper, equations 4-6), every pixel at the centre of its own patch.

For pixel p the candidates are the nuclei within ``reach`` pixels. The network's scalar ``f(p)`` and two numbers of its
head give ``logit q_c(p) = w f(p) s_c(p) + b``; the background's probability is the mean of ``1 - q_c`` over the
candidates. The pixel goes to the larger of the background's logit and the best candidate's. Logits are compared, not
probabilities: where several ``q_c`` have rounded to 1 the order of the nuclei would decide.

With several models, one per region of the tissue, each nucleus brings the ``q_c`` of its own model: f, w and b are
those of the model that judges it. So the border of a region, at which models change, is no border of cells.

The threshold, which the paper does not have, makes cells smaller or larger. On a pixel that the paper gives to a cell
the margin is the best candidate's logit less the background's. On any other it is the logit of the candidate with the
largest softmask less the background's, and that candidate becomes the owner: where ``w f(p) < 0`` the largest q is that
of the farthest nucleus, and close to ``sigmoid(b)`` however far from cells the pixel lies. A pixel is cell where the
sigmoid of margin / temperature is above the threshold. At 0.5 that is the paper's decision; a higher threshold only
takes pixels away, a lower one only adds some.

With markers (paper), ``logit q_c(p) = w f(p) s_c(p) + w2 m_c(p) + b``, m_c(p) = 1 where a marker of c's type is on p.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.distances import signed_distance
from ucs._kernels.lattice import BLOCK, boxes_by_block, count_blocks
from ucs._utils.parallel import in_threads
from ucs.methods.paper.softmask import sigmoid, softmask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs.methods.paper.inference import BlockValues
    from ucs.methods.paper.marks import Marks


def assign_pixels(
    nuclei: NDArray[np.int32],
    boxes: NDArray[np.int64],
    axes: NDArray[np.float64],
    scalar: BlockValues,
    *,
    model: NDArray[np.integer],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    temperature: NDArray[np.float64],
    tau: float,
    reach: int,
    threshold: float = 0.5,
    marks: Marks | None = None,
    mark_weight: NDArray[np.float64] | None = None,
    wanted: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Give every pixel to one nucleus or to the background.

    Parameters
    ----------
    nuclei
        ``(h, w)`` nucleus ids 1..n, 0 elsewhere. A pixel of a nucleus always belongs to it.
    boxes
        ``(n + 1, 4)`` of :func:`ucs._kernels.lattice.bounding_boxes`.
    axes
        ``(n + 1, 3)`` of :func:`ucs._kernels.distances.nucleus_axes`: how distances follow the shape of each nucleus.
    scalar
        f(p) of every model, on the blocks that its nuclei reach.
    model
        ``(n + 1,)``, which model judges each nucleus.
    weight, bias
        ``(n_models,)``, ``w`` and ``b`` of each model's head.
    temperature
        ``(n_models,)``, in units of logits: how far the threshold reaches in each model
        (:attr:`ucs.methods.paper.cell.CellNet.temperature`).
    tau
        Softness in pixels.
    reach
        R, in pixels between pixel centres.
    threshold
        Between 0 and 1: the higher, the smaller are cells; towards 1 they shrink to their nucleus. 0.5 is the paper's
        decision.
    marks, mark_weight
        Markers and types of the nuclei, and ``(n_models,)`` what a marker of its type adds to a nucleus' logit.
    wanted
        ``(n_blocks,)`` the blocks of the lattice that are worked on, row by row; all if None.

    Returns
    -------
    ``(labels, probability)``: ``(h, w)`` int32, and uint8 with ``round(255 q)`` of the owner (0 where there is none).

    Raises
    ------
    ValueError
        If the threshold is not between 0 and 1, or scores are missing where a nucleus reaches.
    """
    if not 0 < threshold < 1:
        msg = f"threshold={threshold!r} must lie between 0 and 1; 0.5 is the paper's decision."
        raise ValueError(msg)
    block_rows, block_columns = count_blocks(nuclei.shape)
    start, ids = boxes_by_block(boxes, reach, BLOCK, block_rows, block_columns)
    if wanted is not None:
        ids = ids[np.repeat(wanted, np.diff(start))]
        start = np.concatenate([[0], np.cumsum(np.where(wanted, np.diff(start), 0))])
    labels = np.zeros(nuclei.shape, dtype=np.int32)
    probability = np.zeros(nuclei.shape, dtype=np.uint8)
    models = (
        np.asarray(model, dtype=np.int64),
        np.asarray(weight, dtype=np.float64),
        np.asarray(bias, dtype=np.float64),
        math.log(threshold / (1 - threshold)) * np.asarray(temperature, dtype=np.float64),
    )
    _check_asked(scalar, models[0], start, ids)
    numbers = (float(tau), int(reach), block_columns)
    if marks is None:
        marked = (np.zeros((0, 0), dtype=np.uint8), np.full(len(boxes), -1, dtype=np.int16), np.zeros_like(models[1]))
    else:
        marked = (marks.bits, marks.type_of, np.asarray(mark_weight, dtype=np.float64))
    arrays = (nuclei, boxes, axes, scalar.blocks, scalar.index, *models, *marked)
    in_threads(_assign_blocks, len(start) - 1, *arrays, *numbers, start, ids, labels, probability)
    return labels, probability


def _check_asked(scalar: BlockValues, model: NDArray[np.int64], start: NDArray, ids: NDArray) -> None:
    """Raise ``ValueError`` if a model was not asked where one of its nuclei reaches: the kernel looks up unchecked."""
    block = np.repeat(np.arange(len(start) - 1), np.diff(start))
    missing = scalar.index[model[ids], block] < 0
    if missing.any():
        msg = f"Scores are missing on {len(np.unique(block[missing]))} blocks that nuclei reach."
        raise ValueError(msg)


@njit(cache=True, nogil=True)
def _assign_blocks(
    first: int,
    stop: int,
    nuclei: NDArray,
    boxes: NDArray,
    axes: NDArray,
    scalar: NDArray,
    index: NDArray,
    model: NDArray,
    weight: NDArray,
    bias: NDArray,
    margin: NDArray,
    bits: NDArray,
    type_of: NDArray,
    mark_weight: NDArray,
    tau: float,
    reach: int,
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
                axes,
                scalar,
                index[:, k],
                model,
                weight,
                bias,
                margin,
                bits,
                type_of,
                mark_weight,
                tau,
                reach,
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
    axes: NDArray,
    scalar: NDArray,
    index: NDArray,
    model: NDArray,
    weight: NDArray,
    bias: NDArray,
    margin: NDArray,
    bits: NDArray,
    type_of: NDArray,
    mark_weight: NDArray,
    tau: float,
    reach: int,
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
    nearest = np.zeros((h, w), dtype=np.int32)
    near_logit = np.zeros((h, w), dtype=np.float64)
    near_distance = np.full((h, w), -np.inf)
    for c in candidates:  # ascending: sums have one order, and the lower id wins a tie of logit and distance
        row0, row1 = max(boxes[c, 0] - reach, top), min(boxes[c, 2] + reach, top + h)
        column0, column1 = max(boxes[c, 1] - reach, left), min(boxes[c, 3] + reach, left + w)
        if row1 <= row0 or column1 <= column0:
            continue
        m = model[c]
        f = scalar[index[m]]
        distance = np.empty((row1 - row0, column1 - column0), dtype=np.float64)
        signed_distance(nuclei, boxes[c], c, axes[c], row0, column0, distance, float(reach))
        for a in range(row1 - row0):
            i = row0 - top + a
            for b in range(column1 - column0):
                d = distance[a, b]
                if d == -np.inf:
                    continue
                j = column0 - left + b
                logit = weight[m] * f[i, j] * softmask(d, tau) + bias[m]
                if type_of[c] >= 0:
                    there = (np.uint64(bits[top + i, left + j]) >> np.uint64(type_of[c])) & np.uint64(1)
                    logit += mark_weight[m] * np.float64(there)
                owned[i, j] += sigmoid(logit)
                free[i, j] += sigmoid(-logit)
                if logit > best_logit[i, j] or (logit == best_logit[i, j] and d > best_distance[i, j]):
                    best_logit[i, j] = logit
                    best_distance[i, j] = d
                    labels[i, j] = c
                if d > near_distance[i, j]:
                    near_distance[i, j] = d
                    near_logit[i, j] = logit
                    nearest[i, j] = c
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
            background = np.log(free[i, j]) - np.log(owned[i, j])
            logit = best_logit[i, j]
            if not logit > background:
                labels[i, j], logit = nearest[i, j], near_logit[i, j]
            if logit - background > margin[model[labels[i, j]]]:
                probability[i, j] = np.uint8(np.rint(255.0 * sigmoid(logit)))
            else:
                labels[i, j] = 0
