"""Columns added to lazy frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd
    from dask.dataframe import DataFrame as DaskDataFrame


def add_columns(points: DaskDataFrame, make: Callable[[pd.DataFrame], pd.DataFrame]) -> DaskDataFrame:
    """Return a lazy frame with columns made of each partition, which replace those of the same name.

    The frame is the only one that is read: a series of another expression would be aligned by the index, which may
    repeat, or fused with other partitions of the files. ``make`` is one task of the graph, under a random name: it is
    neither hashed nor sent with each partition. ``attrs`` are not kept.
    """
    from dask.delayed import delayed

    held = delayed(make, name=f"ucs-columns-{uuid4().hex}", traverse=False)
    empty = make(points._meta)
    frame = without_added(points, set(points.columns) - set(empty))
    meta = frame._meta.assign(**dict(empty.items()))
    return frame.map_partitions(_with_columns, held, added=tuple(empty), meta=meta)


def without_added(points: DaskDataFrame, wanted: Iterable[str]) -> DaskDataFrame:
    """Return the frame that :func:`add_columns` has added columns to, if those wanted are in it."""
    from dask.dataframe.dask_expr._collection import new_collection  # type: ignore[attr-defined]
    from dask.dataframe.dask_expr._expr import MapPartitions

    expression: Any = points.expr
    while isinstance(expression, MapPartitions) and expression.operand("func") is _with_columns:
        if not set(wanted).isdisjoint(dict(expression.operand("kwargs"))["added"]):
            break
        expression = expression.operand("frame")
    return points if expression is points.expr else new_collection(expression)


def drop_columns(points: DaskDataFrame, names: Iterable[str]) -> DaskDataFrame:
    """Return a lazy frame without columns; ``attrs`` are not kept."""
    return points.map_partitions(_without, names=tuple(names), meta=points._meta.drop(columns=list(names)))


def _without(frame: pd.DataFrame, *, names: tuple[str, ...]) -> pd.DataFrame:
    return frame.drop(columns=list(names))


def _with_columns(
    frame: pd.DataFrame, make: Callable[[pd.DataFrame], pd.DataFrame], *, added: tuple[str, ...]
) -> pd.DataFrame:
    return frame.assign(**{name: column for name, column in make(frame).items() if name in added})
