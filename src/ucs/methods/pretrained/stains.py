"""What stains tell of where cells end, and what that makes of the net's probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_CROSSING = 1e-3  # borders on a line: the odds against any stay finite


@dataclass(frozen=True)
class StainTables:
    """What two measures tell: of a ridge and of a level (:mod:`ucs._kernels.stains`).

    Attributes
    ----------
    borders_per_um
        ``(32,)`` by code of the ridge: borders that a line crosses per um; the same for all codes if it tells nothing.
    typical
        Borders that a line crosses per um, whatever the stain.
    in_cell
        ``(32,)`` by code of the level: log odds of lying in a cell that it adds to those by transcripts.
    """

    borders_per_um: NDArray[np.float64]
    typical: float
    in_cell: NDArray[np.float64]

    def revised(
        self,
        owner: NDArray[np.int32],
        probability: NDArray[np.float32],
        first: tuple[int, int],
        nuclei: NDArray[np.int32],
        middles: NDArray[np.float64],
        stain: NDArray[np.uint8],
        *,
        factor: int,
        um_per_px: float,
    ) -> NDArray[np.float32]:
        """Return the net's probabilities with what the stains tell.

        A line from a place to the middle of its candidate crosses no border with probability ``q = exp(-c)``, ``c``
        being the borders that are expected on it. The odds of the candidate against none change by the odds of ``q``
        relative to those of the same line without any stain, and by the level at the place.

        Parameters
        ----------
        owner, probability
            ``(2, h, w)`` candidates and ``(2, 3, h, w)`` probabilities of net pixels.
        first
            Row and column of the first of these net pixels, in pixels of the window.
        nuclei, stain
            ``(H, W)`` ids and ``(2, H, W)`` codes of the measures, on the window.
        middles
            ``(m + 1, 2)`` rows and columns in the window of the middles of the nuclei.
        factor, um_per_px
            Side of a net pixel in pixels, and of a pixel in um.
        """
        revised = probability.copy()
        _revise(
            owner, revised, first, factor, um_per_px, nuclei, middles, stain, self.borders_per_um, self.typical,
            self.in_cell,
        )  # fmt: skip
        return revised


@njit(cache=True, nogil=True)
def _revise(
    owner: NDArray,
    probability: NDArray,
    first: tuple[int, int],
    factor: int,
    um_per_px: float,
    nuclei: NDArray,
    middles: NDArray,
    stain: NDArray,
    borders_per_um: NDArray,
    typical: float,
    in_cell: NDArray,
) -> None:
    half = (factor - 1) / 2
    height, width = nuclei.shape
    change = np.zeros(2)
    for i in range(owner.shape[1]):
        y = first[0] + i * factor + half
        for j in range(owner.shape[2]):
            if owner[0, i, j] == 0:
                continue
            x = first[1] + j * factor + half
            level = in_cell[stain[1, min(int(y + 0.5), height - 1), min(int(x + 0.5), width - 1)]]
            for number in range(2):
                c = owner[number, i, j]
                change[number] = level
                if c == 0:
                    continue
                dy, dx = middles[c, 0] - y, middles[c, 1] - x
                length = np.sqrt(dy * dy + dx * dx)
                n = int(np.ceil(length))
                expected, plain = 0.0, 0.0
                for step in range(n):
                    at = (step + 0.5) / n
                    row = min(max(int(y + dy * at + 0.5), 0), height - 1)
                    column = min(max(int(x + dx * at + 0.5), 0), width - 1)
                    if nuclei[row, column] == c:
                        break
                    expected += borders_per_um[stain[0, row, column]] * length / n * um_per_px
                    plain += typical * length / n * um_per_px
                if plain > 0:
                    change[number] += _log_odds(expected) - _log_odds(plain)
            for kind in range(2):
                total = 0.0
                for number in range(2):
                    probability[kind, number, i, j] *= np.exp(change[number])
                for number in range(3):
                    total += probability[kind, number, i, j]
                if total > 0:
                    for number in range(3):
                        probability[kind, number, i, j] /= total


@njit(cache=True, nogil=True)
def _log_odds(expected: float) -> float:
    """Return the log odds that no border is crossed where some are expected."""
    return -np.log(np.expm1(min(max(expected, _LEAST_CROSSING), 50.0)))
