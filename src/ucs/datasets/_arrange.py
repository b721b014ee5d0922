"""Drawing a layout: cells that grow around their nuclei, and how many transcripts come from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs.datasets._growth import grown, lay_processes, pack
from ucs.datasets._layout import Ground
from ucs.datasets._raster import Outlines, draw, keep_whole
from ucs.datasets._tissue import MIN_NUCLEUS_UM2, Tissue, spread_over_types

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs.datasets._layout import Kind, Layout, Maps
    from ucs.datasets._params import SimulationParams

_STEP = 2  # cells grow on a raster coarser than that of the truth by this: two pixels of 0.2125 um
_POLARITY = 0.35  # how much richer one end of a cell is than its middle (logarithm)
_ROUGHNESS = 0.35  # standard deviation of the logarithm of the ground that cells grow on


@dataclass(frozen=True)
class ArrangedTissue(Tissue):
    """A tissue with expected numbers of transcripts per pixel: of cells (nuclear enrichment apart), and of no cell."""

    from_cells: NDArray[np.float32]
    background: NDArray[np.float32]
    spill: NDArray[np.float32]


@dataclass(frozen=True)
class _Bodies:
    """What was placed: arrays of shape ``(n,)``, lengths in um."""

    kind: NDArray[np.intp]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    major: NDArray[np.float64]
    minor: NDArray[np.float64]
    angle: NDArray[np.float64]


def arrange_tissue(
    params: SimulationParams, layout: Layout, um_per_px: float, rng: np.random.Generator
) -> ArrangedTissue:
    """Place the cells of a layout, let them grow, and draw them on a raster of ``um_per_px`` from the origin."""
    shape = (int(np.ceil(params.height_um / um_per_px)), int(np.ceil(params.width_um / um_per_px)))
    coarse, scale = tuple(-(-side // _STEP) for side in shape), um_per_px * _STEP
    i, j = np.indices(coarse, np.float32)
    ground = Ground(j / max(coarse[1] - 1, 1), i / max(coarse[0] - 1, 1), scale, rng)
    maps = layout.maps(ground)
    bodies = _place(params, layout.kinds, maps, ground)
    outlines = _nuclei(layout.kinds, bodies, rng)
    cells = _fine(_grow(layout.kinds, bodies, outlines, ground), shape)
    nuclei = draw(outlines, shape, um_per_px)
    keep = keep_whole(cells, nuclei, bodies.x.size, MIN_NUCLEUS_UM2 / um_per_px**2)
    kind = bodies.kind[keep]
    cell_type = _types(params, layout.kinds, bodies, ground)[keep]
    unseen = np.maximum([layout.kinds[k].unseen for k in kind], params.missing_nuclei)
    area = um_per_px**2
    density = params.transcripts_per_cell / params.cell_area_um2 * area
    of_cell = np.array([layout.kinds[k].richness for k in kind]) * density * _levels(params, cell_type, rng)
    depth = _fine(maps.depth, shape)
    return ArrangedTissue(
        cells,
        nuclei,
        cell_type,
        (bodies.major / bodies.minor)[keep] > 2,
        rng.random(keep.size) >= unseen,
        um_per_px,
        cell_class=_classes(layout.kinds, bodies, maps, scale)[keep],
        from_cells=_cell_map(cells, of_cell, rng) * depth,
        background=_fine(maps.background, shape) * depth * np.float32(params.background_per_um2 * area),
        spill=_fine(maps.spill, shape) * depth * np.float32(density),
    )


def _fine(values: NDArray, shape: tuple[int, int]) -> NDArray:
    """Return a coarse raster on the fine one."""
    return np.ascontiguousarray(values.repeat(_STEP, 0).repeat(_STEP, 1)[: shape[0], : shape[1]])


def _place(params: SimulationParams, kinds: tuple[Kind, ...], maps: Maps, ground: Ground) -> _Bodies:
    """Draw candidates of every kind and keep those that have room; kinds that come first are placed first."""
    rng = ground.rng
    stream = rng.uniform(0, np.pi) + 0.6 * ground.waves(4 * params.niche_scale_um)
    parts = []
    for k, kind in enumerate(kinds):
        n = int(2 * kind.share * params.width_um * params.height_um / 1000)
        x, y = rng.uniform(0, params.width_um, n), rng.uniform(0, params.height_um, n)
        at = _pixels(x, y, ground)
        zone = maps.zone[at]
        there = (zone >= 0) if kind.zone is None else (zone == kind.zone)
        radius = kind.radius * np.exp(kind.spread * rng.standard_normal(n))
        stretch = np.sqrt(1 + (kind.aspect - 1) * rng.gamma(8.0, 1 / 8.0, n))
        angle = stream[at] + 0.2 * rng.standard_normal(n) if kind.aligned else rng.uniform(0, np.pi, n)
        packing = np.full(n, kind.packing)
        columns = [np.full(n, float(k)), x, y, radius * stretch, radius / stretch, angle, radius, packing]
        parts.append(np.stack(columns)[:, there])
    kind, x, y, major, minor, angle, radius, packing = np.concatenate(parts, axis=1)
    kept = pack(x, y, radius, packing)
    return _Bodies(kind[kept].astype(np.intp), x[kept], y[kept], major[kept], minor[kept], angle[kept])


def _pixels(x: NDArray, y: NDArray, ground: Ground) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = ground.x.shape
    i, j = (y / ground.scale).astype(np.intp), (x / ground.scale).astype(np.intp)
    return np.minimum(i, rows - 1), np.minimum(j, columns - 1)


def _nuclei(kinds: tuple[Kind, ...], bodies: _Bodies, rng: np.random.Generator) -> Outlines:
    """Give every cell a nucleus away from where it grows from."""
    n = bodies.x.size
    low, high = np.array([kinds[k].nucleus for k in bodies.kind]).reshape(n, 2).T
    radius = np.sqrt(bodies.major * bodies.minor) * rng.uniform(low, high)
    stretch = (bodies.major / bodies.minor) ** 0.25 * np.exp(0.05 * rng.standard_normal(n))
    major = np.minimum(radius * stretch, 0.92 * bodies.major)
    minor = np.minimum(radius / stretch, 0.92 * bodies.minor)
    direction = rng.uniform(0, 2 * np.pi, n)
    distance = np.array([kinds[k].offset for k in bodies.kind]) * np.sqrt(rng.random(n))
    along = distance * np.cos(direction) * (bodies.major - major)
    across = distance * np.sin(direction) * (bodies.minor - minor)
    cos, sin = np.cos(bodies.angle), np.sin(bodies.angle)
    waves = np.clip(0.05 * rng.standard_normal((n, 4)), -0.15, 0.15)
    angle = bodies.angle + 0.3 * rng.standard_normal(n)
    x, y = bodies.x + along * cos - across * sin, bodies.y + along * sin + across * cos
    return Outlines(x, y, major, minor, angle, waves)


def _grow(kinds: tuple[Kind, ...], bodies: _Bodies, nuclei: Outlines, ground: Ground) -> NDArray[np.int32]:
    """Return the raster of cells: nuclei, then processes, then bodies where there is room."""
    rng, scale, n = ground.rng, ground.scale, bodies.x.size
    core = draw(nuclei, ground.x.shape, scale)
    owner = core.copy()
    number = np.array([kinds[k].processes for k in bodies.kind])
    of_cell = np.repeat(np.arange(n), rng.binomial(np.maximum(number + 1, 0), 0.75) * (number > 0))
    of_kind = [kinds[k] for k in bodies.kind[of_cell]]
    aligned = np.array([kind.aligned for kind in of_kind], bool)
    m = of_cell.size
    heading = np.where(
        aligned,
        bodies.angle[of_cell] + np.pi * rng.integers(0, 2, m) + 0.15 * rng.standard_normal(m),
        rng.uniform(0, 2 * np.pi, m),
    )
    longest = np.array([kind.process_um for kind in of_kind])
    length = longest * rng.uniform(0.35, 1, m) / scale
    width = np.array([kind.process_width for kind in of_kind]) * rng.uniform(0.7, 1.2, m) / scale
    turns = rng.standard_normal(100_003)
    x, y = nuclei.x[of_cell] / scale, nuclei.y[of_cell] / scale
    lay_processes(owner, core, of_cell, x, y, heading, length, width, turns)
    uneven = 0.7 * ground.waves(8.0) + 0.7 * ground.waves(3.0)
    cost = np.exp(_ROUGHNESS * uneven).astype(np.float32)
    fill = np.array([kinds[k].fill for k in bodies.kind]) * np.exp(0.08 * rng.standard_normal(n))
    shape = (bodies.x, bodies.y, bodies.major, bodies.minor)
    return grown(owner, cost, *(value / scale for value in shape), bodies.angle, fill)


def _types(params: SimulationParams, kinds: tuple[Kind, ...], bodies: _Bodies, ground: Ground) -> NDArray[np.intp]:
    """Draw each cell's type from those of its kind, by what is frequent where it lies."""
    n, n_types = bodies.x.size, params.n_cell_types
    at = _pixels(bodies.x, bodies.y, ground)
    score = ground.rng.gumbel(size=(n, n_types))
    for k in range(n_types):
        score[:, k] += params.niche_strength * ground.waves(params.niche_scale_um)[at]
    first, last = np.array([kinds[k].types for k in bodies.kind]).reshape(n, 2).T * n_types
    types = np.arange(n_types)
    first = np.minimum(np.floor(first), n_types - 1)
    allowed = (types >= first[:, None]) & (types < np.maximum(np.ceil(last), first + 1)[:, None])
    return np.argmax(np.where(allowed, score, -np.inf), axis=1)


