"""Simulated DAPI as it may come: blurred, noisy, unevenly lit, with nuclei that touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

OFFSET = 150.0  # what ucs.datasets.simulate adds to the signal
TISSUES: dict[str, dict[str, float]] = {
    # About half of the nuclei touch another.
    "touching": {
        "cells_per_mm2": 8500,
        "cell_area_um2": 95,
        "nucleus_area_um2": 45,
        "nucleus_offset": 0.8,
        "packing": 0.8,
    },
    "default": {},
    "large": {"cells_per_mm2": 2800, "cell_area_um2": 300, "nucleus_area_um2": 110, "nucleus_offset": 0.7},
    "small": {"cells_per_mm2": 14000, "cell_area_um2": 55, "nucleus_area_um2": 24, "nucleus_offset": 0.6},
    "spindle": {"spindle_share": 0.7, "spindle_aspect": 4.0, "nucleus_area_um2": 45},
    # Four of five touch, and many lie half under another.
    "heaped": {
        "cells_per_mm2": 9500,
        "cell_area_um2": 85,
        "nucleus_area_um2": 45,
        "nucleus_offset": 0.9,
        "packing": 0.6,
    },
}
FAST = {"n_genes": 2, "transcripts_per_cell": 1}  # nothing but the image is looked at


def degrade(
    image: NDArray[np.uint16],
    seed: int,
    *,
    um_per_px: float,
    blur_um: float = 0.6,
    dimmest: float = 0.35,
    haze: float = 300.0,
    photons: float = 0.03,
    read_noise: float = 25.0,
) -> NDArray[np.uint16]:
    """Return an image as a worse microscope would have taken it.

    Parameters
    ----------
    image
        ``(h, w)`` as :func:`ucs.datasets.simulate` makes it.
    seed
        Of the noise and of where the light is.
    um_per_px
        Side of a pixel in um.
    blur_um
        Standard deviation of the blur, on top of the 0.45 um that the image has.
    dimmest
        Illumination far from its centre, relative to that at its centre.
    haze
        Light from nowhere, in counts, lit like the rest; half of the nuclei's light is scattered over 8 um on top.
    photons
        Photons per count: 0.03 makes a signal-to-noise ratio of 8 in a pixel of a typical nucleus.
    read_noise
        Standard deviation of the camera's noise, in counts.
    """
    rng = np.random.default_rng(seed)
    height, width = image.shape
    row, column = np.mgrid[:height, :width]
    centre = rng.uniform(0.2, 0.8, 2)
    squared = (row / height - centre[0]) ** 2 + (column / width - centre[1]) ** 2
    light = dimmest + (1 - dimmest) * np.exp(-squared / 0.15)
    signal = np.maximum(ndimage.gaussian_filter(image.astype(np.float32) - OFFSET, blur_um / um_per_px), 0)
    signal = (signal + 0.5 * ndimage.gaussian_filter(signal, 8 / um_per_px) + haze * light) * light
    noisy = rng.poisson(signal * photons) / photons + rng.normal(100, read_noise, signal.shape)
    return np.clip(noisy, 0, 65535).astype(np.uint16)


def touching_share(labels: NDArray) -> float:
    """Return the share of labels that touch another one."""
    pairs = [
        (a[differ], b[differ])
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))
        if (differ := (a != b) & (a > 0) & (b > 0)).any()
    ]
    touching = np.unique(np.concatenate([side for pair in pairs for side in pair])) if pairs else np.zeros(0)
    return len(touching) / max(len(np.unique(labels)) - 1, 1)
