"""A raster seen as a whole, so that any part of it can be worked on by itself.

Pixels depend on the nuclei within reach of them and on a few figures of the whole sample: the nuclei's axes and
richness, how many transcripts lie at which distance from nuclei. :func:`look_over` measures these tile by tile; then
:meth:`Overview.extract` cuts out a part that holds all that its pixels depend on. What is held of the whole raster is
the nuclei and one byte per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.distances import nearest_nuclei, nucleus_axes, window_with_nuclei
from ucs._kernels.labels.ids import renumber
from ucs._kernels.labels.windows import smallest_window
from ucs._kernels.lattice import BLOCK, bounding_boxes, tiles_of
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.density.levels import Levels, distance_bins, levels_of_strips
from ucs.methods.density.ownership import evidence_reach
from ucs.methods.density.surroundings import LEAST_MEAN, Surroundings, nucleus_richness

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs.methods.density.surroundings import Look
    from ucs.methods.model import Selection

MARGIN = 9
"""Pixels around a core to which distances must be right, for the sake of the nets that look 8 pixels far."""


@dataclass(frozen=True)
class Extract:
    """A part of a raster with all that the pixels of its core depend on. Ids are numbered anew, in the same order.

    Attributes
    ----------
    core
        The pixels that it is made for, in the raster.
    window
        The pixels that it holds: the core and what lies around it, inside the raster.
    ids
        ``(m + 1,)`` int32, the id in the raster of each id here; 0 is 0.
    nuclei
        ``(h, w)`` int32 ids 0..m on the window.
    axes, richness
        Of the nuclei here; see :class:`ucs.methods.density.surroundings.Surroundings`.
    transcripts
        All features, on the window.
    reach
        In pixels.
    um_per_px
        Side of a pixel in um.
    """

    core: Window
    window: Window
    ids: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    axes: NDArray[np.float64]
    richness: NDArray[np.float32]
    transcripts: TranscriptMap
    reach: int
    um_per_px: float

    @property
    def inner(self) -> Window:
        """The core, counted from the corner of the window."""
        return self.core.seen_from(self.window)

    def surroundings(self, transcripts: TranscriptMap | None = None) -> Surroundings:
        """Measure distances, on the window; ``transcripts`` are those of some features, all if None."""
        boxes = bounding_boxes(self.nuclei, len(self.ids) - 1)
        nearest = nearest_nuclei(self.nuclei, boxes, self.axes, reach=self.reach)
        totals = (self.transcripts if transcripts is None else transcripts).totals()
        return Surroundings(totals, self.nuclei, boxes, self.axes, nearest, self.richness, self.reach, self.um_per_px)


@dataclass(frozen=True)
class Overview:
    """Figures of a whole raster.

    Attributes
    ----------
    transcripts
        All features.
    selection
        Those that are looked at.
    nuclei
        ``(h, w)`` int32 ids 1..n.
    boxes
        ``(n + 1, 4)`` bounding boxes of the nuclei.
    axes
        ``(n + 1, 3)`` of :func:`ucs._kernels.distances.nucleus_axes`.
    richness
        ``(n + 1,)`` of :func:`ucs.methods.density.surroundings.nucleus_richness`.
    bins
        ``(h, w)`` uint8 of :func:`ucs.methods.density.levels.distance_bins`.
    near_pixels, near_counts
        ``(n + 1,)`` int64: pixels outside nuclei within reach whose nearest nucleus each one is, and the transcripts
        on them.
    group
        ``(h, w)`` uint8, the group of the nearest nucleus, 0 without one; None unless groups are asked for.
    reach
        In pixels.
    um_per_px
        Side of a pixel in um.
    """

    transcripts: TranscriptMap
    selection: Selection
    nuclei: NDArray[np.int32]
    boxes: NDArray[np.int64]
    axes: NDArray[np.float64]
    richness: NDArray[np.float32]
    bins: NDArray[np.uint8]
    near_pixels: NDArray[np.int64]
    near_counts: NDArray[np.int64]
    group: NDArray[np.uint8] | None
    reach: int
    um_per_px: float

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.transcripts.shape

    def extract(self, core: Window) -> Extract:
        """Cut out a part; a core that reaches beyond the raster is cut."""
        core = core.clipped(self.shape)
        window = window_with_nuclei(core.grown(MARGIN), self.nuclei, self.boxes, self.axes, self.reach)
        evidence = core.grown(evidence_reach(self.um_per_px)).clipped(self.shape)
        window = smallest_window([window, evidence])
        return _extract(
            self.transcripts, self.nuclei, self.axes, self.richness, core, window, self.reach, self.um_per_px
        )

    def look(self, window: Window) -> Look:
        """Return what nets see of a window; see :meth:`ucs.methods.density.surroundings.Surroundings.look`."""
        part = self.extract(window)
        return part.surroundings(self.selection.of(part.transcripts)).look(window.seen_from(part.window))

    def without_bins(self) -> Overview:
        """Return what is needed to cut out parts, without what :meth:`levels` needs."""
        return replace(self, bins=np.zeros((0, 0), dtype=np.uint8), group=None)

    def mean_count(self, mine: NDArray[np.bool_]) -> float:
        """Return the mean count of the pixels outside nuclei that are nearest to some nuclei, ``(n + 1,)`` bool."""
        pixels, counts = int(self.near_pixels[mine].sum()), int(self.near_counts[mine].sum())
        return counts / pixels if counts else LEAST_MEAN

    def levels(self, group: int | None = None) -> Levels:
        """Measure the levels; of one group, on the pixels nearest to it and on far ones."""

        def strip(row0: int, row1: int) -> tuple[NDArray, NDArray, NDArray | None]:
            rows = Window(row0, 0, row1, self.shape[1])
            totals = self.selection.of(self.transcripts.crop(rows)).totals()
            if group is None or self.group is None:
                return totals, self.bins[row0:row1], None
            here = self.group[row0:row1]
            return totals, self.bins[row0:row1], (here == group) | (here == 0)

        return levels_of_strips(strip, self.shape, um_per_px=self.um_per_px)


def look_over(
    transcripts: TranscriptMap,
    selection: Selection,
    nuclei: NDArray[np.int32],
    *,
    reach: int,
    strength: float,
    um_per_px: float,
    tile: int = 11 * BLOCK,
    groups: NDArray[np.integer] | None = None,
    update: Callable[[int, int], None] = lambda _done, _total: None,
) -> Overview:
    """Measure a raster tile by tile.

    Parameters
    ----------
    transcripts, selection
        All features, and those that are looked at.
    nuclei
        ``(h, w)`` ids.
    reach
        Plain distance in pixels up to which a nucleus is seen.
    strength
        How far distances follow the nuclei's shape; 0 = not at all.
    um_per_px
        Side of a pixel in um.
    tile
        Side of a tile in pixels; the result does not depend on it.
    groups
        ``(n + 1,)`` group of each nucleus, from 1 to 255, if :attr:`Overview.group` is wanted.
    update
        Called with ``(tiles done, tiles)``.
    """
    n = int(nuclei.max(initial=0)) if groups is None else len(groups) - 1
    axes, no_richness = nucleus_axes(nuclei, n, strength=strength), np.zeros(n + 1, dtype=np.float32)
    boxes = bounding_boxes(nuclei, n)
    bins = np.zeros(transcripts.shape, dtype=np.uint8)
    group = None if groups is None else np.zeros(transcripts.shape, dtype=np.uint8)
    sums = np.zeros((4, n + 1), dtype=np.int64)
    tiles = list(tiles_of(transcripts.shape, tile))
    for done, core in enumerate(tiles, start=1):
        window = window_with_nuclei(core.grown(1), nuclei, boxes, axes, reach)
        part = _extract(transcripts, nuclei, axes, no_richness, core, window, reach, um_per_px)
        around = part.surroundings(selection.of(part.transcripts))
        inner = part.inner.slices
        owner = part.ids[around.nearest.owner[inner]]
        distance, inside = around.nearest.distance[inner], part.nuclei[inner] > 0
        bins[core.slices] = distance_bins(distance, inside, um_per_px)
        if group is not None and groups is not None:
            group[core.slices] = np.where(owner > 0, groups[owner], 0)
        _add_up(owner, distance, around.totals[inner], inside, sums)
        update(done, len(tiles))
    nucleus_pixels, nucleus_counts, near_pixels, near_counts = sums
    richness = nucleus_richness(nucleus_counts, nucleus_pixels * um_per_px**2)
    return Overview(
        transcripts, selection, nuclei, boxes, axes, richness, bins, near_pixels, near_counts, group, reach, um_per_px
    )


def _extract(
    transcripts: TranscriptMap,
    nuclei: NDArray[np.int32],
    axes: NDArray[np.float64],
    richness: NDArray[np.float32],
    core: Window,
    window: Window,
    reach: int,
    um_per_px: float,
) -> Extract:
    ids, local = renumber(nuclei[window.slices], len(axes) - 1)
    return Extract(
        core,
        window,
        ids,
        local,
        axes[ids],
        richness[ids],
        transcripts.crop(window),
        reach,
        um_per_px,
    )


@njit(cache=True, nogil=True)
def _add_up(owner: NDArray, distance: NDArray, totals: NDArray, inside: NDArray, sums: NDArray) -> None:
    """Add pixels and transcripts, in nuclei and near them, to the sums of the owners."""
    for i in range(owner.shape[0]):
        for j in range(owner.shape[1]):
            c = owner[i, j]
            if inside[i, j]:
                sums[0, c] += 1
                sums[1, c] += totals[i, j]
            elif distance[i, j] != np.inf:
                sums[2, c] += 1
                sums[3, c] += totals[i, j]