def _levels(params: SimulationParams, cell_type: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw how rich each cell is relative to its kind."""
    of_type = params.transcripts_spread_types * spread_over_types(params.n_cell_types, rng)[cell_type]
    return np.exp(of_type + params.transcripts_spread * rng.standard_normal(cell_type.size))


def _cell_map(cells: NDArray[np.int32], level: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return each cell's level on its pixels, higher at one end of the cell than at the other."""
    n = level.size
    inside = np.flatnonzero(cells)
    owner = cells.ravel()[inside] - 1
    row, column = np.divmod(inside, cells.shape[1])
    size = np.maximum(np.bincount(owner, minlength=n), 1)
    angle = rng.uniform(0, 2 * np.pi, n)
    dx = column - (np.bincount(owner, column, n) / size)[owner]
    dy = row - (np.bincount(owner, row, n) / size)[owner]
    along = (dx * np.cos(angle)[owner] + dy * np.sin(angle)[owner]) / np.sqrt(size / np.pi)[owner]
    weight = np.exp(_POLARITY * np.clip(along, -2, 2))
    mean = np.bincount(owner, weight, n) / size
    values = np.zeros(cells.size, np.float32)
    values[inside] = level[owner] * weight / mean[owner]
    return values.reshape(cells.shape)


def _classes(kinds: tuple[Kind, ...], bodies: _Bodies, maps: Maps, scale: float) -> NDArray[np.str_]:
    """Name each cell's class: its kind, where it lies, or both if there are several of each."""
    names = np.array([kind.name for kind in kinds])[bodies.kind]
    if maps.place is None:
        return names
    rows, columns = maps.place.shape
    i, j = (bodies.y / scale).astype(int), (bodies.x / scale).astype(int)
    places = np.array(maps.places)[maps.place[np.minimum(i, rows - 1), np.minimum(j, columns - 1)]]
    return places if len(kinds) == 1 else np.char.add(np.char.add(names, ", "), places)
