"""Scores by class of cells on simulated tissue: ``python -m benchmarks.accuracy.regimes --regimes ... --methods ...``.

Every nucleus stands for the true cell that it belongs to. A cell is found if its IoU with that cell exceeds 0.5 or
0.7. The expansion is the best of its class for each figure by itself, its radius chosen with the truth over all seeds.
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.__main__ import truth_on_grid
from ucs._read.sample import find_source, prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.sample import Sample

RADII_UM = (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 15, 20)
BINS = 10
FIGURES = ["F1@0.5", "F1@0.7", "transcript F1"]


@dataclass(frozen=True)
class Field:
    """A simulated field on the raster that it is segmented on.

    Attributes
    ----------
    sdata, sample
        The field, and what the program reads of it.
    truth
        ``(h, w)`` ids of the true cells.
    nuclei
        ``(h, w)`` ids of the nuclei: those of their cells.
    classes
        Class of each visible nucleus, by id.
    points
        Transcripts of genes of good quality.
    """

    sdata: SpatialData
    sample: Sample
    truth: NDArray
    nuclei: NDArray
    classes: pd.Series
    points: pd.DataFrame

    def at(self, raster: NDArray) -> NDArray:
        """Return the values of a raster at the transcripts."""
        row, column = self.sample.transcripts.grid.rows_columns(self.points["x"], self.points["y"])
        return raster[row, column]


def make_field(regime: str, seed: int, size: float, resolution: float) -> Field:
    """Simulate a field and bring its truth onto the raster."""
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **ucs.datasets.REGIMES[regime])
    obs = sdata.tables["true_table"].obs.set_index("cell_id")
    return field_of(sdata, obs["cell_class"].astype(str), resolution)


def field_of(sdata: SpatialData, classes: pd.Series, resolution: float) -> Field:
    """Bring a tissue with the elements of :func:`ucs.datasets.simulate` onto a raster; ``classes`` of cells by id."""
    sample = prepare(sdata, find_source(sdata, resolution=resolution))
    nuclei = np.concatenate([[0], sample.nuclei.ids])[sample.nuclei.labels]
    seen = classes.loc[np.unique(nuclei[nuclei > 0])]
    points = sdata.points["transcripts"].compute()
    return Field(sdata, sample, truth_on_grid(sdata, sample), nuclei, seen, points[is_kept(points, sample)])


def is_kept(points: pd.DataFrame, sample: Sample) -> NDArray[np.bool_]:
    """Return which transcripts are of genes and of good quality."""
    platform = sample.source.platform
    control = points["feature_name"].astype(str).map(platform.is_control).to_numpy(bool)
    return ~control & (points["qv"] >= platform.minimum_quality).to_numpy()


def score(
    field: Field, ids: NDArray, assigned: NDArray | None = None, confidence: NDArray | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score a segmentation of which each cell carries the id of its nucleus.

    Parameters
    ----------
    field
        The field.
    ids
        ``(h, w)`` ids of the nuclei, 0 = none.
    assigned
        Id of each transcript in ``field.points``; what lies under it if None.
    confidence
        Confidence of each transcript; none is scored if None.

    Returns
    -------
    One row per nucleus (``class``, ``iou``, ``area``, ``true_area`` in pixels, numbers of transcripts ``right``,
    ``assigned``, ``from_cell``), and one per class and bin of confidence (``n``, ``confidence``, ``right``: sums).
    """
    if ids.shape != field.truth.shape:
        raise ValueError(f"ids has shape {ids.shape}, the field {field.truth.shape}: score on the field's own raster.")
    n = int(max(ids.max(), field.truth.max(), field.classes.index.max())) + 1
    true_area, area = np.bincount(field.truth.ravel(), minlength=n), np.bincount(ids.ravel(), minlength=n)
    both = np.bincount(ids[ids == field.truth], minlength=n)
    own = field.points["true_cell_id"].to_numpy()
    found = field.at(ids) if assigned is None else assigned
    right = (found == own) & (found > 0)
    columns = {
        "iou": both / np.maximum(area + true_area - both, 1),
        "area": area,
        "true_area": true_area,
        "right": np.bincount(found[right], minlength=n),
        "assigned": np.bincount(found, minlength=n),
        "from_cell": np.bincount(own, minlength=n),
    }
    cells = pd.DataFrame(columns).loc[field.classes.index].assign(**{"class": field.classes})
    if confidence is None:
        return cells, pd.DataFrame()
    known = np.isin(found, field.classes.index)
    frame = pd.DataFrame(
        {
            "class": field.classes.loc[found[known]].to_numpy(),
            "bin": np.clip((confidence[known] * BINS).astype(int), 0, BINS - 1),
            "n": 1,
            "confidence": confidence[known],
            "right": right[known],
        }
    )
    return cells, frame.groupby(["class", "bin"], as_index=False).sum()


