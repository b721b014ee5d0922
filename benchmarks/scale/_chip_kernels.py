"""Nuclei of a simulated chip as ellipses near the points of a lattice, and transcripts around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from benchmarks.scale._alias import draw

if TYPE_CHECKING:
    from numpy.typing import NDArray

ATTEMPTS = 8
NUCLEAR = 0.35
"""Share of a cell's transcripts within its nucleus."""

SHELL = 0.5
"""Mean depth of the shell that holds the others, in half-axes of the nucleus: exponential."""


@njit(cache=True, nogil=True)
def distance(nucleus: NDArray[np.float64], x: float, y: float) -> float:
    """Return how far a point is from a nucleus' centre: 1 on its outline.

    A nucleus is ``(x, y, long half-axis, short half-axis, cosine, sine)`` in pixels.
    """
    u, v = x - nucleus[0], y - nucleus[1]
    along, across = u * nucleus[4] + v * nucleus[5], v * nucleus[4] - u * nucleus[5]
    return np.sqrt((along / nucleus[2]) ** 2 + (across / nucleus[3]) ** 2)


@njit(cache=True, nogil=True)
def _nearest(nuclei: NDArray[np.float64], site: NDArray[np.int32], pitch: float, x: float, y: float) -> int:
    """Return the nucleus that a point is nearest to, by :func:`distance`, of those of the lattice's 3 x 3 sites."""
    row, column = int(y / pitch), int(x / pitch)
    best, least = -1, np.inf
    for i in range(max(row - 1, 0), min(row + 2, site.shape[0])):
        for j in range(max(column - 1, 0), min(column + 2, site.shape[1])):
            if site[i, j] >= 0:
                d = distance(nuclei[site[i, j]], x, y)
                if d < least:
                    best, least = site[i, j], d
    return best


@njit(cache=True, nogil=True)
def paint(
    nuclei: NDArray[np.float64], site: NDArray[np.int32], pitch: float, row0: int, column0: int, shape: tuple[int, int]
) -> NDArray[np.int32]:
    """Return the labels (position of the nucleus + 1) of a part of the chip; overlaps go to the nearer nucleus."""
    labels = np.zeros(shape, dtype=np.int32)
    nearness = np.full(shape, 1.0, dtype=np.float32)
    bottom, right = row0 + shape[0], column0 + shape[1]
    for i in range(max(int(row0 / pitch) - 1, 0), min(int(bottom / pitch) + 2, site.shape[0])):
        for j in range(max(int(column0 / pitch) - 1, 0), min(int(right / pitch) + 2, site.shape[1])):
            k = site[i, j]
            if k < 0:
                continue
            x, y, reach = nuclei[k, 0], nuclei[k, 1], nuclei[k, 2]
            for r in range(max(int(y - reach), row0), min(int(y + reach) + 2, bottom)):
                for c in range(max(int(x - reach), column0), min(int(x + reach) + 2, right)):
                    d = distance(nuclei[k], c + 0.5, r + 0.5)
                    if d < nearness[r - row0, c - column0]:
                        nearness[r - row0, c - column0] = d
                        labels[r - row0, c - column0] = k + 1
    return labels


@njit(cache=True, nogil=True)
def scatter(
    rng: np.random.Generator,
    gene: NDArray[np.int32],
    background: float,
    types: tuple[NDArray[np.float32], NDArray[np.int32]],
    of_type: tuple[NDArray[np.int32], NDArray[np.int64]],
    of_nucleus: tuple[NDArray[np.float32], NDArray[np.int32]],
    nuclei: NDArray[np.float64],
    site: NDArray[np.int32],
    pitch: float,
    part: tuple[int, int, int, int],
    x: NDArray[np.int32],
    y: NDArray[np.int32],
) -> None:
    """Draw where transcripts of given genes lie.

    Parameters
    ----------
    rng
        Generator.
    gene
        ``(n,)`` gene of each row.
    background
        Share of rows that lie anywhere.
    types
        Alias tables ``(genes, types)``: the type of the cell that a transcript of a gene comes from.
    of_type
        Nuclei sorted by type, and ``(types + 1,)`` where those of each begin.
    of_nucleus
        Alias tables over the nuclei of one type, in the order of ``of_type``.
    nuclei, site, pitch
        All nuclei; the nucleus of each site of the lattice, -1 for none; the distance of sites in pixels.
    part
        ``(top, left, bottom, right)`` of the part of the chip that there is.
    x, y
        ``(n,)`` outputs, pixels counted from the corner of the part.
    """
    top, left, bottom, right = part
    order, start = of_type
    share, other = of_nucleus
    for i in range(len(gene)):
        x[i], y[i] = int(rng.random() * (right - left)), int(rng.random() * (bottom - top))
        if rng.random() < background:
            continue
        t = draw(rng, types[0][gene[i]], types[1][gene[i]])
        first, last = start[t], start[t + 1]
        if first == last:
            continue
        k = order[first + draw(rng, share[first:last], other[first:last])]
        for _ in range(ATTEMPTS):
            px, py = _around(rng, nuclei[k])
            if left <= px < right and top <= py < bottom and _nearest(nuclei, site, pitch, px, py) == k:
                x[i], y[i] = int(px) - left, int(py) - top
                break


@njit(cache=True, nogil=True)
def _around(rng: np.random.Generator, nucleus: NDArray[np.float64]) -> tuple[float, float]:
    far = np.sqrt(rng.random()) if rng.random() < NUCLEAR else 1.0 + rng.exponential(SHELL)
    angle = 2 * np.pi * rng.random()
    along, across = far * nucleus[2] * np.cos(angle), far * nucleus[3] * np.sin(angle)
    return (
        nucleus[0] + along * nucleus[4] - across * nucleus[5],
        nucleus[1] + along * nucleus[5] + across * nucleus[4],
    )
