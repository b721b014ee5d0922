"""How much of the gap between two curves is chance: both are measured again on cells drawn with replacement.

All segmentations have the cells of the same nuclei, and each draw takes the same nuclei of all: what is said is how
much the gap depends on which cells were seen, not how much each of the curves does. The types of cells, and the pairs
of genes that nuclei keep apart, are those of all cells in each draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.accuracy.curves import advantage
from ucs.metrics._correlation import correlation_of
from ucs.metrics._counts import Counts, counts_of
from ucs.metrics._mecr import mecr_of
from ucs.metrics._purity import purity_of
from ucs.metrics._spurious import Placed, halves_of, spurious_of
from ucs.metrics._yardstick import _or_nan

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs.metrics._raster import CellRaster
    from ucs.metrics._yardstick import Yardstick


class Counted(NamedTuple):
    """Cells of one segmentation, in the order of their ids, with what purities need of them."""

    counts: Counts
    half: NDArray[np.int64]
    types: pd.Categorical | None

    @classmethod
    def of(cls, yardstick: Yardstick, cells: CellRaster, name: str) -> Counted:
        """Count them."""
        table = yardstick.tissue.table_of(cells)
        counts, types = counts_of(table, None), None
        if yardstick.reference is not None:
            known = counts.only(yardstick.reference.profiles.columns)
            types = yardstick._types(cells, known, yardstick.reference)
        return cls(counts, halves_of(table, name), types)

    def drawn(self, rows: NDArray[np.int64]) -> Counted:
        """Return some of the cells, in any order and number."""
        counts = self.counts._replace(
            matrix=self.counts.matrix[rows], cells=self.counts.cells[rows], obs=self.counts.obs.iloc[rows]
        )
        types = None if self.types is None else self.types.take(rows)
        return Counted(counts, self.half[rows], types)

    def purities(self, yardstick: Yardstick) -> dict[str, float]:
        """Return the purities of :meth:`ucs.metrics._yardstick.Yardstick.measure`, NaN for those that cannot be had."""
        found: dict[str, Callable[[], float]] = {}
        markers, reference, types = yardstick.markers, yardstick.reference, self.types
        if yardstick.placed_nuclei is not None:
            placed = Placed(self.counts.matrix, self.half)
            found["spurious_coexpression"] = lambda: spurious_of(placed, yardstick.apart).cells
        if markers is not None:
            found["mecr"] = lambda: mecr_of(self.counts, markers).rate
            found["mecr_at_depth"] = lambda: mecr_of(self.counts, markers, depth=yardstick.depth).rate
        if reference is not None and types is not None:
            known = self.counts.only(reference.profiles.columns)
            found["negative_marker_purity"] = lambda: purity_of(known, types, reference).reads
            found["reference_correlation"] = lambda: correlation_of(known, types, reference).mean
        return {name: _or_nan("drawn cells", measure) for name, measure in found.items()}


def errors_of_advantages(
    yardstick: Yardstick,
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
    yardstick
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
    counted = {name: Counted.of(yardstick, one, name) for name, one in cells.items()}
    n = len(next(iter(counted.values())).half)
    captured = {name: one.counts.matrix.sum() for name, one in counted.items()}
    random, found = np.random.default_rng(seed), []
    for _ in range(draws):
        rows = random.integers(0, n, n)
        drawn = {name: one.drawn(rows) for name, one in counted.items()}
        again = pd.DataFrame({name: one.purities(yardstick) for name, one in drawn.items()}).T
        purities = list(again)
        share = pd.Series({name: one.counts.matrix.sum() / captured[name] for name, one in drawn.items()})
        again["curve"] = table["curve"].reindex(again.index)
        again["capture"] = table["capture"].reindex(again.index) * share
        found.append(pd.DataFrame({purity: advantage(again, ours, baseline, purity) for purity in purities}))
    of_rows = pd.concat(found, keys=range(draws)).groupby(level=1)
    return of_rows.std().where(of_rows.count() >= draws / 2)
