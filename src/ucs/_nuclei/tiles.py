"""Images read by windows and labels written by tiles, so that neither is held in memory as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ucs._nuclei.basins import block_means

if TYPE_CHECKING:
    import dask.array as da
    import zarr
    from numpy.typing import NDArray

    from ucs._kernels.labels.windows import Window

MOST_THREADS = 8
"""Windows that are processed at a time: each needs about ten rasters of its size."""


class FoundNuclei(NamedTuple):
    """Labels ``(y, x)`` uint32 with ids 1..n in the order of their first pixels, and the areas of the n in pixels."""

    labels: da.Array
    areas: NDArray[np.int64]


@dataclass(frozen=True)
class Raster:
    """An image ``(c, y, x)`` on Dask, read as means of blocks of ``factor x factor`` pixels.

    Attributes
    ----------
    image
        ``(c, h, w)``.
    factor
        Side of a block in pixels of the image; windows and the shape are in blocks.
    name
        Key of the image, for errors.
    """

    image: da.Array
    factor: int
    name: str

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in blocks."""
        h, w = self.image.shape[-2:]
        return -(-h // self.factor), -(-w // self.factor)

    def read(self, window: Window) -> NDArray:
        """Return the pixels under a window, ``(c, h, w)``, in the type of the image.

        Raises
        ------
        ValueError
            If a pixel is NaN or infinite.
        """
        f = self.factor
        rows, columns = slice(window.row0 * f, window.row1 * f), slice(window.column0 * f, window.column1 * f)
        # Without threads of Dask: windows are already distributed to threads.
        pixels = np.asarray(self.image[:, rows, columns].compute(scheduler="synchronous"))
        if pixels.dtype.kind == "f":
            n_bad = pixels.size - int(np.isfinite(pixels).sum())
            if n_bad:
                msg = (
                    f"images[{self.name!r}] has {n_bad} NaN or infinite pixels in rows {rows.start} to {rows.stop}, "
                    f"columns {columns.start} to {columns.stop}. Replace them by the background, e.g. with "
                    f"sdata[{self.name!r}] = image.fillna(0)."
                )
                raise ValueError(msg)
        return pixels

    def read_means(self, window: Window) -> NDArray[np.float32]:
        """Return the block means of the first channel, ``(h, w)``."""
        return block_means(np.ascontiguousarray(self.read(window)[0], dtype=np.float32), self.factor)


def new_store(shape: tuple[int, int], side: int, dtype: type) -> zarr.Array:
    """Return a raster of zeros, compressed in memory: labels take a few percent of their size."""
    import zarr

    return zarr.create_array(
        store=zarr.storage.MemoryStore(), shape=shape, chunks=(min(side, shape[0]), min(side, shape[1])), dtype=dtype,
        fill_value=0,
    )  # fmt: skip


def lazy_labels(store: zarr.Array, table: NDArray[np.uint32], factor: int, shape: tuple[int, int]) -> da.Array:
    """Return labels ``(h, w)`` uint32 on Dask: ids of a store looked up in a table, each pixel repeated to a block."""
    import dask.array as da

    # Not from_zarr, by which SpatialData recognises elements on disk.
    lazy = da.from_array(store, chunks=store.chunks, name=False)
    if factor == 1:
        return lazy.map_blocks(lambda block: table[block], dtype=np.uint32)
    chunks = tuple(tuple(factor * n for n in sizes) for sizes in lazy.chunks)
    enlarged = lazy.map_blocks(
        lambda block: table[block].repeat(factor, axis=0).repeat(factor, axis=1), dtype=np.uint32, chunks=chunks
    )
    return enlarged[: shape[0], : shape[1]]


def renumbering(first: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return a table from ids 0..n to 1..m for those kept, in the order of their first pixels, and 0 for others.

    Parameters
    ----------
    first
        ``(n + 1,)`` flat index of the first pixel of each id in raster order; that of 0 is ignored.
    kept
        ``(n + 1,)`` whether an id is kept.
    """
    ids = np.flatnonzero(kept)
    ids = ids[ids > 0]
    table = np.zeros(len(first), dtype=np.uint32)
    table[ids[np.argsort(first[ids], kind="stable")]] = np.arange(1, len(ids) + 1)
    return table


def count_pixels(
    labels: NDArray[np.uint32], window: Window, width: int, area: NDArray[np.int64], first: NDArray[np.int64]
) -> None:
    """Add a tile's pixels to the areas and first pixels (flat index in a raster of that width) of ids, in place."""
    flat = labels.ravel()
    pixel = np.flatnonzero(flat)
    ids, start, n = np.unique(flat[pixel], return_index=True, return_counts=True)
    area[ids] += n
    row, column = np.divmod(pixel[start], labels.shape[1])
    first[ids] = np.minimum(first[ids], (row + window.row0) * width + column + window.column0)
