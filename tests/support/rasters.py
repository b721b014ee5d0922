"""Small rasters with known content, for the tests of the engine."""

from __future__ import annotations

import numpy as np

from ucs._kernels.lattice import BLOCK, count_blocks
from ucs._kernels.transcripts import TranscriptMap
from ucs.methods.paper.inference import BlockValues


def random_nuclei(seed, shape, n, *, radius=(1.0, 5.0)):
    """Up to `n` ellipses at random places, border included, ids 1..; later ones are cut by earlier ones, even in parts.

    Every third one has a bite taken out, which makes it non-convex.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    nuclei = np.zeros(shape, dtype=np.int32)
    for k in range(n):
        centre = rng.uniform(0, shape)
        axes = rng.uniform(*radius, size=2)
        angle = rng.uniform(0, np.pi)
        along = np.cos(angle) * (columns - centre[1]) + np.sin(angle) * (rows - centre[0])
        across = -np.sin(angle) * (columns - centre[1]) + np.cos(angle) * (rows - centre[0])
        inside = (along / axes[0]) ** 2 + (across / axes[1]) ** 2 <= 1
        if k % 3 == 0:
            inside &= ~((along > 0) & (np.abs(across) < axes[1] / 3))
        nuclei[inside & (nuclei == 0)] = nuclei.max() + 1
    return nuclei


def squared_distances(mask):
    """Squared distance from every pixel to the nearest one of `mask`, by trying all of them."""
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    best = np.full(mask.shape, 10**9)
    for i, j in np.argwhere(mask):
        np.minimum(best, (rows - i) ** 2 + (columns - j) ** 2, out=best)
    return best


def grid_of_discs(shape, spacing, radius):
    """Ids of discs on a square lattice, and where their centres are."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    k_row, k_column = rows // spacing, columns // spacing
    centre_row, centre_column = (k_row + 0.5) * spacing, (k_column + 0.5) * spacing
    distance = np.hypot(rows + 0.5 - centre_row, columns + 0.5 - centre_column)
    ids = k_row * (k_column.max() + 1) + k_column + 1
    return np.where(distance <= radius, ids, 0).astype(np.int32)


def random_map(seed, shape, n_features, n):
    """`n` transcripts anywhere, some in one place."""
    rng = np.random.default_rng(seed)
    return TranscriptMap.from_positions(
        rng.integers(0, shape[0], n),
        rng.integers(0, shape[1], n),
        rng.integers(0, n_features, n),
        rng.integers(1, 4, n),
        shape=shape,
        n_features=n_features,
    )


def map_from_dense(dense):
    """The map of a dense array of counts (n_features, h, w)."""
    feature, row, column = np.nonzero(dense)
    return TranscriptMap.from_positions(
        row, column, feature, dense[feature, row, column], shape=dense.shape[1:], n_features=len(dense)
    )


def block_values(raster):
    """A raster as the values of one model, on all blocks."""
    rows, columns = count_blocks(raster.shape)
    padded = np.zeros((rows * BLOCK, columns * BLOCK), dtype=np.float32)
    padded[: raster.shape[0], : raster.shape[1]] = raster
    blocks = padded.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
    return BlockValues(raster.shape, np.arange(rows * columns, dtype=np.int32)[None], np.ascontiguousarray(blocks))
