"""What the tissue around a place is like: levels of nuclei and how density falls with the distance from them.

Everything is local and shrunk: a nucleus towards its neighbourhood, a neighbourhood towards the sample. Maps have bins
of :data:`BIN` net pixels and are smoothed over tens of um, so a whole slide takes little memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from ucs._kernels.distances import nucleus_axes, window_with_nuclei
from ucs._kernels.labels.ids import renumber
from ucs._kernels.lattice import BLOCK, bounding_boxes, tiles_of
from ucs._kernels.transcripts import Window
from ucs.methods.pretrained.candidates import REACH_UM, find_candidates, net_factor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap
    from ucs.methods.model import Selection

BIN = 8
"""Side of a bin of the maps, in net pixels."""

RINGS_UM = (2.0, 4.0, 6.0, 9.0, 13.0, 20.0)
"""Upper edges of the distances from nuclei over which density is measured; the last ring is beyond all of them."""

N_RINGS = len(RINGS_UM) + 1
N_MAPS = 2 * N_RINGS + 2
_OWN_RINGS = 3  # that each nucleus measures for itself
_NEIGHBOURHOOD_UM = 30.0  # standard deviation: some tens of cells, and less than what tissues change over
_NUCLEAR_UM = 20.0
_PRIOR_RING_UM2 = 200.0  # of the sample's density that a neighbourhood begins with
_PRIOR_NUCLEUS_UM2 = 12.0  # of the neighbourhood's density that a nucleus begins with
_LEAST = 1e-3  # transcripts per um2


@dataclass(frozen=True)
class TissueSurvey:
    """A raster with the figures of the whole that each part of it needs.

    Attributes
    ----------
    transcripts, selection
        All features, and those that are looked at.
    nuclei, boxes, axes
        Ids on the raster, their bounding boxes, and their axes.
    factor
        Side of a net pixel in pixels.
    um_per_px
        Side of a pixel of the raster in um.
    level
        ``(n + 1,)`` float32, log of the density in each nucleus, transcripts per um2.
    area
        ``(n + 1,)`` float32 areas of the nuclei in um2.
    rings
        ``(n + 1, 3)`` float32, log of the density in the rings around each nucleus less its level.
    far
        ``(n_genes,)`` transcripts of each gene more than 6 um from nuclei.
    maps
        ``(N_MAPS, rows, columns)`` float32 of bins: log of the density in each ring, share of each ring, log of the
        density in nuclei and in all.
    """

    transcripts: TranscriptMap
    selection: Selection
    nuclei: NDArray[np.int32]
    boxes: NDArray[np.int64]
    axes: NDArray[np.float64]
    factor: int
    um_per_px: float
    level: NDArray[np.float32]
    area: NDArray[np.float32]
    rings: NDArray[np.float32]
    far: NDArray[np.int64]
    maps: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """``(h, w)`` in pixels."""
        return self.nuclei.shape[0], self.nuclei.shape[1]


def measure_tissue(
    transcripts: TranscriptMap,
    selection: Selection,
    nuclei: NDArray[np.int32],
    n: int,
    *,
    shape_exponent: float,
    um_per_px: float,
    tile: int = 11 * BLOCK,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> TissueSurvey:
    """Measure a raster tile by tile; the result does not depend on the tiles.

    Parameters
    ----------
    transcripts, selection
        All features, and those that are looked at.
    nuclei, n
        ``(h, w)`` ids, and the highest of them.
    shape_exponent
        How far distances follow the nuclei's shape.
    um_per_px
        Side of a pixel in um.
    tile
        Side of a tile in pixels.
    progress
        Called with ``(tiles done, tiles)``.
    """
    axes, boxes = nucleus_axes(nuclei, n, strength=shape_exponent), bounding_boxes(nuclei, n)
    factor = net_factor(um_per_px)
    bin_px = BIN * factor
    shape = -(-nuclei.shape[0] // bin_px), -(-nuclei.shape[1] // bin_px)
    binned = np.zeros((2, N_RINGS + 1, *shape))  # counts and net pixels, of rings and nuclei
    own = np.zeros((2, _OWN_RINGS, n + 1), dtype=np.int64)
    inside = np.zeros((2, n + 1), dtype=np.int64)  # counts and pixels of nuclei
    far = np.zeros(selection.n_features, dtype=np.int64)
    tiles = list(tiles_of(nuclei.shape, tile))
    for done, core in enumerate(tiles, start=1):
        window = window_of(core, nuclei, boxes, axes, um_per_px)
        ids, local = renumber(nuclei[window.slices], n)
        found = find_candidates(
            local, bounding_boxes(local, len(ids) - 1), axes[ids], factor=factor, um_per_px=um_per_px
        )
        inner = core.seen_from(window)
        fine_nuclei = nuclei[core.slices]
        of_genes = selection.of(transcripts.crop(core))
        totals = of_genes.totals()
        inside[0] += np.bincount(fine_nuclei.ravel(), weights=totals.ravel(), minlength=n + 1).astype(np.int64)
        inside[1] += np.bincount(fine_nuclei.ravel(), minlength=n + 1)
        coarse = squares_of(inner, factor)
        ring, owner = np.digitize(found.distance[0][coarse], RINGS_UM), ids[found.owner[0][coarse]]
        count, touched = pooled(totals, factor), pooled(fine_nuclei > 0, factor) > 0
        pixels = pooled(np.ones(totals.shape, dtype=np.uint8), factor) / factor**2
        ring[touched] = N_RINGS
        is_far = (ring >= _OWN_RINGS) & (ring < N_RINGS)
        lies_far = is_far[of_genes.rows() // factor, of_genes.column // factor]
        counted = np.bincount(of_genes.feature[lies_far], weights=of_genes.count[lies_far], minlength=len(far))
        far += counted.astype(np.int64)
        at = squares_of(core, bin_px)
        for number in range(N_RINGS + 1):
            here = ring == number
            binned[0, number][at] = pooled(np.where(here, count, 0), BIN)
            binned[1, number][at] = pooled(np.where(here, pixels, 0), BIN)
            if number < _OWN_RINGS:
                own[0, number] += np.bincount(owner[here], weights=count[here], minlength=n + 1).astype(np.int64)
                own[1, number] += np.bincount(owner[here], minlength=n + 1)
        progress(done, len(tiles))
    net_um2 = (factor * um_per_px) ** 2
    maps = _maps(binned[0], binned[1] * net_um2, bin_um=bin_px * um_per_px)
    area = (inside[1] * um_per_px**2).astype(np.float32)
    level, rings = _of_nuclei(inside[0], area, own[0], own[1] * net_um2, maps, boxes, bin_px)
    return TissueSurvey(transcripts, selection, nuclei, boxes, axes, factor, um_per_px, level, area, rings, far, maps)


def squares_of(window: Window, side: int) -> tuple[slice, slice]:
    """Return the squares of ``side`` pixels that a window touches; it begins with a whole one."""
    return (
        slice(window.row0 // side, -(-window.row1 // side)),
        slice(window.column0 // side, -(-window.column1 // side)),
    )


def pooled(values: NDArray, factor: int) -> NDArray:
    """Return the sums over squares of ``factor`` pixels, ``(ceil(h / factor), ceil(w / factor))``."""
    h, w = values.shape
    padded = np.pad(values, ((0, -h % factor), (0, -w % factor)))
    split = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    return split.sum(axis=(1, 3), dtype=np.float64 if values.dtype.kind == "f" else np.int64)


def window_of(
    core: Window, nuclei: NDArray[np.int32], boxes: NDArray[np.int64], axes: NDArray[np.float64], um_per_px: float
) -> Window:
    """Return the part of the raster that the candidates of a core depend on; it begins on the grid of net pixels."""
    window = window_with_nuclei(core, nuclei, boxes, axes, math.ceil(REACH_UM / um_per_px) + 1)
    factor = net_factor(um_per_px)
    row0, column0 = window.row0 // factor * factor, window.column0 // factor * factor
    return Window(row0, column0, window.row1, window.column1)


def _maps(count: NDArray[np.float64], area: NDArray[np.float64], *, bin_um: float) -> NDArray[np.float32]:
    """Return the maps from counts and areas in um2, ``(N_RINGS + 1, rows, columns)`` each; nuclei come last."""

    def smooth(values: NDArray, sigma_um: float) -> NDArray:
        # Effective sums over the neighbourhood, whose area is 4 pi sigma^2.
        return gaussian_filter(values, sigma_um / bin_um, mode="constant") * 4 * np.pi * (sigma_um / bin_um) ** 2

    density = (count.sum() + _LEAST) / (area.sum() + 1)
    nuclear = (count[-1].sum() + 20 * density) / (area[-1].sum() + 20)
    out, before = [], nuclear
    areas = [smooth(one, _NEIGHBOURHOOD_UM) for one in area[:-1]]
    for one, its_area, near in zip(count, area, areas, strict=False):
        before = (one.sum() + 50 * before) / (its_area.sum() + 50)  # rings that do not occur are like the one before
        counted = smooth(one, _NEIGHBOURHOOD_UM) + _PRIOR_RING_UM2 * before
        out.append(np.log(counted / (near + _PRIOR_RING_UM2) + _LEAST))
    whole = np.maximum(np.sum(areas, axis=0), 1e-9)
    out += [one / whole for one in areas]
    local = (smooth(count[-1], _NUCLEAR_UM) + 50 * nuclear) / (smooth(area[-1], _NUCLEAR_UM) + 50)
    around = (smooth(count.sum(axis=0), _NUCLEAR_UM) + 50 * density) / (smooth(area.sum(axis=0), _NUCLEAR_UM) + 50)
    return np.stack([*out, np.log(local + _LEAST), np.log(around + _LEAST)]).astype(np.float32)


def _of_nuclei(
    count: NDArray, area: NDArray, ring_count: NDArray, ring_area: NDArray, maps: NDArray, boxes: NDArray, bin_px: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return level and rings of each nucleus, shrunk towards its neighbourhood."""
    row = np.minimum((boxes[:, 0] + boxes[:, 2]) // 2 // bin_px, maps.shape[1] - 1)
    column = np.minimum((boxes[:, 1] + boxes[:, 3]) // 2 // bin_px, maps.shape[2] - 1)
    near = np.exp(maps[:, row, column].astype(np.float64))
    level = np.log((count + near[-2] * _PRIOR_NUCLEUS_UM2) / (area + _PRIOR_NUCLEUS_UM2) + _LEAST)
    prior = 3 * _PRIOR_NUCLEUS_UM2
    rings = np.log((ring_count + near[:_OWN_RINGS] * prior) / (ring_area + prior) + _LEAST) - level
    level[0] = maps[-2].mean() if maps.size else 0.0
    rings[:, 0] = 0
    return level.astype(np.float32), np.ascontiguousarray(rings.T, dtype=np.float32)
