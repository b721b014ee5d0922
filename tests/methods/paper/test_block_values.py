from __future__ import annotations

import numpy as np
import pytest
from rasters import block_values

from ucs._kernels.lattice import BLOCK, count_blocks
from ucs.methods.paper.inference import BlockValues


@pytest.mark.parametrize("shape", [(1, 1), (BLOCK, BLOCK), (BLOCK + 1, BLOCK - 1), (3 * BLOCK - 5, 2 * BLOCK + 7)])
def test_of_a_raster_and_back(shape):
    raster = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values = block_values(raster)
    assert values.index.shape == (1, np.prod(count_blocks(shape)))
    np.testing.assert_array_equal(values.raster(), raster)


def test_a_block_lies_where_its_number_says():
    shape = (2 * BLOCK + 3, 3 * BLOCK)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    values = block_values((rows * 1000 + columns).astype(np.float32))
    assert count_blocks(shape) == (3, 3)
    for k in range(9):
        block = values.blocks[values.index[0, k]]
        assert block[0, 0] == (k // 3) * BLOCK * 1000 + (k % 3) * BLOCK
        assert block[2, 5] == block[0, 0] + 2005


def test_several_models_on_the_blocks_they_were_asked_for():
    shape = (BLOCK + 10, 2 * BLOCK)
    asked = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
    values = BlockValues.empty(shape, asked)
    assert values.blocks.shape == (4, BLOCK, BLOCK)
    np.testing.assert_array_equal(values.index, [[0, -1, -1, 1], [-1, -1, -1, -1], [2, 3, -1, -1]])
    values.blocks[:] = np.arange(1, 5)[:, None, None]
    corners = np.array([[0, 0], [0, BLOCK], [BLOCK, 0], [BLOCK, BLOCK]]).T
    for model, expected in enumerate([[1, -9, -9, 2], [-9, -9, -9, -9], [3, 4, -9, -9]]):
        raster = values.raster(model, fill=-9)
        assert raster.shape == shape
        np.testing.assert_array_equal(raster[tuple(corners)], expected)
