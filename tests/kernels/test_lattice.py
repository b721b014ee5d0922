from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ucs._kernels.lattice import bounding_boxes, boxes_by_block

label_images = hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4))


@given(label_images, st.integers(0, 2))
def test_boxes_hold_the_ids(labels, more):
    n = int(labels.max()) + more
    boxes = bounding_boxes(labels, n)
    assert (boxes.shape, boxes.dtype) == ((n + 1, 4), np.int64)
    assert not boxes[0].any()
    for c, slices in enumerate(ndimage.find_objects(labels, n), start=1):
        if slices is None:
            assert not boxes[c].any()
        else:
            rows, columns = slices
            assert boxes[c].tolist() == [rows.start, columns.start, rows.stop, columns.stop]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_any_integer_type(dtype):
    labels = np.zeros((3, 4), dtype=dtype)
    labels[1, 2:] = 2
    assert bounding_boxes(labels, 2).tolist() == [[0] * 4, [0] * 4, [1, 2, 2, 4]]


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (4, 5)])
def test_no_labels(shape):
    assert bounding_boxes(np.zeros(shape, dtype=np.int32), 2).tolist() == [[0] * 4] * 3


def test_bad_input():
    labels = np.array([[0, 3], [-1, 0]])
    with pytest.raises(ValueError, match="within 0 and n = 3, but range from -1 to 3"):
        bounding_boxes(labels, 3)
    with pytest.raises(ValueError, match="n = 2, but range from 0 to 3"):
        bounding_boxes(labels.clip(0), 2)
    with pytest.raises(ValueError, match="n = 2"):
        bounding_boxes(np.array([[2**63 + 1]], dtype=np.uint64), 2)
    with pytest.raises(ValueError, match="2-D integer raster, not 1-D int64"):
        bounding_boxes(labels[0], 3)
    with pytest.raises(ValueError, match="not 2-D float64"):
        bounding_boxes(labels.astype(float), 3)


@given(label_images, st.integers(0, 6), st.integers(1, 5))
def test_each_block_has_the_boxes_in_reach(labels, reach, block):
    n = int(labels.max())
    boxes = bounding_boxes(labels, n)
    n_rows, n_columns = -(-labels.shape[0] // block), -(-labels.shape[1] // block)
    start, ids = boxes_by_block(boxes, reach, block, n_rows, n_columns)
    assert len(start) == n_rows * n_columns + 1
    assert start[-1] == len(ids)
    for k in range(n_rows * n_columns):
        row0, column0 = (k // n_columns) * block, (k % n_columns) * block
        grown = np.array([-reach, -reach, reach, reach]) + boxes
        expected = [
            c
            for c in range(1, n + 1)
            if boxes[c, 2] > 0
            and grown[c, 0] < row0 + block
            and grown[c, 2] > row0
            and grown[c, 1] < column0 + block
            and grown[c, 3] > column0
        ]
        assert ids[start[k] : start[k + 1]].tolist() == expected
