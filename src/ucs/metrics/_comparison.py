"""All metrics of one segmentation as one row of a table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from ucs._evaluation.counts import Counts, counts_of
from ucs._evaluation.detection import common_depth
from ucs._evaluation.rasters import CellRaster
from ucs._evaluation.reference import shared_genes
from ucs._evaluation.types import likeliest_types
from ucs._utils.checks import listed
from ucs._utils.log import logger
from ucs.methods.markers import marker_matrix
from ucs.metrics._capture import capture_of
from ucs.metrics._correlation import correlation_of
from ucs.metrics._markers import markers_from_reference
from ucs.metrics._match import match
from ucs.metrics._mecr import mecr_of
from ucs.metrics._morphology import morphology_of
from ucs.metrics._purity import purity_of
from ucs.metrics._spurious import AvoidingPairs, CountsByHalf, avoiding_pairs, halves_of, spurious_of
from ucs.metrics._summary import summary_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

    from ucs._evaluation.reference import Reference
    from ucs._evaluation.tissue import Tissue
    from ucs.methods.markers import Markers

_FEWEST_TO_TYPE = 5  # transcripts in the nuclear part of a cell; fewer say next to nothing about its type
_DEPTH = 10.0  # transcripts per cell, where there are no nuclei to take a depth from


class CountedCells(NamedTuple):
    """What the purities of a segmentation are computed from.

    Attributes
    ----------
    counts
        Transcripts per cell and gene.
    half
        ``(n,)`` half of the tissue (0 or 1) that each cell lies in.
    types
        ``(n,)`` types by the reference; None without one.
    """

    counts: Counts
    half: NDArray[np.int64]
    types: pd.Categorical | None


@dataclass(frozen=True)
class ComparisonMetrics:
    """The metrics of :func:`ucs.tl.compare`, for any number of segmentations of one tissue.

    What the segmentations share is computed once. They are measured as rasters, so that a threshold can be swept
    without adding elements to an object. Made by :meth:`of`.

    Attributes
    ----------
    tissue
        Transcripts and raster.
    nuclei
        Nuclei on the raster; None if there are none.
    nuclei_counts
        Counts of the nuclei, and the half of the tissue that each lies in.
    truth
        Cells taken for true; None if there are none.
    thresholds
        IoU thresholds of the agreement with ``truth``.
    markers
        Exclusive markers, booleans, types x genes; None if there are none.
    reference
        Reference expression of the genes of the tissue; None if there is none.
    depth
        Transcripts per cell for metrics at one depth.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> tissue = ucs.metrics.Tissue(sdata, resolution=1.0)
    >>> metrics = ucs.metrics.ComparisonMetrics.of(tissue, truth=tissue.cells("true_cells"))
    >>> nuclei = tissue.cells("nucleus_labels")
    >>> grown = [nuclei._replace(labels=ucs.metrics.expand_nuclei(nuclei.labels, radius)) for radius in (1, 3)]
    >>> captures = [metrics.measure(cells, "grown")["capture"] for cells in grown]
    >>> captures[0] < captures[1]
    True
    """

    tissue: Tissue
    nuclei: CellRaster | None
    nuclei_counts: CountsByHalf | None
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
        markers: Markers | None = None,
        reference: Reference | None = None,
        depth: float | None = None,
    ) -> ComparisonMetrics:
        """Restrict markers and reference to the genes of the tissue, count the nuclei and choose the depth.

        Parameters
        ----------
        tissue
            Transcripts and raster.
        nuclei, truth
            Cells on the raster, as :meth:`Tissue.cells` returns them.
        thresholds, markers, depth
            As in :func:`ucs.tl.compare`.
        reference
            Expression per cell type.

        Raises
        ------
        ValueError
            If markers or reference share too few genes with the tissue.
        """
        reference, is_marker = _of_tissue(tissue, reference, markers)
        nuclei_counts = None
        if nuclei is not None:
            table = tissue.table_of(nuclei)
            nuclei_counts = CountsByHalf(counts_of(table, None, "nuclei").matrix, halves_of(table, "nuclei"))
            if depth is None:
                depth = common_depth(nuclei_counts.matrix)
        depth = _DEPTH if depth is None else float(depth)
        return cls(tissue, nuclei, nuclei_counts, truth, thresholds, is_marker, reference, depth)

    def measure(self, cells: CellRaster, name: str) -> dict[str, float]:
        """Return the metrics of one segmentation by column; one that the data does not suffice for is NaN, and logged.

        Parameters
        ----------
        cells
            Cells on the raster.
        name
            Of the segmentation, for the log.
        """
        table = self.tissue.table_of(cells)
        counted = self._counted(table, cells, name)
        row: dict[str, float] = {"capture": capture_of(self.tissue, cells).share}
        row |= summary_of(counted.counts, table.obs["area_um2"].to_numpy()).drop("n_transcripts").to_dict()
        row |= self._shapes(cells)
        if self.truth is not None:
            scores = match(self.truth.labels, cells.labels, thresholds=self.thresholds)
            row |= {f"f1_{level:g}": f1 for level, f1 in scores["f1"].items()}
        return row | self.purities(counted, name)

    def count(self, cells: CellRaster, name: str) -> CountedCells:
        """Count the transcripts of one segmentation for :meth:`purities`."""
        return self._counted(self.tissue.table_of(cells), cells, name)

    def purities(self, cells: CountedCells, name: str) -> dict[str, float]:
        """Return the purities of counted cells by column; one that the data does not suffice for is NaN, and logged."""
        row: dict[str, float] = {}
        counts, types, markers, reference = cells.counts, cells.types, self.markers, self.reference
        if self.nuclei_counts is not None:
            by_half = CountsByHalf(counts.matrix, cells.half)
            spurious = _or_nan(name, lambda: spurious_of(by_half, self._avoiding_pairs))
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

    @cached_property
    def _avoiding_pairs(self) -> AvoidingPairs:
        assert self.nuclei_counts is not None
        return avoiding_pairs(self.nuclei_counts, depth=self.depth)

    def _counted(self, table: AnnData, cells: CellRaster, name: str) -> CountedCells:
        counts, types = counts_of(table, None), None
        if self.reference is not None:
            types = self._types(cells, counts.only(self.reference.profiles.columns), self.reference)
        return CountedCells(counts, halves_of(table, name), types)

    def _shapes(self, cells: CellRaster) -> dict[str, float]:
        nuclei = () if self.nuclei is None else (self.nuclei.labels, self.nuclei.ids)
        shapes = morphology_of(cells.labels, cells.ids, *nuclei, um_per_px=cells.um_per_px)
        row = {"eccentricity": shapes["eccentricity"].median(), "solidity": shapes["solidity"].median()}
        if self.nuclei is not None:
            row["cells_with_nucleus"] = (shapes["n_nuclei"] > 0).mean()
            row["nuclei_in_cells"] = shapes["n_nuclei"].sum() / len(self.nuclei.ids)
        return row

    def _types(self, cells: CellRaster, counts: Counts, reference: Reference) -> pd.Categorical:
        """Type each cell by the transcripts in its nuclei, which all segmentations share; by all if there are none."""
        if self.nuclei is None:
            return likeliest_types(counts, reference)[0]
        nuclear = cells._replace(labels=np.where(self.nuclei.labels > 0, cells.labels, 0).astype(np.int32))
        matrix = csr_array(self.tissue.count(nuclear), dtype=np.float64)
        of_nuclei = counts._replace(matrix=matrix, genes=pd.Index(self.tissue.genes)).only(counts.genes)
        types, _ = likeliest_types(of_nuclei, reference)
        enough = np.asarray(of_nuclei.matrix.sum(axis=1)).ravel() >= _FEWEST_TO_TYPE
        return pd.Categorical.from_codes(np.where(enough, types.codes, -1), dtype=types.dtype)


def _of_tissue(
    tissue: Tissue, reference: Reference | None, markers: Markers | None
) -> tuple[Reference | None, pd.DataFrame | None]:
    """Restrict reference and markers to the genes of the tissue; without markers take those of the reference."""
    genes = pd.Index(tissue.genes)
    if reference is not None:
        reference = reference.of_genes(shared_genes(genes, reference.profiles.columns))
        if markers is None:
            found = markers_from_reference(reference)
            if len(found) >= 2:
                return reference, marker_matrix(found, genes)
            logger.warning(
                "MECR is left out: only %s of the reference's types have a marker, they are too alike. Pass markers=.",
                listed(found),
            )
    return reference, None if markers is None else marker_matrix(markers, genes)


def _or_nan(name: str, metric: Callable[[], Any]) -> Any:
    """Return a metric, or NaN where the data does not suffice for it, saying why."""
    try:
        return metric()
    except ValueError as error:
        logger.warning("%s: %s", name, error)
        return float("nan")
