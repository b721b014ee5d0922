"""Reader of Stereo-seq gene expression matrices as text (GEM)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ucs._utils.checks import check_positive, listed
from ucs._utils.log import logger
from ucs._utils.progress import progress_bar
from ucs.io._gem_header import GemHeader, damaged, find_columns, read_header
from ucs.io._partitions import CELL, COUNT, GENE, GeneCodes, PartitionWriter, cache_folder, to_sdata

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import pyarrow as pa
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from spatialdata.transformations import BaseTransformation

_BLOCK_BYTES = 4 << 20  # held at a time; a line that is longer is an error
_LARGEST = 2**31 - 1  # numbers are held as int32
_NO_CELL = frozenset({"", "NA", "N/A", "nan", "NaN", "None", "null", "NULL"})


def read_gem(
    path: str | os.PathLike,
    *,
    points_key: str | None = None,
    um_per_unit: float = 0.5,
    columns: Mapping[str, str | None] | None = None,
    transformations: Mapping[str, BaseTransformation] | None = None,
    chunk_rows: int = 2_000_000,
    cache: str | os.PathLike | None = None,
    progress: bool = True,
) -> SpatialData:
    """Return the rows of a Stereo-seq GEM file (text, plain or gzip-compressed) as points.

    The file is read in one pass, in chunks; the rows keep their order. Positions are taken as they are written: a row
    at (x, y) stands for the DNB that covers ``[x, x + 1) x [y, y + 1)``, which is also pixel (row y, column x) of the
    registered image (``*_regist.tif``), as :func:`spatialdata_io.stereoseq` has it. The vendor's ``OffsetX`` and
    ``OffsetY`` are what was subtracted from the chip's coordinates; they are not added again but kept in
    ``attrs["stereoseq"]["offset"]``: ``transformations={"chip": Translation(offset, axes=("x", "y"))}`` puts several
    crops of one chip side by side.

    Parameters
    ----------
    path
        The file. Lines starting with ``#`` come first, then the names of the columns, then one row per gene and DNB.
    points_key
        Name of the points element; ``"bin1_genes"`` (for bin size 1) if None, as in :func:`spatialdata_io.stereoseq`.
    um_per_unit
        Distance of neighbouring DNBs in um; stored in ``attrs["stereoseq"]``.
    columns
        Columns of the file for ``gene``, ``x``, ``y``, ``count``, ``exon_count`` and ``cell_id``, where they are not
        detected automatically or others are wanted. ``{"gene": "geneID"}``, for example, uses ids: names are preferred
        if a file has both, and ids with the same name become one gene. None omits an optional column.
    transformations
        Transformations of the points; ``{"global": Identity()}`` if None.
    chunk_rows
        Rows of a partition.
    cache
        New folder for the partitions as Parquet files, to which the points refer: reading then needs memory for one
        partition only. If None, they are held in memory, about 14 bytes per row (4 more for each optional column).
    progress
        Whether to show a progress bar.

    Returns
    -------
    Object with one points element, a Dask DataFrame: ``gene`` (categories known, alphabetical, the same in all
    partitions; the feature key), ``x``, ``y``, ``count`` and, where the file has them, ``exon_count`` and ``cell_id``
    (the instance key), all int32 (``cell_id`` int64). ``cell_id`` is 0 where the file has none, as in ``NA``; ids that
    are text are numbered from 1 on as they appear, and ``attrs["stereoseq"]["cell_names"]`` lists them.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, FileExistsError
        If the file does not exist, or ``cache`` exists.
    ValueError
        If the file is truncated or damaged, is not a GEM, lacks a column, has no rows, if a value is missing, negative
        or not a whole number (``1.0`` is one), or if ids of cells are numbers and text. Nothing is left in ``cache``
        then.
    """
    check_positive(um_per_unit, "um_per_unit")
    check_positive(chunk_rows, "chunk_rows")
    path = Path(path)
    header = read_header(path)
    found = find_columns(path, header, columns or {})
    if header.bin_size > 1:
        logger.warning("%s holds bins of %d DNBs: cells need bin 1.", path.name, header.bin_size)
    genes, cells = GeneCodes(path), _CellIds()
    n_molecules = 0
    with cache_folder(cache) as folder:
        writer = PartitionWriter(genes, int(chunk_rows), folder)
        for rows in _read_rows(path, header, found, genes, cells, progress=progress):
            writer.add(rows)
            n_molecules += int(rows[COUNT].sum(dtype=np.int64))
        writer.close()
        if writer.n_rows == 0:
            msg = f"{path} has a header, but no rows."
            raise ValueError(msg)
    points = writer.finish(None if cache is None else Path(cache).absolute())
    attrs = {
        "bin_size": header.bin_size,
        "um_per_unit": float(um_per_unit),
        "offset": header.offset,
        "header": header.annotations,
        **({"cell_names": cells.names} if cells.names else {}),
    }
    key = points_key or f"bin{header.bin_size}_genes"
    return to_sdata(points, key, transformations, attrs, n_molecules=n_molecules, source=path)


def _read_rows(
    path: Path, header: GemHeader, found: dict[str, str], genes: GeneCodes, cells: _CellIds, *, progress: bool
) -> Iterator[dict[str, NDArray]]:
    """Yield checked rows, a piece of the file at a time."""
    import pyarrow as pa

    n_rows = 0
    size = path.stat().st_size >> 20
    with pa.OSFile(str(path)) as file, progress_bar(f"Reading {path.name}", "MB", shown=progress) as done:
        try:
            for batch in _open_csv(file, header, found):
                rows = _to_arrays(batch, found, genes, cells, where=f"{path}, after row {n_rows}")
                n_rows += batch.num_rows
                yield rows
                done(file.tell() >> 20, size)
        except pa.ArrowInvalid as error:
            names = listed([found[name] for name in found if name != GENE])
            msg = (
                f"{path} is damaged or not a GEM file: {error}. {names} must hold whole numbers from 0 on, and no line "
                f"has more than {_BLOCK_BYTES >> 20} MiB."
            )
            raise ValueError(msg) from error
        except OSError as error:
            # Arrow has no error class of its own for these.
            if "Truncated compressed stream" in str(error) or "inflate failed" in str(error):
                raise damaged(path, str(error), n_header=header.n_lines + 1) from error
            raise


def _open_csv(file: pa.NativeFile, header: GemHeader, found: dict[str, str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import csv

    types = dict.fromkeys(found.values(), pa.float64())  # some programs write 1.0
    types.update({found[name]: pa.dictionary(pa.int32(), pa.string()) for name in (GENE, CELL) if name in found})
    return csv.open_csv(
        pa.CompressedInputStream(file, "gzip") if header.compressed else file,
        # One thread: errors then name the line, and decompression, which has its own, sets the pace.
        read_options=csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, skip_rows=header.n_lines),
        parse_options=csv.ParseOptions(delimiter=header.delimiter, quote_char='"' if header.quoted else False),
        convert_options=csv.ConvertOptions(include_columns=list(types), column_types=types),
    )


def _to_arrays(
    batch: pa.RecordBatch, found: dict[str, str], genes: GeneCodes, cells: _CellIds, where: str
) -> dict[str, NDArray]:
    rows = {}
    for name, column in found.items():
        values = batch.column(column)
        if name == GENE:
            names = values.dictionary.to_pylist()
            if "" in names:
                msg = f"{where}: a row has no gene name in {column!r}."
                raise ValueError(msg)
            rows[name] = genes.of(names)[values.indices.to_numpy()]
            continue
        if name == CELL:
            rows[name] = cells.of(values.dictionary.to_pylist(), f"{where}: {column!r}")[values.indices.to_numpy()]
            continue
        if values.null_count:
            msg = f"{where}: {values.null_count} values of {column!r} are missing or NaN."
            raise ValueError(msg)
        numbers = values.to_numpy()
        _check_numbers(numbers, f"{where}: {column!r}")
        rows[name] = numbers.astype(np.int32)
    return rows


def _check_numbers(numbers: NDArray[np.float64], where: str) -> None:
    """Raise ``ValueError`` unless all are whole numbers from 0 on that 32 bits can hold."""
    if len(numbers) and numbers.min() < 0:
        msg = f"{where} holds negative values, e.g. {numbers.min():g}; it must be 0 or above."
        raise ValueError(msg)
    bad = ~((numbers <= _LARGEST) & (numbers == np.floor(numbers)))  # infinite ones too
    if bad.any():
        msg = f"{where} must hold whole numbers from 0 to {_LARGEST}, not {float(numbers[bad][0])!r}."
        raise ValueError(msg)


class _CellIds:
    """Ids of cells as numbers: 0 where there is none, numbers as they are, text numbered in order of appearance."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._has_numbers = False

    @property
    def names(self) -> list[str]:
        """Ids that are text; the first is number 1."""
        return list(self._codes)

    def of(self, ids: list[str], where: str) -> NDArray[np.int64]:
        """Return the number of each id; raise ``ValueError`` if some are numbers and others text."""
        read = {one: 0 if one in _NO_CELL else _whole_number(one) for one in ids}
        self._has_numbers |= any(read.values())
        coded = {one: self._codes.setdefault(one, len(self._codes) + 1) for one in ids if read[one] is None}
        if self._codes and self._has_numbers:
            msg = (
                f"{where} holds ids that are numbers and ids that are text, e.g. {next(iter(self._codes))!r}. Leave "
                f"the column out with columns={{'{CELL}': None}}."
            )
            raise ValueError(msg)
        return np.array([coded.get(one, read[one]) for one in ids], dtype=np.int64)


def _whole_number(text: str) -> int | None:
    """Return a number as written, such as 7 or 7.0; None if it is none, or does not fit into 64 bits."""
    match = re.fullmatch(r"(-?\d+)(\.0*)?", text)
    value = None if match is None else int(match[1])
    return None if value is None or abs(value) >= 2**63 else value
