"""Missing nuclei by the paper's rule: foreground that no cell covers, opened and closed, as large as a nucleus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.labels.ids import pixels_of_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.bands import Raster

LEAST_FOREGROUND = 0.95
"""Probability of lying in a cell above which a pixel may be of a missing one (paper)."""

_LEAST_AREA = 0.5  # of the median nucleus: the paper asks for "large enough to be a nucleus" without a number
_ROWS = 1024
_HALO = 8  # rows that opening and closing depend on


def find_by_foreground(foreground: Raster, cells: Raster, nuclei: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return missing nuclei, ``(h, w)`` ids 1..m, each a 4-connected part.

    Pixels with p_fg above 0.95 that no cell and no nucleus covers are opened and closed by the 5 x 5 ellipse of the
    paper's refinement, so that rims of cells go; parts of at least half the median nucleus' area are nuclei.

    Parameters
    ----------
    foreground
        ``(h, w)`` uint8, 255 times p_fg (paper, equation 1).
    cells, nuclei
        ``(h, w)`` ids.
    """
    from scipy.ndimage import binary_closing, binary_opening, label

    ellipse = np.ones((5, 5), dtype=bool)
    ellipse[[0, 0, -1, -1], [0, -1, 0, -1]] = False
    shape = nuclei.shape
    free = np.zeros(shape, dtype=bool)
    for row0 in range(0, shape[0], _ROWS):
        top, bottom = max(row0 - _HALO, 0), min(row0 + _ROWS + _HALO, shape[0])
        taken = (np.asarray(cells[top:bottom]) > 0) | (nuclei[top:bottom] > 0)
        mask = (np.asarray(foreground[top:bottom]) > 255 * LEAST_FOREGROUND) & ~taken
        mask = binary_closing(binary_opening(mask, ellipse), ellipse) & ~taken
        inner = slice(row0 - top, min(row0 + _ROWS, shape[0]) - top)
        free[row0 : row0 + _ROWS] = mask[inner]
    parts = np.zeros(shape, dtype=np.int32)
    n_parts = label(free, output=parts)
    sizes = np.bincount(nuclei[nuclei > 0])
    least = _LEAST_AREA * float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else np.inf
    kept = pixels_of_ids(parts, n_parts) >= least
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[parts]
