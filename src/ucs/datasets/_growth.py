"""Cells that grow from their bodies through uneven ground until they meet or are full: no outline has a formula."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = np.array(
    [(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)]
    + [(-2, -1), (-2, 1), (2, -1), (2, 1), (-1, -2), (-1, 2), (1, -2), (1, 2)]
)  # knight's moves, so that fronts are round and not octagonal


@njit(cache=True, nogil=True)
def pack(
    x: NDArray[np.float64], y: NDArray[np.float64], radius: NDArray[np.float64], packing: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Accept candidates one after the other that keep their distance: the mean packing times the sum of both radii."""
    kept = np.zeros(x.size, np.bool_)
    accepted = np.empty(x.size, np.int64)
    n = 0
    for k in range(x.size):
        free = True
        for m in accepted[:n]:
            least = 0.5 * (packing[k] + packing[m]) * (radius[k] + radius[m])
            if (x[k] - x[m]) ** 2 + (y[k] - y[m]) ** 2 < least * least:
                free = False
                break
        if free:
            kept[k] = True
            accepted[n] = k
            n += 1
    return kept


@njit(cache=True, nogil=True)
def lay_processes(
    owner: NDArray[np.int32],
    nuclei: NDArray[np.int32],
    of_cell: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    heading: NDArray[np.float64],
    length: NDArray[np.float64],
    width: NDArray[np.float64],
    turns: NDArray[np.float64],
) -> None:
    """Draw winding, tapering processes into ``owner``, in place; one ends where it meets a nucleus or another cell's.

    Lengths in pixels. ``turns`` are normal random numbers, of which each process takes one per pixel, from a place of
    its own.
    """
    rows, columns = owner.shape
    for k in range(of_cell.size):
        px, py, angle, cell = x[k], y[k], heading[k], of_cell[k] + 1
        steps = int(length[k])
        for step in range(steps):
            angle += 0.06 * turns[(k * 613 + step) % turns.size]
            px += np.cos(angle)
            py += np.sin(angle)
            if not (0 <= py < rows and 0 <= px < columns):
                break
            there, seen = owner[int(py), int(px)], nuclei[int(py), int(px)]
            if (there != 0 and there != cell) or (seen != 0 and seen != cell):
                break
            half = max(0.7, 0.5 * width[k] * (1 - 0.6 * step / steps))
            reach = int(half) + 1
            for i in range(max(int(py) - reach, 0), min(int(py) + reach + 1, rows)):
                for j in range(max(int(px) - reach, 0), min(int(px) + reach + 1, columns)):
                    within = (i + 0.5 - py) ** 2 + (j + 0.5 - px) ** 2 <= half * half
                    if within and owner[i, j] == 0 and (nuclei[i, j] == 0 or nuclei[i, j] == cell):
                        owner[i, j] = cell


@njit(cache=True, nogil=True)
def grow(
    owner: NDArray[np.int32],
    ground: NDArray[np.float32],
    steps: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    major: NDArray[np.float64],
    minor: NDArray[np.float64],
    angle: NDArray[np.float64],
    limit: NDArray[np.float64],
) -> None:
    """Let cells grow from ``(x, y)`` into what is free of ``owner`` or their own already, in place.

    A front needs the time 1 for a semi-axis on even ground (1 in ``ground``), and stops after ``limit``. A pixel goes
    to the cell that comes first.
    """
    rows, columns = owner.shape
    arrival = np.full((rows, columns), np.inf, np.float32)
    done = np.zeros((rows, columns), np.bool_)
    front = [(np.float32(0.0), np.int64(0), np.int64(0))]
    front.pop()
    for seed in range(x.size):
        i, j, k = np.int64(y[seed]), np.int64(x[seed]), np.int64(seed)
        if 0 <= i < rows and 0 <= j < columns and (owner[i, j] == 0 or owner[i, j] == k + 1):
            heapq.heappush(front, (np.float32(0.0), i * columns + j, k))
    while len(front):
        time, at, k = heapq.heappop(front)
        i, j = at // columns, at % columns
        if done[i, j]:
            continue
        done[i, j] = True
        owner[i, j] = k + 1
        cos, sin = np.cos(angle[k]), np.sin(angle[k])
        for s in range(steps.shape[0]):
            di, dj = steps[s, 0], steps[s, 1]
            ni, nj = i + di, j + dj
            if not (0 <= ni < rows and 0 <= nj < columns) or done[ni, nj]:
                continue
            if owner[ni, nj] != 0 and owner[ni, nj] != k + 1:
                continue
            u, v = (dj * cos + di * sin) / major[k], (di * cos - dj * sin) / minor[k]
            reached = time + np.float32(np.sqrt(u * u + v * v) * 0.5 * (ground[i, j] + ground[ni, nj]))
            if reached < arrival[ni, nj] and reached <= limit[k]:
                arrival[ni, nj] = reached
                heapq.heappush(front, (reached, ni * columns + nj, k))


def grown(owner: NDArray[np.int32], ground: NDArray[np.float32], *shape: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return ``owner`` after :func:`grow` with ``x, y, major, minor, angle, limit``, in pixels."""
    owner = owner.copy()
    grow(owner, ground, _STEPS, *shape)
    return owner
