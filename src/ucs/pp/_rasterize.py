"""The transcript map as a lazy image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._read.lazy.extent import survey
from ucs._read.lazy.map import lazy_counts
from ucs._read.source import find_source
from ucs._run.genes import choose_genes, is_by_variability
from ucs._utils.checks import check_at_least
from ucs.options import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._read.platforms import Platform

# Options of reading without effect here.
_UNUSED = ("stain_keys", "genes_per_region", "outlier_um", "fuse_nuclei", "check_alignment")


def rasterize(
    sdata: SpatialData,
    points_key: str | Sequence[str] | None = None,
    *,
    platform: str | Platform = "auto",
    resolution: float | None = None,
    read: ReadOptions | Mapping[str, Any] | None = None,
    tile_size: int = 256,
    gene_chunk: int | None = None,
) -> DataArray:
    """Return the transcript map: counts per gene and pixel, read and dense only where and when it is computed.

    Of points that Dask reads from Parquet files, as those of a SpatialData store are, nothing but metadata is read at
    first: statistics tell where transcripts lie, dictionaries which genes there are. Where these do not suffice, all
    transcripts are read once, and a log line says why: if the points do not come from files or were changed since, if a
    column tells genes from controls (``is_gene`` of Xenium), or to choose by planes in z or the variability of genes.

    Each computation then reads those parts of the points that reach the chunks asked for, each of them once. It holds
    about 6 bytes per transcript of them, and one or two chunks per thread.

    Parameters
    ----------
    sdata
        Object with the points.
    points_key
        Key of the transcripts, or several; found by itself if None.
    platform
        ``"auto"``, a name, or a platform.
    resolution
        Side of a pixel in um; the platform's if None.
    read
        How the points are read: :class:`ucs.options.ReadOptions`, or a mapping of its fields but ``outlier_um`` and
        those of nuclei, stains and regions. ``genes`` are those to count.
    tile_size
        Side of a chunk in pixels.
    gene_chunk
        Number of genes in a chunk, which takes 4 bytes per gene and pixel; as many as make 32 MiB if None.

    Returns
    -------
    Image ``(c, y, x)`` int32 with the genes chosen (alphabetical, without controls) as channels ``c`` and the
    transformations of the points composed with the grid's; it can be put into ``sdata.images``. Pixel (i, j) counts
    the transcripts in ``[x0 + j*r, x0 + (j+1)*r) x [y0 + i*r, y0 + (i+1)*r)``. The map G of the paper, "Preprocess".

    ``x0`` and ``y0`` are multiples of ``r``, so that pixels are those of :func:`ucs.tl.segment`. Where only metadata
    were read, the image may be larger by an empty margin, because statistics include transcripts that are left out
    (of low quality, or seen in another field of view, too), and genes of which none is left are channels of zeros.

    Raises
    ------
    KeyError, TypeError, ValueError, MemoryError
        As :func:`ucs.tl.segment`, for what concerns the points and the genes. What is wrong with rows, such as a
        position that is NaN, is raised by the computation if only metadata were read.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=40, n_genes=5, seed=0)
    >>> image = ucs.pp.rasterize(sdata, resolution=1.0)
    >>> dict(image.sizes)
    {'c': 5, 'y': 41, 'x': 60}

    Counts by gene, and of all genes in a part of the tissue:

    >>> image.sum(("y", "x")).compute().to_series().to_dict()
    {'GENE0001': 288, 'GENE0002': 41, 'GENE0003': 5, 'GENE0004': 415, 'GENE0005': 659}
    >>> image.isel(y=slice(31, 33), x=slice(50, 56)).sum("c").to_numpy()
    array([[1, 2, 3, 3, 0, 0],
           [1, 2, 1, 2, 4, 5]])

    It can be kept as an image, which is computed chunk by chunk when it is written:

    >>> sdata["transcript_map"] = image
    """
    from spatialdata.models import Image2DModel

    check_at_least(tile_size, 1, "tile_size")
    if gene_chunk is not None:
        check_at_least(gene_chunk, 1, "gene_chunk")
        gene_chunk = int(gene_chunk)
    reading = ReadOptions.resolve_part(read, _UNUSED, "in ucs.pp.rasterize")
    source = find_source(
        sdata,
        points_key,
        platform=platform,
        coordinate_system=reading.coordinate_system,
        gene_key=reading.gene_key,
        resolution=resolution,
        um_per_unit=reading.um_per_unit,
        z_planes=reading.z_planes,
    )
    transcripts, partitions = survey(sdata, source, with_counts=is_by_variability(reading.genes))
    chosen = choose_genes(reading.genes, [transcripts])
    to_home, transformations = source.output_frame(sdata)
    array = lazy_counts(transcripts, partitions, chosen, tile_size=int(tile_size), gene_chunk=gene_chunk)
    return Image2DModel.parse(
        array,
        dims=("c", "y", "x"),
        c_coords=list(chosen),
        chunks=array.chunks,
        transformations=transcripts.grid.transformations(transformations, to_home),
    )
