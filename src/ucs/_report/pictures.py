"""The pictures of a report, as PNG images."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._evaluation.tissue import Tissue
from ucs._report.page import picture
from ucs.pl import cells as draw_cells
from ucs.pl import compare, confidence, purity_capture

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    Bounds = tuple[float, float, float, float]

_DPI = 100
_CROP_UM = 60.0  # side: some ten cells, in which single outlines can be judged
_VENDOR_UM = 100.0
_FEWEST_CELLS = 3  # of a crop, whose confidence would be that of one cell otherwise
_MAP_SIDE = 80  # bins along the longer side, at most
_MAP_UM = 10.0  # side of a bin, at least: about a cell


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.05)
    return buffer.getvalue()


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def overview(sdata: SpatialData, shapes_key: str) -> bytes:
    """Return all cells over the density of the transcripts."""
    figure = _figure(9, 7)
    draw_cells(
        sdata,
        shapes_key=shapes_key,
        show=("transcripts", "scale_bar"),
        outline={"linewidths": 0.4},
        ax=figure.subplots(),
    )
    return _png(figure)


def crops(sdata: SpatialData, cells: AnnData, shapes_key: str) -> str:
    """Return the two places with the most and the two with the least confident cells, as figures."""
    places = _places(cells)
    out = []
    for name, (bounds, mean, n) in places.items():
        figure = _figure(8.6, 4.2)
        over_density, filled = figure.subplots(1, 2)
        draw_cells(sdata, shapes_key=shapes_key, bounds=_in_units(cells, bounds), ax=over_density)
        confidence(
            sdata, shapes_key=shapes_key, bounds=_in_units(cells, bounds), show=("nuclei", "scale_bar"), ax=filled
        )
        text = f"{name.split('-')[0].capitalize()}: {n} cells with a mean confidence of {mean:.2f}"
        out.append(picture(f"crop-{name}", _png(figure), text))
    return "".join(out)


def _places(cells: AnnData) -> dict[str, tuple[Bounds, float, int]]:
    """Return squares in um by name, with the mean confidence and the number of the cells whose middle lies there."""
    xy, sure = np.asarray(cells.obsm["spatial"]), cells.obs["confidence"].to_numpy(float)
    low = xy.min(axis=0)
    bin_of = np.floor((xy - low) / _CROP_UM).astype(np.int64)
    _, which, n = np.unique(bin_of, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()
    mean = np.bincount(which, sure) / n
    usable = np.flatnonzero(n >= min(_FEWEST_CELLS, n.max()))
    ranked = usable[np.argsort(mean[usable], kind="stable")]
    n_each = max(1, min(2, len(ranked) // 2))
    chosen = {f"confident-{k + 1}": ranked[-1 - k] for k in range(n_each)}
    if len(ranked) > 1:
        chosen |= {f"doubtful-{k + 1}": ranked[k] for k in range(n_each)}
    out = {}
    for name, place in chosen.items():
        corner = low + bin_of[np.argmax(which == place)] * _CROP_UM
        out[name] = (_within(corner, _CROP_UM, xy), float(mean[place]), int(n[place]))
    return out


def _within(corner: NDArray, side: float, xy: NDArray) -> Bounds:
    """Return a square at a corner, moved to where cells are."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    x_min, y_min = np.clip(corner, low, np.maximum(high - side, low)).tolist()
    return x_min, y_min, x_min + side, y_min + side


def _in_units(cells: AnnData, bounds: tuple[float, ...]) -> Any:
    """Return bounds in um in the unit of the points."""
    per_unit = float(cells.uns["ucs"]["parameters"]["um_per_unit"])
    return tuple(value / per_unit for value in bounds)


