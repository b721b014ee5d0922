"""How bright background and nuclei are in each part of an image, from one coarse pass over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._core.watershed import block_means
from ucs.pp._nuclei_tiles import in_order, tiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs.pp._nuclei_tiles import Raster, Window

_SAMPLE_UM = 1.0  # side of what is averaged before anything is compared, so that noise does not count
_SAMPLES = 8  # samples along the side of a block
_LOW_RANK = 3  # of a block's 64 samples: its dark ones
_RANKS = np.arange(4, 64, 8)  # those that stand for the block's distribution
_LOW_PERCENT = 20  # of the blocks around: nuclei cover most of some blocks
_LEVEL_UM = 64.0  # over what distance the brightness of nuclei is averaged
_PRIOR = 0.02  # weight of the image's average against the blocks around, in blocks full of nuclei
_DIMMEST = 1 / 3  # of nuclei anywhere, relative to the image's average: empty glass must not be scaled up


@dataclass(frozen=True)
class Illumination:
    """Brightness of background and of nuclei above it, at the centres of blocks.

    Attributes
    ----------
    background, level
        ``(rows, columns)`` float32.
    side
        Of a block, in pixels of the raster.
    typical
        Brightness of nuclei above background over the whole image.
    noise
        Spread of the background's samples around it.
    """

    background: NDArray[np.float32]
    level: NDArray[np.float32]
    side: int
    typical: float
    noise: float


def measure_illumination(
    raster: Raster, um_per_px: float, *, background_um: float, tile_size: int, advance: Callable[[], None]
) -> Illumination:
    """Measure the illumination of an image.

    Blocks of about 8 x 8 um hold 64 means over about 1 um. The background of a block is the 20th percentile of the dark
    means of the blocks around it; the brightness of nuclei is the mean, over the neighbourhood, of what is above Otsu's
    threshold for the whole image, drawn towards the image's average where there is little of it.

    Raises
    ------
    ValueError
        If all pixels are equal, or not finite.
    """
    sample = max(1, round(_SAMPLE_UM / um_per_px))
    side = _SAMPLES * sample
    windows = tiles(raster.shape, side * max(1, tile_size // side))
    shape = (-(-raster.shape[0] // side), -(-raster.shape[1] // side))
    low = np.empty(shape)
    ranked = np.empty((*shape, len(_RANKS)), dtype=np.float32)
    varies = np.empty(shape, dtype=bool)
    for window, values in zip(windows, in_order(lambda w: _block_samples(raster, w, sample), windows), strict=True):
        place = np.s_[window.top // side : -(-window.bottom // side), window.left // side : -(-window.right // side)]
        low[place], ranked[place] = values[..., _LOW_RANK], values[..., _RANKS]
        varies[place] = values[..., 0] != values[..., -1]
        advance()
    if not varies.any() and ranked.min() == ranked.max():
        msg = (
            f"images[{raster.name!r}] is constant ({ranked.flat[0]:g} everywhere): there is nothing to find nuclei in. "
            "Choose another channel= or image_key=."
        )
        raise ValueError(msg)
    varies |= not varies.any()
    background = _background(low, varies, max(1, round(background_um / (side * um_per_px))))
    level, typical, noise = _levels(ranked - background[..., None], varies, _LEVEL_UM / (side * um_per_px))
    return Illumination(background.astype(np.float32), level.astype(np.float32), side, typical, noise)


def _block_samples(raster: Raster, window: Window, sample: int) -> NDArray[np.float32]:
    """Return the sorted means of each block, ``(rows, columns, 64)``; what is missing at the far edges is repeated."""
    means = block_means(raster.read_means(window), sample)
    means = np.pad(means, ((0, -means.shape[0] % _SAMPLES), (0, -means.shape[1] % _SAMPLES)), mode="edge")
    rows, columns = means.shape[0] // _SAMPLES, means.shape[1] // _SAMPLES
    blocks = means.reshape(rows, _SAMPLES, columns, _SAMPLES).transpose(0, 2, 1, 3)
    return np.sort(blocks.reshape(rows, columns, -1), axis=-1)


def _background(low: NDArray[np.float64], varies: NDArray[np.bool_], size: int) -> NDArray[np.float64]:
    from scipy import ndimage

    # Padding around a mosaic is darker than any tissue: it takes the values of the nearest block with an image.
    nearest = ndimage.distance_transform_edt(~varies, return_distances=False, return_indices=True)
    local = ndimage.percentile_filter(low[tuple(nearest)], _LOW_PERCENT, size=size, mode="nearest")
    return ndimage.gaussian_filter(local, 1.5, mode="nearest")


def _levels(
    above: NDArray[np.float32], varies: NDArray[np.bool_], sigma: float
) -> tuple[NDArray[np.float64], float, float]:
    """Return the brightness of nuclei per block and over the image, and the spread of the background."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    values = above[varies]
    positive = values[values > 0]
    if positive.size == 0:
        return np.ones(varies.shape), 1.0, 0.0
    # Of the root: a few very bright spots would otherwise take the upper class for themselves.
    threshold = float(threshold_otsu(np.sqrt(positive))) ** 2
    typical = float(np.median(positive[positive >= threshold]))
    dark = values[values < threshold]
    noise = 1.4826 * float(np.median(np.abs(dark - np.median(dark)))) if dark.size else 0.0
    bright = (above > threshold) & varies[..., None]
    share = ndimage.gaussian_filter(bright.mean(axis=-1), sigma, mode="nearest")
    total = ndimage.gaussian_filter((above * bright).mean(axis=-1, dtype=np.float64), sigma, mode="nearest")
    level = (total + _PRIOR * typical) / (share + _PRIOR)
    return np.maximum(level, _DIMMEST * typical), typical, noise
