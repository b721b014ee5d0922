"""How likely a transcript at a pixel comes from the cell that the pixel was given to.

Three things can be wrong, and each has its factor:

- *background*: of the transcripts where the density is rho, the share ``background / rho`` comes from no cell;
- *nucleus not seen*: what lies at distance d may belong to a cell without its nucleus in the section (``Levels``);
- *owner*: of the nuclei around, another one may be the right one. The odds of
:func:`ucs.methods.density.ownership.choose_owners`
  are too sure of themselves, since all pixels of a cell share the errors of its nucleus' shape: their logarithm counts
  :data:`OWNER_SLOPE`.

What is left is diffusion, of which the data says nothing: transcripts that lie in another cell than the one they come
from. :data:`STAYED` is its share in simulated tissue; where much more diffuses, confidence is too high by as much.
``benchmarks/accuracy/reliability.py`` measures both constants' work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs.methods.density.levels import Levels
    from ucs.methods.density.surroundings import Surroundings

OWNER_SLOPE = 0.43
"""What the log odds of an owner are worth; measured on simulated tissue, within 0.1 in all regimes."""

STAYED = 0.955
"""Share of a cell's transcripts that have not moved out of it; measured on simulated tissue."""

_AT_ONCE_UM = 1.0  # as in the module surroundings: up to a threshold of 1/2 such pixels belong to a cell at once
_LEAST_CONTRAST = 1.5
_ROWS_AT_ONCE = 128


def share_from_cells(around: Surroundings, density: NDArray[np.float32], levels: Levels) -> NDArray[np.uint8]:
    """Return 255 times the probability that a transcript at a pixel comes from a cell whose nucleus is seen.

    Parameters
    ----------
    around
        The raster.
    density
        ``(h, w)`` expected transcripts per um2.
    levels
        Densities and lengths of the sample.
    """
    nearest = around.nearest
    out = np.empty(density.shape, dtype=np.uint8)
    background = levels.background
    richness, least = np.exp(around.richness.astype(np.float64)), max(_LEAST_CONTRAST * background, 1e-12)
    in_nucleus = 1 - background / np.maximum(levels.nucleus * richness, least)
    in_cytoplasm = (1 - background / np.maximum(levels.cytoplasm * richness, least)).astype(np.float32)
    for row0 in range(0, len(out), _ROWS_AT_ONCE):
        rows = slice(row0, row0 + _ROWS_AT_ONCE)
        distance = nearest.distance[rows] * np.float32(around.um_per_px)
        owner, nucleus = nearest.owner[rows], around.nuclei[rows]
        share = levels.seen(distance)
        if levels.calibrated:
            share *= 1 - background / np.maximum(density[rows], max(background, 1e-12))
        else:
            share *= in_cytoplasm[owner]
        share = np.where(distance <= _AT_ONCE_UM + 1e-4, in_cytoplasm[owner], share)
        share = np.where(nucleus > 0, in_nucleus[nucleus], share)
        share[owner == 0] = 0
        out[rows] = np.rint(255 * STAYED * share)
    return out


def confidence_of(certainty: NDArray[np.uint8], from_cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 255 times the probability that a transcript at a pixel comes from the cell of the pixel's owner.

    Parameters
    ----------
    certainty
        ``(h, w)`` 255 times the probability of the owner among the nuclei around, of
        :func:`ucs.methods.density.ownership.choose_owners`.
    from_cells
        ``(h, w)`` of :func:`share_from_cells`.
    """
    return np.rint(from_cells * _tempered()[certainty]).astype(np.uint8)


def _tempered() -> NDArray[np.float32]:
    """Return the probability of the owner for each of its 256 steps; 0 and 1 stay what they are."""
    p = np.arange(256) / 255
    with np.errstate(divide="ignore"):
        odds = (p / np.maximum(1 - p, 1e-300)) ** OWNER_SLOPE
    return (odds / (1 + odds)).astype(np.float32)
