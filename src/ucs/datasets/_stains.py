"""Simulated images of stains of membranes and of the inside of cells: uneven, with gaps, blurred and noisy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.segmentation import find_boundaries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs.datasets._params import SimulationParams

_DARK, _BACKGROUND = 150.0, 200.0  # offset of the camera, and light from outside cells
_BLUR_UM = 0.35
_GAP_UM, _GAPS = 2.0, 0.25  # length of the gaps in membranes, and their share
_PATCH_UM = 8.0  # over which brightness varies
_DEEPEST_UM = 1.0  # blur by what lies above and below, of the inside of cells


def draw_stains(
    cells: NDArray[np.int32], params: SimulationParams, um_per_px: float, rng: np.random.Generator
) -> dict[str, NDArray[np.uint16]]:
    """Return images ``(h, w)`` by channel: ``"membrane"`` and ``"interior"``, those whose contrast is not 0.

    Parameters
    ----------
    cells
        ``(h, w)`` ids of the true cells.
    params
        ``membrane_contrast`` and ``interior_contrast``: brightness relative to the background.
    um_per_px
        Side of a pixel in um.
    rng
        Source of randomness.
    """
    for_membrane, for_interior = rng.spawn(2)
    out = {}
    if params.membrane_contrast > 0:
        out["membrane"] = _membrane(cells, params.membrane_contrast, um_per_px, for_membrane)
    if params.interior_contrast > 0:
        out["interior"] = _interior(cells, params.interior_contrast, um_per_px, for_interior)
    return out


def _membrane(
    cells: NDArray[np.int32], contrast: float, um_per_px: float, rng: np.random.Generator
) -> NDArray[np.uint16]:
    edge = find_boundaries(cells)
    of_cell = rng.lognormal(0.0, 0.4, int(cells.max()) + 1).astype(np.float32)
    bright = edge * of_cell[cells] * np.exp(0.5 * _cloud(cells.shape, _PATCH_UM / um_per_px, rng))
    gap_level = np.quantile(gaps := _cloud(cells.shape, _GAP_UM / um_per_px, rng), _GAPS)
    bright[gaps < gap_level] = 0
    return _seen(gaussian_filter(bright, _BLUR_UM / um_per_px) * 2, contrast, um_per_px, rng)


def _interior(
    cells: NDArray[np.int32], contrast: float, um_per_px: float, rng: np.random.Generator
) -> NDArray[np.uint16]:
    of_cell = rng.lognormal(0.0, 0.5, int(cells.max()) + 1).astype(np.float32)
    of_cell[0] = 0
    return _seen(gaussian_filter(of_cell[cells], _DEEPEST_UM / um_per_px), contrast, um_per_px, rng)


def _seen(
    signal: NDArray[np.float32], contrast: float, um_per_px: float, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return what a camera makes of a signal over an uneven background."""
    background = np.maximum(1 + 0.4 * _cloud(signal.shape, _PATCH_UM / um_per_px, rng), 0.1)
    image = _BACKGROUND * (background + contrast * signal)
    image += 2 * np.sqrt(image) * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.clip(image + _DARK, 0, 65535).astype(np.uint16)


def _cloud(shape: tuple[int, ...], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth random field of mean 0 and standard deviation 1."""
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), size, mode="wrap")
    return field * np.float32(2 * np.sqrt(np.pi) * size)
