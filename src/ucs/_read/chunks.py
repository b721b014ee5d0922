"""Pieces of points elements as compact arrays, read ahead in threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from ucs._kernels.binning import bin_positions, extent
from ucs._read.grid import pixel_index
from ucs._utils.memory import BYTES_PER_PIXEL_IN_PARTS, check_fits_memory, in_own_pages, own_pages
from ucs._utils.parallel import n_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from numpy.typing import NDArray

    from ucs._read.elements import Part
    from ucs._read.fields import Owner

T = TypeVar("T")

_MOST_READERS = 4  # each holds a whole piece
_MOST_SHORT = 2**16


@dataclass(eq=False)
class Piece:
    """Transcripts of one piece.

    Attributes
    ----------
    n_rows, n_low_quality, n_other_planes, n_seen_twice, n_zero_count
        As in :class:`ucs._read.transcripts.Transcripts`.
    votes
        Of :meth:`ucs._read.columns.TranscriptColumns.add_votes`.
    planes
        In z that occur, if some are chosen.
    names
        What codes of features stand for.
    row, column
        ``(n,)`` int32, counted from the least of the piece.
    feature
        ``(n,)`` codes, uint16, or int32 if there are too many.
    count
        ``(n,)`` int32, None if there are no counts.
    row0, column0
        Least row and column, counted from the intrinsic origin.
    lower, upper
        Least and largest ``(x, y)``.
    """

    n_rows: int
    n_low_quality: int
    n_other_planes: int
    names: pd.Index
    n_seen_twice: int = 0
    n_zero_count: int = 0
    votes: dict[str, int] = field(default_factory=dict)
    planes: set[float] = field(default_factory=set)
    row: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    column: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    feature: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, dtype=np.uint16))
    count: NDArray[np.int32] | None = None
    row0: int = 0
    column0: int = 0
    lower: NDArray[np.float64] = field(default_factory=lambda: np.full(2, np.inf))
    upper: NDArray[np.float64] = field(default_factory=lambda: np.full(2, -np.inf))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        count = 0 if self.count is None else self.count.nbytes
        return self.row.nbytes + self.column.nbytes + self.feature.nbytes + count


def compact(frame: pd.DataFrame, part: Part, *, step: float, um_per_unit: float, owner: Owner | None) -> Piece:
    """Filter, bin and encode the rows of a piece.

    Parameters
    ----------
    frame
        Checked rows.
    part
        What they are rows of.
    step
        Side of a pixel in units of the frame.
    um_per_unit
        Length of such a unit in um.
    owner
        Tells which rows no other part has seen better; None if there is no other.
    """
    columns = part.columns
    good = columns.good(frame)
    kept = good & columns.in_planes(frame)
    gene = frame[columns.gene]
    gene = (gene if isinstance(gene.dtype, pd.CategoricalDtype) else gene.astype("category")).cat
    n_good, n_kept = int(np.count_nonzero(good)), int(np.count_nonzero(kept))
    piece = Piece(len(frame), len(frame) - n_good, n_good - n_kept, gene.categories)
    columns.add_votes(frame, piece.votes)
    if columns.plane is not None:
        piece.planes.update(np.unique(frame[columns.plane].to_numpy(dtype=np.float64)).tolist())
    if columns.count is not None:
        kept &= frame[columns.count].to_numpy() > 0
        piece.n_zero_count = n_kept - int(np.count_nonzero(kept))
    x, y = (_floating(values) for values in part.place(frame))
    if owner is not None:
        owned = owner.owns(x[kept], y[kept])
        piece.n_seen_twice = int(np.count_nonzero(~owned))
        kept[np.flatnonzero(kept)[~owned]] = False
    _bin(piece, x, y, gene.codes.to_numpy(), kept, step=step, um_per_unit=um_per_unit)
    if columns.count is not None and len(piece.row):
        piece.count = in_own_pages(frame[columns.count].to_numpy()[kept], np.int32)
    return piece


def _bin(
    piece: Piece, x: NDArray, y: NDArray, code: NDArray, kept: NDArray[np.bool_], *, step: float, um_per_unit: float
) -> None:
    """Set pixels, codes and bounds of the rows to keep."""
    n, x0, y0, x1, y1 = extent(x, y, kept)
    if n == 0:
        return
    piece.lower, piece.upper = np.array([x0, y0]), np.array([x1, y1])
    # Before pixels are counted: on a far too fine grid their numbers would not fit into 32 bits.
    extent_px = (piece.upper - piece.lower) / step
    check_fits_memory(extent_px, step * um_per_unit, 0, bytes_per_pixel=BYTES_PER_PIXEL_IN_PARTS)
    piece.row0, piece.column0 = int(pixel_index(y0, step)), int(pixel_index(x0, step))
    piece.row, piece.column = own_pages(n, np.int32), own_pages(n, np.int32)
    piece.feature = own_pages(n, np.uint16 if len(piece.names) <= _MOST_SHORT else np.int32)
    bin_positions(x, y, code, kept, step, piece.row0, piece.column0, piece.row, piece.column, piece.feature)


def _floating(values: NDArray) -> NDArray[np.floating]:
    dtype = values.dtype if values.dtype in (np.float32, np.float64) else np.float64
    return np.ascontiguousarray(values, dtype=dtype)


def in_order(tasks: Iterable[Callable[[], T]]) -> Generator[T]:
    """Call tasks in a few threads; return what they return in the order of the tasks, and no more ahead than threads.

    An error of a task is raised in its turn, so the first of several is, whichever comes up first.
    """
    threads = min(n_threads(), _MOST_READERS)
    if threads == 1:
        for task in tasks:
            yield task()
        return
    pool = ThreadPoolExecutor(threads)
    try:
        pending: deque[Future[T]] = deque()
        for task in tasks:
            pending.append(pool.submit(task))
            if len(pending) == threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
