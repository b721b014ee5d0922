"""Summary of a run, as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._utils.progress import COMPILE, TOTAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from rich.table import Table


def run_table(table: AnnData, *, title: str, write_seconds: float | None = None) -> Table:
    """Return a summary of a segmentation: figures and the seconds of its stages.

    Parameters
    ----------
    table
        Table of :func:`ucs.tl.segment`.
    title
        Title of the summary.
    write_seconds
        Seconds that writing took, which the table does not hold; no such stage if None.
    """
    from rich.table import Table

    uns = table.uns["ucs"]
    out = Table(title=title, show_header=False, title_justify="left")
    out.add_column(style="bold")
    out.add_column(overflow="fold")
    for name, value in _figures(table, uns).items():
        out.add_row(name, value)
    out.add_section()
    stages = {k: v for k, v in uns["timings"].items() if k != TOTAL and (k != COMPILE or v >= 0.05)}
    if write_seconds is not None:
        stages["write"] = write_seconds
    for name, seconds in stages.items():
        out.add_row(name, f"{seconds:.1f} s")
    out.add_row("total", f"{uns['timings'][TOTAL] + (write_seconds or 0.0):.1f} s")
    return out


def comparison_table(metrics: pd.DataFrame) -> Table:
    """Return the metrics of :func:`ucs.tl.compare` with a column for each segmentation."""
    from rich.table import Table

    shown = metrics.drop(columns=["curve"], errors="ignore")
    out = Table("", *(str(name) for name in shown.index), title="Segmentations", title_justify="left")
    for name in shown:
        out.add_row(str(name), *("-" if value != value else f"{value:.4g}" for value in shown[name]))
    return out


def _figures(table: AnnData, uns: Mapping[str, Any]) -> dict[str, str]:
    parameters, quality = uns["parameters"], uns["qc"]
    controls = table.obsm["controls"].sum() if "controls" in table.obsm else 0
    assigned, used = int(table.X.sum() + controls), int(quality["n_kept"])
    of_panel = f"panel of {table.n_vars:,} genes"
    figures = {
        "platform": str(parameters["platform"]),
        "method": str(parameters["method"]),
        "transcripts": f"{used:,} of {quality['n_rows']:,} ({parameters['points_key']}, {of_panel})",
        "nuclei": f"{quality['n_nuclei']:,} ({parameters['nuclei_key']})",
        "background": _background(uns.get("model", {}).get("background", {})),
        "regions": _regions(uns.get("regions", {})),
        "cells": f"{table.n_obs:,}",
        "transcripts assigned": f"{assigned:,} ({100 * assigned / max(used, 1):.1f} %)",
    }
    if table.n_obs:
        figures["median area"] = f"{table.obs['area_um2'].median():.1f} um2"
        figures["median transcripts"] = f"{table.obs['n_transcripts'].median():.0f} per cell"
    return {name: text for name, text in figures.items() if text}


def _regions(regions: Mapping[str, Any]) -> str:
    if not regions:
        return ""
    n_own = int(sum(regions["has_own_model"]))
    return f"{len(regions['names']):,} ({regions['by']}), {n_own:,} with a model of their own"


def _background(chosen: Mapping[str, Any]) -> str:
    method = str(chosen.get("method", ""))
    if "distance_um" in chosen:
        return f"beyond {chosen['distance_um']:.1f} um from nuclei ({method})"
    return method