def distributions(cells: AnnData) -> bytes:
    """Return histograms over the cells."""
    obs = cells.obs
    columns = {
        "area (um2)": obs["area_um2"],
        "nucleus / cell area": obs["nucleus_area_um2"] / obs["area_um2"],
        "transcripts per cell": obs["n_transcripts"],
        "genes per cell": obs["n_genes"],
        "transcripts per um2": obs["density"],
        "confidence": obs["confidence"],
    }
    figure = _figure(9, 4.6)
    for ax, (title, values) in zip(figure.subplots(2, 3).ravel(), columns.items(), strict=True):
        high = float(np.percentile(values, 99.5))
        ax.hist(np.clip(values, 0, high), bins=30, color="#1f6fd6", alpha=0.75)
        ax.axvline(float(np.median(values)), color="#d1006c", linewidth=1.2)
        ax.set_xlabel(f"{title}, median {np.median(values):.3g}")
        ax.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def maps(sdata: SpatialData, table_key: str) -> bytes:
    """Return maps of the density of transcripts, of the confidence of cells, and of the share of unassigned ones."""
    cells = sdata.tables[table_key]
    used = cells.uns["ucs"]["parameters"]
    tissue = Tissue(sdata, platform=used["platform"], resolution=float(used["resolution"]))
    labels, transcripts, grid = tissue.cells(table_key).labels, tissue.transcripts.map, tissue.grid
    bin_px = max(1, round(max(_MAP_UM, max(grid.shape) * grid.um_per_px / _MAP_SIDE) / grid.um_per_px))
    shape = tuple(-(-side // bin_px) for side in grid.shape)
    row, column = transcripts.rows(), transcripts.column

    def binned(rows: NDArray, columns: NDArray, weights: NDArray) -> NDArray[np.float64]:
        number = (rows // bin_px).astype(np.int64) * shape[1] + columns // bin_px
        return np.bincount(number, weights, shape[0] * shape[1]).reshape(shape).astype(np.float64)

    every = binned(row, column, transcripts.count)
    free = binned(row, column, transcripts.count * (labels[row, column] == 0))
    inside_y, inside_x = np.nonzero(labels)
    by_label = np.concatenate([[0.0], _by_label(cells, tissue.cells(table_key).ids)])
    pixels = binned(inside_y, inside_x, np.ones(len(inside_y)))
    sure = binned(inside_y, inside_x, by_label[labels[inside_y, inside_x]])
    with np.errstate(invalid="ignore"):
        drawn = {
            "transcripts per um2": (every / (bin_px * grid.um_per_px) ** 2, "YlOrRd", None),
            "confidence of the cells": (sure / np.where(pixels > 0, pixels, np.nan), "viridis", None),
            "share of unassigned transcripts": (free / np.where(every > 0, every, np.nan), "PuRd", (0, 1)),
        }
    return _maps(drawn, bin_px * grid.um_per_px, np.array(grid.origin) * grid.um_per_unit)


def _by_label(cells: AnnData, ids: NDArray) -> NDArray[np.float64]:
    instance_key = cells.uns["spatialdata_attrs"]["instance_key"]
    return cells.obs.set_index(instance_key)["confidence"].reindex(ids).to_numpy(float)


def _maps(
    drawn: Mapping[str, tuple[NDArray, str, tuple[float, float] | None]], side_um: float, corner_um: NDArray
) -> bytes:
    figure = _figure(11, 3.6)
    for ax, (title, (values, colors, limits)) in zip(figure.subplots(1, 3), drawn.items(), strict=True):
        low, high = limits or (None, float(np.nanpercentile(values, 99.5)))
        x0, y0 = corner_um
        height, width = (side * side_um for side in values.shape)
        shown = ax.imshow(values, cmap=colors, vmin=low, vmax=high, extent=(x0, x0 + width, y0 + height, y0))
        ax.set_title(title, fontsize="medium")
        ax.set_xlabel("x (um)")
        figure.colorbar(shown, ax=ax, shrink=0.7)
    return _png(figure)


def purity(compared: pd.DataFrame) -> bytes | None:
    """Return purity against capture; None if it could not be measured."""
    if "spurious_coexpression" not in compared or compared["spurious_coexpression"].isna().all():
        return None
    figure = _figure(8.5, 4.6)
    purity_capture(compared, purity="spurious_coexpression", ax=figure.subplots())
    return _png(figure)


def side_by_side(sdata: SpatialData, cells: AnnData, segmentations: Mapping[str, str]) -> bytes:
    """Return segmentations of the place with most cells."""
    xy = np.asarray(cells.obsm["spatial"])
    low, high = xy.min(axis=0), xy.max(axis=0)
    bins = [np.arange(a, max(b, a + 1) + _VENDOR_UM, _VENDOR_UM) for a, b in zip(low, high, strict=True)]
    counts, *_ = np.histogram2d(xy[:, 0], xy[:, 1], bins=bins)
    at = np.unravel_index(np.argmax(counts), counts.shape)
    corner = np.array([edges[k] for edges, k in zip(bins, at, strict=True)])
    bounds = _in_units(cells, _within(corner, _VENDOR_UM, xy))
    figure = _figure(10, 4.6)
    compare(sdata, segmentations, bounds=bounds, ax=figure.subplots(1, len(segmentations)))
    return _png(figure)
