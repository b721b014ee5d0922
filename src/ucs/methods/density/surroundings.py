"""The place of each pixel among the nuclei, and what the sample says of nuclei, cytoplasm and background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.distances import NearestNuclei, nearest_nuclei, nucleus_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import Window
    from ucs.methods.density.levels import Levels

_PRIOR_AREA_UM2 = 6.0
_PRIOR_COUNT = 20.0  # nuclei of a few transcripts are taken for average ones
_AT_ONCE_UM = 1.0  # pixels so near to a nucleus belong to its cell whatever lies there, up to a threshold of 1/2
_LEAST_CONTRAST = 1.5
_ABOVE_HALF = np.nextafter(np.float32(0.5), np.float32(1))
_ROWS_AT_ONCE = 1024

LEAST_MEAN = 1e-6
"""Mean count per pixel that is taken where there are no transcripts, so that it has a logarithm."""


@dataclass(frozen=True)
class Look:
    """What nets see of a window, ``(h, w)`` each.

    Attributes
    ----------
    totals
        Transcripts per pixel; 0 outside the raster.
    distance, second
        As in :class:`ucs._kernels.distances.NearestNuclei`; ``inf`` outside the raster.
    richness
        Of the nearest nucleus; 0 where there is none.
    """

    totals: NDArray[np.int32]
    distance: NDArray[np.float32]
    second: NDArray[np.float32]
    richness: NDArray[np.float32]


@dataclass(frozen=True)
class Surroundings:
    """What is known of a raster before any net is asked.

    Attributes
    ----------
    totals
        ``(h, w)`` int32 transcripts per pixel.
    nuclei
        ``(h, w)`` int32 ids 1..n.
    boxes
        ``(n + 1, 4)`` bounding boxes of the nuclei.
    axes
        ``(n + 1, 3)`` of :func:`ucs._kernels.distances.nucleus_axes`.
    nearest
        The nuclei around each pixel.
    richness
        ``(n + 1,)`` float32, log of each nucleus' density over that of all nuclei, drawn towards 0 for small counts.
    reach
        In pixels.
    um_per_px
        Side of a pixel in um.
    """

    totals: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    boxes: NDArray[np.int64]
    axes: NDArray[np.float64]
    nearest: NearestNuclei
    richness: NDArray[np.float32]
    reach: int
    um_per_px: float

    def look(self, window: Window) -> Look:
        """Read a window, which may reach beyond the raster."""
        return Look(
            window.read(self.totals),
            window.read(self.nearest.distance, fill=np.inf),
            window.read(self.nearest.second, fill=np.inf),
            self.richness[window.read(self.nearest.owner)],
        )

    def mean_count(self, mine: NDArray[np.bool_]) -> float:
        """Return the mean count of the pixels outside nuclei that are nearest to some nuclei, ``(n + 1,)`` bool."""
        n, total = 0, 0
        for row0 in range(0, len(self.totals), _ROWS_AT_ONCE):
            rows = slice(row0, row0 + _ROWS_AT_ONCE)
            distance = self.nearest.distance[rows]
            wanted = (distance > 0) & np.isfinite(distance) & mine[self.nearest.owner[rows]]
            n += int(wanted.sum())
            total += int(self.totals[rows][wanted].sum())
        return total / n if total else LEAST_MEAN


def survey(
    totals: NDArray[np.int32],
    nuclei: NDArray[np.int32],
    boxes: NDArray[np.int64],
    *,
    reach: int,
    strength: float,
    um_per_px: float,
) -> Surroundings:
    """Measure distances and richness.

    Parameters
    ----------
    totals, nuclei, boxes, reach, um_per_px
        As in :class:`Surroundings`.
    strength
        How far distances follow the nuclei's shape; 0 = not at all.
    """
    n = len(boxes) - 1
    axes = nucleus_axes(nuclei, n, strength=strength)
    nearest = nearest_nuclei(nuclei, boxes, axes, reach=reach)
    return Surroundings(totals, nuclei, boxes, axes, nearest, _richness(totals, nuclei, n, um_per_px), reach, um_per_px)


def _richness(totals: NDArray[np.int32], nuclei: NDArray[np.int32], n: int, um_per_px: float) -> NDArray[np.float32]:
    counts, pixels = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    _count(totals, nuclei, counts, pixels)
    return nucleus_richness(counts, pixels * um_per_px**2)


@njit(cache=True, nogil=True)
def _count(totals: NDArray, nuclei: NDArray, counts: NDArray, pixels: NDArray) -> None:
    for i in range(nuclei.shape[0]):
        for j in range(nuclei.shape[1]):
            c = nuclei[i, j]
            counts[c] += totals[i, j]
            pixels[c] += 1


def nucleus_richness(counts: NDArray, areas_um2: NDArray) -> NDArray[np.float32]:
    """Return the log of each nucleus' density over that of all, drawn towards 0 for small counts.

    Parameters
    ----------
    counts, areas_um2
        ``(n + 1,)`` transcripts and area of each nucleus by id; the first is for no nucleus.

    Returns
    -------
    ``(n + 1,)``, 0 for no nucleus.
    """
    counts, areas_um2 = counts.astype(np.float64), areas_um2.astype(np.float64)
    mean = counts[1:].sum() / max(areas_um2[1:].sum(), 1e-12)
    if mean == 0:
        return np.zeros(len(counts), dtype=np.float32)
    prior = max(_PRIOR_COUNT, mean * _PRIOR_AREA_UM2)
    out = np.log((counts + prior) / (areas_um2 * mean + prior))
    out[0] = 0
    return out.astype(np.float32)


def cell_probability(around: Surroundings, density: NDArray[np.float32], levels: Levels) -> NDArray[np.float32]:
    """Return for each pixel the probability that it lies in the cell of a nucleus within reach, ``(h, w)``.

    The density says how likely the pixel is cytoplasm as rich as its nucleus rather than background, the distance how
    likely that cytoplasm belongs to a nucleus that is seen. In nuclei it is 1; within 1 um of one nearly all pixels lie
    in its cell, and it is halfway between 1 and what density and distance say, always above 1/2.

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
    out = np.empty(density.shape, dtype=np.float32)
    cytoplasm = np.maximum(levels.cytoplasm * np.exp(around.richness), _LEAST_CONTRAST * levels.background)
    contrast = np.maximum(cytoplasm - levels.background, 1e-9).astype(np.float32)
    for row0 in range(0, len(out), 1024):
        rows = slice(row0, row0 + 1024)
        distance = nearest.distance[rows] * np.float32(around.um_per_px)
        probability = levels.belonging(distance)
        if levels.calibrated:
            probability *= np.clip((density[rows] - levels.background) / contrast[nearest.owner[rows]], 0, 1)
        next_to_one = distance <= _AT_ONCE_UM + 1e-4
        probability[next_to_one] = np.maximum((1 + probability[next_to_one]) / 2, _ABOVE_HALF)
        probability[distance == 0] = 1
        probability[nearest.owner[rows] == 0] = 0
        out[rows] = probability
    return out
