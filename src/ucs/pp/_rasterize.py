"""The transcript map as a lazy image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.transcripts import TranscriptMap, Window
from ucs._read.fields import find_fields
from ucs._read.sample import find_source
from ucs._read.transcripts import read_transcripts
from ucs._run.genes import choose_genes
from ucs._utils.checks import check_at_least

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._read.platforms import Platform


def rasterize(
    sdata: SpatialData,
    points_key: str | Sequence[str] | None = None,
    *,
    platform: str | Platform = "auto",
    coordinate_system: str | None = None,
    gene_key: str | None = None,
    resolution: float | None = None,
    um_per_unit: float | None = None,
    genes: str | int | Sequence[str] = "all",
    z_planes: Sequence[float] | float | None = None,
    tile_size: int = 256,
    gene_chunk: int | None = None,
) -> DataArray:
    """Return the transcript map: counts per gene and pixel, dense only where and when it is computed.

    The points are read once, into a sparse map; each chunk of the result is filled from it when computed.

    Parameters
    ----------
    sdata
        Object with the points.
    points_key
        Key of the transcripts, or several; found by itself if None.
    platform
        ``"auto"``, a name, or a platform.
    coordinate_system
        In which several elements with transcripts lie together; ``"global"`` or another that all share if None.
    gene_key
        Column with the gene of each transcript; found by itself if None.
    resolution
        Side of a pixel in um; the platform's if None.
    um_per_unit
        Length of the points' intrinsic unit in um; the platform's if None.
    genes
        Genes to count, as in :func:`ucs.tl.segment`: ``"all"``, ``"hvg"``, how many of these, names, or a pattern.
    z_planes
        Planes in z whose transcripts are counted, as numbered in the data; all if None.
    tile_size
        Side of a chunk in pixels.
    gene_chunk
        Number of genes in a chunk; all if None. A chunk takes 4 bytes per gene and pixel once it is computed.

    Returns
    -------
    Image ``(c, y, x)`` int32 with the genes chosen (alphabetical, without controls) as channels ``c`` and the
    transformations of the points composed with the grid's; it can be put into ``sdata.images``. Pixel (i, j) counts
    the transcripts in ``[x0 + j*r, x0 + (j+1)*r) x [y0 + i*r, y0 + (i+1)*r)``. The map G of the paper, "Preprocess".

    Raises
    ------
    KeyError, ValueError, MemoryError
        As :func:`ucs.tl.segment`, for what concerns the points and the genes.
    """
    import dask.array as da
    from spatialdata.models import Image2DModel

    check_at_least(tile_size, 1, "tile_size")
    tile_size = int(tile_size)
    if gene_chunk is not None:
        check_at_least(gene_chunk, 1, "gene_chunk")
    source = find_source(
        sdata,
        points_key,
        platform=platform,
        coordinate_system=coordinate_system,
        gene_key=gene_key,
        resolution=resolution,
        um_per_unit=um_per_unit,
        z_planes=z_planes,
    )
    transcripts = read_transcripts(
        sdata,
        source.elements,
        source.platform,
        resolution=source.resolution,
        um_per_unit=source.um_per_unit,
        fields=find_fields(sdata, source),
    )
    to_home, transformations = source.output_frame(sdata)
    chosen = choose_genes(genes, [transcripts])
    keep = np.isin(transcripts.genes + transcripts.controls, chosen)  # both in alphabetical order
    h, w = transcripts.grid.shape
    array = da.map_blocks(
        _dense_chunk,
        transcripts=transcripts.map.select(keep, np.cumsum(keep) - 1, len(chosen)),
        chunks=(_chunks(len(chosen), int(gene_chunk or len(chosen))), _chunks(h, tile_size), _chunks(w, tile_size)),
        dtype=np.int32,
        meta=np.empty((0, 0, 0), dtype=np.int32),
    )
    return Image2DModel.parse(
        array,
        dims=("c", "y", "x"),
        c_coords=list(chosen),
        chunks=array.chunks,
        transformations=transcripts.grid.transformations(transformations, to_home),
    )


def _chunks(size: int, tile_size: int) -> tuple[int, ...]:
    return tuple(min(tile_size, size - start) for start in range(0, size, tile_size))


def _dense_chunk(transcripts: TranscriptMap, block_info: dict | None = None) -> NDArray[np.int32]:
    if not block_info:
        return np.empty((0, 0, 0), dtype=np.int32)
    (gene0, gene1), (row0, row1), (column0, column1) = block_info[None]["array-location"]
    pixel_start, gene, count = transcripts.window(Window(row0, column0, row1, column1))
    pixel = np.repeat(np.arange(len(pixel_start) - 1), np.diff(pixel_start))
    wanted = (gene >= gene0) & (gene < gene1)
    out = np.zeros((gene1 - gene0, len(pixel_start) - 1), dtype=np.int32)
    out[gene[wanted] - gene0, pixel[wanted]] = count[wanted]
    return out.reshape(gene1 - gene0, row1 - row0, column1 - column0)
