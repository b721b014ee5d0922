"""Is confidence what it says? ``python -m benchmarks.accuracy.reliability [--regimes ...] [--seeds 1] [--size 300]``.

On simulated tissue, transcripts in cells are put into ten bins of the confidence at their pixel, and cells into ten
bins of theirs. A confidence is calibrated if of the transcripts in a bin as many come from the cell they are counted in
as their mean confidence says. Of a cell, it should say the share of its transcripts that are its own, and rise with its
IoU.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.__main__ import truth_on_grid
from ucs._read.sample import find_source, prepare

_BINS = 10
_FEWEST = {"transcripts": 300, "cells": 15}  # of a bin, for its gap to count


def curve(confidence: np.ndarray, outcomes: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return number, mean confidence and mean outcomes of each tenth of the range of confidence."""
    frame = pd.DataFrame({"n": 1, "confidence": confidence, **outcomes})
    groups = frame.groupby(np.clip((confidence * _BINS).astype(int), 0, _BINS - 1))
    return groups.agg({"n": "size", "confidence": "mean", **dict.fromkeys(outcomes, "mean")})


def gaps(table: pd.DataFrame, outcome: str, fewest: int) -> tuple[float, float]:
    """Return the mean (weighted by number) and the largest gap between confidence and an outcome."""
    gap = (table["confidence"] - table[outcome]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum()), float(gap[table["n"] >= fewest].max())


def measure(regime: str, seed: int, size: float, resolution: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the frame of the transcripts in cells and that of the cells of one simulated sample."""
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **ucs.datasets.REGIMES[regime])
    out = ucs.tl.segment(
        sdata,
        resolution=resolution,
        seed=seed,
        inplace=False,
        progress=False,
        key_added={"confidence_column": "confidence"},
    )
    table = out.tables["ucs_table"]
    nucleus = pd.Series(table.obs["nucleus_id"].to_numpy(), index=table.obs["cell_id"].to_numpy())
    points = out.points["transcripts"].compute()
    points = points[points["feature_name"].isin(table.var_names) & (points["ucs_cell_id"] > 0)]
    right = points["true_cell_id"].to_numpy() == nucleus.loc[points["ucs_cell_id"]].to_numpy()
    transcripts = pd.DataFrame(
        {"cell": points["ucs_cell_id"].to_numpy(), "confidence": points["confidence"].to_numpy(), "right": right}
    )
    sample = prepare(sdata, find_source(sdata, resolution=resolution))
    truth, labels = truth_on_grid(sdata, sample), np.asarray(out.labels["ucs_cells"])
    cells = pd.DataFrame({"confidence": table.obs["confidence"].to_numpy()}, index=nucleus.index)
    cells["right"] = transcripts.groupby("cell")["right"].mean().reindex(cells.index)
    cells["iou"] = _ious(truth, labels, nucleus)
    return transcripts, cells


def _ious(truth: np.ndarray, labels: np.ndarray, nucleus: pd.Series) -> np.ndarray:
    """Return the IoU of each cell with the true cell of its nucleus."""
    true = np.concatenate([[0], nucleus.to_numpy()])[labels]
    both = np.bincount(labels[true == truth], minlength=labels.max() + 1)[nucleus.index]
    area, of_true = np.bincount(labels.ravel()), np.bincount(truth.ravel(), minlength=int(nucleus.max()) + 1)
    return both / (area[nucleus.index] + of_true[nucleus.to_numpy()] - both)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    regimes = sorted(ucs.datasets.REGIMES)
    parser.add_argument("--regimes", nargs="+", default=regimes, choices=regimes)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--size", type=float, default=300.0, help="side of the tissue in um")
    parser.add_argument("--resolution", type=float, default=1.0, help="um per pixel")
    options = parser.parse_args()
    print(describe())
    rows = []
    for regime in options.regimes:
        parts = [measure(regime, seed, options.size, options.resolution) for seed in options.seeds]
        transcripts, cells = pd.concat([t for t, _ in parts]), pd.concat([c for _, c in parts])
        by_transcript = curve(transcripts["confidence"].to_numpy(), {"right": transcripts["right"].to_numpy()})
        by_cell = curve(cells["confidence"].to_numpy(), {name: cells[name].to_numpy() for name in ("right", "iou")})
        for name, table in (("transcripts", by_transcript), ("cells", by_cell)):
            print(f"\n{regime}, {name}\n{table.to_string(index=False, float_format=lambda x: f'{x:.3f}')}")
        mean, most = gaps(by_transcript, "right", _FEWEST["transcripts"])
        mean_cell, most_cell = gaps(by_cell, "right", _FEWEST["cells"])
        rank = cells[["confidence", "iou"]].corr("spearman").iloc[0, 1]
        rows.append((regime, mean, most, mean_cell, most_cell, rank))
        names = ["regime", "transcripts: mean gap", "largest", "cells: mean gap", "largest", "rank corr. with IoU"]
        print("\n" + pd.DataFrame([rows[-1]], columns=names).to_string(index=False, float_format=lambda x: f"{x:.3f}"))


if __name__ == "__main__":
    main()
