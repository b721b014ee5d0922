"""Columns of points in a store: the Parquet files are written again with these columns, the others as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucs._read.lazy.row_groups import path_of
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spatialdata import SpatialData

    from ucs._results.lookup import PointColumns

WITH_POINTS = "points"
"""Value of ``write`` with which the columns of points go to the store too."""


def check_stored_points(
    sdata: SpatialData, columns: Mapping[str, Sequence[str]], names: Sequence[str], *, write: bool | str
) -> None:
    """Check that the points of a store will not contradict the results that are written to it.

    Parameters
    ----------
    sdata
        Object with a store.
    columns
        Columns that are read, by the key of the element.
    names
        Names of the columns that are added.
    write
        Whether these columns are written.

    Raises
    ------
    ValueError
        If they are not, and the store has them from an earlier run; if they are, and the points in memory are not those
        of the store; or if ``write`` is neither a boolean nor ``"points"``.
    """
    if write not in (False, True, WITH_POINTS):
        msg = f"write={write!r} must be False, True, or {WITH_POINTS!r} for the column of the points too."
        raise ValueError(msg)
    for key, read in columns.items():
        folder = Path(sdata.path) / "points" / key
        if key not in sdata.points or not folder.exists():
            continue
        stale = sorted(set(names) & set(stored_columns(folder)))
        if write != WITH_POINTS and stale:
            msg = (
                f"The store {sdata.path} has the column {listed(stale)} of an earlier run in points[{key!r}], which "
                f"would contradict the new cells. Pass write={WITH_POINTS!r} to write the new column, or name another "
                "with key_added={'points_column': ...}."
            )
            raise ValueError(msg)
        path = path_of(sdata.points[key], read)
        if write == WITH_POINTS and (path is None or Path(path).resolve().parent != folder.resolve()):
            msg = (
                f"points[{key!r}] in memory is not what the store {sdata.path} holds, so its rows there cannot be "
                "given a column. Pass write=True to leave the points out, or write the object to a new store."
            )
            raise ValueError(msg)


def write_columns(source: Path, target: Path, columns: PointColumns, *, without: Sequence[str] = ()) -> None:
    """Write a points element again with new columns, or with new values of columns of the same name.

    Parameters
    ----------
    source
        Folder of the element in its store.
    target
        Folder to make.
    columns
        The new columns.
    without
        Columns to leave out.
    """
    from pyarrow.parquet import ParquetFile, ParquetWriter

    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.parquet", "_metadata", "_common_metadata"))
    for file in _files_of(source):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with ParquetFile(file) as read:
            there = [name for name in read.schema_arrow.names if name not in without]
            empty = _with_columns(read.schema_arrow.empty_table().select(there), columns)
            with ParquetWriter(copy, empty.schema) as writer:
                for number in range(read.num_row_groups):
                    table = _with_columns(read.read_row_group(number, columns=there), columns)
                    writer.write_table(table.cast(empty.schema), row_group_size=max(table.num_rows, 1))


def _with_columns(table: Any, columns: PointColumns) -> Any:
    """Return an Arrow table with the columns, of which its note for pandas tells too."""
    import pyarrow as pa

    made = columns.of(table.select(columns.part.read_columns()).to_pandas())
    noted = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    if "columns" in noted:
        noted["columns"] = [one for one in noted["columns"] if one.get("field_name") in table.column_names]
    for name, values in made.items():
        array, at = pa.array(values.to_numpy()), table.schema.get_field_index(name)
        table = table.append_column(name, array) if at < 0 else table.set_column(at, name, array)
        if "columns" in noted:
            kind = str(values.dtype)
            note = {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": kind, "metadata": None}
            noted["columns"] = [one for one in noted["columns"] if one.get("field_name") != name] + [note]
    metadata = dict(table.schema.metadata or {})
    return table.replace_schema_metadata({**metadata, b"pandas": json.dumps(noted).encode()} if noted else metadata)


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file())


def stored_columns(folder: Path) -> list[str]:
    """Return the columns of a points element in its folder; none if there is no file."""
    from pyarrow.parquet import read_schema

    files = _files_of(folder)
    return list(read_schema(files[0]).names) if files else []
