"""What an image of a stain shows at each pixel, relative to its surroundings: ridges, as membranes are, and levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.labels.windows import Window

N_CODES = 32
"""Values of a measure: 0 where there is no image, then equal steps, of which the first and the last are open."""

HALO_UM = 60.0
"""What lies farther away decides nothing."""

# Standard deviations in um: a membrane with the microscope's blur, the gap beside it, a cell, and some cells.
_RIDGE_UM, _BESIDE_UM, _LEVEL_UM, _AROUND_UM = 0.5, 2.0, 1.0, 15.0
_BIN_UM = 4.0  # the smoothing over some cells is done on bins of this side
_TRUNCATE = 3.0
_RIDGE_RANGE = (-2.0, 6.0)  # in standard deviations of the surroundings
_LEVEL_RANGE = (-2.5, 2.5)  # log of the ratio to the surroundings


@dataclass(frozen=True)
class Stains:
    """Channels of images on a raster.

    Attributes
    ----------
    names
        Of the channels, as ``"image/channel"``.
    measures
        ``(2 c, h, w)`` uint8: ridge and level of each channel (:func:`measure_stain`), 0 where there is no image.
    """

    names: tuple[str, ...]
    measures: NDArray[np.uint8]

    def crop(self, window: Window) -> Stains:
        """Return a window that lies inside the raster."""
        return replace(self, measures=self.measures[:, *window.slices])


def bin_side(um_per_px: float) -> int:
    """Return the side of a bin in pixels: the corner of what is measured must lie on a whole bin."""
    return max(1, round(_BIN_UM / um_per_px))


def measure_stain(image: NDArray[np.float32], *, um_per_px: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Measure a window of an image.

    Parameters
    ----------
    image
        ``(h, w)`` intensities in any unit; its corner lies on a whole bin of :func:`bin_side` pixels. Pixels less than
        :data:`HALO_UM` from its edge are not to be used, unless the image ends there.
    um_per_px
        Side of a pixel in um.

    Returns
    -------
    ``(h, w)`` each, 1 to 31: the ridge, ``(G_0.5 - G_2) / sd``, where ``G_s`` is the image smoothed by ``s`` um and
    ``sd`` the root mean square of the difference over 15 um; and the level, ``log(G_1 / G_15)``. Neither changes if all
    intensities are multiplied by a number.
    """

    def smooth(values: NDArray, sigma_um: float) -> NDArray[np.float32]:
        return gaussian_filter(values, sigma_um / um_per_px, mode="nearest", truncate=_TRUNCATE)

    ridge = smooth(image, _RIDGE_UM) - smooth(image, _BESIDE_UM)
    spread = np.sqrt(np.maximum(_around(ridge * ridge, um_per_px), 0))
    level, around = smooth(image, _LEVEL_UM), _around(image, um_per_px)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(spread > 0, ridge / spread, 0)
        ratio = np.log(np.where((level > 0) & (around > 0), level / around, 1))
    return _coded(relative, *_RIDGE_RANGE), _coded(ratio, *_LEVEL_RANGE)


def _around(values: NDArray[np.float32], um_per_px: float) -> NDArray[np.float32]:
    """Smooth over some cells, on bins: a thousand times less work than on pixels."""
    side, (h, w) = bin_side(um_per_px), values.shape
    padded = np.pad(values, ((0, -h % side), (0, -w % side)), mode="edge")
    rows, columns = padded.shape[0] // side, padded.shape[1] // side
    bins = padded.reshape(rows, side, columns, side).mean(axis=(1, 3), dtype=np.float64).astype(np.float32)
    smooth = gaussian_filter(bins, _AROUND_UM / (side * um_per_px), mode="nearest", truncate=_TRUNCATE)
    return np.repeat(np.repeat(smooth, side, axis=0), side, axis=1)[:h, :w]


def _coded(values: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    step = (high - low) / (N_CODES - 1)
    return (1 + np.clip((values - low) // step, 0, N_CODES - 2)).astype(np.uint8)
