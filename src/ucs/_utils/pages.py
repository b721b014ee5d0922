"""Arrays whose memory goes back to the system as soon as they are deleted."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


def own_pages(n: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return an array whose memory goes back to the system when it is deleted.

    Of many arrays of some MB that are deleted while larger ones are made, allocators keep most.
    """
    n_bytes = n * np.dtype(dtype).itemsize
    if n_bytes < mmap.PAGESIZE:
        return np.zeros(n, dtype=dtype)
    return np.frombuffer(mmap.mmap(-1, n_bytes), dtype=dtype)


def in_own_pages(array: NDArray, dtype: DTypeLike) -> NDArray[Any]:
    """Return a copy of a flat array as :func:`own_pages` makes them."""
    copy = own_pages(len(array), dtype)
    copy[:] = array
    return copy
