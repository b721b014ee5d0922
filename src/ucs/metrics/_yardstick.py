"""All metrics of one segmentation in one row, with everything that several segmentations are measured by held once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ucs._evaluation.counts import Counts, counts_of
from ucs._evaluation.rasters import CellRaster
from ucs._evaluation.types import likeliest_types
from ucs._utils.log import logger
from ucs.metrics._capture import capture_of
from ucs.metrics._correlation import correlation_of
from ucs.metrics._match import match
from ucs.metrics._mecr import mecr_of
from ucs.metrics._morphology import morphology_of
from ucs.metrics._purity import purity_of
from ucs.metrics._seams import CUT_RATIO, seams_of
from ucs.metrics._spurious import Apart, Placed, halves_of, spurious_of
from ucs.metrics._summary import summary_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

    from ucs._evaluation.reference import Reference
    from ucs._evaluation.tissue import Tissue

_FEWEST_TO_TYPE = 5  # transcripts in the nuclear part of a cell
_DEPTH_QUANTILE = 0.25


class Counted(NamedTuple):
    """Cells of one segmentation with what purities need of them.

    Attributes
    ----------
    counts
        Their transcripts.
    half
        ``(n,)`` half of the tissue that each lies in.
    types
        ``(n,)`` by the reference; None without one.
    """

    counts: Counts
    half: NDArray[np.int64]
    types: pd.Categorical | None


@dataclass(frozen=True)
class Yardstick:
    """What segmentations are measured by.

    Attributes
    ----------
    tissue
        Transcripts and raster.
    nuclei
        Nuclei on it, if there are any.
    placed_nuclei
        Their counts.
    truth
        Cells that are taken for true, if any.
    thresholds
        IoU thresholds of the agreement with them.
    markers
        Exclusive markers (types x genes), if any.
    reference
        Reference expression of the same genes, if any.
    depth
        Transcripts per cell for what is compared at one depth.
    """

    tissue: Tissue
    nuclei: CellRaster | None
    placed_nuclei: Placed | None
    truth: CellRaster | None
    thresholds: tuple[float, ...]
    markers: pd.DataFrame | None
    reference: Reference | None
    depth: float

    @classmethod
    def of(
        cls,
        tissue: Tissue,
        *,
        nuclei: CellRaster | None = None,
        truth: CellRaster | None = None,
        thresholds: tuple[float, ...] = (0.5, 0.7),
        markers: pd.DataFrame | None = None,
        reference: Reference | None = None,
        depth: float | None = None,
    ) -> Yardstick:
        """Count the nuclei, and choose the depth if none is given: the lower quartile of the nuclei's totals."""
        placed = None
        if nuclei is not None:
            placed = _placed(tissue, nuclei)
            if depth is None:
                totals = np.asarray(placed.matrix.sum(axis=1)).ravel()
                depth = max(1.0, float(np.quantile(totals[totals > 0], _DEPTH_QUANTILE))) if totals.any() else None
        depth = 10.0 if depth is None else float(depth)
        return cls(tissue, nuclei, placed, truth, thresholds, markers, reference, depth)

    @cached_property
    def apart(self) -> Apart:
        """Genes that the nuclei keep apart; a ``ValueError`` if there are no nuclei, or too few."""
        if self.placed_nuclei is None:
            raise ValueError("There are no nuclei.")
        return Apart.of(self.placed_nuclei, depth=self.depth)

    def measure(self, cells: CellRaster, name: str) -> dict[str, float]:
        """Return all metrics of one segmentation; what cannot be had is NaN, and said."""
        table = self.tissue.table_of(cells)
        counted = self._counted(table, cells, name)
        row: dict[str, float] = {"capture": capture_of(self.tissue, cells).share}
        row |= summary_of(counted.counts, table.obs["area_um2"].to_numpy()).drop("n_transcripts").to_dict()
        row |= self._shapes(cells)
        if self.truth is not None:
            scores = match(self.truth.labels, cells.labels, thresholds=self.thresholds)
            row |= {f"f1_{level:g}": f1 for level, f1 in scores["f1"].items()}
        return row | self.purities(counted, name)

    def count(self, cells: CellRaster, name: str) -> Counted:
        """Return what :meth:`purities` needs of one segmentation."""
        return self._counted(self.tissue.table_of(cells), cells, name)

    def _counted(self, table: AnnData, cells: CellRaster, name: str) -> Counted:
        counts, types = counts_of(table, None), None
        if self.reference is not None:
            types = self._types(cells, counts.only(self.reference.profiles.columns), self.reference)
        return Counted(counts, halves_of(table, name), types)

    def _shapes(self, cells: CellRaster) -> dict[str, float]:
        nuclei = (None, None) if self.nuclei is None else (self.nuclei.labels, self.nuclei.ids)
        shapes = morphology_of(cells.labels, cells.ids, *nuclei, um_per_px=cells.um_per_px)
        row = {"eccentricity": shapes["eccentricity"].median(), "solidity": shapes["solidity"].median()}
        row["cut_share"] = (seams_of(cells.labels, cells.ids)["straight_ratio"] >= CUT_RATIO).mean()
        if self.nuclei is not None:
            row["cells_with_nucleus"] = (shapes["n_nuclei"] > 0).mean()
            row["nuclei_in_cells"] = shapes["n_nuclei"].sum() / len(self.nuclei.ids)
        return row

    def purities(self, cells: Counted, name: str) -> dict[str, float]:
        """Return how pure counted cells are, by all that is known; what cannot be had is NaN, and said."""
        row: dict[str, float] = {}
        counts, types, markers, reference = cells.counts, cells.types, self.markers, self.reference
        if self.placed_nuclei is not None:
            placed = Placed(counts.matrix, cells.half)
            spurious = _or_nan(name, lambda: spurious_of(placed, self.apart))
            row["spurious_coexpression"] = getattr(spurious, "cells", np.nan)
            row["spurious_excess"] = getattr(spurious, "excess", np.nan)
        if markers is not None:
            row["mecr"] = _or_nan(name, lambda: mecr_of(counts, markers).rate)
            row["mecr_at_depth"] = _or_nan(name, lambda: mecr_of(counts, markers, depth=self.depth).rate)
        if reference is not None and types is not None:
            known = counts.only(reference.profiles.columns)
            purity = _or_nan(name, lambda: purity_of(known, types, reference))
            row["negative_marker_purity"] = getattr(purity, "reads", np.nan)
            if reference.detected is not None:
                row["negative_marker_purity_cells"] = getattr(purity, "cells", np.nan)
            row["reference_correlation"] = _or_nan(name, lambda: correlation_of(known, types, reference).mean)
        return row

    def _types(self, cells: CellRaster, counts: Counts, reference: Reference) -> pd.Categorical:
        """Type each cell by the transcripts in its nuclei, which all segmentations share; by all if there are none."""
        if self.nuclei is None:
            return likeliest_types(counts, reference)[0]
        nuclear = cells._replace(labels=np.where(self.nuclei.labels > 0, cells.labels, 0).astype(np.int32))
        genes = pd.Index(self.tissue.genes)
        of_nuclei = counts._replace(matrix=counts_of_raster(self.tissue, nuclear), genes=genes).only(counts.genes)
        types, _ = likeliest_types(of_nuclei, reference)
        enough = np.asarray(of_nuclei.matrix.sum(axis=1)).ravel() >= _FEWEST_TO_TYPE
        return pd.Categorical.from_codes(np.where(enough, types.codes, -1), dtype=types.dtype)


def counts_of_raster(tissue: Tissue, cells: CellRaster) -> Any:
    """Return counts, cells x genes, in the form that :class:`Counts` holds."""
    from scipy.sparse import csr_array

    return csr_array(tissue.count(cells), dtype=np.float64)


def _placed(tissue: Tissue, cells: CellRaster) -> Placed:
    table = tissue.table_of(cells)
    return Placed(counts_of(table, None, "nuclei").matrix, halves_of(table, "nuclei"))


def _or_nan(name: str, metric: Callable[[], Any]) -> Any:
    """Return a metric, or NaN where the data does not suffice for it, saying why."""
    try:
        return metric()
    except ValueError as error:
        logger.warning("%s: %s", name, error)
        return float("nan")
