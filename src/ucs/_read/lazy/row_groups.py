"""Row groups of the Parquet files behind a points element, found without reading rows.

The footer of a Parquet file has the least and largest value of each column in each row group, which tells where its
transcripts lie. A categorical column keeps its categories in a dictionary before its values, which tells the features.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._utils.frames import without_added

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pandas as pd
    from dask.dataframe import DataFrame as DaskDataFrame
    from numpy.typing import NDArray

_ROWS_AT_ONCE = 1 << 20  # small row groups are read together up to these: Arrow, too, writes so many into one
_BUFFER = 1 << 16  # bytes, so that of a column only its dictionary and the first values are fetched


@dataclass(frozen=True, eq=False)
class RowGroups:
    """Consecutive row groups of a Parquet file, which are read together.

    Attributes
    ----------
    path
        Of the file.
    first, stop
        Their numbers.
    n_rows
        Number of rows.
    lower, upper
        Least and largest ``(x, y)``.
    """

    path: str
    first: int
    stop: int
    n_rows: int
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    def __str__(self) -> str:
        return f"{Path(self.path).name}, row groups {self.first} to {self.stop - 1}"

    def read(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read the rows."""
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self.path) as file:
            table = file.read_row_groups(range(self.first, self.stop), columns=list(columns), use_threads=False)
        return table.to_pandas(use_threads=False, split_blocks=True, self_destruct=True)


def find_row_groups(points: DaskDataFrame, columns: Sequence[str]) -> list[RowGroups] | None:
    """Find the row groups that a points element consists of.

    Parameters
    ----------
    points
        The element.
    columns
        Those that are read, ``x`` and ``y`` among them.

    Returns
    -------
    All row groups with rows; None if the element is anything else than these columns of local files, such as a
    selection of rows, or if statistics of the positions are missing or not finite.
    """
    from pyarrow.dataset import dataset
    from pyarrow.parquet import ParquetFile

    path = path_of(points, columns)
    if path is None:
        return None
    found: list[RowGroups] = []
    for name in dataset(path, format="parquet").files:
        with ParquetFile(name) as file:
            of_file = _of_file(name, file)
        if of_file is None:
            return None
        found += _joined(of_file)
    return found


def find_categories(row_groups: Iterable[RowGroups], column: str) -> set[str] | None:
    """Return the categories that a column of row groups has, also those that no row is of; None if they are not known.

    That is where the column is not categorical, or its dictionary in a file is not complete.
    """
    from pyarrow.parquet import ParquetFile

    names: set[str] = set()
    for some in row_groups:
        with ParquetFile(some.path, buffer_size=_BUFFER) as file:
            n_categories = _n_categories(file.schema_arrow, column)
            for number in range(some.first, some.stop):
                batch = next(file.iter_batches(1, row_groups=[number], columns=[column], use_threads=False))
                dictionary = getattr(batch.column(0), "dictionary", None)
                if dictionary is None or len(dictionary) != n_categories:
                    return None
                names.update(map(str, dictionary.to_pylist()))
    return names


def path_of(points: DaskDataFrame, columns: Sequence[str]) -> str | None:
    """Return the file or folder if columns are what Dask reads from it: all rows, and values as they are there."""
    from dask.dataframe.dask_expr.io import ReadParquet

    points, paths = without_added(points, columns), set()
    for column in columns:  # one by one: Dask forgets then what was done to other columns
        expression = points[[column]].simplify().expr
        if not isinstance(expression, ReadParquet):
            return None
        if expression.operand("filters") is not None or expression.operand("_partitions") is not None:
            return None
        paths.add(expression.operand("path"))
    path = paths.pop()
    return os.fspath(path) if not paths and isinstance(path, str | Path) and Path(path).exists() else None


def _of_file(path: str, file: Any) -> list[RowGroups] | None:
    """Return each row group of a file that has rows."""
    found = []
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if group.num_rows == 0:
            continue
        bounds = _bounds(group)
        if bounds is None:
            return None
        found.append(RowGroups(path, number, number + 1, group.num_rows, *bounds))
    return found


def _bounds(group: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    columns = (group.column(k) for k in range(group.num_columns))
    statistics = {column.path_in_schema: column.statistics for column in columns}
    of_axes = [one for one in (statistics.get("x"), statistics.get("y")) if one is not None and one.has_min_max]
    bounds = np.array([[one.min, one.max] for one in of_axes], dtype=np.float64)
    return (bounds[:, 0], bounds[:, 1]) if len(bounds) == 2 and np.isfinite(bounds).all() else None


def _joined(row_groups: Sequence[RowGroups]) -> Iterator[RowGroups]:
    """Join small row groups that follow each other."""
    joined: RowGroups | None = None
    for one in row_groups:
        if joined is not None and joined.stop == one.first and joined.n_rows + one.n_rows <= _ROWS_AT_ONCE:
            lower, upper = np.minimum(joined.lower, one.lower), np.maximum(joined.upper, one.upper)
            joined = RowGroups(one.path, joined.first, one.stop, joined.n_rows + one.n_rows, lower, upper)
            continue
        if joined is not None:
            yield joined
        joined = one
    if joined is not None:
        yield joined


def _n_categories(schema: Any, column: str) -> int | None:
    """Return the number of categories that pandas noted when a file was written, None if it noted none."""
    noted = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    for one in noted.get("columns", []):
        if one.get("name") == column:
            return (one.get("metadata") or {}).get("num_categories")
    return None
