"""What do marker genes gain? ``python -m benchmarks.accuracy.markers [--regimes ...] [--seeds 0 1] [--size 300]``.

Simulated tissue with its true markers, or the first few of each type: the density method with expression clusters that
are learned, with types by markers, with the true types; and the paper's method (background beyond 6 um) without and
with markers.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.__main__ import score, truth_on_grid
from ucs._read.sample import find_source, prepare

if TYPE_CHECKING:
    from spatialdata import SpatialData

_BACKGROUND_UM = 6.0  # of the paper's method


def markers_of(sdata: SpatialData, most: int | None) -> dict[str, list[str]]:
    """Return the true markers of each type, at most so many of each."""
    var = sdata.tables["true_table"].var
    return {str(name): group.index[:most].tolist() for name, group in var.groupby("marker_of", observed=True)}


def run(regime: str, seed: int, size: float, few: int, steps: int | None) -> list[dict[str, Any]]:
    """Score all variants on one simulated sample."""
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **ucs.datasets.REGIMES[regime])
    true = sdata.tables["true_table"].obs.set_index("cell_id")["cell_type"].astype(str)
    nuclei = sdata.shapes["nucleus_boundaries"]
    sdata.shapes["nucleus_boundaries"] = nuclei.assign(true_type=true.loc[nuclei.index].to_numpy())
    sample = prepare(sdata, find_source(sdata))
    truth = truth_on_grid(sdata, sample)
    markers, some = markers_of(sdata, None), markers_of(sdata, few)
    paper: dict[str, Any] = {"method": "paper", "params": {"background": _BACKGROUND_UM}}
    heavy = {"params": {"background": _BACKGROUND_UM, "marker_weight": 1.0}}
    variants: dict[str, dict[str, Any]] = {
        "density": {},
        "density, markers": {"markers": markers},
        f"density, {few} markers a type": {"markers": some},
        "density, true types": {"cell_type_key": "true_type", "nuclei_key": "nucleus_boundaries"},
        "paper": paper,
        "paper, markers": paper | {"markers": markers},
        "paper, markers, weight 1": paper | {"markers": markers} | heavy,
    }
    rows = []
    for name, options in variants.items():
        if steps is not None:
            options["params"] = options.get("params", {}) | {"max_steps": steps}
        result = ucs.tl.segment(sdata, seed=seed, inplace=False, progress=False, **options)
        labels = np.asarray(result.labels["ucs_cells"])
        if labels.shape == truth.shape:
            rows.append({"regime": regime, "seed": seed} | score(name, labels, truth, sdata, sample))
    return rows


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regimes", nargs="+", default=["default", "spindle", "crowded", "sparse"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size", type=float, default=300.0, help="side of the tissue in um")
    parser.add_argument("--few", type=int, default=4, help="markers of each type where there are to be few")
    parser.add_argument("--steps", type=int, help="of the training, to be quick")
    options = parser.parse_args()
    print(describe())
    for regime in options.regimes:
        rows: list[dict[str, Any]] = []
        for seed in options.seeds:
            rows += run(regime, seed, options.size, options.few, options.steps)
        means = pd.DataFrame(rows).groupby("segmentation", sort=False)[["F1@0.5", "F1@0.7", "transcript F1"]].mean()
        print(f"\n{regime}\n{means.to_string(float_format=lambda x: f'{x:.3f}')}", flush=True)


if __name__ == "__main__":
    main()
