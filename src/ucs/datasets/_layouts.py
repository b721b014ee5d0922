"""Layouts: tissues of several classes of cells, with maps of depth and of RNA that belongs to no cell."""

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
        shape = tuple(side // step + 26 for side in self.x.shape)
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

    def smooth(self, values: Map, um: float) -> Map:
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


def _maps(
    ground: Ground,
    *,
    zone: NDArray | None = None,
    depth: Map | float = 1.0,
    background: Map | float = 1.0,
    spill: Map | float = 0.0,
    place: NDArray | None = None,
    places: tuple[str, ...] = (),
) -> Maps:
    shape = ground.x.shape
    holes = ground.patch(0.1, 40.0)
    zone = np.where(holes, -1, 0) if zone is None else zone
    layers = [np.broadcast_to(np.asarray(values, np.float32), shape) for values in (depth, background, spill)]
    return Maps(
        zone=zone.astype(np.int8),
        depth=layers[0],
        background=layers[1],
        spill=layers[2],
        place=None if place is None else place.astype(np.int8),
        places=places,
    )


def _two_depths(poor: float) -> Callable[[Ground], Maps]:
    def maps(ground: Ground) -> Maps:
        side = ground.side() + 0.04 * ground.waves(30.0)
        is_poor = side > 0.52
        gap = np.abs(side - 0.52) < 0.04
        depth = np.where(is_poor, poor, 1.0)
        return _maps(
            ground,
            zone=np.where(gap, -1, 0),
            depth=depth * np.exp(0.15 * ground.waves(50.0)),
            background=ground.smooth(depth, 4.0) / depth,
            place=is_poor,
            places=("rich", "poor"),
        )

    return maps


def _beside(ground: Ground, area: NDArray[np.bool_], um: float = 15.0) -> NDArray:
    """Return 0 far from an area, 1 within ``um`` of it or in it."""
    return ndimage.distance_transform_edt(~area) * ground.scale < um


def _smear(ground: Ground) -> Maps:
    area = ground.patch(0.25, 70.0)
    level = ground.smooth(area, 3.0) * 0.7 * np.exp(0.35 * ground.waves(10.0))
    return _maps(
        ground,
        zone=np.where(area, -1, 0),
        spill=level,
        place=_beside(ground, area),
        places=("far from it", "beside it"),
    )


def _debris(ground: Ground) -> Maps:
    spill = np.zeros(ground.x.shape, np.float32)
    height, width = spill.shape
    n = int(height * width * ground.scale**2 * 0.0012)
    for _ in range(n):
        i, j = ground.rng.integers(height), ground.rng.integers(width)
        spill[i, j] += ground.rng.lognormal(2.4, 0.5)
    # Clumps of 1.2 and of 3 um: a density once smoothed, whatever their number of pixels.
    half = ground.rng.random(spill.shape) < 0.5
    blurred = ground.smooth(spill * half, 1.2) + 2.5 * ground.smooth(spill * ~half, 3.0)
    return _maps(ground, spill=blurred / ground.scale**2)


def _necrosis(ground: Ground) -> Maps:
    area = ground.patch(0.3, 70.0)
    level = ground.smooth(area, 6.0) * 0.5 * np.exp(0.5 * ground.waves(12.0))
    return _maps(ground, zone=area.astype(int), spill=level, background=1.3)


def _gradients(ground: Ground) -> Maps:
    side = ground.side()
    depth = 10 ** (0.2 - 1.1 * side)
    across = ground.side()
    place = np.digitize(side, (0.38, 0.62))
    background = 0.3 * 10 ** (1.1 * across) / np.sqrt(depth)
    return _maps(ground, depth=depth, background=background, place=place, places=("rich", "middle", "poor"))


def _plain(ground: Ground) -> Maps:
    return _maps(ground)


def _full(ground: Ground) -> Maps:
    return _maps(ground, zone=np.zeros(ground.x.shape), background=0.0)


def _heavy(ground: Ground) -> Maps:
    return _maps(ground, background=5.2 * np.exp(0.15 * ground.waves(40.0)))


def _several(ground: Ground) -> Maps:
    first, second = ground.waves(70.0), ground.waves(70.0)
    zone = np.where(first > 0, np.where(second > 0, 0, 1), np.where(second > -0.6, 2, 3))
    zone = np.where(ground.patch(0.06, 30.0), -1, zone)
    return _maps(ground, zone=zone, depth=np.exp(0.25 * ground.waves(60.0)), background=np.exp(0.4 * first))


def _combination(ground: Ground) -> Maps:
    area = ground.patch(0.12, 50.0)
    side = ground.side()
    depth = 10 ** (0.1 - 0.7 * side)
    return _maps(
        ground,
        zone=np.where(area, -1, 0),
        depth=depth,
        background=1.7 * np.exp(0.4 * ground.waves(50.0)),
        spill=0.6 * ground.smooth(area, 3.0) * np.exp(0.3 * ground.waves(10.0)),
    )


_COMMON = Kind(name="cell", radius=7.0)
_LYMPHOCYTE = Kind(
    name="small", radius=3.6, spread=0.08, nucleus=(0.72, 0.86), richness=0.35, types=(0.75, 1.0), share=60.0
)

#: Layouts by name.
LAYOUTS: dict[str, Layout] = {
    "depth_0.1": Layout(kinds=(_COMMON,), maps=_two_depths(0.1), molecules={}),
    "depth_0.3": Layout(kinds=(_COMMON,), maps=_two_depths(0.3), molecules={}),
    "smear": Layout(kinds=(_COMMON,), maps=_smear, molecules={}),
    "debris": Layout(kinds=(_COMMON,), maps=_debris, molecules={}),
    "necrosis": Layout(
        kinds=(
            Kind(name="living", radius=7.0, zone=0),
            Kind(name="dead", radius=3.2, nucleus=(0.8, 0.92), richness=0.4, share=15.0, packing=1.6, fill=1.0, zone=1),
        ),
        maps=_necrosis,
        molecules={},
    ),
    "small_among_large": Layout(
        kinds=(
            Kind(
                name="large", radius=9.0, spread=0.2, nucleus=(0.5, 0.65), types=(0.0, 0.75), packing=0.95, share=14.0
            ),
            _LYMPHOCYTE,
        ),
        maps=_plain,
        molecules={},
    ),
    "neurons": Layout(
        kinds=(
            Kind(
                name="neuron",
                radius=8.0,
                nucleus=(0.5, 0.65),
                types=(0.0, 0.5),
                share=3.5,
                packing=1.4,
                processes=5,
                process_width=3.2,
            ),
            Kind(name="glia", radius=4.6, nucleus=(0.62, 0.8), richness=0.4, types=(0.5, 1.0), share=8.0, packing=1.3),
        ),
        maps=lambda ground: _maps(ground, zone=np.zeros(ground.x.shape)),
        molecules={"nuclear_enrichment": 1.2},
    ),
    "granules": Layout(
        kinds=(
            Kind(name="large", radius=10.0, nucleus=(0.4, 0.55), types=(0.8, 1.0), share=0.6, packing=1.2, processes=2),
            Kind(
                name="granule",
                radius=3.1,
                spread=0.06,
                aspect=1.1,
                nucleus=(0.76, 0.9),
                richness=0.5,
                types=(0.0, 0.8),
                share=120.0,
                packing=0.86,
            ),
        ),
        maps=lambda ground: _maps(ground),
        molecules={},
    ),
    "muscle": Layout(
        kinds=(
            Kind(
                name="fibre",
                radius=17.0,
                aspect=5.0,
                nucleus=(0.16, 0.24),
                offset=0.9,
                types=(0.0, 0.5),
                share=3.0,
                packing=0.62,
                fill=1.3,
                aligned=True,
                unseen=0.1,
            ),
            Kind(
                name="interstitial",
                radius=4.0,
                aspect=1.8,
                nucleus=(0.6, 0.8),
                richness=0.7,
                types=(0.5, 1.0),
                share=10.0,
                packing=0.7,
                aligned=True,
            ),
        ),
        maps=lambda ground: _maps(ground, zone=np.zeros(ground.x.shape)),
        molecules={"nuclear_enrichment": 2.5},
    ),
    "packed_small": Layout(
        kinds=(
            Kind(
                name="cell",
                radius=3.0,
                spread=0.08,
                nucleus=(0.62, 0.82),
                richness=0.8,
                share=150.0,
                packing=0.85,
                fill=1.3,
            ),
        ),
        maps=_plain,
        molecules={},
    ),
    "confluent": Layout(
        kinds=(
            Kind(
                name="wide",
                radius=15.0,
                spread=0.1,
                nucleus=(0.2, 0.28),
                offset=0.35,
                share=9.0,
                zone=0,
                fill=2.2,
                richness=0.6,
            ),
        ),
        maps=_full,
        molecules={},
    ),
    "stroma": Layout(
        kinds=(
            Kind(
                name="fibroblast",
                radius=5.6,
                aspect=3.0,
                nucleus=(0.4, 0.55),
                types=(0.0, 0.6),
                share=18.0,
                packing=1.1,
                aligned=True,
                processes=2,
                process_um=35.0,
                process_width=2.2,
                unseen=0.1,
                richness=0.6,
            ),
            Kind(name="round", radius=4.6, nucleus=(0.55, 0.75), types=(0.6, 1.0), share=8.0),
        ),
        maps=lambda ground: _maps(ground, background=1.3),
        molecules={},
    ),
    "background_30": Layout(kinds=(_COMMON,), maps=_heavy, molecules={"diffusion_share": 1.0, "diffusion_um": 2.0}),
    "gradients": Layout(kinds=(_COMMON,), maps=_gradients, molecules={}),
    "several_tissues": Layout(
        kinds=(
            Kind(
                name="columnar",
                radius=5.6,
                aspect=2.2,
                nucleus=(0.45, 0.6),
                offset=0.9,
                types=(0.0, 0.4),
                share=60.0,
                packing=0.8,
                aligned=True,
                fill=1.4,
                zone=0,
            ),
            Kind(
                name="spindle",
                radius=5.5,
                aspect=3.2,
                richness=0.6,
                types=(0.4, 0.7),
                share=14.0,
                packing=1.1,
                aligned=True,
                processes=2,
                process_um=25.0,
                zone=1,
            ),
            Kind(
                name="lymphoid",
                radius=3.4,
                spread=0.08,
                nucleus=(0.7, 0.85),
                richness=0.4,
                types=(0.7, 1.0),
                share=120.0,
                zone=2,
            ),
            Kind(
                name="sheet",
                radius=10.0,
                nucleus=(0.3, 0.4),
                richness=1.5,
                types=(0.0, 0.4),
                share=12.0,
                zone=3,
                fill=1.6,
            ),
        ),
        maps=_several,
        molecules={},
    ),
    "combination": Layout(
        kinds=(
            Kind(name="large", radius=8.0, spread=0.2, nucleus=(0.45, 0.6), types=(0.0, 0.6), share=14.0, packing=0.95),
            Kind(
                name="spindle",
                radius=5.0,
                aspect=3.0,
                richness=0.6,
                types=(0.5, 0.8),
                share=10.0,
                aligned=True,
                processes=2,
                process_um=30.0,
            ),
            _LYMPHOCYTE,
        ),
        maps=_combination,
        molecules={"diffusion_share": 0.3, "diffusion_um": 2.5},
    ),
}
