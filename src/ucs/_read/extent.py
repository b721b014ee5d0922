"""Transcripts far from all others, which make the grid much larger than the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._utils.log import logger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._read.transcripts import Transcripts

_FEW = 1e-4  # share of the transcripts that is left out on each side, but at least one
_LEAST = 200  # transcripts, below which one on each side is more than few
_MUCH = 2.0  # factor by which the grid is larger than the box of the others


def warn_of_outliers(transcripts: Transcripts, points_key: str) -> None:
    """Log a WARNING if the outermost 0.01 % of the transcripts on each side more than double the area of the grid.

    They are not left out: whether they are of the sample only the user knows.
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
        "(%d x %d px). If they do not belong to the sample, leave them out: the others lie in x from %g to %g and y "
        "from %g to %g, as for sdata.query.bounding_box.",
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
