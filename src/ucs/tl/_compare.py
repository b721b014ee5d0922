"""Metrics of several segmentations in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._evaluation.arguments import checked_thresholds
from ucs._evaluation.reference import as_reference
from ucs._evaluation.tissue import RESOLUTION_UM, Tissue
from ucs._utils.checks import check_positive, choose_one
from ucs._utils.log import logger
from ucs.metrics import ComparisonMetrics, expand_nuclei

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData
    from spatialdata import SpatialData

    from ucs._evaluation.rasters import CellRaster
    from ucs._evaluation.reference import Scale
    from ucs._read.platforms import Platform
    from ucs.methods.markers import Markers

_EXPANSIONS = "nuclear expansion"  # name of their curve


def compare(
    sdata: SpatialData,
    segmentations: Mapping[str, str],
    *,
    nuclei_key: str | None = None,
    truth: str | None = None,
    markers: Markers | None = None,
    reference: AnnData | pd.DataFrame | None = None,
    type_key: str | None = None,
    scale: Scale | None = None,
    expansions_um: Iterable[float] = (),
    thresholds: Iterable[float] = (0.5, 0.7),
    depth: float | None = None,
    points_key: str | None = None,
    platform: str | Platform = "auto",
    gene_key: str | None = None,
    um_per_unit: float | None = None,
    coordinate_system: str | None = None,
    resolution: float = RESOLUTION_UM,
) -> pd.DataFrame:
    """Return the metrics of several segmentations of one tissue, for the same transcripts and on one raster.

    Elements in any coordinate systems are brought together through their transformations. Read purities together with
    the capture: :func:`ucs.pl.purity_capture` draws one against the other.

    Parameters
    ----------
    sdata
        Object with transcripts and cells.
    segmentations
        Name -> key of a labels or shapes element, or of a table, which stands for the cells that it lists of the
        element that it annotates.
    nuclei_key
        Key of the nuclei, labels or shapes; detected if None. Metrics that need nuclei are left out if there are none.
    truth
        Name of one of the segmentations, or key of another element, that is taken for true: adds the agreement with it.
    markers
        Markers of cell types that exclude each other, in any form that :func:`ucs.metrics.mecr` accepts.
    reference, type_key, scale
        Single cells (AnnData with types in ``obs[type_key]``) or profiles (DataFrame, types x genes); ``scale="log1p"``
        if its values are logarithms. It gives the markers too if ``markers`` is None.
    expansions_um
        Radii in um; the nuclei expanded by each are added as further segmentations.
    thresholds
        IoU thresholds of the agreement with ``truth``.
    depth
        Transcripts per cell for metrics at one depth. If None, the lower quartile of the nuclei, or 10 without nuclei.
    points_key, platform, gene_key, um_per_unit, coordinate_system
        As in :func:`ucs.tl.segment`.
    resolution
        Side of a pixel of the common raster in um.

    Returns
    -------
    One row per segmentation (the index, ``segmentation``), expansions last. Medians are over the cells.

    - ``capture``: :func:`ucs.metrics.capture`; ``n_cells``, ``area_um2``, ``transcripts_per_cell``,
      ``transcripts_per_um2``, ``genes_per_cell`` and the means: :func:`ucs.metrics.summary`,
    - ``eccentricity``, ``solidity`` (medians): :func:`ucs.metrics.morphology`; straight edges, which depend on the
      raster that cells were made on, are measured there: :func:`ucs.metrics.seams`,
    - with nuclei: ``cells_with_nucleus``, ``nuclei_in_cells`` (shares), ``spurious_coexpression`` and
      ``spurious_excess``: :func:`ucs.metrics.spurious_coexpression`,
    - with ``truth``: ``f1_0.5``, ...: :func:`ucs.metrics.match`,
    - with markers: ``mecr``, ``mecr_at_depth``: :func:`ucs.metrics.mecr`,
    - with a reference: ``negative_marker_purity`` (of reads; for single cells ``negative_marker_purity_cells`` too) and
      ``reference_correlation``; cells are typed by the transcripts in their nuclei, so that no segmentation chooses its
      own types,
    - ``radius_um`` of expansions; ``curve``: rows that :func:`ucs.pl.purity_capture` joins by a line.

    A metric that the data does not suffice for is NaN, and logged. ``attrs`` holds ``depth``, ``nuclei_key`` and
    ``resolution``.

    Raises
    ------
    KeyError
        If an element is missing.
    ValueError
        If there are no segmentations, an element has no cell where the transcripts are or shares no coordinate system
        with them, a table lists none of its element's cells, or markers or the reference do not fit the genes.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=100, height_um=100, n_genes=30, seed=0)
    >>> table = ucs.tl.compare(sdata, {"true": "true_cells"}, truth="true", expansions_um=[0, 3], resolution=1.0)
    >>> table.index.tolist()
    ['true', 'nuclei + 0 um', 'nuclei + 3 um']
    >>> table["f1_0.5"].idxmax()
    'true'
    """
    levels = tuple(checked_thresholds(thresholds))
    radii = [float(radius) for radius in expansions_um]
    if not segmentations and not radii:
        msg = "There is nothing to compare: pass segmentations={name: key}, or expansions_um=."
        raise ValueError(msg)
    if depth is not None:
        check_positive(depth, "depth")
    tissue = Tissue(
        sdata,
        points_key=points_key,
        platform=platform,
        gene_key=gene_key,
        um_per_unit=um_per_unit,
        coordinate_system=coordinate_system,
        resolution=resolution,
    )
    known = None if reference is None else as_reference(reference, type_key=type_key, scale=scale)
    # All elements are read before the first is measured, so that a missing one is reported at once.
    cells = {name: tissue.cells(key) for name, key in segmentations.items()}
    nuclei_key = _nuclei_key(tissue, nuclei_key, needed=bool(radii))
    nuclei = None if nuclei_key is None else tissue.cells(nuclei_key)
    metrics = ComparisonMetrics.of(
        tissue,
        nuclei=nuclei,
        truth=None if truth is None else cells[truth] if truth in cells else tissue.cells(truth),
        thresholds=levels,
        markers=markers,
        reference=known,
        depth=depth,
    )
    rows: dict[str, dict[str, Any]] = {name: metrics.measure(one, name) for name, one in cells.items()}
    for radius in radii:
        name = f"nuclei + {radius:g} um"
        measured = metrics.measure(_expanded(nuclei, radius), name)
        rows[name] = measured | {"radius_um": radius, "curve": _EXPANSIONS}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("segmentation")
    table.attrs |= {"depth": metrics.depth, "nuclei_key": nuclei_key, "resolution": resolution}
    return table


def _nuclei_key(tissue: Tissue, nuclei_key: str | None, *, needed: bool) -> str | None:
    """Return the key given, or the one that fits the platform's patterns; None if there is none and none is needed."""
    if nuclei_key is not None:
        return nuclei_key
    there, patterns = [*tissue.sdata.labels, *tissue.sdata.shapes], tissue.source.platform.nuclei_keys
    try:
        return choose_one(None, there, patterns, argument="nuclei_key", what="labels or shapes element with nuclei")
    except KeyError as error:
        if needed:
            raise
        logger.info("Metrics that need nuclei are left out. %s", error.args[0])
        return None


def _expanded(nuclei: CellRaster | None, radius: float) -> CellRaster:
    if nuclei is None:
        raise KeyError("There are no nuclei to expand.")
    grown = expand_nuclei(nuclei.labels, radius, um_per_px=nuclei.um_per_px)
    return nuclei._replace(labels=grown.astype(np.int32, copy=False))
