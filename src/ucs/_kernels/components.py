"""Connected components: of pixels along edges, and of ids that are linked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


def lowest_connected(a: NDArray[np.integer], b: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    """Return the lowest of the ids that each of ``0..n - 1`` is linked with, directly or through others, ``(n,)``.

    ``a[k]`` and ``b[k]`` are the ends of link ``k``.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(n, n))
    _, component = connected_components(links, directed=False)
    _, lowest = np.unique(component, return_index=True)
    return lowest[component]


@njit(cache=True, nogil=True)
def flood(mask: NDArray, parts: NDArray, part: int, i: int, j: int, stack: NDArray) -> int:
    """Write ``part`` over the 4-connected part of ``mask`` that holds ``(i, j)``; return its number of pixels."""
    h, w = mask.shape
    size, top = 0, 0
    parts[i, j] = part
    stack[0] = i * w + j
    top = 1
    while top > 0:
        top -= 1
        y, x = stack[top] // w, stack[top] % w
        size += 1
        for a, b in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= a < h and 0 <= b < w and mask[a, b] and parts[a, b] == 0:
                parts[a, b] = part
                stack[top] = a * w + b
                top += 1
    return size
