"""Reader of Stereo-seq gene expression matrices as HDF5 (GEF), square bins."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ucs._utils.checks import check_positive, listed
from ucs._utils.log import logger
from ucs._utils.progress import progress_bar
from ucs.io._partitions import COUNT, GENE, MOST_GENES, GeneCodes, PartitionWriter, cache_folder, to_sdata

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import h5py
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from spatialdata.transformations import BaseTransformation

_GENE_FIELDS = ("geneName", "gene", "geneID")  # "gene" up to version 3 of the format, then id and name
_DAMAGED = (OSError, RuntimeError, KeyError, TypeError, AttributeError, OverflowError)  # how HDF5 says so
_LARGEST_RATIO = 2000  # of what a dataset declares to the file's size; deflate reaches 1032
_LONGEST_ROW, _LARGEST_CHUNK = 1 << 12, 1 << 28  # bytes that are read at once at least
_ADVICE = "needed are geneExp/bin<N>/expression (x, y, count) and geneExp/bin<N>/gene (a name, offset, count)"


def read_gef(
    path: str | os.PathLike,
    bin_size: int = 1,
    *,
    points_key: str | None = None,
    um_per_unit: float | None = None,
    gene_field: str | None = None,
    transformations: Mapping[str, BaseTransformation] | None = None,
    chunk_rows: int = 2_000_000,
    cache: str | os.PathLike | None = None,
    progress: bool = True,
) -> SpatialData:
    """Return one bin size of a Stereo-seq GEF file (square bins) as points.

    Positions are kept as stored, in DNBs for any bin size: a row at (x, y) represents the square
    ``[x, x + bin_size) x [y, y + bin_size)``, and pixels of the registered image have the same coordinates. The offset
    from the chip's coordinates (``minX``, ``minY``) is stored in ``attrs["stereoseq"]["offset"]``.

    :func:`spatialdata_io.stereoseq` reads the same file as one point per bin with the genes in a table; this function
    keeps the genes with their positions, as segmentation needs them.

    Parameters
    ----------
    path
        The file, e.g. ``*.tissue.gef`` or ``*.raw.gef``; a cell-binned GEF holds no positions of single DNBs.
    bin_size
        Side of the bins in DNBs; must be in the file.
    points_key
        Name of the points element; ``"bin1_genes"`` (for bin size 1) if None, as in :func:`spatialdata_io.stereoseq`.
    um_per_unit
        Distance of neighbouring DNBs in um, stored in ``attrs["stereoseq"]``; if None, that of the file, or 0.5.
    gene_field
        ``"geneID"`` or ``"geneName"`` if the file has both. Names are preferred; ids with the same name become one
        gene.
    transformations
        Transformations of the points; ``{"global": Identity()}`` if None.
    chunk_rows, cache, progress
        As in :func:`ucs.io.read_gem`.

    Returns
    -------
    Object with one points element, a Dask DataFrame: ``gene`` (categories known, alphabetical, the same in all
    partitions; the feature key), ``x``, ``y``, ``count`` and, where the file has it, ``exon_count``, all int32.

    Raises
    ------
    FileNotFoundError, FileExistsError
        If the file does not exist, or ``cache`` exists.
    ValueError
        If the file is not a GEF or truncated, does not hold the bin size, has no rows, or contradicts itself, or if a
        position is negative.
    """
    import h5py

    check_positive(chunk_rows, "chunk_rows")
    if um_per_unit is not None:
        check_positive(um_per_unit, "um_per_unit")
    path = Path(path)
    if not path.exists():
        msg = f"{path} does not exist."
        raise FileNotFoundError(msg)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        msg = f"{path} is not a GEF (HDF5) file, or it is cut short: {error}. A GEM (text) is for ucs.io.read_gem."
        raise ValueError(msg) from error
    genes = GeneCodes(path)
    n_molecules = 0
    with file, cache_folder(cache) as folder:
        with _readable(path):
            group = _find_bin(file, bin_size, path)
            attrs = _attributes(file, group, bin_size, um_per_unit)
        writer = PartitionWriter(genes, int(chunk_rows), folder)
        for rows in _read_rows(group, genes, gene_field, int(chunk_rows), path, progress=progress):
            writer.add(rows)
            n_molecules += int(rows[COUNT].sum(dtype=np.int64))
        writer.close()
    if bin_size > 1:
        logger.warning("%s: read bins of %d DNBs: cells need bin 1.", path.name, bin_size)
    points = writer.finish(None if cache is None else Path(cache).absolute())
    key = points_key or f"bin{bin_size}_genes"
    return to_sdata(points, key, transformations, attrs, n_molecules=n_molecules, source=path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise ``ValueError`` for whatever HDF5 says of a damaged file."""
    try:
        yield
    except _DAMAGED as error:
        msg = f"{path} is damaged: {error}. Fetch it again."
        raise ValueError(msg) from error


