"""Original and dense ids of label rasters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TABLE_LIMIT = 2**26
"""Ids below this are looked up in a table; a raster with larger ids is searched, which is slower but needs no table."""

_AT_ONCE = 1 << 20  # pixels that are renumbered in place at a time: bounds the memory of the copy


def ids_in(labels: NDArray) -> NDArray:
    """Return the ids above 0 that occur in a raster of any shape and integer type, ascending.

    Raises
    ------
    ValueError
        If an id is negative.
    """
    if labels.size == 0:
        return np.zeros(0, dtype=labels.dtype)
    lowest, highest = labels.min(), labels.max()
    if lowest < 0:
        msg = f"The labels have negative ids (lowest {lowest}); ids must be 0 (background) or above."
        raise ValueError(msg)
    if highest < _TABLE_LIMIT:
        occurs = np.zeros(int(highest) + 1, dtype=bool)
        occurs[labels.ravel()] = True
        occurs[0] = False
        return np.flatnonzero(occurs).astype(labels.dtype)
    values = np.unique(labels)
    return values[values > 0]


def densify(labels: NDArray, *, overwrite: bool = False) -> tuple[NDArray[np.int32], NDArray]:
    """Renumber a raster's ids to 1..n in ascending order.

    Parameters
    ----------
    labels
        Ids of any integer type, 0 = background, any shape.
    overwrite
        Whether the memory of the labels may be reused for the result.

    Returns
    -------
    ``(dense, ids)``: int32 of the same shape, and ``(n,)`` original ids of 1..n.

    Raises
    ------
    ValueError
        If an id is negative.
    """
    ids = ids_in(labels)
    if len(ids) and ids[-1] >= _TABLE_LIMIT:
        dense = np.searchsorted(ids, labels).astype(np.int32) + 1
        dense[labels == 0] = 0
        return dense, ids
    table = np.zeros(int(ids[-1]) + 1 if len(ids) else 1, dtype=np.int32)
    table[ids] = np.arange(1, len(ids) + 1)
    in_place = overwrite and labels.dtype.itemsize == 4 and labels.dtype.isnative and labels.flags.c_contiguous
    if not in_place:
        return table[labels], ids
    dense = labels.view(np.int32)
    flat = dense.reshape(-1)
    for first in range(0, len(flat), _AT_ONCE):
        part = flat[first : first + _AT_ONCE]
        part[:] = table[part]  # ids are below the limit of the table: as signed numbers they are the same
    return dense, ids


def renumbered(kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the table that gives ids 1..n the ids 1..m of those kept, in their order, and 0 to the others.

    Parameters
    ----------
    kept
        ``(n,)``, of the ids from 1 on.

    Returns
    -------
    ``(n + 1,)``, by id.
    """
    table = np.zeros(len(kept) + 1, dtype=np.int32)
    np.cumsum(kept, out=table[1:])
    table[1:][~kept] = 0
    return table


def pixels_of_ids(labels: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """Return the number of pixels of each id 0..n in a 2D raster, ``(n + 1,)``.

    Raises
    ------
    ValueError
        If an id is out of range.
    """
    out = np.zeros(n + 1, dtype=np.int64)
    if not _count(labels, out):
        msg = f"Ids must lie within 0 and n = {n}, but they lie within {labels.min()} and {labels.max()}."
        raise ValueError(msg)
    return out


@njit(cache=True, nogil=True)
def _count(labels: NDArray, out: NDArray) -> bool:
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            k = labels[i, j]
            if k < 0 or k >= len(out):
                return False
            out[k] += 1
    return True


def renumber(labels: NDArray[np.int32], n: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Number the ids that occur in labels anew from 1, in the same order.

    Returns
    -------
    ``(ids, local)``: ``(m + 1,)`` the old id of each new one, with 0 first, and the labels in new ids.
    """
    found = np.zeros(n + 1, dtype=np.int32)
    _mark(labels, found)
    found[0] = 0
    ids = np.concatenate([np.zeros(1, dtype=np.int32), np.flatnonzero(found).astype(np.int32)])
    found[ids] = np.arange(len(ids), dtype=np.int32)
    return ids, found[labels]


@njit(cache=True, nogil=True)
def _mark(labels: NDArray, found: NDArray) -> None:
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            found[labels[i, j]] = 1
