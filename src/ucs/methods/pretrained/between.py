"""The net's probabilities between net pixels, read nucleus by nucleus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 8
"""Candidates at one place: two of each of the four net pixels around it."""


@njit(cache=True, nogil=True)
def read_between(
    owner: NDArray,
    probability: NDArray,
    y: float,
    x: float,
    row0: int,
    column0: int,
    n_rows: int,
    n_columns: int,
    ids: NDArray,
    place: NDArray,
    origin: NDArray,
) -> tuple[int, float, float]:
    """Write the candidates at a place with both their probabilities.

    Parameters
    ----------
    owner, probability
        ``(2, h, w)`` candidates and ``(2, 3, h, w)`` probabilities of net pixels.
    y, x
        Place, in net pixels of the whole raster.
    row0, column0
        The first of these net pixels in the whole raster.
    n_rows, n_columns
        Net pixels of the whole raster.
    ids, place, origin
        ``(MOST,)`` outputs: the candidates, how likely the place is theirs, and a transcript there comes from them.

    Returns
    -------
    The number of candidates, how likely the place lies in any cell, and a transcript there comes from none.
    """
    low_y, low_x = int(np.floor(y)), int(np.floor(x))
    n, in_any, of_none = 0, 0.0, 0.0
    for a in range(2):
        for b in range(2):
            weight = (y - low_y if a else 1 - (y - low_y)) * (x - low_x if b else 1 - (x - low_x))
            if weight == 0:
                continue
            row = min(max(low_y + a, 0), n_rows - 1) - row0
            column = min(max(low_x + b, 0), n_columns - 1) - column0
            of_none += weight * probability[1, 2, row, column]
            for number in range(2):
                c = owner[number, row, column]
                if c == 0:
                    continue
                p = weight * probability[0, number, row, column]
                in_any += p
                at = n
                for k in range(n):
                    if ids[k] == c:
                        at = k
                if at == n:
                    ids[n], place[n], origin[n] = c, 0.0, 0.0
                    n += 1
                place[at] += p
                origin[at] += weight * probability[1, number, row, column]
    return n, in_any, of_none
