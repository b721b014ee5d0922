"""Nuclei by any function of a window: tiles with a margin, each nucleus from the tile that contains its centroid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.labels.ids import densify
from ucs._kernels.labels.measure import moments
from ucs._kernels.labels.windows import tiles
from ucs._nuclei.methods import checked_labels
from ucs._nuclei.tiles import FoundNuclei, count_pixels, lazy_labels, new_store, renumbering

if TYPE_CHECKING:
    from collections.abc import Callable

    import zarr
    from numpy.typing import NDArray

    from ucs._kernels.labels.windows import Window
    from ucs._nuclei.tiles import Raster

_MARGIN_UM = 40.0  # context around a tile: several nuclei
_PERCENTILES = (1.0, 99.8)  # StarDist's usual normalization
_MOST_SAMPLES = 4_000_000  # pixels for percentiles: enough for the 99.8th, in a moderate amount of memory
_MOST_TAKEN = 0.5  # share of the pixels of a nucleus that may have been taken by others


@dataclass(frozen=True)
class Scaling:
    """Values that are mapped to 0 and 1 in each channel, ``(c, 1, 1)``."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def __call__(self, image: NDArray) -> NDArray[np.float32]:
        """Return an image ``(c, y, x)`` scaled."""
        return (image.astype(np.float32) - self.low) / (self.high - self.low)


def measure_scaling(raster: Raster, *, tile_size: int, advance: Callable[[], None]) -> Scaling:
    """Return the scaling by percentiles of the whole image, from every k-th pixel of every k-th row.

    Raises
    ------
    ValueError
        If a channel is constant, or a pixel is not finite.
    """
    step = max(1, int(np.ceil(np.sqrt(raster.shape[0] * raster.shape[1] / _MOST_SAMPLES))))
    samples = []
    for window in tiles(raster.shape, step * max(1, tile_size // step)):
        pixels = raster.read(window)
        samples.append(pixels[:, ::step, ::step].reshape(len(pixels), -1))
        advance()
    values = np.concatenate(samples, axis=1)
    low, high = np.percentile(values, _PERCENTILES, axis=1).astype(np.float32)
    high = np.where(high > low, high, values.max(axis=1)).astype(np.float32)
    low = np.where(high > low, low, values.min(axis=1)).astype(np.float32)
    if not (high > low).all():
        msg = (
            f"images[{raster.name!r}] is constant ({low.min():g} everywhere): there is nothing to find nuclei in. "
            "Choose another channel= or image_key=."
        )
        raise ValueError(msg)
    return Scaling(low[:, None, None], high[:, None, None])


def label_objects(
    raster: Raster,
    function: Callable[[NDArray], NDArray],
    um_per_px: float,
    *,
    name: str,
    tile_size: int,
    scaled: bool,
    update: Callable[[int, int], None],
) -> FoundNuclei:
    """Label an image tile by tile with a function ``(c, y, x) -> labels (y, x)``.

    Each tile is read with a margin of 40 um; nuclei with their centroid in the tile are kept as a whole. Where they
    overlap with those of an earlier tile, the earlier ones are kept; a nucleus that loses more than half of its pixels
    is a duplicate and is dropped. The result does not depend on the tiles if the function's result for a nucleus does
    not depend on pixels more than 40 um away.

    Parameters
    ----------
    raster
        The image; its blocks must be pixels.
    function
        Function that finds nuclei; called by one thread, in raster order.
    um_per_px
        Side of a pixel in um.
    name
        Name of the function, for errors.
    tile_size
        Side of a tile in pixels.
    scaled
        Whether the function gets float32 scaled by percentiles of the whole image, or unscaled pixels.
    update
        Called with ``(done, total)``.
    """
    windows = tiles(raster.shape, tile_size)
    total, done = (2 + scaled) * len(windows), 0

    def advance() -> None:
        nonlocal done
        done = min(done + 1, total)
        update(done, total)

    scaling = measure_scaling(raster, tile_size=tile_size, advance=advance) if scaled else None
    store, n = new_store(raster.shape, tile_size, np.uint32), 0
    margin = int(np.ceil(_MARGIN_UM / um_per_px))
    for window in windows:
        outer = window.grown(margin).clipped(raster.shape)
        pixels = raster.read(outer)
        labels = function(pixels if scaling is None else scaling(pixels))
        n = _write_own(store, checked_labels(labels, outer.shape, name), window, outer, n)
        advance()
    area, first = np.zeros(n + 1, dtype=np.int64), np.full(n + 1, np.iinfo(np.int64).max)
    for window in windows:
        count_pixels(np.asarray(store[window.slices]), window, raster.shape[1], area, first)
        advance()
    table = renumbering(first, area > 0)
    return FoundNuclei(lazy_labels(store, table, 1, raster.shape), area[area > 0])


def _write_own(store: zarr.Array, labels: NDArray, window: Window, outer: Window, n: int) -> int:
    """Write the nuclei with their centroid in the tile, with ids from ``n + 1`` on; return the last id."""
    dense, ids = densify(labels)
    if len(ids) == 0:
        return n
    sums = moments(dense, len(ids))
    own = window.seen_from(outer)
    column, row = sums[:, 1] // sums[:, 0], sums[:, 2] // sums[:, 0]
    mine = (row >= own.row0) & (row < own.row1) & (column >= own.column0) & (column < own.column1)
    written = np.asarray(store[outer.slices])
    taken = np.bincount(dense[written > 0], minlength=len(ids) + 1)[1:]
    mine &= taken <= _MOST_TAKEN * sums[:, 0]
    new_id = np.zeros(len(ids) + 1, dtype=np.uint32)
    new_id[1:][mine] = n + 1 + np.arange(mine.sum())
    np.copyto(written, new_id[dense], where=written == 0)
    store[outer.slices] = written
    return n + int(mine.sum())
