"""Arrays with pages of their own."""

from __future__ import annotations

import numpy as np
import pytest

from ucs._utils.pages import in_own_pages, own_pages


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_own_pages_are_an_array(n):
    array = own_pages(n, np.uint16)
    assert (array.dtype, array.shape) == (np.uint16, (n,))
    array[:] = 7
    assert (array == 7).all()
    np.testing.assert_array_equal(in_own_pages(np.arange(n, dtype=np.float64), np.int32), np.arange(n))
