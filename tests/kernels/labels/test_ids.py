from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ucs._kernels.labels import ids as module
from ucs._kernels.labels.ids import densify, ids_in, pixels_of_ids

shapes = st.sampled_from([(0,), (7,), (3, 4), (0, 5), (2, 3, 2)])


@st.composite
def labels(draw):
    """Few ids of any size that an integer type holds, 0 among them, in any shape."""
    dtype = np.dtype(draw(st.sampled_from(["uint8", "int16", "int32", "uint32", "int64", "uint64"])))
    shape = draw(shapes)
    highest = np.iinfo(dtype).max
    several = st.integers(0, min(300, highest)) | st.integers(0, highest)
    pool = [0, *draw(st.lists(several, min_size=1, max_size=5))]
    return np.array(draw(st.lists(st.sampled_from(pool), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))),
                    dtype=dtype).reshape(shape)  # fmt: skip


def ids_oracle(values):
    return sorted({int(value) for value in values.ravel()} - {0})


@pytest.mark.parametrize("table_limit", [2**26, 2**6])  # by table, and without one
@given(values=labels())
def test_densify(table_limit, values):
    before = values.copy()
    limit, module._TABLE_LIMIT = module._TABLE_LIMIT, table_limit
    try:
        found, (dense, ids) = ids_in(values), densify(values)
    finally:
        module._TABLE_LIMIT = limit
    expected = ids_oracle(values)
    assert found.tolist() == ids.tolist() == expected
    assert (found.dtype, dense.dtype, dense.shape) == (values.dtype, np.int32, values.shape)
    number = {value: k for k, value in enumerate(expected, start=1)} | {0: 0}
    assert dense.ravel().tolist() == [number[int(value)] for value in values.ravel()]
    np.testing.assert_array_equal(np.concatenate([np.zeros(1, values.dtype), ids])[dense], values)
    np.testing.assert_array_equal(values, before)
    overwritten, ids = densify(values, overwrite=True)
    assert (overwritten.dtype, ids.tolist()) == (np.int32, expected)
    np.testing.assert_array_equal(overwritten, dense)


@pytest.mark.parametrize("make", [lambda labels: labels.astype(">i4"), lambda labels: labels.T])
def test_what_cannot_be_overwritten_is_not(make):
    labels = make(np.array([[7, 0, 9], [9, 9, 3]], dtype=np.int32))
    dense, ids = densify(labels, overwrite=True)
    assert ids.tolist() == [3, 7, 9]
    np.testing.assert_array_equal(np.append(0, ids)[dense], make(np.array([[7, 0, 9], [9, 9, 3]], dtype=np.int32)))


@given(hnp.arrays(np.int32, (5, 7), elements=st.integers(0, 6)))
def test_pixels_of_ids(values):
    assert pixels_of_ids(values, 8).tolist() == [int((values == k).sum()) for k in range(9)]


def test_ids_beyond_32_bits():
    values = np.array([[0, 2**40], [2**31, 5]])
    dense, ids = densify(values)
    assert dense.tolist() == [[0, 3], [2, 1]]
    assert ids.tolist() == [5, 2**31, 2**40]
    top = np.array([2**64 - 1, 0, 2**63], dtype=np.uint64)
    assert densify(top)[0].tolist() == [2, 0, 1]


@pytest.mark.parametrize("wrong", [-1, 3])
def test_pixels_of_other_ids(wrong):
    with pytest.raises(ValueError, match=r"Ids must lie within 0 and n = 2, but they lie within"):
        pixels_of_ids(np.array([[0, 2, wrong]], dtype=np.int32), 2)


@pytest.mark.parametrize("function", [ids_in, densify])
@pytest.mark.parametrize("highest", [3, 2**40])
def test_negative_ids(function, highest):
    with pytest.raises(ValueError, match=r"negative ids \(lowest -2\); ids must be 0 \(background\) or above"):
        function(np.array([1, -2, 0, highest]))
