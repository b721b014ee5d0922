"""Transcripts of one block of the slide, drawn around its nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from benchmarks.scale._alias import draw

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUCLEAR = 0.05
"""Share of a cell's transcripts drawn in its nucleus; of the others many fall there as well."""

REACH_SHAPE, REACH_UM = 3.0, 2.5
"""Shape and scale (um) of the gamma distribution of how far the others lie from a point of the nucleus."""

CROSSING = 0.1
"""Probability that a transcript stays where it fell although another nucleus is nearer."""

ATTEMPTS = 10


@njit(cache=True, nogil=True)
def group_pixels(
    window: NDArray[np.int32], local: NDArray[np.int32], n_local: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Sort the pixels of some nuclei by nucleus.

    Parameters
    ----------
    window
        ``(h, w)`` labels.
    local
        Label -> position of the nucleus among those wanted, -1 if it is not.
    n_local
        How many are wanted.

    Returns
    -------
    Flat indices of pixels, and ``(n_local + 1,)`` where those of each nucleus begin.
    """
    flat = window.ravel()
    start = np.zeros(n_local + 1, dtype=np.int64)
    for p in range(len(flat)):
        if flat[p] > 0 and local[flat[p]] >= 0:
            start[local[flat[p]] + 1] += 1
    start[1:] = np.cumsum(start[1:])
    pixels = np.empty(start[-1], dtype=np.int32)
    end = start[:-1].copy()
    for p in range(len(flat)):
        if flat[p] > 0 and local[flat[p]] >= 0:
            k = local[flat[p]]
            pixels[end[k]] = p
            end[k] += 1
    return pixels, start


@njit(cache=True, nogil=True)
def scatter(
    rng: np.random.Generator,
    nearest: NDArray[np.int32],
    pixels: NDArray[np.int32],
    start: NDArray[np.int64],
    label: NDArray[np.int32],
    count: NDArray[np.int64],
    profile: NDArray[np.int32],
    spread: NDArray[np.float32],
    share: NDArray[np.float32],
    other: NDArray[np.int32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    gene: NDArray[np.int16],
    source: NDArray[np.int32],
) -> None:
    """Draw positions and genes of the transcripts of some nuclei.

    Parameters
    ----------
    rng
        Generator.
    nearest
        ``(h, w)`` label of the nucleus nearest to each pixel, -1 outside the slide.
    pixels, start
        As :func:`group_pixels` returns them.
    label, count, profile, spread
        ``(n_local,)``: of each nucleus the label, number of transcripts, row of ``share``, factor on how far they lie.
    share, other
        Tables of the genes, one row per profile.
    x, y, gene, source
        Outputs, as long as the sum of ``count``: position in the window (um), gene, label.
    """
    width, i = nearest.shape[1], 0
    for k in range(len(label)):
        n_pixels = start[k + 1] - start[k]
        for _ in range(count[k]):
            x[i], y[i] = _place(rng, nearest, pixels[start[k] : start[k] + n_pixels], width, label[k], spread[k])
            gene[i] = draw(rng, share[profile[k]], other[profile[k]])
            source[i] = label[k]
            i += 1


@njit(cache=True, nogil=True)
def _place(
    rng: np.random.Generator,
    nearest: NDArray[np.int32],
    pixels: NDArray[np.int32],
    width: int,
    label: int,
    spread: float,
) -> tuple[float, float]:
    pixel = pixels[int(rng.random() * len(pixels))]
    x0, y0 = pixel % width + rng.random(), pixel // width + rng.random()
    if rng.random() < NUCLEAR:
        return x0, y0
    for _ in range(ATTEMPTS):
        reach = rng.gamma(REACH_SHAPE, REACH_UM * spread)
        angle = 2 * np.pi * rng.random()
        x, y = x0 + reach * np.cos(angle), y0 + reach * np.sin(angle)
        if 0 <= x < width and 0 <= y < nearest.shape[0]:
            owner = nearest[int(y), int(x)]
            if owner == label or (owner >= 0 and rng.random() < CROSSING / ATTEMPTS):
                return x, y
    return x0, y0
