"""Local brightness of background and nuclei, from one coarse pass over an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.labels.windows import tiles
from ucs._nuclei.basins import block_means
from ucs._nuclei.tiles import MOST_THREADS
from ucs._utils.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs._kernels.labels.windows import Window
    from ucs._nuclei.tiles import Raster

_SAMPLE_UM = 1.0  # side of the squares that are averaged first, to suppress noise
_SAMPLES = 8  # samples along the side of a block
_LOW_RANK = 3  # of the 64 sorted samples of a block: a dark one, but not the darkest
_RANKS = np.arange(4, 64, 8)  # of the sorted samples: eight that represent the distribution of a block
_LOW_PERCENT = 20  # percentile of the blocks around: low, as nuclei cover most of some blocks
_DIFFERENCE_TO_SPREAD = 1.4826 / np.sqrt(2)  # median absolute difference of two normal deviates -> standard deviation
_LEVEL_UM = 64.0  # standard deviation over which the brightness of nuclei is averaged
_PRIOR = 0.02  # weight of the average of the image, as a share of bright samples: decides where there are few nuclei
_DIMMEST = 1 / 3  # lower bound of the local brightness over the average: empty glass must not be scaled up


@dataclass(frozen=True)
class Illumination:
    """Brightness of background and of nuclei above it, at the centres of blocks.

    Attributes
    ----------
    background, level
        ``(rows, columns)`` float32.
    side
        Side of a block in pixels of the raster.
    typical
        Brightness of nuclei above the background over the whole image.
    noise
        Standard deviation of the noise of a mean over about 1 um.
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

    Blocks of about 8 x 8 um have 64 means over about 1 um. The background of a block is the 20th percentile of the dark
    means of the blocks around it. The brightness of nuclei is the mean over the neighbourhood of samples above Otsu's
    threshold for the whole image, shrunk towards the average of the image where there are few.

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
    grain = np.empty(shape)
    samples = in_order((partial(_block_samples, raster, window, sample) for window in windows), most=MOST_THREADS)
    for window, (values, differences) in zip(windows, samples, strict=True):
        rows = slice(window.row0 // side, -(-window.row1 // side))
        place = rows, slice(window.column0 // side, -(-window.column1 // side))
        low[place], ranked[place] = values[..., _LOW_RANK], values[..., _RANKS]
        varies[place], grain[place] = values[..., 0] != values[..., -1], differences
        advance()
    if not varies.any() and ranked.min() == ranked.max():
        msg = (
            f"images[{raster.name!r}] is constant ({ranked.flat[0]:g} everywhere): there is nothing to find nuclei in. "
            "Choose another channel= or image_key=."
        )
        raise ValueError(msg)
    varies |= not varies.any()
    background = _background(low, varies, max(1, round(background_um / (side * um_per_px))))
    level, typical = _levels(ranked - background[..., None], varies, _LEVEL_UM / (side * um_per_px))
    noise = _DIFFERENCE_TO_SPREAD * float(np.median(grain[varies])) / sample
    return Illumination(background.astype(np.float32), level.astype(np.float32), side, typical, noise)


def _block_samples(raster: Raster, window: Window, sample: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the sorted means of each block, ``(rows, columns, 64)``, and its median difference from pixel to pixel.

    Incomplete blocks at the far edges are padded with their edge values.
    """
    image = raster.read_means(window)
    means = _blocks(block_means(image, sample), _SAMPLES)
    differences = np.median(_blocks(np.abs(np.diff(image, axis=1, append=image[:, -1:])), _SAMPLES * sample), axis=-1)
    return np.sort(means, axis=-1), differences


def _blocks(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the values of each block, ``(rows, columns, side * side)``."""
    values = np.pad(values, ((0, -values.shape[0] % side), (0, -values.shape[1] % side)), mode="edge")
    rows, columns = values.shape[0] // side, values.shape[1] // side
    return values.reshape(rows, side, columns, side).transpose(0, 2, 1, 3).reshape(rows, columns, -1)


def _background(low: NDArray[np.float64], varies: NDArray[np.bool_], size: int) -> NDArray[np.float64]:
    from scipy import ndimage

    # Padding around a mosaic is darker than any tissue: it gets the values of the nearest block with an image.
    nearest = ndimage.distance_transform_edt(~varies, return_distances=False, return_indices=True)
    local = ndimage.percentile_filter(low[tuple(nearest)], _LOW_PERCENT, size=size, mode="nearest")
    return ndimage.gaussian_filter(local, 1.5, mode="nearest")


def _levels(above: NDArray[np.floating], varies: NDArray[np.bool_], sigma: float) -> tuple[NDArray[np.float64], float]:
    """Return the brightness of nuclei per block and over the image."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    positive = above[varies]
    positive = positive[positive > 0]
    if positive.size == 0:
        return np.ones(varies.shape), 1.0
    # Of the square root: otherwise a few very bright spots would make up the upper class.
    threshold = float(threshold_otsu(np.sqrt(positive))) ** 2
    typical = float(np.median(positive[positive >= threshold]))
    bright = (above > threshold) & varies[..., None]
    share = ndimage.gaussian_filter(bright.mean(axis=-1), sigma, mode="nearest")
    total = ndimage.gaussian_filter((above * bright).mean(axis=-1, dtype=np.float64), sigma, mode="nearest")
    level = (total + _PRIOR * typical) / (share + _PRIOR)
    return np.maximum(level, _DIMMEST * typical), typical
