"""The paper's rule: foreground that no cell covers, in parts as large as a nucleus."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from ucs.methods.missing import paper_rule as module
from ucs.methods.missing.paper_rule import find_by_foreground


def scene(shape=(80, 120)):
    """Nuclei of 8 x 8 px in cells of 14 x 14, and foreground everywhere in cells."""
    nuclei, cells = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    for k, column in enumerate((10, 60), start=1):
        nuclei[10:18, column : column + 8] = k
        cells[7:21, column - 3 : column + 11] = k
    foreground = np.where(cells > 0, 255, 10).astype(np.uint8)
    return foreground, cells, nuclei


def square(foreground, row, column, side, value=255):
    foreground[row : row + side, column : column + side] = value


def test_foreground_in_cells_is_no_missing_nucleus():
    assert not find_by_foreground(*scene()).any()


def test_a_part_outside_the_cells_is_one():
    foreground, cells, nuclei = scene()
    square(foreground, 40, 30, 9)
    found = find_by_foreground(foreground, cells, nuclei)
    assert found.max() == 1
    assert (found > 0).sum() >= 0.9 * 81
    assert not found[(cells > 0) | (nuclei > 0)].any()


@pytest.mark.parametrize(("side", "value", "n"), [(9, 240, 0), (9, 243, 1), (5, 255, 0), (6, 255, 1)])
def test_it_needs_confidence_and_size(side, value, n):
    """Above 0.95, and half the area of the median nucleus (64 px)."""
    foreground, cells, nuclei = scene()
    square(foreground, 40, 30, side, value)
    assert find_by_foreground(foreground, cells, nuclei).max() == n


def test_rims_of_cells_are_opened_away():
    foreground, cells, nuclei = scene()
    foreground[5:23, 5:23] = 255  # 2 px around the first cell
    assert not find_by_foreground(foreground, cells, nuclei).any()


@pytest.mark.parametrize("rows", [7, 30, 1024])
def test_bands_and_chunks_have_no_say(monkeypatch, rows):
    random = np.random.default_rng(0)
    foreground, cells, nuclei = scene()
    for row, column in zip(random.integers(0, 70, 12), random.integers(0, 110, 12), strict=True):
        square(foreground, row, column, int(random.integers(4, 12)))
    expected = find_by_foreground(foreground, cells, nuclei)
    monkeypatch.setattr(module, "_ROWS", rows)
    chunked = zarr.array(foreground, chunks=(32, 32)), zarr.array(cells, chunks=(32, 32))
    np.testing.assert_array_equal(find_by_foreground(*chunked, nuclei), expected)
    assert expected.max() > 2
