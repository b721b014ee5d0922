"""What stains tell of where cells end, learned from the sample: its cells by transcripts alone are the teacher.

How much more often a measure of a stain (:mod:`ucs._kernels.stains`) takes a value on the borders of cells than
elsewhere is counted on some squares of the sample. A stain that has nothing to do with the cells takes each value as
often here as there, and then it changes nothing. The teacher's borders are off by some um: that weakens what is learned
of a true one, and does not turn it round.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from ucs._kernels.lattice import tiles_of
from ucs._kernels.stains import N_CODES
from ucs._utils.checks import listed
from ucs._utils.log import logger
from ucs.methods.pretrained.stains import StainTables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ucs._kernels.labels.windows import Window
    from ucs.methods.pretrained.predict import OwnerPlan

_SQUARE, _SQUARES = 384, 16  # pixels, and how many are looked at
_NEAR_UM = 20.0  # from nuclei
_CLEAR_UM = 2.0  # from the teacher's borders, which are off by about 1 um
_RIM_UM = 3.0  # on both sides of where the teacher's cells end
# Of the values on borders relative to those elsewhere (Kullback-Leibler, nats). Measured on simulated tissue: a true
# membrane 1.3 to 3.4, the membranes of other tissue 0.015 to 0.045, noise below 0.005; a true interior 1.2 to 2.0, that
# of other tissue 0.04 at most (benchmarks/accuracy/RESULTS.md).
_LEAST_INFORMATION = 0.05
_PRIOR = 20.0  # pixels with the values of all, so that few pixels tell little
_ALIKE = 4.0  # neighbouring pixels that are about as good as one
# Of what a level tells: the rest is what the density of transcripts, by which the teacher goes, has told already.
# Chosen of 1, 1/2 and 1/4 on two seeds of five regimes (benchmarks.accuracy.stains).
_ADDED = 0.5


def learn_stains(
    plan: OwnerPlan, names: Sequence[str], measures: NDArray[np.uint8]
) -> tuple[StainTables, list[int]] | None:
    """Compare stains with the cells of a plan that does not know them; None if they tell nothing, which is warned of.

    Returns the tables and which of the measures they are for.

    Parameters
    ----------
    plan
        Of the sample, without stains.
    names
        Of the channels.
    measures
        ``(2 c, h, w)`` uint8, ridge and level of each channel.
    """
    from skimage.segmentation import find_boundaries

    um_per_px = plan.predictor.um_per_px
    counts = np.zeros((len(measures), 2, N_CODES))  # on borders and elsewhere, or in cells and outside
    n_border = n_near = 0
    for core in _squares(plan):
        task = plan.task(core)
        predictor = replace(plan.predictor, features=None)
        labels = predictor.decide(predictor.forward(task, device=torch.device("cpu"), tile_size=_SQUARE)).labels
        away = distance_transform_edt(task.nuclei == 0)[core.seen_from(task.window).slices] * um_per_px
        near = (away > 0) & (away < _NEAR_UM)
        border = find_boundaries(labels)
        clear = _away_from(border) * um_per_px >= _CLEAR_UM
        n_border, n_near = n_border + int((border & near).sum()), n_near + int(near.sum())
        # Where cells end: far outside of all, levels are so low that they would say nothing of the blurred rim.
        rim = near & (_away_from(find_boundaries(labels > 0)) * um_per_px < _RIM_UM)
        for k, measure in enumerate(measures):
            codes = measure[core.slices]
            parts = (border, clear) if k % 2 == 0 else (rim & (labels > 0), rim & (labels == 0))
            for part, where in enumerate(parts):
                counts[k, part] += np.bincount(codes[where & near], minlength=N_CODES)
    counts[:, :, 0] = 0  # no image
    log_ratio, information = zip(*map(_compare, counts), strict=True)
    ridge, level = int(np.argmax(information[::2])), int(np.argmax(information[1::2]))
    typical = max(n_border, 1) / max(n_near, 1) / (2 * um_per_px)  # a border is two pixels wide
    borders, in_cell, told = np.full(N_CODES, typical), np.zeros(N_CODES), []
    if information[2 * ridge] >= _LEAST_INFORMATION:
        seen = counts[2 * ridge].sum(axis=0)
        relative = np.exp(log_ratio[2 * ridge])
        borders[1:] = (typical * relative / np.average(relative, weights=seen))[1:]
        told.append(f"membranes by {names[ridge]} ({information[2 * ridge]:.2f} nats)")
    if information[2 * level + 1] >= _LEAST_INFORMATION:
        in_cell = _ADDED * log_ratio[2 * level + 1]
        told.append(f"the inside of cells by {names[level]} ({information[2 * level + 1]:.2f} nats)")
    if not told:
        logger.warning(
            "Stains are not used: where cells end, %s look as they do elsewhere (%.3f nats at most, %g are asked for). "
            "Look at whether the image lies where the transcripts are, or leave read['stain_keys'] out.",
            listed(names),
            max(0.0, *information),
            _LEAST_INFORMATION,
        )
        return None
    logger.info("Stains tell %s.", " and ".join(told))
    return StainTables(borders, typical, in_cell), [2 * ridge, 2 * level + 1]


def _squares(plan: OwnerPlan) -> list[Window]:
    """Return squares with nuclei, evenly taken from all over the raster."""
    nuclei = plan.survey.nuclei
    some = [core for core in tiles_of(plan.survey.shape, _SQUARE) if nuclei[core.slices].any()]
    chosen = np.unique(np.linspace(0, len(some) - 1, min(_SQUARES, len(some))).round().astype(int))
    return [some[k] for k in chosen]


def _away_from(pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
    return distance_transform_edt(~pixels) if pixels.any() else np.full(pixels.shape, np.inf)


def _compare(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the log ratio of two histograms ``(2, 32)``, and how much it tells, less what chance makes of it.

    Membranes and the inside of cells are bright: the ratio rises with the code, or is level.
    """
    from scipy.optimize import isotonic_regression

    n = counts.sum(axis=1)
    if not n.all():
        return np.zeros(N_CODES), 0.0
    first, second = counts[0], counts[1] * (n[0] / n[1])
    raw = np.log((first + _PRIOR) / (second + _PRIOR))
    log_ratio = isotonic_regression(raw, weights=counts.sum(axis=0) + 1e-6).x
    by_chance = _ALIKE * np.count_nonzero(counts.sum(axis=0)) / 2 * (1 / n).sum()
    return log_ratio, float((first / n[0] * log_ratio).sum() - by_chance)
