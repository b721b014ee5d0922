"""The report: its sections in the order in which they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ucs._report.curve import operating_points
from ucs._report.findings import advice, checked, figures_of, vendor_key_of, versions
from ucs._report.page import Section, definition_list, page, paragraph, picture, table, warning_list
from ucs._report.pictures import crops, distributions, maps, overview, purity, side_by_side
from ucs._report.target import check_target
from ucs._utils.checks import listed
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from spatialdata import SpatialData

_SHOWN = {  # columns of the comparison
    "n_cells": "cells", "capture": "captured", "area_um2": "median area (um2)",
    "transcripts_per_cell": "transcripts per cell", "genes_per_cell": "genes per cell",
    "eccentricity": "eccentricity", "solidity": "solidity", "spurious_coexpression": "spurious co-expression",
    "nuclei_in_cells": "nuclei in cells",
}  # fmt: skip


def report(
    sdata: SpatialData,
    path: str | Path,
    *,
    table_key: str = "ucs_table",
    vendor_key: str | None = None,
    thresholds: Iterable[float] = (0.2, 0.35, 0.5, 0.65, 0.8),
    expansions_um: Iterable[float] = (0, 1, 2, 3, 5, 8),
    overwrite: bool = False,
) -> Path:
    """Write a report on a segmentation into one HTML file, which needs nothing else and no network.

    It says what was found and decided and why, what to be wary of and what to do about it, and shows the cells (an
    overview, confident and doubtful places), distributions, maps of density, confidence and unassigned transcripts,
    purity against capture, the vendor's cells beside these, times and versions. Nothing is added to ``sdata``.

    Parameters
    ----------
    sdata
        Object with cells of :func:`ucs.tl.segment`.
    path
        File to write.
    table_key
        Key of the table of the cells.
    vendor_key
        Other cells to compare with, labels or shapes; those whose name tells that they are the vendor's if None.
    thresholds
        Decision thresholds at which cells are predicted again, for the curve of purity against capture: method
        ``"pretrained"`` only, as others would have to be trained. None if empty, which saves most of the time.
    expansions_um
        Radii in um of the expansions of the nuclei on the same figure.
    overwrite
        Whether an existing file may be replaced.

    Returns
    -------
    The path.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is False.
    KeyError
        If the table or the vendor's cells are missing.
    ValueError
        If the table is not one of :func:`ucs.tl.segment`, or has no cells.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=100, height_um=100, n_genes=50, seed=0)
    >>> ucs.tl.segment(sdata, progress=False)
    >>> ucs.report(sdata, "report.html", thresholds=(), expansions_um=(0, 3))  # doctest: +SKIP
    """
    path = check_target(path, overwrite=overwrite)
    cells = _table(sdata, table_key)
    uns = cells.uns["ucs"]
    shapes_key = uns["parameters"]["key_added"]["shapes"]
    vendor_key = vendor_key_of(sdata, vendor_key, of=uns["parameters"]["key_added"])
    found = checked(sdata, uns)
    figures = figures_of(cells)
    compared, remark = operating_points(
        sdata, table_key, vendor_key, thresholds=list(thresholds), expansions_um=list(expansions_um)
    )
    sections = [
        Section("summary", "Summary", definition_list(figures)),
        Section("warnings", "What to be wary of", warning_list(advice(cells, found, compared))),
        Section("decisions", "What was found and decided", table(_reasons(found), header=False)),
        Section("overview", "Overview", picture("overview-picture", overview(sdata, shapes_key))),
        Section("crops", "Confident and doubtful places", crops(sdata, cells, shapes_key)),
        Section("distributions", "Distributions", picture("distributions-picture", distributions(cells))),
        Section("maps", "Maps", picture("maps-picture", maps(sdata, table_key))),
        Section("purity", "Purity against capture", _purity(compared, remark)),
        Section("vendor", "The vendor's cells", _vendor(sdata, cells, shapes_key, vendor_key, compared)),
        Section("run", "The run", _run(uns)),
    ]
    title = "Segmented cells" if sdata.path is None else f"Cells of {sdata.path.name}"
    path.write_text(page(title, sections), encoding="utf-8")
    logger.info("Report written to %s.", path)
    return path


def _table(sdata: SpatialData, table_key: str) -> Any:
    if table_key not in sdata.tables:
        msg = f"table_key={table_key!r} is not in this SpatialData; there are: {listed(sdata.tables)}."
        raise KeyError(msg)
    cells = sdata.tables[table_key]
    if "parameters" not in cells.uns.get("ucs", {}) or cells.n_obs == 0:
        msg = f"tables[{table_key!r}] is no table with cells that ucs.tl.segment has made: there is nothing to report."
        raise ValueError(msg)
    return cells


def _reasons(found: Any) -> pd.DataFrame:
    rows = [(name, text) for name, text in found.rows() if name not in ("warning", "problem", "verdict", "memory")]
    return pd.DataFrame(rows, columns=["what", "which and why"])


def _purity(compared: pd.DataFrame, remark: str) -> str:
    text = (
        "Cells that are made smaller are purer and hold fewer transcripts: neither means anything alone. One "
        "segmentation is better than another only where it lies above it at the same capture. Purity is the spurious "
        "co-expression of pairs of genes that avoid each other in nuclei; no reference is needed for it."
    )
    image = purity(compared)
    drawn = picture("purity-picture", image) if image else paragraph("There are too few nuclei or genes to measure it.")
    return paragraph(text) + (paragraph(remark) if remark else "") + drawn + table(_columns(compared))


def _vendor(sdata: SpatialData, cells: Any, shapes_key: str, vendor_key: str | None, compared: pd.DataFrame) -> str:
    if vendor_key is None:
        return paragraph("There are none in this object. vendor_key= names other cells to compare with.")
    rows = compared.loc[[name for name in ("ucs", vendor_key) if name in compared.index]]
    image = side_by_side(sdata, cells, {"ucs": shapes_key, vendor_key: vendor_key})
    return picture("vendor-picture", image) + table(_columns(rows))


def _columns(compared: pd.DataFrame) -> pd.DataFrame:
    shown = {name: title for name, title in _SHOWN.items() if name in compared}
    return compared[list(shown)].rename(columns=shown).reset_index()


def _run(uns: dict[str, Any]) -> str:
    seconds = sorted(uns["timings"].items(), key=lambda stage: stage[0] == "total")  # the total last
    times = pd.DataFrame([(name, f"{value:.1f}") for name, value in seconds], columns=["stage", "seconds"])
    given = {"peak of memory": f"{float(uns['peak_memory_gib']):.2f} GiB"}
    for name, value in uns["parameters"].items():
        fields = value.items() if isinstance(value, dict) else [("", value)]
        given |= {f"{name} {field}".strip(): str(content) for field, content in fields}
    return table(times) + definition_list(given, small=True) + definition_list(versions(uns), small=True)
