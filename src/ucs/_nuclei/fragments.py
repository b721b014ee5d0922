"""Merging of the fragments of nuclei, from their sums only.

A watershed that finds every nucleus splits some of them. Which fragments are one nucleus is decided here for a whole
image, from a few numbers per fragment and per contact. No pixels are needed, so the result does not depend on tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.components import lowest_connected
from ucs._kernels.labels.measure import second_moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EDGES_PER_LENGTH = 4 / np.pi  # mean number of pixel edges along a line of random direction, per pixel of its length


@dataclass(frozen=True)
class Fragments:
    """Fragments of nuclei.

    Attributes
    ----------
    sums
        ``(n, 6)`` int64: pixels, and the sums of x, y, x*x, y*y, x*y.
    box
        ``(n, 4)`` int64: lowest row, lowest column, highest row, highest column.
    level
        ``(n,)`` brightness.
    height
        ``(n,)`` height of the peak in the landscape that was cut.
    """

    sums: NDArray[np.int64]
    box: NDArray[np.int64]
    level: NDArray[np.float64]
    height: NDArray[np.float32]

    def grouped_members(self, member: NDArray[np.int64], group: NDArray[np.int64]) -> Fragments:
        """Return the unions of groups that may share fragments, given fragment and group of each membership."""
        pieces = Fragments(self.sums[member], self.box[member], self.level[member], self.height[member])
        return pieces.grouped(group, int(group.max(initial=-1)) + 1)

    def grouped(self, group: NDArray[np.int64], n: int) -> Fragments:
        """Return the union of the fragments of each group 0..n-1; levels are averaged over pixels."""
        sums = np.zeros((n, self.sums.shape[1]), dtype=np.int64)
        np.add.at(sums, group, self.sums)
        box = np.concatenate([np.full((n, 2), np.iinfo(np.int64).max), np.full((n, 2), -1)], axis=1)
        np.minimum.at(box[:, :2], group, self.box[:, :2])
        np.maximum.at(box[:, 2:], group, self.box[:, 2:])
        level = np.bincount(group, weights=self.level * self.sums[:, 0], minlength=n) / np.maximum(sums[:, 0], 1)
        height = np.full(n, -np.inf, dtype=np.float32)
        np.maximum.at(height, group, self.height)
        return Fragments(sums, box, level, height)


@dataclass(frozen=True)
class Borders:
    """Contacts of fragments: both indices (``low < high``), pixel edges, and the highest pass in two rasters."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    n_edges: NDArray[np.int64]
    value: NDArray[np.float32]
    landscape: NDArray[np.float32]

    @classmethod
    def collect(
        cls,
        low: NDArray[np.int64],
        high: NDArray[np.int64],
        n_edges: NDArray[np.int64],
        value: NDArray[np.float32],
        landscape: NDArray[np.float32],
    ) -> Borders:
        """Combine the entries of each pair; contacts of a fragment with itself are dropped."""
        low, high = np.minimum(low, high), np.maximum(low, high)
        keep = low != high
        order = np.flatnonzero(keep)[np.lexsort((high[keep], low[keep]))]
        low, high, n_edges = low[order], high[order], n_edges[order]
        value, landscape = value[order], landscape[order]
        starts = np.flatnonzero(np.append(True, (np.diff(low) != 0) | (np.diff(high) != 0))[: len(low)])
        if len(starts) == 0:
            return cls(low, high, n_edges, value, landscape)
        return cls(
            low[starts],
            high[starts],
            np.add.reduceat(n_edges, starts),
            np.maximum.reduceat(value, starts),
            np.maximum.reduceat(landscape, starts),
        )

    def grouped(self, group: NDArray[np.int64]) -> Borders:
        """Return the borders between groups of fragments."""
        return Borders.collect(group[self.low], group[self.high], self.n_edges, self.value, self.landscape)


