"""How much of the gap between two curves is chance: both are measured again on cells drawn with replacement.

All segmentations have the cells of the same nuclei, and each draw takes the same nuclei of all: what is said is how
much the gap depends on which cells were seen, not how much each of the curves does. The types of cells, and the pairs
of genes that nuclei keep apart, are those of all cells in each draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.accuracy.curves import advantage
from ucs.metrics._comparison import CountedCells
from ucs.pl._purity_capture import PURITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._evaluation.rasters import CellRaster
    from ucs.metrics import ComparisonMetrics


def drawn(cells: CountedCells, rows: NDArray[np.int64]) -> CountedCells:
    """Return some of the cells, in any order and number."""
    counts = cells.counts
    counts = counts._replace(matrix=counts.matrix[rows], cells=counts.cells[rows], obs=counts.obs.iloc[rows])
    return CountedCells(counts, cells.half[rows], None if cells.types is None else cells.types.take(rows))


def errors_of_advantages(
    metrics: ComparisonMetrics,
    cells: dict[str, CellRaster],
    table: pd.DataFrame,
    *,
    ours: str,
    baseline: str,
    draws: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the standard error of what :func:`benchmarks.accuracy.curves.advantage` says of each row of ours.

    It is NaN for rows that are beyond the other curve in more than half of the draws.

    Parameters
    ----------
    metrics
        What measured ``table``.
    cells
        The segmentations of both curves by the names of their rows.
    table
        Rows of both curves, with columns ``curve`` and ``capture``.
    ours, baseline
        Names of the curves.
    draws, seed
        How often cells are drawn, and the seed.
    """
    counted = {name: metrics.count(one, name) for name, one in cells.items()}
    n = len(next(iter(counted.values())).half)
    captured = {name: one.counts.matrix.sum() for name, one in counted.items()}
    random, found = np.random.default_rng(seed), []
    for _ in range(draws):
        rows = random.integers(0, n, n)
        again_counted = {name: drawn(one, rows) for name, one in counted.items()}
        again = pd.DataFrame({name: metrics.purities(one, name) for name, one in again_counted.items()}).T
        purities = [purity for purity in again if purity in PURITIES]
        share = pd.Series({name: one.counts.matrix.sum() / captured[name] for name, one in again_counted.items()})
        again["curve"] = table["curve"].reindex(again.index)
        again["capture"] = table["capture"].reindex(again.index) * share
        found.append(pd.DataFrame({purity: advantage(again, ours, baseline, purity) for purity in purities}))
    of_rows = pd.concat(found, keys=range(draws)).groupby(level=1)
    return of_rows.std().where(of_rows.count() >= draws / 2)
