"""Tissues of several classes of cells that are hard to segment, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ucs.datasets._layout import Ground, Kind, Layout, Maps

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def _maps(
    ground: Ground,
    *,
    zone: NDArray | None = None,
    depth: NDArray | float = 1.0,
    background: NDArray | float = 1.0,
    spill: NDArray | float = 0.0,
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
    height, width = ground.x.shape
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
