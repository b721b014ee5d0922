"""What a layout consists of: kinds of cells, and maps of depth and of RNA that belongs to no cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Map = NDArray[np.float32]


@dataclass(frozen=True)
class Ground:
    """A raster to define maps on: ``x`` and ``y`` of its pixels from 0 to 1, ``scale`` um per pixel."""

    x: Map
    y: Map
    scale: float
    rng: np.random.Generator

    def waves(self, scale_um: float) -> Map:
        """Return a smooth random map of mean 0 and variance 1."""
        step = max(1, int(scale_um / self.scale / 4))
        shape = [side // step + 26 for side in self.x.shape]
        smooth = ndimage.gaussian_filter(self.rng.standard_normal(shape).astype(np.float32), 3.0)
        at = [(np.arange(side) / step + 12).astype(np.float32) for side in self.x.shape]
        fine = ndimage.map_coordinates(smooth, np.meshgrid(*at, indexing="ij"), order=1)
        return (fine - smooth.mean()) / smooth.std()

    def side(self) -> Map:
        """Return how far a pixel lies along a random direction, from 0 to 1."""
        angle = self.rng.uniform(0, 2 * np.pi)
        along = (self.x - 0.5) * np.cos(angle) + (self.y - 0.5) * np.sin(angle)
        return (along - along.min()) / (along.max() - along.min())

    def patch(self, share: float, scale_um: float = 60.0) -> NDArray[np.bool_]:
        """Return an area of one or few pieces that covers ``share`` of the field."""
        height = self.waves(scale_um)
        return height > np.quantile(height, 1 - share)

    def smooth(self, values: NDArray, um: float) -> Map:
        """Return ``values`` smoothed by a Gaussian."""
        return ndimage.gaussian_filter(np.asarray(values, np.float32), um / self.scale, mode="nearest")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Cells of one class: how they look and how rich in RNA they are. Lengths in um.

    Attributes
    ----------
    radius, spread
        Median radius of a circle of the cell's size if it were alone, and the standard deviation of its logarithm.
    aspect
        Mean ratio of length to width.
    nucleus
        Least and largest radius of the nucleus relative to the cell's.
    offset
        How far the nucleus lies from where the cell grows from, relative to the room there is.
    richness
        Transcripts per area relative to ``transcripts_per_cell`` on ``cell_area_um2``.
    types
        Share of the cell types that cells of this kind are of: from, to.
    share
        Number of candidates per 1000 um^2.
    packing
        Distance that cells keep when placed, relative to the sum of their radii.
    fill
        How far cells grow beyond their own outline where nothing is in the way.
    zone
        Which zone of the layout they lie in, None = all.
    processes, process_um, process_width
        Number of processes, their largest length and their width at the root.
    unseen
        Share of the cells whose nucleus is not in the section.
    aligned
        Whether long axes follow the streams of the tissue.
    """

    name: str
    radius: float
    spread: float = 0.15
    aspect: float = 1.3
    nucleus: tuple[float, float] = (0.42, 0.62)
    offset: float = 0.5
    richness: float = 1.0
    types: tuple[float, float] = (0.0, 1.0)
    share: float = 40.0
    packing: float = 0.85
    fill: float = 1.15
    zone: int | None = None
    processes: int = 0
    process_um: float = 80.0
    process_width: float = 2.5
    unseen: float = 0.03
    aligned: bool = False


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What varies over the field.

    Attributes
    ----------
    zone
        Which kinds of cells lie there, -1 = none.
    depth
        What all numbers of transcripts are multiplied by.
    background
        Density of ambient RNA relative to ``background_per_um2``.
    spill
        Density of RNA of cells that are not there, relative to that of a common cell.
    place, places
        A further division of the cells into classes, if any, and its names.
    """

    zone: NDArray[np.int8]
    depth: Map
    background: Map
    spill: Map
    place: NDArray[np.int8] | None = None
    places: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A tissue: its kinds of cells, its maps, and what it asks of the molecules unless the caller says otherwise."""

    kinds: tuple[Kind, ...]
    maps: Callable[[Ground], Maps]
    molecules: dict[str, float]
