"""The transcript map as a lazy image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._checks import check_at_least
from ucs._core.transcripts import TranscriptMap, Window
from ucs.pp._sample import find_source
from ucs.pp._transcripts import read_transcripts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._platforms import Platform


def rasterize(
    sdata: SpatialData,
    points_key: str | None = None,
    *,
    platform: str | Platform = "auto",
    gene_key: str | None = None,
    resolution: float | None = None,
    um_per_unit: float | None = None,
    tile_size: int = 256,
) -> DataArray:
    """Return the transcript map: counts per gene and pixel, dense only where and when it is computed.

    The points are read once, into a sparse map; each chunk of the result is filled from it when computed.

    Parameters
    ----------
    sdata
        Object with the points.
    points_key
        Key of the transcripts; found by itself if None.
    platform
        ``"auto"``, a name, or a platform.
    gene_key
        Column with the gene of each transcript; found by itself if None.
    resolution
        Side of a pixel in um; the platform's if None.
    um_per_unit
        Length of the points' intrinsic unit in um; the platform's if None.
    tile_size
        Side of a chunk in pixels; a chunk holds all genes.

    Returns
    -------
    Image ``(c, y, x)`` int32 with the genes (alphabetical, without controls) as channels ``c`` and the
    transformations of the points composed with the grid's; it can be put into ``sdata.images``. Pixel (i, j) counts
    the transcripts in ``[x0 + j*r, x0 + (j+1)*r) x [y0 + i*r, y0 + (i+1)*r)``. The map G of the paper, "Preprocess".

    Raises
    ------
    KeyError, ValueError, MemoryError
        As :func:`ucs.tl.segment`, for what concerns the points.
    """
    import dask.array as da
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import get_transformation

    check_at_least(tile_size, 1, "tile_size")
    tile_size = int(tile_size)
    source = find_source(
        sdata, points_key, platform=platform, gene_key=gene_key, resolution=resolution, um_per_unit=um_per_unit
    )
    points = sdata.points[source.points_key]
    transcripts = read_transcripts(
        points,
        source.columns,
        source.platform,
        resolution=source.resolution,
        um_per_unit=source.um_per_unit,
        name=source.points_key,
    )
    n_genes = len(transcripts.genes)
    h, w = transcripts.grid.shape
    array = da.map_blocks(
        _dense_chunk,
        transcripts=transcripts.map,
        n_genes=n_genes,
        chunks=((n_genes,), _chunks(h, tile_size), _chunks(w, tile_size)),
        dtype=np.int32,
        meta=np.empty((0, 0, 0), dtype=np.int32),
    )
    return Image2DModel.parse(
        array,
        dims=("c", "y", "x"),
        c_coords=list(transcripts.genes),
        chunks=array.chunks,
        transformations=transcripts.grid.transformations(get_transformation(points, get_all=True)),
    )


def _chunks(size: int, tile_size: int) -> tuple[int, ...]:
    return tuple(min(tile_size, size - start) for start in range(0, size, tile_size))


def _dense_chunk(transcripts: TranscriptMap, n_genes: int, block_info: dict | None = None) -> NDArray[np.int32]:
    if not block_info:
        return np.empty((0, 0, 0), dtype=np.int32)
    (_, (row0, row1), (column0, column1)) = block_info[None]["array-location"]
    return transcripts.dense(Window(row0, column0, row1, column1))[:n_genes]
