"""Geometry of simulated tissue: positions, shapes and pixels of cells.

A cell is an ellipse with waves on its outline, a nucleus a smaller one within. Where free outlines overlap, the pixel
goes to the cell inside whose outline it lies deepest: a Voronoi diagram that is anisotropic, additively weighted and
limited by the cells' outlines, so that there are gaps where cells do not reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import ndtri

from ucs.datasets._raster import Outlines, draw, keep_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs.datasets._params import SimulationParams

    _Where = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]

MIN_NUCLEUS_UM2 = 8.0  # cells are dropped if the border of the field or a neighbour leaves less of their nucleus
_RELAXATION_STEPS = 40  # small pushes between overlapping neighbours
_LARGEST_NUCLEUS = 0.8  # semi-axes of nuclei relative to those of their cell, at most


@dataclass(frozen=True)
class Tissue:
    """Rasters ``(H, W)`` of int32 (0 = background, ids 1..n) and, per cell, arrays of shape ``(n,)``."""

    cells: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    cell_type: NDArray[np.intp]
    is_spindle: NDArray[np.bool_]
    has_visible_nucleus: NDArray[np.bool_]
    um_per_px: float
    cell_class: NDArray[np.str_]

    def visible_nuclei(self) -> NDArray[np.int32]:
        """Return the nuclei without those of cells whose nucleus lies outside the section."""
        visible = np.append(False, self.has_visible_nucleus)
        return np.where(visible[self.nuclei], self.nuclei, np.int32(0))


def grow_tissue(params: SimulationParams, um_per_px: float, rng: np.random.Generator) -> Tissue:
    """Place cells, give them type and shape, and draw them on a raster of ``um_per_px`` from the origin.

    Every cell has a nucleus, which lies within it, under the same id.
    """
    x, y, is_tissue = _place(params, rng)
    cell_type, is_spindle = _choose_types(params, x, y, rng)
    cells, nuclei = _shape(params, x, y, cell_type, is_spindle, rng)
    dx, dy = _relax(cells, params, is_tissue)
    cells, nuclei = cells.moved(dx, dy), nuclei.moved(dx, dy)
    shape = (int(np.ceil(params.height_um / um_per_px)), int(np.ceil(params.width_um / um_per_px)))
    nucleus_labels = draw(nuclei, shape, um_per_px)
    cell_labels = draw(cells, shape, um_per_px)
    keep = keep_whole(cell_labels, nucleus_labels, x.size, MIN_NUCLEUS_UM2 / um_per_px**2)
    visible = rng.random(keep.size) >= params.missing_nuclei
    spindle = is_spindle[keep]
    cell_class = np.where(spindle, "spindle", "round")
    return Tissue(cell_labels, nucleus_labels, cell_type[keep], spindle, visible, um_per_px, cell_class)


@dataclass(frozen=True)
class _Field:
    """A random function of the place, of mean 0 and variance 1, linear between nodes ``step`` um apart."""

    values: NDArray[np.float64]
    step: float

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.map_coordinates(self.values, (y / self.step, x / self.step), order=1, mode="nearest")


def _smooth_field(params: SimulationParams, scale_um: float, rng: np.random.Generator) -> _Field:
    step = scale_um / 4
    shape = (int(params.height_um / step) + 2, int(params.width_um / step) + 2)
    margin = 12  # the filter sees noise, not a border
    noise = rng.standard_normal((shape[0] + 2 * margin, shape[1] + 2 * margin))
    smooth = ndimage.gaussian_filter(noise, 2.0)[margin:-margin, margin:-margin]
    return _Field(smooth / np.sqrt(np.mean(smooth**2)), step)


def _place(
    params: SimulationParams, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], _Where]:
    """Return cell centres drawn at random from the tissue, and the function that says where tissue is."""
    field = _smooth_field(params, params.empty_scale_um, rng)
    limit = np.quantile(field.values, params.empty_share) if params.empty_share > 0 else -np.inf

    def is_tissue(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        inside = (x >= 0) & (x < params.width_um) & (y >= 0) & (y < params.height_um)
        return inside & (field.at(x, y) >= limit)

    # Drawn over the whole field and thinned by the tissue, so that the density is that of the tissue.
    n = round(params.cells_per_mm2 * params.width_um * params.height_um * 1e-6)
    x, y = rng.uniform(0, params.width_um, max(n, 1)), rng.uniform(0, params.height_um, max(n, 1))
    kept = is_tissue(x, y)
    return x[kept], y[kept], is_tissue


def _choose_types(
    params: SimulationParams, x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Draw each cell's type from what is frequent where it lies, and which cells are spindle-shaped."""
    n_types = params.n_cell_types
    abundance = rng.dirichlet(np.full(n_types, 5.0))
    score = np.log(abundance) + rng.gumbel(size=(x.size, n_types))
    for k in range(n_types):
        score[:, k] += params.niche_strength * _smooth_field(params, params.niche_scale_um, rng).at(x, y)
    cell_type = np.argmax(score, axis=1)
    # The last types are the spindle-shaped ones, the last but these in part, so that the share is met.
    count = np.bincount(cell_type, minlength=n_types)
    wanted = round(params.spindle_share * x.size)
    after = np.cumsum(count[::-1])[::-1] - count  # cells of the types that come first
    share = np.clip((wanted - after) / np.maximum(count, 1), 0, 1)
    return cell_type, rng.random(x.size) < share[cell_type]


