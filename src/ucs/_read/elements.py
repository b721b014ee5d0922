"""Elements with the transcripts of a sample, read partition by partition."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import dask
import numpy as np

from ucs._read.bins import chunks_of_bins
from ucs._utils.frames import without_added

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from dask.delayed import Delayed
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.columns import TranscriptColumns

# Decimals of a position: rounding within a transformation must not decide on which side of a border it lies.
_DIGITS = 9


@dataclass(frozen=True, eq=False)
class PointsElement:
    """One element with transcripts, or with bins, and its transformation to the frame of the sample.

    Attributes
    ----------
    key
        Key of the element with the positions: points, or shapes for square bins.
    columns
        Columns to read.
    name
        Name of its field of view.
    table_key
        Key of the table with the counts of the bins; None for transcripts.
    to_frame
        ``(3, 3)`` matrix from the element's intrinsic ``(x, y, 1)`` to the frame, in which the grid is defined.
    """

    key: str
    columns: TranscriptColumns
    name: str = ""
    table_key: str | None = None
    to_frame: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))

    @property
    def in_own_frame(self) -> bool:
        """Whether the frame is the element's own intrinsic one."""
        return bool(np.array_equal(self.to_frame, np.eye(3)))

    @property
    def scale(self) -> float:
        """Length of one intrinsic unit in units of the frame."""
        return float(np.sqrt(abs(np.linalg.det(self.to_frame[:2, :2]))))

    def read_columns(self) -> list[str]:
        """Columns to read from the element itself."""
        return ["x", "y"] if self.table_key is not None else self.columns.names()

    def place(self, frame: pd.DataFrame) -> tuple[NDArray, NDArray]:
        """Return x and y of rows in the frame, ``(n,)`` each."""
        x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
        if self.in_own_frame:
            return x, y
        return place(x, y, self.to_frame)

    def frames(self, sdata: SpatialData) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield the transcripts chunk by chunk: the origin of a chunk, for messages, and its rows."""
        for where, read in self.chunks(sdata):
            yield where, read()

    def n_chunks(self, sdata: SpatialData) -> int:
        """Return the number of :meth:`chunks`; 1 for a table, of which it is not known beforehand."""
        return 1 if self.table_key is not None else int(sdata.points[self.key].npartitions)

    def chunks(self, sdata: SpatialData) -> Iterator[tuple[str, Callable[[], pd.DataFrame]]]:
        """Yield for each chunk its origin, for messages, and a function that reads it.

        Chunks may be read in any order and by several threads.
        """
        if self.table_key is not None:
            yield from chunks_of_bins(sdata, self.key, self.table_key, self.columns)
            return
        for where, partition in self.partitions(sdata):
            yield where, partial(read_partition, partition)

    def partitions(self, sdata: SpatialData) -> Iterator[tuple[str, Delayed]]:
        """Yield the partitions of a points element, unread: the origin of each, for messages, and its rows."""
        names = self.columns.names()
        points = without_added(sdata.points[self.key], names)
        for number, partition in enumerate(points[names].to_delayed()):
            yield f"points[{self.key!r}], partition {number}", partition


def read_partition(partition: Delayed) -> pd.DataFrame:
    """Return the rows of a partition.

    Partitions are read by several threads, so none of them needs threads of its own. A scheduler that the user has
    chosen, such as a cluster with the points in its memory, is respected.
    """
    return partition.compute(scheduler=dask.base.get_scheduler() or "synchronous")


def place(x: NDArray, y: NDArray, matrix: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Apply a ``(3, 3)`` matrix to positions and round them."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return (
        np.round(matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2], _DIGITS),
        np.round(matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2], _DIGITS),
    )