@dataclass(frozen=True)
class MergeLimits:
    """Conditions under which two fragments are one nucleus; lengths and areas in pixels.

    Attributes
    ----------
    depth
        Peaks that rise less than this above the pass to a higher one are merged with it.
    ellipse
        Lowest share that the union must fill of the ellipse with the same moments: 1 for an ellipse, 0.89 for two discs
        that touch.
    neck
        Lowest length of the contact, relative to the width of the union.
    valley
        Lowest brightness of the pass between the two, relative to the dimmer one.
    similar
        Lowest brightness of the dimmer one, relative to the brighter one.
    largest_area, longest
        Limits of a union: area, and side of its box.
    """

    depth: float
    ellipse: float
    neck: float
    valley: float
    similar: float
    largest_area: float
    longest: float


def group_fragments(fragments: Fragments, borders: Borders, limits: MergeLimits) -> tuple[NDArray[np.int64], int]:
    """Return the nucleus of each fragment, ``(n,)`` 0..m-1, and m.

    First, fragments with a shallow peak are merged with the higher neighbour, in the order of the passes. Then, in
    rounds, groups are merged that are the best choice of all their members: those whose union fills its ellipse best.
    """
    order = np.lexsort((borders.high, borders.low, -borders.landscape))
    root = np.arange(len(fragments.level))
    _join_shallow(
        root, fragments.height.copy(), fragments.box.copy(),
        borders.low[order], borders.high[order], borders.landscape[order], limits.depth, limits.longest,
    )  # fmt: skip
    group, n = _dense(root)
    while True:
        merged, between = fragments.grouped(group, n), borders.grouped(group)
        joined = _join_best(merged, between, limits)
        if joined is None:
            return group, n
        step, n = _dense(joined)
        group = step[group]


