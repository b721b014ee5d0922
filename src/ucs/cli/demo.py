"""The demo: simulated tissue, compared with the truth, and real tissue, compared with the vendor's cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._files.new_store import check_new_store, write_new_store
from ucs._kernels.labels.resample import sample_labels
from ucs._utils.log import logger
from ucs._utils.transformations import transformation_matrix
from ucs.datasets import simulate, xenium_breast
from ucs.metrics import expand_nuclei, match
from ucs.tl import segment

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table
    from spatialdata import SpatialData


SIZE_UM = 240.0  # some 250 cells, of all types
_CLOSE_UP_UM = 75.0  # side of the close-up, in which single transcripts can be seen
_RADII_UM = np.arange(1.0, 6.5, 0.5)  # of expansions; the best one lies well within
_THRESHOLDS = (0.5, 0.7)  # IoU
_TRUTH_COLOR = "#d1006c"
_TRUTH = {"colors": _TRUTH_COLOR, "linewidths": 1.0, "linestyles": "--"}


@dataclass(frozen=True)
class Demo:
    """Results of the demo.

    Attributes
    ----------
    sdata
        Simulated tissue with cells.
    scores
        F1 (columns: IoU thresholds) of the cells, and of nuclei expanded by the radius with the highest F1.
    real
        Real tissue with cells.
    store, picture, real_store, real_picture
        Paths of the files.
    """

    sdata: SpatialData
    scores: pd.DataFrame
    real: SpatialData
    store: Path
    picture: Path
    real_store: Path
    real_picture: Path


def run(
    output: Path,
    *,
    size_um: float | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool = True,
) -> Demo:
    """Segment simulated tissue and the real sample, and write stores and pictures into a folder.

    Raises
    ------
    FileExistsError
        If a store or a picture exists and ``overwrite`` is False.
    """
    store, picture = output / "tissue.zarr", output / "cells.png"
    real_store, real_picture = output / "breast.zarr", output / "breast.png"
    for each in (store, real_store):
        check_new_store(each, overwrite=overwrite)
    for each in (picture, real_picture):
        if each.exists() and not overwrite:
            msg = f"{each} exists; pass --overwrite to replace it or another --output."
            raise FileExistsError(msg)
    size = SIZE_UM if size_um is None else size_um
    logger.info("Simulating %g x %g um of tissue.", size, size)
    sdata = simulate(width_um=size, height_um=size, seed=seed)
    segment(sdata, compute={"device": device}, seed=seed, progress=progress)
    scores = agreement(sdata)
    write_new_store(sdata, store)
    draw(sdata, picture)
    real = xenium_breast()
    segment(real, compute={"device": device}, seed=seed, progress=progress)
    write_new_store(real, real_store)
    draw_real(real, real_picture)
    return Demo(sdata, scores, real, store, picture, real_store, real_picture)


def agreement(sdata: SpatialData) -> pd.DataFrame:
    """Return the F1 of the cells and of the best nuclear expansion, on the raster of the truth.

    The radius of the expansion is the one with the highest F1, chosen for each threshold: no expansion scores higher.
    """
    truth = np.asarray(sdata.labels["true_cells"])
    to_cells = transformation_matrix(sdata, "true_cells", "ucs_cells")
    # Of the types for which these kernels are compiled by now: a demo is often the first run on a machine.
    cells = sample_labels(np.asarray(sdata.labels["ucs_cells"]).astype(np.uint32), to_cells, truth.shape)
    nuclei = np.asarray(sdata.labels["nucleus_labels"]["scale0"]["image"]).astype(np.int32)
    to_um = transformation_matrix(sdata, "true_cells", "transcripts")
    grown = pd.DataFrame(
        {
            radius: match(truth, expand_nuclei(nuclei, radius, um_per_px=to_um[0, 0]), thresholds=_THRESHOLDS)["f1"]
            for radius in _RADII_UM
        }
    ).T
    return pd.DataFrame(
        {
            "ucs": match(truth, cells, thresholds=_THRESHOLDS)["f1"],
            "best nuclear expansion": grown.max(),
            "its radius in um": grown.idxmax(),
        }
    ).T


def score_table(scores: pd.DataFrame) -> Table:
    """Return the agreement as a table for the terminal."""
    from rich.table import Table

    out = Table(
        "", *(f"IoU {threshold:g}" for threshold in scores), title="F1 against the true cells", title_justify="left"
    )
    for name, row in scores.iterrows():
        out.add_row(str(name), *(f"{value:.1f}" if "radius" in str(name) else f"{value:.3f}" for value in row))
    return out


def draw(sdata: SpatialData, path: Path) -> None:
    """Draw the cells over their transcripts, the whole sample and a close-up, into a PNG file."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from ucs.pl import cells

    figure = Figure(figsize=(17, 9.3), layout="constrained")
    overview, close_up = figure.subplots(1, 2)
    bounds = _fullest_part(sdata)
    color = _marker_colors(sdata)
    cells(sdata, color=color, outline={"linewidths": 0.7}, show=("transcripts", "scale_bar"), ax=overview)
    side = bounds[2] - bounds[0]
    overview.add_patch(Rectangle(bounds[:2], side, side, fill=False, color=_TRUTH_COLOR, linewidth=2, zorder=6))
    cells(sdata, bounds=bounds, color=color, outline={"linewidths": 1.8}, ax=close_up)
    cells(sdata, bounds=bounds, shapes_key="true_cells", outline=_TRUTH, show=(), ax=close_up)
    overview.set_title(f"{sdata.tables['ucs_table'].n_obs} cells; colours: marker genes of the cell types")
    close_up.set_title("The part in the frame")
    _add_legend(figure)
    figure.savefig(path, dpi=110)


