"""Straight edges of cells, which segmentation in tiles leaves where a tile's border cuts a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numba import njit

from ucs._evaluation.arguments import checked_image, rasters_of
from ucs._kernels.labels.ids import densify

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from ucs._evaluation.tissue import Tissue

CUT_RATIO = 0.75
"""Lowest ``straight_ratio`` of cells that count as cut: half a disc has 1.4, a square 0.89, a disc of 10 pixels 0.3."""


def seams(labels: ArrayLike | str, *, sdata: SpatialData | Tissue | None = None) -> pd.DataFrame:
    """Return the longest straight stretch of the boundary of each cell, along a row or a column of pixels.

    Cells that the border of a tile has cut have far longer ones than others, and all on the same lines. The border of
    the raster does not count.

    Parameters
    ----------
    labels
        Label image ``(H, W)``, integers, 0 = background; or the key of an element of ``sdata``. The array on which the
        cells were made is more exact than a key: :class:`Tissue` samples the element on its own raster, on which edges
        of a rotated element are not straight.
    sdata
        Object, or :class:`Tissue`, that has the key.

    Returns
    -------
    One row per cell (the index, ``cell_id``) with

    - ``straight_px``: length of the stretch in pixels,
    - ``straight_ratio``: this length over the equivalent diameter ``sqrt(4 area / pi)``,
    - ``straight_share``: this length over that of the whole boundary (in pixel edges, without the raster's border),
    - ``orientation``: ``"horizontal"`` or ``"vertical"``; ``position``: the line on which the stretch lies, line k
      being the edge between the rows or columns k - 1 and k. Many cells on one line are a seam.

    Raises
    ------
    ValueError
        If the labels are no 2D array of ids.
    TypeError
        If a key is given without ``sdata``, or an array with it.

    References
    ----------
    ``straight_ratio`` corresponds to ``max_straight_edge_ratio`` times ``cardinal_alignment_score`` (the ``cut_score``)
    of ``squidpy.experimental.tl.calculate_tiling_qc``, which allows for slanted and slightly bent edges.

    Examples
    --------
    >>> import numpy as np
    >>> seams(np.array([[0, 0, 0, 0], [0, 5, 5, 0], [0, 5, 5, 0], [0, 0, 0, 0]]))["straight_ratio"].round(2).tolist()
    [0.89]
    """
    ((image, names, _),) = rasters_of([labels], sdata)
    dense, ids = densify(checked_image(image, "labels"))
    return seams_of(dense, ids if names is None else names)


def seams_of(dense: NDArray[np.int32], ids: NDArray) -> pd.DataFrame:
    """Return the straight edges of cells with dense ids; see :func:`seams`."""
    longest = np.zeros((len(ids) + 1, 3), dtype=np.int64)
    edges = np.zeros(len(ids) + 1, dtype=np.int64)
    area = np.bincount(dense.ravel(), minlength=len(ids) + 1)[1:]
    _scan(np.ascontiguousarray(dense), longest, edges)
    length, orientation, position = longest[1:].T
    with np.errstate(invalid="ignore", divide="ignore"):
        share = length / edges[1:]
    return pd.DataFrame(
        {
            "straight_px": length,
            "straight_ratio": length / np.sqrt(4 * area / np.pi),
            "straight_share": share,
            "orientation": pd.Categorical.from_codes(orientation, ["horizontal", "vertical"]),
            "position": position,
        },
        index=pd.Index(ids, name="cell_id"),
    )


@njit(cache=True, nogil=True)
def _scan(labels: NDArray, longest: NDArray, edges: NDArray) -> None:
    """Enter the longest stretch of each id (length, orientation, line) and the number of its pixel edges."""
    h, w = labels.shape
    for i in range(1, h):
        above = below = 0
        for j in range(w):
            up, down = labels[i - 1, j], labels[i, j]
            differ = up != down
            # A stretch continues where the cell on this side is the one that had the previous edge.
            above = above + 1 if differ and above > 0 and labels[i - 1, j - 1] == up else int(differ)
            below = below + 1 if differ and below > 0 and labels[i, j - 1] == down else int(differ)
            if differ:
                _enter(longest, edges, up, above, 0, i)
                _enter(longest, edges, down, below, 0, i)
    left_of, right_of = np.zeros(w, np.int64), np.zeros(w, np.int64)
    for i in range(h):
        for j in range(1, w):
            left, right = labels[i, j - 1], labels[i, j]
            if left == right:
                left_of[j] = right_of[j] = 0
                continue
            left_of[j] = left_of[j] + 1 if left_of[j] > 0 and labels[i - 1, j - 1] == left else 1
            right_of[j] = right_of[j] + 1 if right_of[j] > 0 and labels[i - 1, j] == right else 1
            _enter(longest, edges, left, left_of[j], 1, j)
            _enter(longest, edges, right, right_of[j], 1, j)


@njit(cache=True, nogil=True)
def _enter(longest: NDArray, edges: NDArray, c: int, length: int, orientation: int, line: int) -> None:
    edges[c] += 1
    if c > 0 and length > longest[c, 0]:
        longest[c, 0], longest[c, 1], longest[c, 2] = length, orientation, line