def _dense(root: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    unique, group = np.unique(root, return_inverse=True)
    return group.astype(np.int64), len(unique)


@njit(cache=True, nogil=True)
def _join_shallow(
    root: NDArray[np.int64],
    height: NDArray[np.float32],
    box: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    passes: NDArray[np.float32],
    depth: float,
    longest: float,
) -> None:
    """Merge fragments in ``root``, over descending passes, if the lower peak rises less than ``depth`` above one."""
    for e in range(low.size):
        a, b = low[e], high[e]
        while root[a] != a:
            a = root[a]
        while root[b] != b:
            b = root[b]
        if a == b:
            continue
        if height[b] > height[a] or (height[b] == height[a] and b < a):
            a, b = b, a
        top, left = min(box[a, 0], box[b, 0]), min(box[a, 1], box[b, 1])
        bottom, right = max(box[a, 2], box[b, 2]), max(box[a, 3], box[b, 3])
        if height[b] - passes[e] >= depth or max(bottom - top, right - left) + 1 > longest:
            continue
        root[b] = a
        box[a, 0], box[a, 1], box[a, 2], box[a, 3] = top, left, bottom, right
    for k in range(root.size):
        a = k
        while root[a] != a:
            a = root[a]
        root[k] = a


def _join_best(fragments: Fragments, borders: Borders, limits: MergeLimits) -> NDArray[np.int64] | None:
    """Return the root of each fragment after a round of merging the best groups; None if there are none."""
    group, member, fill = _candidates(fragments, borders, limits)
    if len(fill) == 0:
        return None
    first = np.flatnonzero(np.append(True, np.diff(group) != 0))
    order = np.lexsort((member[first], -fill))  # ties go to the first fragment of the raster
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    best = np.full(len(fragments.level), len(order))
    np.minimum.at(best, member, rank[group])
    chosen = np.logical_and.reduceat(best[member] == rank[group], first)
    root = np.arange(len(fragments.level))
    lowest = np.minimum.reduceat(member, first)
    root[member[chosen[group]]] = lowest[group[chosen[group]]]
    return root


def _candidates(
    fragments: Fragments, borders: Borders, limits: MergeLimits
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return candidate groups: group and fragment of each membership, and how well each group fills its ellipse."""
    dim = np.minimum(fragments.level[borders.low], fragments.level[borders.high])
    bright = np.maximum(fragments.level[borders.low], fragments.level[borders.high])
    alike = (borders.value >= limits.valley * dim) & (dim >= limits.similar * bright)
    a, b, n_edges = borders.low[alike], borders.high[alike], borders.n_edges[alike]
    n = len(fragments.level)
    start, neighbour = _neighbours(a, b, n)
    three = _triangles(start, neighbour)
    degree = np.diff(start)
    centre = np.repeat(np.arange(n), degree)  # of stars: a fragment with all its neighbours
    stars = degree > 2
    island = lowest_connected(a, b, n)
    size = np.bincount(island, minlength=n)
    islands = size > 3
    offset = np.cumsum([0, len(a), len(three), n])
    parts = [
        (np.repeat(np.arange(len(a)), 2), np.stack([a, b], axis=1).ravel()),
        (np.repeat(np.arange(len(three)), 3) + offset[1], three.ravel()),
        (np.flatnonzero(stars) + offset[2], np.flatnonzero(stars)),
        (centre[stars[centre]] + offset[2], neighbour[stars[centre]]),
        (island[islands[island]] + offset[3], np.flatnonzero(islands[island])),
    ]
    name, member = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((member, name))
    member = member[order]
    group = np.unique(name[order], return_inverse=True)[1]
    if len(group) == 0:
        return group, member, np.zeros(0)
    union = fragments.grouped_members(member, group)
    fill, width = _ellipse(union.sums)
    extent = (union.box[:, 2:] - union.box[:, :2]).max(axis=1) + 1
    fits = (fill >= limits.ellipse) & (union.sums[:, 0] <= limits.largest_area) & (extent <= limits.longest)
    fits[: len(a)] &= n_edges / _EDGES_PER_LENGTH >= limits.neck * width[: len(a)]
    kept = fits[group]
    return (np.cumsum(fits) - 1)[group[kept]], member[kept], fill[fits]


def _neighbours(a: NDArray[np.int64], b: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the start of the neighbours of each fragment, ``(n + 1,)``, and the neighbours, ascending."""
    source, target = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.lexsort((target, source))
    return np.searchsorted(source[order], np.arange(n + 1)), target[order]


def _triangles(start: NDArray[np.int64], neighbour: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return triples of fragments that all touch each other, ``(m, 3)``, ascending."""
    n = _find_triangles(start, neighbour, np.empty((0, 3), dtype=np.int64))
    out = np.empty((n, 3), dtype=np.int64)
    _find_triangles(start, neighbour, out)
    return out


@njit(cache=True, nogil=True)
def _find_triangles(start: NDArray[np.int64], neighbour: NDArray[np.int64], out: NDArray[np.int64]) -> int:
    n = 0
    for a in range(start.size - 1):
        for p in range(start[a], start[a + 1]):
            b = neighbour[p]
            if b < a:
                continue
            for q in range(p + 1, start[a + 1]):
                c = neighbour[q]
                for r in range(start[b], start[b + 1]):
                    if neighbour[r] == c:
                        if n < len(out):
                            out[n, 0], out[n, 1], out[n, 2] = a, b, c
                        n += 1
    return n


def _ellipse(sums: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the filled share of the ellipse with the same second moments, and its width."""
    n, x, y, xx, yy, xy = sums.T
    cx, cy = x // n, y // n  # whole numbers: exact sums about a near point
    x, xx = x - n * cx, xx - 2 * cx * x + n * cx * cx
    xy = xy - cx * y - cy * (x + n * cx) + n * cx * cy
    y, yy = y - n * cy, yy - 2 * cy * y + n * cy * cy
    var_x, var_y, cov = second_moments(np.stack([n, x, y, xx, yy, xy], axis=1))
    root = np.sqrt((var_x - var_y) ** 2 + 4 * cov**2)
    minor = np.sqrt(np.maximum(var_x + var_y - root, 1 / 6) / 2)
    major = np.sqrt((var_x + var_y + root) / 2)
    return n / (4 * np.pi * major * minor), 4 * minor
