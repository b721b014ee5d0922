"""Drawing simulated cells: from outlines to a raster in which every cell is in one piece."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from skimage.measure import label as connected_components

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Outlines:
    """Ellipses with waves, one per cell: arrays of shape ``(n,)``, lengths in um, angles in radians.

    The radius in direction ``phi`` (in the frame of the ellipse scaled to a circle) is ``1 + sum of waves`` times the
    ellipse's; ``waves`` has shape ``(n, 4)``: cosine and sine amplitude of the second and third harmonic.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    major: NDArray[np.float64]
    minor: NDArray[np.float64]
    angle: NDArray[np.float64]
    waves: NDArray[np.float64]

    def moved(self, dx: NDArray[np.float64], dy: NDArray[np.float64]) -> Outlines:
        """Return the same outlines elsewhere."""
        return replace(self, x=self.x + dx, y=self.y + dy)


def draw(outlines: Outlines, shape: tuple[int, int], um_per_px: float) -> NDArray[np.int32]:
    """Return the raster of ids 1..n; a pixel within several outlines goes to the one inside which it lies deepest."""
    owner = np.zeros(shape, np.int32)
    depth = np.zeros(shape, np.float32)
    o = outlines
    _draw_kernel(owner, depth, o.x, o.y, o.major, o.minor, np.cos(o.angle), np.sin(o.angle), o.waves, um_per_px)
    return owner


@njit(cache=True, nogil=True)
def _draw_kernel(
    owner: NDArray[np.int32],
    depth: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    major: NDArray[np.float64],
    minor: NDArray[np.float64],
    cos: NDArray[np.float64],
    sin: NDArray[np.float64],
    waves: NDArray[np.float64],
    um_per_px: float,
) -> None:
    height, width = owner.shape
    for k in range(x.size):
        radius = np.sqrt(major[k] * minor[k])
        bulge = 1 + np.abs(waves[k]).sum()
        reach_x = bulge * np.hypot(major[k] * cos[k], minor[k] * sin[k])
        reach_y = bulge * np.hypot(major[k] * sin[k], minor[k] * cos[k])
        top, bottom = int((y[k] - reach_y) / um_per_px), int((y[k] + reach_y) / um_per_px) + 1
        left, right = int((x[k] - reach_x) / um_per_px), int((x[k] + reach_x) / um_per_px) + 1
        for i in range(max(top, 0), min(bottom, height)):
            dy = (i + 0.5) * um_per_px - y[k]
            for j in range(max(left, 0), min(right, width)):
                dx = (j + 0.5) * um_per_px - x[k]
                u = (dx * cos[k] + dy * sin[k]) / major[k]
                v = (dy * cos[k] - dx * sin[k]) / minor[k]
                rho = np.sqrt(u * u + v * v)
                limit = 1.0
                if rho > 0:
                    c, s = u / rho, v / rho  # harmonics from powers: no arctangent per pixel
                    limit += waves[k, 0] * (c * c - s * s) + waves[k, 1] * 2 * s * c
                    limit += waves[k, 2] * c * (4 * c * c - 3) + waves[k, 3] * s * (3 - 4 * s * s)
                inside = (1 - rho / limit) * radius
                if inside > depth[i, j]:
                    depth[i, j], owner[i, j] = inside, k + 1


def keep_whole(cells: NDArray[np.int32], nuclei: NDArray[np.int32], n: int, min_nucleus_px: float) -> NDArray[np.intp]:
    """Make cells connected and whole, in place, and return the indices of those kept, in the order of their new ids.

    Nuclei go to their own cell; pieces that neighbours have cut off are dropped; cells without a nucleus too.
    """
    _largest_piece(nuclei, n)
    keep = np.flatnonzero(np.bincount(nuclei.ravel(), minlength=n + 1)[1:] >= min_nucleus_px)
    new_id = np.zeros(n + 1, np.int32)
    new_id[keep + 1] = np.arange(1, keep.size + 1)
    np.take(new_id, nuclei, out=nuclei)
    np.take(new_id, cells, out=cells)
    np.copyto(cells, nuclei, where=nuclei > 0)
    _largest_piece(cells, keep.size)
    np.copyto(cells, nuclei, where=nuclei > 0)
    return keep


def _largest_piece(labels: NDArray[np.int32], n: int) -> None:
    """Set to background, in place, all but the largest connected piece of every label."""
    pieces = connected_components(labels, connectivity=1)
    size = np.bincount(pieces.ravel())
    size[0] = 0
    owner = np.zeros(size.size, np.int64)
    owner[pieces.ravel()] = labels.ravel()
    order = np.lexsort((size, owner))
    last = np.flatnonzero(np.diff(owner[order], append=n + 1))  # the largest of each owner
    is_largest = np.zeros(size.size, bool)
    is_largest[order[last]] = True
    labels[~is_largest[pieces]] = 0