def run_method(field: Field, resolution: float, seed: int, **arguments: Any) -> tuple[NDArray, NDArray, NDArray]:
    """Segment with :func:`ucs.tl.segment`; return ids of nuclei on the raster, of the transcripts, and confidence."""
    out = ucs.tl.segment(
        field.sdata,
        resolution=resolution,
        seed=seed,
        inplace=False,
        progress=False,
        key_added={"confidence_column": "confidence"},
        **arguments,
    )
    obs = out.tables["ucs_table"].obs
    nucleus = np.zeros(int(obs["cell_id"].max()) + 1, np.int64)
    nucleus[obs["cell_id"]] = obs["nucleus_id"].fillna(0)
    points = out.points["transcripts"].compute()
    points = points[is_kept(points, field.sample)]
    return (
        nucleus[np.asarray(out.labels["ucs_cells"])],
        nucleus[points["ucs_cell_id"].to_numpy()],
        points["confidence"].to_numpy(),
    )


def measure(
    regime: str, seed: int, size: float, resolution: float, methods: Mapping[str, Mapping[str, Any]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score every expansion and every method on one field.

    Parameters
    ----------
    regime, seed, size, resolution
        Name in :data:`ucs.datasets.REGIMES`, seed, side of the field and of a pixel in um.
    methods
        Name -> arguments of :func:`ucs.tl.segment`.

    Returns
    -------
    The frames of :func:`score` with the columns ``regime``, ``seed``, ``segmentation``, and ``radius`` of expansions.
    """
    field = make_field(regime, seed, size, resolution)
    cells, bins = [], []
    for radius in RADII_UM:
        frame, _ = score(field, ucs.metrics.expand_nuclei(field.nuclei, radius, um_per_px=resolution))
        cells.append(frame.assign(segmentation="expansion", radius=radius))
    for name, arguments in methods.items():
        start = time.perf_counter()
        ids, assigned, confidence = run_method(field, resolution, seed, **arguments)
        seconds = time.perf_counter() - start
        frame, curve = score(field, ids, assigned, confidence)
        cells.append(frame.assign(segmentation=name, radius=np.nan, seconds=seconds))
        bins.append(curve.assign(segmentation=name))
    of = {"regime": regime, "seed": seed}
    return pd.concat(cells).assign(**of), (pd.concat(bins) if bins else pd.DataFrame()).assign(**of)


def summarise(cells: pd.DataFrame, bins: pd.DataFrame) -> pd.DataFrame:
    """Return one row per regime, class and segmentation, all seeds together; of the expansions the best by figure."""
    by = ["regime", "class", "segmentation", "radius"]
    rows = []
    for key, group in cells.groupby(by, sort=False, dropna=False):
        row = dict(zip(by, key, strict=True)) | _figures(group)
        curve = bins
        for name in by[:3]:
            curve = curve[curve[name] == row[name]] if len(curve) else curve
        rows.append(row | {"calibration error": _calibration_error(curve)})
    table = pd.DataFrame(rows)
    is_expansion = table["segmentation"] == "expansion"
    best = [_best(group) for _, group in table[is_expansion].groupby(by[:2], sort=False)]
    return pd.concat([pd.DataFrame(best), table[~is_expansion]]).sort_values(by[:2], kind="stable", ignore_index=True)


def _figures(cells: pd.DataFrame) -> dict[str, float]:
    n, predicted = len(cells), int((cells["area"] > 0).sum())
    right, assigned, own = (int(cells[name].sum()) for name in ("right", "assigned", "from_cell"))
    return {
        "n": n,
        "F1@0.5": 2 * int((cells["iou"] > 0.5).sum()) / (n + predicted),
        "F1@0.7": 2 * int((cells["iou"] >= 0.7).sum()) / (n + predicted),
        "transcript F1": 2 * right / max(assigned + own, 1),
        "area ratio": float((cells["area"] / cells["true_area"].clip(lower=1)).median()),
        "purity": right / max(assigned, 1),
    }


def _calibration_error(bins: pd.DataFrame) -> float:
    """Return the mean gap between confidence and share of right transcripts over the bins, weighted by number."""
    if not len(bins):
        return float("nan")
    total = bins.groupby("bin")[["n", "confidence", "right"]].sum()
    return float((total["confidence"] - total["right"]).abs().sum() / total["n"].sum())


def _best(group: pd.DataFrame) -> dict[str, Any]:
    """Return the expansion that is best by F1 at IoU 0.7, but every figure at its own best radius."""
    best = group.sort_values(["F1@0.7", "F1@0.5"]).iloc[-1].to_dict()
    return best | {figure: group[figure].max() for figure in FIGURES}


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Return, per method: worst F1 at 0.5 against the class' best expansion, mean gain at 0.7, largest error."""
    keys = ["regime", "class"]
    base = table[table["segmentation"] == "expansion"].set_index(keys)
    rows = []
    for name, group in table[table["segmentation"] != "expansion"].groupby("segmentation", sort=False):
        difference = group.set_index(keys)[FIGURES] - base[FIGURES]
        worst = difference["F1@0.5"].idxmin()
        rows.append(
            {
                "segmentation": name,
                "mean gain at 0.7": difference["F1@0.7"].mean(),
                "mean gain at 0.5": difference["F1@0.5"].mean(),
                "mean gain of transcripts": difference["transcript F1"].mean(),
                "worst at 0.5": difference["F1@0.5"].min(),
                "of": ", ".join(worst),
                "classes below by 0.02": int((difference["F1@0.5"] < -0.02).sum()),
                "classes": len(difference),
                "largest calibration error": group["calibration error"].max(),
            }
        )
    return pd.DataFrame(rows)


def run(
    regimes: Iterable[str],
    seeds: Iterable[int],
    size: float,
    resolution: float,
    methods: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    """Measure and summarise; each regime is printed when it is done."""
    tables = []
    for regime in regimes:
        parts = [measure(regime, seed, size, resolution, methods) for seed in seeds]
        table = summarise(pd.concat([cells for cells, _ in parts]), pd.concat([bins for _, bins in parts]))
        print(f"\n{table.to_string(index=False, float_format=lambda x: f'{x:.3f}')}", flush=True)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = list(ucs.datasets.REGIMES)
    parser.add_argument("--regimes", nargs="+", default=list(ucs.datasets.LAYOUTS), choices=known)
    parser.add_argument("--methods", nargs="*", default=["density", "pretrained"], choices=ucs.methods.method_names())
    parser.add_argument("--thresholds", type=float, nargs="*", help="each method at these too")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10])
    parser.add_argument("--size", type=float, default=250.0, help="side of the tissue in um")
    parser.add_argument("--resolution", type=float, default=0.5, help="um per pixel")
    parser.add_argument("--csv", help="file for the table")
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    methods: dict[str, dict[str, Any]] = {name: {"method": name} for name in options.methods}
    for threshold in options.thresholds or []:
        methods |= {f"{name}, {threshold:g}": {"method": name, "threshold": threshold} for name in options.methods}
    print(describe())
    table = run(options.regimes, options.seeds, options.size, options.resolution, methods)
    if methods:
        print(f"\nAll classes\n{gains(table).to_string(index=False, float_format=lambda x: f'{x:.3f}')}")
    if options.csv:
        table.to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
