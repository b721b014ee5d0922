"""Segmentations side by side."""

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

EXPANSIONS = "nuclear expansion"


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
    """Measure several segmentations of one tissue by the same transcripts, on one raster, with the same metrics.

    Elements of any shape and coordinate system are brought together through their transformations. No purity should be
    read without the capture: :func:`ucs.pl.purity_capture` draws one against the other.

    Parameters
    ----------
    sdata
        Object with transcripts and cells.
    segmentations
        Name -> key of a labels or shapes element, or of a table, of which the cells that it lists are taken from the
        element that it annotates.
    nuclei_key
        Key of the nuclei, labels or shapes; found by itself if None, and left out if there are none.
    truth
        Name, of those above, of the segmentation that is taken for true, or the key of another element: adds the
        agreement with it.
    markers
        Markers of cell types that exclude each other, in any form that :func:`ucs.metrics.mecr` takes.
    reference, type_key, scale
        Single cells (AnnData with types in ``obs[type_key]``) or profiles (DataFrame, types x genes); ``scale="log1p"``
        if its values are logarithms. If there are no ``markers``, they are taken from it.
    expansions_um
        Radii by which the nuclei are expanded as further segmentations, to compare with.
    thresholds
        IoU thresholds of the agreement with ``truth``.
    depth
        Transcripts per cell for metrics at one depth; the lower quartile of the nuclei's if None.
    points_key, platform, gene_key, um_per_unit, coordinate_system
        As in :func:`ucs.tl.segment`.
    resolution
        Side of a pixel of the common raster in um.

    Returns
    -------
    One row per segmentation (the index, ``segmentation``), expansions last. Medians are over the cells.

    - ``capture``: :func:`ucs.metrics.capture`; ``n_cells``, ``area_um2``, ``transcripts_per_cell``,
      ``transcripts_per_um2``, ``genes_per_cell`` and the means: :func:`ucs.metrics.summary`,
    - ``eccentricity``, ``solidity`` (medians): :func:`ucs.metrics.morphology`; ``cut_share``: share of the cells with a
      straight edge of 0.75 equivalent diameters or more, :func:`ucs.metrics.seams`,
    - with nuclei: ``cells_with_nucleus``, ``nuclei_in_cells`` (shares), ``spurious_coexpression`` and
      ``spurious_excess``: :func:`ucs.metrics.spurious_coexpression`,
    - with ``truth``: ``f1_0.5``, ...: :func:`ucs.metrics.match`,
    - with markers: ``mecr``, ``mecr_at_depth``: :func:`ucs.metrics.mecr`,
    - with a reference: ``negative_marker_purity`` (of reads; ``_cells`` too if it is one of single cells) and
      ``reference_correlation``; cells are typed by the transcripts in their nuclei, so that no segmentation chooses its
      own types,
    - ``radius_um`` of expansions; ``curve``: what :func:`ucs.pl.purity_capture` joins by a line.

    ``attrs`` holds ``depth``, ``nuclei_key`` and ``resolution``.

    Raises
    ------
    KeyError
        If an element is not there.
    ValueError
        If there are no segmentations, an element has no cell where the transcripts are or shares no coordinate system
        with them, a table lists ids that its element does not have, or markers or the reference do not fit the genes.
    """
    levels = tuple(checked_thresholds(thresholds))
    radii = [float(radius) for radius in expansions_um]
    if not segmentations and not radii:
        msg = "There is nothing to compare: pass name -> key of at least one segmentation."
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
    # Everything is read before anything is measured, so that what is missing is said at once.
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
        rows[name] = measured | {"radius_um": radius, "curve": EXPANSIONS}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("segmentation")
    table.attrs |= {"depth": metrics.depth, "nuclei_key": nuclei_key, "resolution": resolution}
    return table


def _nuclei_key(tissue: Tissue, nuclei_key: str | None, *, needed: bool) -> str | None:
    """Return the key given, or the one that fits the platform's patterns, or None if there are no nuclei."""
    if nuclei_key is not None:
        return nuclei_key
    sdata = tissue.sdata
    what = "labels or shapes element with nuclei"
    try:
        return choose_one(
            None,
            [*sdata.labels, *sdata.shapes],
            tissue.source.platform.nuclei_keys,
            argument="nuclei_key",
            what=what,
        )
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
