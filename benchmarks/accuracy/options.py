"""Print what options and fewer transcripts change: ``python -m benchmarks.accuracy.options [--of shape stability]``.

``shape``: distances that follow the shape of nuclei against plain ones, on round, mixed and spindle-shaped tissue
and on the prostate sample, at its two resolutions. ``stability``: cells from 80, 40 and 20 % of the transcripts against
those from all, trained anew on each, as in the paper.
"""

from __future__ import annotations

import argparse
import logging
from typing import Any

import numpy as np
import pandas as pd

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.__main__ import score, truth_on_grid
from benchmarks.accuracy.real import Agreement
from benchmarks.accuracy.samples import SAMPLES
from ucs._read.sample import find_source, prepare
from ucs.metrics import Tissue, subsample_stability

SHAPES: dict[str, dict[str, float]] = {"round": {"spindle_share": 0.0, "aspect": 1.05}, "default": {}}
SHAPES["spindle"] = ucs.datasets.REGIMES["spindle"]
EXPONENTS = {"plain": 0.0, "scaled": ucs.methods.DensityParams.shape_exponent}
"""Of the ratio of the nucleus' axes, by name."""


def score_exponents(shape: str, seed: int, size: float) -> list[dict[str, Any]]:
    """Score plain and scaled distances on one simulated sample."""
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **SHAPES[shape])
    sample = prepare(sdata, find_source(sdata))
    truth = truth_on_grid(sdata, sample)
    rows = []
    for name, exponent in EXPONENTS.items():
        params = {"shape_exponent": exponent}
        result = ucs.tl.segment(sdata, params=params, seed=seed, inplace=False, progress=False)
        rows.append({"tissue": shape} | score(name, np.asarray(result.labels["ucs_cells"]), truth, sdata, sample))
    return rows


def score_exponents_on_prostate(resolution: float, seed: int) -> list[dict[str, Any]]:
    """Score both against the vendor's cells that hold a nucleus."""
    real = SAMPLES["prostate"]()
    sample = prepare(real.sdata, find_source(real.sdata, resolution=resolution), real.nuclei_key)
    agreement = Agreement(real, Tissue(real.sdata, resolution=resolution), sample)
    rows = []
    for name, exponent in EXPONENTS.items():
        result = ucs.tl.segment(
            real.sdata,
            nuclei_key=real.nuclei_key,
            resolution=resolution,
            params={"shape_exponent": exponent},
            seed=seed,
            inplace=False,
            progress=False,
        )
        found = agreement.of(np.asarray(result.labels["ucs_cells"]))
        row = {"F1@0.5": found["F1@0.5 all"], "F1@0.7": found["F1@0.7 all"], "transcript F1": found["transcript F1"]}
        rows.append({"tissue": f"prostate, {resolution:g} um per pixel", "segmentation": name} | row)
    return rows


def stability(regime: str, seed: int, size: float) -> pd.DataFrame:
    """Compare cells of parts of the transcripts with those of all."""
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **ucs.datasets.REGIMES[regime])
    return subsample_stability(sdata).reset_index().assign(tissue=regime)


def stability_of_real(name: str) -> pd.DataFrame:
    """Do the same with a real sample."""
    real = SAMPLES[name]()

    def run(sdata: Any) -> Any:
        return ucs.tl.segment(
            sdata, nuclei_key=real.nuclei_key, inplace=False, progress=False, read={"um_per_unit": real.um_per_unit}
        )

    return subsample_stability(real.sdata, run).reset_index().assign(tissue=name)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", nargs="+", default=["shape", "stability"], choices=["shape", "stability"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size", type=float, default=300.0, help="side of the tissue in um")
    parser.add_argument("--regimes", nargs="+", default=["default"], help="of the test of stability")
    parser.add_argument("--real", nargs="*", default=["prostate", "breast"], choices=list(SAMPLES))
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    print(describe())
    if "shape" in options.of:
        rows = [row for shape in SHAPES for seed in options.seeds for row in score_exponents(shape, seed, options.size)]
        if "prostate" in options.real:
            rows += [row for resolution in (0.5, 1.0) for row in score_exponents_on_prostate(resolution, 0)]
        table = pd.DataFrame(rows).groupby(["tissue", "segmentation"], sort=False)
        means = table[["F1@0.5", "F1@0.7", "transcript F1"]].mean()
        print(means.to_string(float_format=lambda x: f"{x:.3f}"), flush=True)
    if "stability" in options.of:
        parts = [stability(regime, seed, options.size) for regime in options.regimes for seed in options.seeds]
        parts += [stability_of_real(name) for name in options.real]
        table = pd.concat(parts).groupby(["tissue", "fraction"], sort=False)
        print(table.mean(numeric_only=True).to_string(float_format=lambda x: f"{x:.3f}"))


if __name__ == "__main__":
    main()
