"""Print how peers assign the transcripts of simulated tissue: ``python -m benchmarks.accuracy.peers --comseg PYTHON``.

A peer from PyPI runs in an environment of its own, whose Python is given; it is never a dependency. ComSeg: ``python -m
venv V`` and ``V/bin/pip install comseg`` (1.8.5 was tried; torch first, where a CPU build is wanted). It associates
transcripts with nuclei and draws no cells, so transcripts are what is compared: with where they came from, beside
nuclear expansion (the radius chosen with the truth) and ours.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.samples import RADII_UM
from ucs.metrics import Tissue, expand_nuclei, transcript_assignment

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from spatialdata import SpatialData

SCRIPTS = {"comseg": Path(__file__).with_name("_comseg.py")}
CELL_DIAMETER_UM, CELL_RADIUS_UM = 15.0, 15.0  # ComSeg's own defaults


class Molecules:
    """Transcripts of genes that pass the quality cut, where they came from, and the nuclei on a raster of 1 um."""

    def __init__(self, sdata: SpatialData) -> None:
        tissue = Tissue(sdata, resolution=1.0)
        self.nuclei = tissue.cells("nucleus_labels")
        points = sdata.points["transcripts"].compute()
        points = points[(points["qv"] >= 20) & points["feature_name"].astype(str).isin(tissue.genes)]
        row, column = tissue.grid.rows_columns(points["x"], points["y"])
        self.pixels = row, column
        self.true_id = points["true_cell_id"].to_numpy()
        x0, y0 = tissue.grid.origin
        self.frame = pd.DataFrame(
            {
                "x": points["x"].to_numpy(float) - x0,
                "y": points["y"].to_numpy(float) - y0,
                "z": 0,
                "gene": points["feature_name"].astype(str).to_numpy(),
            }
        )

    def in_labels(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the nucleus whose cell each transcript lies in, 0 = none; labels carry dense ids."""
        return np.concatenate([[0], self.nuclei.ids])[labels[self.pixels]]

    def score(self, name: str, ids: NDArray[np.integer], seconds: float = float("nan")) -> dict[str, float | str]:
        """Score ids of nuclei against the truth."""
        scores = transcript_assignment(self.true_id, ids, matching="id")
        shown = {key: scores[key] for key in ("precision", "recall", "f1", "ari")}
        return {"method": name, **shown, "capture": float((ids > 0).mean()), "seconds": seconds}


def run_peer(python: str, script: Path, molecules: Molecules, seed: int, timeout_s: float) -> NDArray[np.int64]:
    """Run a peer in its own environment and return the nucleus of each transcript."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spots").mkdir()
        (folder / "masks").mkdir()
        molecules.frame.to_csv(folder / "spots" / "tissue.csv", index=False)
        np.save(folder / "masks" / "tissue.npy", molecules.nuclei.labels)
        command = [python, str(script), str(folder), str(CELL_DIAMETER_UM), str(CELL_RADIUS_UM), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{script.name} failed:\n{done.stderr[-2000:]}")
        found = np.load(folder / "cells.npy")
    return np.concatenate([[0], molecules.nuclei.ids])[found]


def timed(method: Callable[[], NDArray[np.integer]]) -> tuple[NDArray[np.integer], float]:
    """Return a result and the seconds it took."""
    start = time.perf_counter()
    found = method()
    return found, time.perf_counter() - start


def measure(regime: str, seed: int, size: float, peers: dict[str, str], timeout_s: float) -> list[dict]:
    """Score every method on one simulated tissue."""
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **ucs.datasets.REGIMES[regime])
    molecules = Molecules(sdata)
    grown = {radius: molecules.in_labels(expand_nuclei(molecules.nuclei.labels, radius)) for radius in RADII_UM}
    scored = [molecules.score(f"best expansion ({radius:g} um)", ids) for radius, ids in grown.items()]
    rows = [max(scored, key=lambda row: row["f1"])]

    def ours() -> NDArray[np.integer]:
        result = ucs.tl.segment(sdata, resolution=1.0, seed=seed, inplace=False, progress=False)
        nucleus = np.concatenate([[0], result.tables["ucs_table"].obs["nucleus_id"].to_numpy()])
        return nucleus[np.asarray(result.labels["ucs_cells"])[molecules.pixels]]

    rows.append(molecules.score("ucs", *timed(ours)))
    for name, python in peers.items():
        found, seconds = timed(lambda: run_peer(python, SCRIPTS[name], molecules, seed, timeout_s))  # noqa: B023
        rows.append(molecules.score(name, found, seconds))
    return [{"regime": regime, "seed": seed, "transcripts": len(molecules.frame), **row} for row in rows]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comseg", metavar="PYTHON", help="Python of an environment with ComSeg")
    parser.add_argument("--regimes", nargs="+", default=["default"], choices=sorted(ucs.datasets.REGIMES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", type=float, default=300.0, help="side of the tissue in um")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds that a peer may take")
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    peers = {"comseg": options.comseg} if options.comseg else {}
    rows = [
        row
        for regime in options.regimes
        for seed in range(options.seeds)
        for row in measure(regime, seed, options.size, peers, options.timeout)
    ]
    print(describe())
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda x: f"{x:.3f}"))


if __name__ == "__main__":
    main()