def _find_bin(file: h5py.File, bin_size: int, path: Path) -> h5py.Group:
    if not _is_inside(file, "geneExp", path):
        what = "a cell-binned GEF: read the square-bin one (*.tissue.gef)" if "cellBin" in list(file) else "no GEF"
        msg = f"{path} is {what}. It has {listed(file)}; {_ADVICE}."
        raise ValueError(msg)
    name = f"bin{bin_size}"
    if not _is_inside(file["geneExp"], name, path):
        msg = f"{path} does not hold {name!r}; it has {listed(file['geneExp'])}."
        raise ValueError(msg)
    group = file["geneExp"][name]
    for dataset, fields in (("expression", ("x", "y", "count")), ("gene", ("offset", "count")), ("exon", ())):
        there = None
        if _is_inside(group, dataset, path):
            _check_bounds(group[dataset], path)
            there = group[dataset].dtype.names or ()
        elif dataset == "exon":
            continue
        if there is None or not set(fields) <= set(there):
            msg = f"{path}: geneExp/{name}/{dataset} has {listed(there or ())}; {_ADVICE}."
            raise ValueError(msg)
    if len(group["expression"]) == 0:
        msg = f"{path}: geneExp/{name}/expression has no rows."
        raise ValueError(msg)
    return group


def _is_inside(group: h5py.Group, name: str, path: Path) -> bool:
    """Tell whether a group has a member, which must be in the file itself: links could lead to any other file."""
    import h5py

    if not isinstance(group, h5py.Group):
        msg = f"{path}: {group.name} is no group; {_ADVICE}."
        raise ValueError(msg)
    link = group.get(name, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        msg = f"{path}: {group.name.rstrip('/')}/{name} is a link to {link.path!r}; links are not followed."
        raise ValueError(msg)
    return link is not None


def _check_bounds(dataset: h5py.Dataset, path: Path) -> None:
    """Raise ``ValueError`` unless the values of a dataset are in the file, and it can hold as many as it declares."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1:
        msg = f"{path}: {dataset.name} is no list of rows; {_ADVICE}."
        raise ValueError(msg)
    if dataset.is_virtual or dataset.external:
        msg = f"{path}: the values of {dataset.name} are in other files, which are not read. Make a file that has them."
        raise ValueError(msg)
    kind = dataset.dtype
    size = path.stat().st_size
    in_chunk = kind.itemsize * (dataset.chunks or (1,))[0]
    if kind.hasobject or kind.itemsize > _LONGEST_ROW or in_chunk > _LARGEST_CHUNK:
        msg = f"{path}: rows of {dataset.name} have no fixed or too many bytes ({kind}, chunks of {in_chunk} bytes)."
        raise ValueError(msg)
    if dataset.nbytes > _LARGEST_RATIO * size:
        msg = (
            f"{path}: {dataset.name} declares {dataset.nbytes} bytes, more than a file of {size} bytes can hold; it is "
            "damaged, or cut short."
        )
        raise ValueError(msg)


def _attributes(file: h5py.File, group: h5py.Group, bin_size: int, um_per_unit: float | None) -> dict[str, object]:
    """Return the metadata of the file as plain Python values."""
    stated = group["expression"].attrs

    def number(name: str) -> int | None:
        if name not in stated:
            return None
        try:
            return int(np.ravel(stated[name])[0])
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            msg = f"{file.filename}: {name!r} of {group.name}/expression is not a whole number: {error}."
            raise ValueError(msg) from error

    if um_per_unit is None:
        um_per_unit = (number("resolution") or 500) / 1000  # the file has nm, 0 if it does not know
    offset = [number("minX"), number("minY")]
    header = {name: _text(np.ravel(file.attrs[name])[0]) for name in ("version", "omics", "sn") if name in file.attrs}
    return {
        "bin_size": int(bin_size),
        "um_per_unit": float(um_per_unit),
        "offset": None if None in offset else offset,
        "header": header,
    }


def _text(value: object) -> str:
    """Return a fixed-length HDF5 string up to its first NUL, anything else as text."""
    return value.split(b"\0")[0].decode() if isinstance(value, bytes) else str(value)


def _read_rows(
    group: h5py.Group, genes: GeneCodes, gene_field: str | None, chunk_rows: int, path: Path, *, progress: bool
) -> Iterator[dict[str, NDArray]]:
    """Yield checked rows, ``chunk_rows`` at a time."""
    expression, exon = group["expression"].fields(["x", "y", "count"]), group.get("exon")
    n = len(expression)
    if exon is not None and len(exon) != n:
        msg = f"{path}: {group.name}/exon has {len(exon)} rows, expression {n}."
        raise ValueError(msg)
    code, ends = _genes_of_rows(group, genes, gene_field, path)
    with progress_bar(f"Reading {path.name}", "row", shown=progress) as done:
        for start in range(0, n, chunk_rows):
            stop = min(start + chunk_rows, n)
            try:
                records = expression[start:stop]
                exons = None if exon is None else exon[start:stop]
            except _DAMAGED as error:
                msg = f"{path} is truncated or damaged after {start} rows: {error}. Fetch it again; nothing was read."
                raise ValueError(msg) from error
            where = np.searchsorted(ends, np.arange(start, stop), side="right")
            rows = {GENE: code[where]}
            for name in ("x", "y", "count"):
                rows[COUNT if name == "count" else name] = _whole(records[name], name, path)
            if exons is not None:
                rows["exon_count"] = _whole(exons, "exon", path)
            yield rows
            done(stop, n)


def _whole(values: NDArray, name: str, path: Path) -> NDArray[np.int32]:
    if not np.issubdtype(values.dtype, np.integer) or values.ndim != 1:
        msg = f"{path}: {name!r} is of type {values.dtype}; it must hold whole numbers."
        raise ValueError(msg)
    low, high = values.min(), values.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        msg = f"{path}: {name!r} lies between {low} and {high}; it must lie between 0 and 2^31 - 1."
        raise ValueError(msg)
    return values.astype(np.int32)


def _genes_of_rows(
    group: h5py.Group, genes: GeneCodes, gene_field: str | None, path: Path
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the code of each gene of the file, and the end of its rows, which are sorted by gene."""
    if len(group["gene"]) > MOST_GENES:
        msg = f"{path}: {group.name}/gene has {len(group['gene'])} rows; at most {MOST_GENES} genes are read."
        raise ValueError(msg)
    with _readable(path):
        table = group["gene"][:]
    there = [name for name in table.dtype.names if name not in ("offset", "count")]
    field = gene_field or next((name for name in _GENE_FIELDS if name in there), None)
    if field not in there:
        looked_for = [gene_field] if gene_field else _GENE_FIELDS
        msg = (
            f"{path}: {group.name}/gene has no {listed(looked_for)}; it has {listed(there)}. Name it with gene_field=."
        )
        raise ValueError(msg)
    counts, offsets = table["count"].astype(np.int64), table["offset"].astype(np.int64)
    ends = np.cumsum(counts)
    n = len(group["expression"])
    if not np.array_equal(offsets, ends - counts) or (n and (len(ends) == 0 or ends[-1] != n)):
        msg = (
            f"{path}: offset and count of {group.name}/gene do not cover the {n} rows of expression one after the "
            "other; the file is damaged, or not written by SAW or geftools."
        )
        raise ValueError(msg)
    names = [_text(value) for value in table[field].tolist()]
    if "" in names:
        msg = f"{path}: {names.count('')} genes of {group.name}/gene have no {field!r}."
        raise ValueError(msg)
    return genes.of(names), ends
