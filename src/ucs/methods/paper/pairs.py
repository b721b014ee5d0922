"""Training pairs of the Cell Predict Net: (pixel, nucleus) with the softmask and a label (paper, equation 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.distances import signed_distance
from ucs.methods.paper.softmask import softmask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import Window


def training_pairs(
    nuclei: NDArray,
    boxes: NDArray,
    axes: NDArray[np.float64],
    background: NDArray[np.bool_],
    window: Window,
    *,
    tau: float,
    reach: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """List the labelled pairs of the nuclei that have a pixel in a window.

    Parameters
    ----------
    nuclei, boxes, axes
        ``(h, w)`` ids, their boxes and the axes of their softmasks, as in
        :func:`ucs.methods.paper.assign.assign_pixels`.
    background
        ``(a, b)`` of the window: pixels that the Foreground Predict Net calls background.
    window
        The patch, inside the raster.
    tau, reach
        As in :func:`ucs.methods.paper.assign.assign_pixels`, in pixels.

    Returns
    -------
    ``(pixel, nucleus, softmask, label)``: index of the pixel in the window (row-major), id, s, and 1 for a pixel of
    that nucleus or 0 for a background pixel.
    """
    inside = np.unique(nuclei[window.slices])
    inside = inside[inside > 0]
    return _pairs(nuclei, boxes, axes, background, window.row0, window.column0, inside, tau, reach)


@njit(cache=True, nogil=True)
def _pairs(
    nuclei: NDArray,
    boxes: NDArray,
    axes: NDArray,
    background: NDArray,
    row0: int,
    column0: int,
    ids: NDArray,
    tau: float,
    reach: int,
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    h, w = background.shape
    pixel = np.empty(len(ids) * h * w, dtype=np.int64)
    nucleus = np.empty(len(pixel), dtype=np.int64)
    mask = np.empty(len(pixel), dtype=np.float32)
    label = np.empty(len(pixel), dtype=np.float32)
    distance = np.empty((h, w), dtype=np.float64)
    n = 0
    for c in ids:
        signed_distance(nuclei, boxes[c], c, axes[c], row0, column0, distance, float(reach))
        for i in range(h):
            for j in range(w):
                own = nuclei[row0 + i, column0 + j] == c
                if own or (background[i, j] and distance[i, j] > -np.inf):
                    pixel[n] = i * w + j
                    nucleus[n] = c
                    mask[n] = softmask(distance[i, j], tau)
                    label[n] = 1.0 if own else 0.0
                    n += 1
    return pixel[:n].copy(), nucleus[:n].copy(), mask[:n].copy(), label[:n].copy()
