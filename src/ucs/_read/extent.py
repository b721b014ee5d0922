"""Transcripts far from all others, which make the grid much larger than the tissue: named, or left out if asked for.

The rule by which they are left out: transcripts are counted in squares of a given side, and squares that touch, also at
their corners, form a group. Groups with fewer than 0.1 % of all transcripts are outlying, but never the largest. What
lies beyond the rectangle around the transcripts of the other groups is left out.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._kernels.components import lowest_connected
from ucs._read.chunks import MOST_READERS
from ucs._read.columns import check_frame
from ucs._read.grid import PixelBox, pixel_index
from ucs._utils.log import logger
from ucs._utils.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.elements import PointsElement
    from ucs._read.fields import Fields, Owner
    from ucs._read.source import Source
    from ucs._read.transcripts import Transcripts

_SMALL = 1e-3  # share of all transcripts below which a group apart is outlying: fewer than hold a piece of tissue

_FEW = 1e-4  # share of the transcripts that is left out on each side, but at least one
_LEAST = 200  # transcripts, below which one on each side is more than few
_MUCH = 2.0  # factor by which the grid is larger than the box of the others


def warn_of_outliers(transcripts: Transcripts, points_key: str) -> None:
    """Log a WARNING if the outermost 0.01 % of the transcripts on each side more than double the area of the grid.

    They are not left out unless asked for: whether they are of the sample only the user knows.
    """
    of, grid = transcripts.map, transcripts.grid
    in_row, in_column = (np.zeros(n, dtype=np.int64) for n in of.shape)
    for row0, row1, band in of.bands():
        until = np.concatenate([[0], np.cumsum(band.count, dtype=np.int64)])
        in_row[row0:row1] = np.diff(until[band.row_start])
        in_column += np.bincount(band.column, weights=band.count, minlength=of.shape[1]).astype(np.int64)
    row0, row1 = _most(in_row)
    column0, column1 = _most(in_column)
    inner = (row1 - row0) * (column1 - column0)
    if grid.n_pixels <= _MUCH * inner or in_row.sum() < _LEAST:
        return
    inside = min(int(in_row[row0:row1].sum()), int(in_column[column0:column1].sum()))
    total = int(in_row.sum())
    x0, y0 = grid.origin
    box = (x0 + column0 * grid.step, x0 + column1 * grid.step, y0 + row0 * grid.step, y0 + row1 * grid.step)
    logger.warning(
        "At least %d of %d transcripts of %r lie far from all others, and the grid is %.3g times as large for them "
        "(%d x %d px). If they do not belong to the sample, leave them out with read['outlier_um']: the others lie in "
        "x from %g to %g and y from %g to %g.",
        max(total - inside, 1),
        total,
        points_key,
        grid.n_pixels / inner,
        *grid.shape,
        *box,
    )


def _most(count: NDArray[np.int64]) -> tuple[int, int]:
    """Return the first and the last line, plus 1, between which all but few of the transcripts lie."""
    few = max(1, int(_FEW * count.sum()))
    from_start, from_end = np.cumsum(count), np.cumsum(count[::-1])
    first = int(np.searchsorted(from_start, few, side="right"))
    last = len(count) - int(np.searchsorted(from_end, few, side="right"))
    return (first, last) if first < last else (0, len(count))


def box_without_outliers(sdata: SpatialData, source: Source, fields: Fields | None) -> PixelBox | None:
    """Return the pixels around the transcripts that are not outlying, by ``source.outlier_um``.

    None if it is None, or there are no transcripts. Reads the points once, with memory for some chunks and the squares.
    """
    if source.outlier_um is None:
        return None
    side, step = source.outlier_um / source.um_per_unit, source.resolution / source.um_per_unit

    def tasks() -> Iterator[Callable[[], pd.DataFrame]]:
        for k, element in enumerate(source.elements):
            owner = None if fields is None else fields.owner(k)
            for where, read in element.chunks(sdata):
                yield partial(_squares, where, read, element, side=side, owner=owner)

    with closing(in_order(tasks(), most=MOST_READERS)) as chunks:
        squares = _merged(pd.concat(chunks))
    if len(squares) == 0:
        return None
    n = squares.groupby(_group(squares))["n"].transform("sum")
    core = squares[(n >= _SMALL * squares["n"].sum()) | (n == n.max())]
    row0, column0 = pixel_index([core["y0"].min(), core["x0"].min()], step).tolist()
    row1, column1 = pixel_index([core["y1"].max(), core["x1"].max()], step).tolist()
    return PixelBox(row0, row1, column0, column1, step)


def _squares(
    where: str, read: Callable[[], pd.DataFrame], element: PointsElement, *, side: float, owner: Owner | None
) -> pd.DataFrame:
    """Return the molecules of a chunk by square, their number and bounds."""
    frame = read()
    check_frame(frame, element.columns, where=where)
    columns = element.columns
    kept = columns.kept(frame)
    count = np.ones(len(frame)) if columns.count is None else frame[columns.count].to_numpy()
    kept &= count > 0
    x, y = element.place(frame)
    if owner is not None:
        kept[kept] = owner.owns(x[kept], y[kept])
    x, y, row, column = x[kept], y[kept], pixel_index(y[kept], side), pixel_index(x[kept], side)
    return _merged(pd.DataFrame({"row": row, "column": column, "n": count[kept], "x0": x, "y0": y, "x1": x, "y1": y}))


def _merged(squares: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each square."""
    how = {"n": "sum", "x0": "min", "y0": "min", "x1": "max", "y1": "max"}
    return squares.groupby(["row", "column"], as_index=False).agg(how)


def _group(squares: pd.DataFrame) -> NDArray[np.int64]:
    """Return the group of each square, ``(n,)``: those that touch have the same."""
    from scipy.spatial import KDTree

    touching = KDTree(squares[["row", "column"]].to_numpy(dtype=np.float64)).query_pairs(1.5, output_type="ndarray")
    return lowest_connected(touching[:, 0], touching[:, 1], len(squares))