def _shape(
    params: SimulationParams,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    cell_type: NDArray[np.intp],
    is_spindle: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[Outlines, Outlines]:
    """Give every cell an outline around ``(x, y)``, and a nucleus within it."""
    n = x.size
    of_type = spread_over_types(params.n_cell_types, rng)[cell_type]
    # Centred, so that the tissue's cells have the median size asked for, whichever types are frequent.
    size = 0.5 * (of_type - of_type.sum() / max(n, 1)) + np.sqrt(0.75) * rng.standard_normal(n)
    area = params.cell_area_um2 * np.exp(params.cell_area_spread * size)
    mean_aspect = np.where(is_spindle, params.spindle_aspect, params.aspect)
    aspect = 1 + (mean_aspect - 1) * rng.gamma(8.0, 1 / 8.0, n)
    stream = np.pi * _smooth_field(params, 2 * params.niche_scale_um, rng).at(x, y)
    angle = np.where(is_spindle, stream + 0.25 * rng.standard_normal(n), rng.uniform(0, np.pi, n))
    radius = np.sqrt(area / np.pi)
    cells = Outlines(
        x, y, radius * np.sqrt(aspect), radius / np.sqrt(aspect), angle, _waves(params.irregularity, n, rng)
    )

    # Large cells have larger nuclei, but by less than in proportion.
    nucleus_size = (size + 2 * rng.standard_normal(n)) / np.sqrt(5)
    nucleus_radius = np.sqrt(params.nucleus_area_um2 * np.exp(params.nucleus_area_spread * nucleus_size) / np.pi)
    nucleus_aspect = np.sqrt(aspect) * np.exp(0.08 * rng.standard_normal(n))
    major = np.minimum(nucleus_radius * np.sqrt(nucleus_aspect), _LARGEST_NUCLEUS * cells.major)
    minor = np.minimum(nucleus_radius / np.sqrt(nucleus_aspect), _LARGEST_NUCLEUS * cells.minor)
    direction = rng.uniform(0, 2 * np.pi, n)
    distance = params.nucleus_offset * np.sqrt(rng.random(n))
    along = distance * np.cos(direction) * (cells.major - major)
    across = distance * np.sin(direction) * (cells.minor - minor)
    cos, sin = np.cos(angle), np.sin(angle)
    waves = _waves(params.irregularity / 3, n, rng)
    return cells, Outlines(x + along * cos - across * sin, y + along * sin + across * cos, major, minor, angle, waves)


def spread_over_types(n_types: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return quantiles of the normal distribution, one per type, in random order.

    Types then differ from each other by as much under every seed, which a few random numbers would not.
    """
    return ndtri((rng.permutation(n_types) + 0.5) / n_types)


def _waves(amplitude: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return np.clip(amplitude * rng.standard_normal((n, 4)), -0.2, 0.2)


def _relax(
    cells: Outlines, params: SimulationParams, is_tissue: _Where
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far each cell has to move so that cells overlap less: pairs push each other apart, in small steps.

    The distance of a pair is measured in units of their mean outline: spindle-shaped cells can lie side by side.
    """
    x, y = cells.x.copy(), cells.y.copy()
    if params.packing == 0 or x.size < 2:
        return x - cells.x, y - cells.y
    cos, sin = np.cos(cells.angle), np.sin(cells.angle)
    long, short = cells.major**-2, cells.minor**-2
    xx, yy, xy = long * cos**2 + short * sin**2, long * sin**2 + short * cos**2, (long - short) * cos * sin
    wanted = 2 * params.packing
    reach = wanted * np.quantile(cells.major, 0.9)
    for _ in range(_RELAXATION_STEPS):
        i, j = cKDTree(np.column_stack([x, y])).query_pairs(reach, output_type="ndarray").T
        dx, dy = x[j] - x[i], y[j] - y[i]
        squared = ((xx[i] + xx[j]) * dx**2 + (yy[i] + yy[j]) * dy**2 + 2 * (xy[i] + xy[j]) * dx * dy) / 2
        push = 0.3 * np.maximum(0, wanted / np.sqrt(np.maximum(squared, 0.01)) - 1)
        push = np.minimum(push, 0.5)
        n = x.size
        new_x = x + np.bincount(j, push * dx, n) - np.bincount(i, push * dx, n)
        new_y = y + np.bincount(j, push * dy, n) - np.bincount(i, push * dy, n)
        allowed = is_tissue(new_x, new_y)
        x, y = np.where(allowed, new_x, x), np.where(allowed, new_y, y)
    return x - cells.x, y - cells.y
