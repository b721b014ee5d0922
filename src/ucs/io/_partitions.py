"""Rows read chunk by chunk, as a points element with equal partitions.

Peak memory is that of the rows kept (4 bytes a column, 2 for the genes while there are fewer than 32,768) plus one
partition; with a Parquet folder it is one partition alone. No row ever becomes a Python object.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._utils.checks import check_features
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dask.dataframe import DataFrame as DaskDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from spatialdata.transformations import BaseTransformation

GENE, COUNT, CELL = "gene", "count", "cell_id"
MOST_GENES = 1 << 20
"""Genes that a file may have; ten times what any annotation names."""


class GeneCodes:
    """Codes of gene names, in order of appearance.

    Parameters
    ----------
    source
        Where the names are from, for messages.
    """

    def __init__(self, source: Path | str = "The file") -> None:
        self._source = source
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def names(self) -> list[str]:
        """All names, by number."""
        return list(self._codes)

    def of(self, names: Iterable[str]) -> NDArray[np.int32]:
        """Return the code of each name; new names get the next codes.

        Raises
        ------
        ValueError
            If a name is too long or holds a NUL, or there are too many.
        """
        codes, names = self._codes, list(names)
        new = {name for name in names if name not in codes}
        check_features(new, str(self._source))
        if len(codes) + len(new) > MOST_GENES:
            msg = f"{self._source} has more than {MOST_GENES} genes: is another column taken for that of the genes?"
            raise ValueError(msg)
        return np.array([codes.setdefault(name, len(codes)) for name in names], dtype=np.int32)


@dataclass(frozen=True)
class _Partition:
    """One partition, in memory or in a file, with a token so that Dask does not hash its rows."""

    source: pd.DataFrame | Path = field(repr=False)
    start: int
    genes: pd.CategoricalDtype = field(repr=False)
    token: str

    def __dask_tokenize__(self) -> tuple[str, int]:
        return self.token, self.start

    def read(self, columns: list[str] | None) -> pd.DataFrame:
        if isinstance(self.source, pd.DataFrame):
            return self.source.copy(deep=False) if columns is None else self.source[columns]
        frame = pd.read_parquet(self.source, columns=columns)
        if GENE in frame:
            # A file has the genes that were known when it was written, in another order.
            frame[GENE] = frame[GENE].cat.set_categories(self.genes.categories)
        return frame.set_axis(pd.RangeIndex(self.start, self.start + len(frame)), axis=0)


def _read_partition(partition: _Partition, columns: list[str] | None = None) -> pd.DataFrame:
    return partition.read(columns)


class PartitionWriter:
    """Collects rows and splits them into partitions of equal length.

    Parameters
    ----------
    genes
        Names of the codes in the gene column; new ones may be added while rows are added.
    rows
        Rows of a partition.
    folder
        Folder for the partitions as Parquet files; in memory if None.
    """

    def __init__(self, genes: GeneCodes, rows: int, folder: Path | None = None) -> None:
        self.n_rows = 0
        self._genes, self._rows, self._folder = genes, rows, folder
        self._pending: list[dict[str, NDArray]] = []
        self._n_pending = 0
        self._columns: dict[str, np.dtype] = {}
        self._done: list[tuple[int, dict[str, NDArray] | str]] = []

    def add(self, columns: dict[str, NDArray]) -> None:
        """Add rows: arrays of equal length, genes as codes."""
        n = len(columns[GENE])
        if n == 0:
            return
        self._columns = {name: values.dtype for name, values in columns.items()}
        self._pending.append(columns)
        self._n_pending += n
        self.n_rows += n
        if self._n_pending >= self._rows:
            self._flush(self._n_pending - self._n_pending % self._rows)

    def _flush(self, n: int) -> None:
        """Write the first ``n`` pending rows as partitions."""
        pieces, self._pending = self._pending, []
        merged = {name: np.concatenate([piece[name] for piece in pieces]) for name in self._columns}
        first = self.n_rows - self._n_pending
        for start in range(0, n, self._rows):
            # Copies, so that no partition keeps its neighbours alive.
            part = {name: values[start : min(start + self._rows, n)].copy() for name, values in merged.items()}
            self._done.append((first + start, part if self._folder is None else self._save(part, self._folder)))
        self._n_pending -= n
        if self._n_pending:
            self._pending = [{name: values[n:].copy() for name, values in merged.items()}]

    def _save(self, part: dict[str, NDArray], folder: Path) -> str:
        name = f"part-{len(self._done):05d}.parquet"
        frame = pd.DataFrame(part | {GENE: pd.Categorical.from_codes(part[GENE], categories=self._genes.names)})
        frame.to_parquet(folder / name, index=False)
        return name

    def close(self) -> None:
        """Write the remaining rows as the last partition."""
        if self._n_pending:
            self._flush(self._n_pending)

    def finish(self, folder: Path | None = None) -> DaskDataFrame:
        """Return all rows in the order in which they were added; call :meth:`close` first.

        Every partition has all genes as categories, in alphabetical order.

        Parameters
        ----------
        folder
            Current folder of the files, if they were moved.
        """
        import dask
        import dask.dataframe as dd

        names = np.array(self._genes.names, dtype=object)
        order = np.argsort(names)
        genes = pd.CategoricalDtype(names[order])
        new_code = np.empty(len(names), dtype=np.int32)
        new_code[order] = np.arange(len(names), dtype=np.int32)
        token = uuid.uuid4().hex
        partitions = []
        for number, (start, part) in enumerate(self._done):
            source = (folder or Path()) / part if isinstance(part, str) else _frame(part, start, genes, new_code)
            self._done[number] = (start, "")  # raw arrays are freed as frames are made
            partitions.append(_Partition(source, start, genes, token))
        meta = _frame({name: np.empty(0, dtype) for name, dtype in self._columns.items()}, 0, genes, new_code)
        divisions = (*(partition.start for partition in partitions), self.n_rows - 1)
        # There are no strings to convert, and the conversion would hide from Dask which columns are used.
        with dask.config.set({"dataframe.convert-string": False}):
            return dd.from_map(_read_partition, partitions, meta=meta, divisions=divisions, label="stereoseq")


def _frame(
    part: dict[str, NDArray], start: int, genes: pd.CategoricalDtype, new_code: NDArray[np.int32]
) -> pd.DataFrame:
    gene = pd.Categorical.from_codes(new_code[part[GENE].astype(np.int32)], dtype=genes)
    return pd.DataFrame(part | {GENE: gene}, index=pd.RangeIndex(start, start + len(gene)))


@contextmanager
def cache_folder(cache: str | os.PathLike | None) -> Iterator[Path | None]:
    """Yield a temporary folder that is renamed to ``cache`` on success and deleted on failure.

    Raises
    ------
    FileExistsError
        If ``cache`` exists and is not an empty folder.
    """
    if cache is None:
        yield None
        return
    folder = Path(cache)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        msg = f"cache={str(folder)!r} exists and is not an empty folder: name a new one, or delete it first."
        raise FileExistsError(msg)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        raise


def to_sdata(
    points: DaskDataFrame,
    points_key: str,
    transformations: Mapping[str, BaseTransformation] | None,
    attrs: Mapping[str, object],
    *,
    n_molecules: int,
    source: Path,
) -> SpatialData:
    """Return the rows of one file as a SpatialData object, and log their number."""
    from spatialdata import SpatialData
    from spatialdata.models import PointsModel
    from spatialdata.transformations import Identity

    element = PointsModel.parse(
        points,
        feature_key=GENE,
        instance_key=CELL if CELL in points.columns else None,
        transformations={"global": Identity()} if transformations is None else dict(transformations),
        sort=True,  # the index counts the rows; otherwise it would be computed to check
    )
    logger.info(
        "%s: added points[%r] with %d rows (%d molecules, %d genes) in %d partitions.",
        source.name,
        points_key,
        points.divisions[-1] + 1,
        n_molecules,
        len(points[GENE].cat.categories),
        points.npartitions,
    )
    return SpatialData(points={points_key: element}, attrs={"stereoseq": dict(attrs)})