def draw_real(sdata: SpatialData, path: Path) -> None:
    """Draw the vendor's cells and ours over the same transcripts, into a PNG file."""
    from matplotlib.figure import Figure

    from ucs.pl import compare

    figure = Figure(figsize=(15, 6.5), layout="constrained")
    compare(sdata, {"The vendor's cells": "cell_boundaries", "ucs": "ucs_boundaries"}, ax=figure.subplots(1, 2))
    figure.savefig(path, dpi=110)


def _fullest_part(sdata: SpatialData) -> tuple[float, float, float, float]:
    """Return the square of the close-up: around the cell with most neighbours, within the sample."""
    from scipy.spatial import cKDTree

    centroids = sdata.tables["ucs_table"].obsm["spatial"]
    x_min, y_min, x_max, y_max = sdata.shapes["ucs_boundaries"].total_bounds
    side = min(_CLOSE_UP_UM, x_max - x_min, y_max - y_min)
    crowd = cKDTree(centroids).query_ball_point(centroids, side / 2, p=np.inf, return_length=True)
    low = np.clip(centroids[np.argmax(crowd)] - side / 2, (x_min, y_min), (x_max - side, y_max - side))
    return (float(low[0]), float(low[1]), float(low[0] + side), float(low[1] + side))


def _marker_colors(sdata: SpatialData) -> dict[str, tuple[float, float, float, float]]:
    """Give each marker gene that the cells have the colour of its cell type."""
    from matplotlib import colormaps

    table = sdata.tables["ucs_table"]
    found = table.var_names[np.asarray(table.X.sum(axis=0)).ravel() > 0]
    marker_of = sdata.tables["true_table"].var["marker_of"].dropna()
    palette = colormaps["Dark2"]
    return {gene: palette(code % palette.N) for gene, code in marker_of.cat.codes.items() if gene in found}


def _add_legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label="ucs", color="black", linewidth=1.8),
        Line2D([], [], label="true cells", color=_TRUTH_COLOR, linewidth=1.0, linestyle="--"),
        Line2D([], [], label="nuclei", color="#1f6fd6", linewidth=0.6),
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=len(handles))
