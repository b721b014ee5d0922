"""Transcripts far from all others, which make the grid much larger than the tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._utils.log import logger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._read.transcripts import Transcripts

_FEW = 1e-4  # share of the entries on each side that is left out, but at least one
_MUCH = 2.0  # factor by which the grid is larger than the box of the others


def warn_of_outliers(transcripts: Transcripts, points_key: str) -> None:
    """Log a WARNING if the outermost 0.01 % of the transcripts on each side more than double the area of the grid.

    They are not left out: whether they are of the sample only the user knows.
    """
    of, grid = transcripts.map, transcripts.grid
    in_row = np.diff(of.row_start)
    in_column = np.zeros(of.shape[1], dtype=np.int64)
    for _, _, band in of.bands():
        in_column += np.bincount(band.column, minlength=of.shape[1])
    row0, row1 = _most(in_row)
    column0, column1 = _most(in_column)
    inner = (row1 - row0) * (column1 - column0)
    if grid.n_pixels <= _MUCH * inner or in_row.sum() < 2 / _FEW / 100:
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
    """Return the first and the last line, plus 1, between which all but few entries on each side lie."""
    few = max(1, int(_FEW * count.sum()))
    from_start, from_end = np.cumsum(count), np.cumsum(count[::-1])
    first = int(np.searchsorted(from_start, few, side="right"))
    last = len(count) - int(np.searchsorted(from_end, few, side="right"))
    return (first, last) if first < last else (0, len(count))
