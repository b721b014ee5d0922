"""One number per pixel and model, kept on those blocks of the lattice only where the model was asked.

With one model per region, a raster for each would cost regions x pixels. A model is asked where its nuclei reach, so
all the blocks together are little more than one raster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.lattice import BLOCK, count_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class BlockValues:
    """Values of several models on a raster of shape ``(h, w)``.

    Attributes
    ----------
    shape
        ``(h, w)`` of the raster.
    index
        ``(n_models, n_blocks)`` int32: which of ``blocks`` holds the values of a model on a block of the lattice
        (row-major), -1 if none does.
    blocks
        ``(n, BLOCK, BLOCK)`` float32. What of a block lies beyond the raster is undefined.
    """

    shape: tuple[int, int]
    index: NDArray[np.int32]
    blocks: NDArray[np.float32]

    @classmethod
    def empty(cls, shape: tuple[int, int], asked: NDArray[np.bool_]) -> BlockValues:
        """Make room for the blocks ``asked`` for, ``(n_models, n_blocks)`` bool; they are numbered in that order."""
        index = np.where(asked, np.cumsum(asked.ravel()).reshape(asked.shape) - 1, -1).astype(np.int32)
        return cls(shape, index, np.zeros((int(asked.sum()), BLOCK, BLOCK), dtype=np.float32))

    def raster(self, model: int = 0, *, fill: float = 0.0) -> NDArray[np.float32]:
        """Return the values of one model, ``(h, w)``; ``fill`` where it was not asked."""
        rows, columns = count_blocks(self.shape)
        padded = np.full((rows, columns, BLOCK, BLOCK), fill, dtype=np.float32)
        index = self.index[model].reshape(rows, columns)
        padded[index >= 0] = self.blocks[index[index >= 0]]
        return padded.swapaxes(1, 2).reshape(rows * BLOCK, columns * BLOCK)[: self.shape[0], : self.shape[1]]
