"""Nuclei by a watershed of blob contrast: without weights, for uneven illumination, independent of the tiles."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ucs._kernels.labels.windows import tiles
from ucs._nuclei.basins import ascend, basin_quantiles, contacts, keep_above, normalise, sums
from ucs._nuclei.clean import clean_labels
from ucs._nuclei.fragments import Borders, Fragments, MergeLimits, group_fragments
from ucs._nuclei.illumination import measure_illumination
from ucs._nuclei.tiles import (
    MOST_THREADS,
    FoundNuclei,
    count_pixels,
    lazy_labels,
    new_store,
    renumbering,
)
from ucs._utils.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    import zarr
    from numpy.typing import NDArray

    from ucs._kernels.labels.windows import Window
    from ucs._nuclei.illumination import Illumination
    from ucs._nuclei.tiles import Raster

_TRUNCATE = 4.0  # radius of Gaussian kernels in standard deviations
_LEVEL_QUANTILE = 0.8  # of the pixels of a nucleus: its brightness without its brightest spots
_FLOOR_QUANTILE = 0.05  # of the pixels of a basin: the surroundings, with light scattered by neighbours


@dataclass(frozen=True)
class WatershedParams:
    """Parameters of the built-in method. Lengths in um, areas in um^2, brightness relative to that of nuclei around.

    Attributes
    ----------
    smoothing
        Standard deviation of the Gaussian that suppresses noise before thresholding.
    blob
        Standard deviation of the Gaussian whose Laplacian finds nuclei: about half the radius of the smallest.
    background
        Side of the neighbourhood in which the background is estimated.
    contrast
        Lowest brightness above background of a pixel in a nucleus, and of a nucleus above its surroundings.
    edge
        Threshold of a nucleus, between its darkest surroundings (0) and its own brightness (1).
    peak
        Lowest blob contrast of a nucleus; typical are 0.3 to 1.
    depth
        Depth of the valley that separates two peaks of blob contrast (the h of h-maxima).
    ellipse, neck, valley, similar
        Conditions to merge two peaks; see :class:`ucs._nuclei.fragments.MergeLimits`.
    opening
        Radius of the opening that removes thin appendages.
    reach
        Largest distance from the peak of a nucleus to its edge.
    longest
        Largest extent of a nucleus along x or y.
    min_area, max_area
        Smallest and largest nucleus.
    min_signal
        Lowest brightness of nuclei, in standard deviations of the noise of a mean over 1 um; an image below it is
        empty. Noise alone has 2 to 4.
    """

    smoothing: float = 0.4
    blob: float = 1.6
    background: float = 40.0
    contrast: float = 0.2
    edge: float = 0.5
    peak: float = 0.06
    depth: float = 0.03
    ellipse: float = 0.95
    neck: float = 0.7
    valley: float = 0.92
    similar: float = 0.6
    opening: float = 0.4
    reach: float = 12.0
    longest: float = 40.0
    min_area: float = 8.0
    max_area: float = 400.0
    min_signal: float = 5.0

    def __post_init__(self) -> None:
        """Check the bounds."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
                msg = f"{field.name}={value!r} must be a number, 0 or above (method='watershed')."
                raise ValueError(msg)
        if self.blob == 0 or self.reach == 0 or self.min_area > self.max_area:
            msg = (
                f"blob={self.blob} and reach={self.reach} must be positive, and min_area={self.min_area} not above "
                f"max_area={self.max_area} (method='watershed')."
            )
            raise ValueError(msg)

    @classmethod
    def of(cls, options: dict[str, float]) -> WatershedParams:
        """Make parameters from keywords.

        Raises
        ------
        TypeError
            If one is unknown.
        ValueError
            If one is out of bounds.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            msg = f"method='watershed' has no option {', '.join(map(repr, unknown))}; it has: {', '.join(known)}."
            raise TypeError(msg)
        return cls(**options)


class _Pieces(NamedTuple):
    """Fragments of a tile, by the flat index of their peak, and the borders between them."""

    labels: NDArray[np.uint64]
    peak: NDArray[np.int64]
    fragments: Fragments
    borders: Borders


def watershed(
    raster: Raster,
    um_per_px: float,
    params: WatershedParams,
    *,
    tile_size: int,
    update: Callable[[int, int], None],
) -> FoundNuclei:
    """Find nuclei in an image's first channel.

    1. Background and brightness of nuclei are measured over the whole image (:func:`measure_illumination`).
    2. In each tile, the image is smoothed, the background subtracted and the result scaled; the negative Laplacian of
       Gaussian of its square root is split into basins (:func:`ucs._nuclei.basins.ascend`); each basin is thresholded
       halfway between its own brightness and its darkest pixels.
    3. Basins are merged to nuclei for the whole image (:func:`ucs._nuclei.fragments.group_fragments`).
    4. In each tile, nuclei are opened, reduced to their largest component and filled.

    The label of a pixel depends on pixels within the margin of a tile and on statistics of the whole image, so labels
    do not depend on the tiles. Ids are 1..n in the order of their first pixels.

    Raises
    ------
    ValueError
        If all pixels are equal, some are not finite, or no signal exceeds the noise.
    """
    windows = tiles(raster.shape, tile_size)
    n_coarse, done = len(windows), 0

    def advance() -> None:
        nonlocal done
        done += 1
        update(min(done, 3 * n_coarse), 3 * n_coarse)

    light = measure_illumination(
        raster, um_per_px, background_um=params.background, tile_size=tile_size, advance=advance
    )
    if light.typical < params.min_signal * light.noise:
        msg = (
            f"Nothing in images[{raster.name!r}] stands out of the noise: what is brightest lies "
            f"{light.typical / light.noise:.1f} standard deviations of the noise above the background, nuclei lie "
            f"{params.min_signal:g} or more. Choose another channel= or image_key=, or lower min_signal=."
        )
        raise ValueError(msg)
    store = new_store(raster.shape, tile_size, np.uint64)
    found = []
    tasks = (partial(_find_pieces, raster, window, um_per_px, params, light) for window in windows)
    for window, pieces in zip(windows, in_order(tasks, most=MOST_THREADS), strict=True):
        store[window.slices] = pieces.labels
        found.append(pieces._replace(labels=np.zeros((0, 0), dtype=np.uint64)))
        advance()
    peaks, nucleus, n = _group(found, um_per_px, params)
    final = new_store(raster.shape, tile_size, np.uint32)
    area, first = np.zeros(n + 1, dtype=np.int64), np.full(n + 1, np.iinfo(np.int64).max)
    margin = int(np.ceil((params.longest + params.opening) / um_per_px)) + 2
    cleaned = (partial(_clean, store, window, margin, peaks, nucleus, params, um_per_px) for window in windows)
    for window, nuclei in zip(windows, in_order(cleaned, most=MOST_THREADS), strict=True):
        final[window.slices] = nuclei
        count_pixels(nuclei, window, raster.shape[1], area, first)
        advance()
    um2 = area * um_per_px**2
    kept = (um2 >= params.min_area) & (um2 <= params.max_area) & (area > 0)
    table = renumbering(first, kept)
    labels = lazy_labels(final, table, raster.factor, raster.image.shape[-2:])
    return FoundNuclei(labels, area[kept] * raster.factor**2)


def _find_pieces(
    raster: Raster, window: Window, um_per_px: float, params: WatershedParams, light: Illumination
) -> _Pieces:
    from scipy import ndimage

    smoothing, blob = params.smoothing / um_per_px, params.blob / um_per_px
    reach = int(np.ceil(params.reach / um_per_px))
    margin = 2 * reach + 2 + sum(int(_TRUNCATE * sigma + 0.5) for sigma in (smoothing, blob))
    outer = window.grown(margin).clipped(raster.shape)
    own = window.seen_from(outer)
    image = ndimage.gaussian_filter(raster.read_means(outer), smoothing, truncate=_TRUNCATE, mode="nearest")
    value = normalise(image, light.background, light.level, outer.row0, outer.column0, light.side)
    landscape = ndimage.gaussian_laplace(np.sqrt(value), blob, truncate=_TRUNCATE, mode="nearest")
    landscape *= np.float32(-(blob**2))
    basins = ascend(landscape, reach=reach, minimum=params.peak)
    labels, n = basins.labels, len(basins.row)
    level = basin_quantiles(labels, n, value, landscape > 0, _LEVEL_QUANTILE)
    floor = np.minimum(basin_quantiles(labels, n, value, labels > 0, _FLOOR_QUANTILE), level)
    contrast = np.float32(params.contrast)
    edge = np.maximum(floor + np.float32(params.edge) * (level - floor), contrast)
    keep_above(labels, value, np.where(level - floor < contrast, np.float32(np.inf), edge))
    mine = labels[own.slices]
    total, box = sums(mine, n, window.row0, window.column0)
    touching = contacts(labels, value, landscape, (own.row0, own.column0, own.row1, own.column1))
    peak = np.append(-1, (basins.row + outer.row0) * raster.shape[1] + basins.column + outer.column0)
    # Fragments without a pixel in this tile may still touch one with a pixel in it.
    here = np.flatnonzero(total[:, 0])
    height = np.append(np.float32(0), landscape[basins.row, basins.column])
    return _Pieces(
        (peak + 1).astype(np.uint64)[mine],
        peak[here],
        Fragments(total[here], box[here], level[here].astype(np.float64), height[here]),
        Borders.collect(
            peak[touching.low], peak[touching.high], np.ones(len(touching.low), np.int64), touching.value,
            touching.landscape,
        ),
    )  # fmt: skip


def _group(
    found: list[_Pieces], um_per_px: float, params: WatershedParams
) -> tuple[NDArray[np.int64], NDArray[np.uint32], int]:
    """Return the peaks of all fragments, ascending, the nucleus 1..n of each, and n."""
    peaks, index = np.unique(np.concatenate([pieces.peak for pieces in found]), return_inverse=True)
    parts = [pieces.fragments for pieces in found]
    # Level and height of a fragment are the same in every tile, so that average and maximum do not change them.
    fragments = Fragments(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Fragments))
    ).grouped(index, len(peaks))
    borders = Borders.collect(
        *(np.concatenate([getattr(pieces.borders, field.name) for pieces in found]) for field in fields(Borders))
    )
    borders = Borders(
        np.searchsorted(peaks, borders.low), np.searchsorted(peaks, borders.high), borders.n_edges, borders.value,
        borders.landscape,
    )  # fmt: skip
    limits = MergeLimits(
        params.depth, params.ellipse, params.neck, params.valley, params.similar, params.max_area / um_per_px**2,
        params.longest / um_per_px,
    )  # fmt: skip
    group, n = group_fragments(fragments, borders, limits)
    return peaks, (group + 1).astype(np.uint32), n


def _clean(
    store: zarr.Array,
    window: Window,
    margin: int,
    peaks: NDArray[np.int64],
    nucleus: NDArray[np.uint32],
    params: WatershedParams,
    um_per_px: float,
) -> NDArray[np.uint32]:
    """Return the nuclei of a tile, each opened, reduced to its largest component and filled."""
    outer = window.grown(margin).clipped(store.shape)
    raw = np.asarray(store[outer.slices])
    labels = np.zeros(raw.shape, dtype=np.uint32)
    inside = raw > 0
    labels[inside] = nucleus[np.searchsorted(peaks, raw[inside].astype(np.int64) - 1)]
    return clean_labels(labels, round(params.opening / um_per_px))[window.seen_from(outer).slices]
