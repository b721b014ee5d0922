"""Print what a large panel costs: ``python -m benchmarks.genes [--size 600] [--genes 300 26000] [--repeats 3]``.

The transcripts are the same in every case, at the same places: the tissue is simulated once, with the largest panel,
and for a smaller one its genes are put together (gene ``k`` becomes ``k`` modulo the number of genes). Every run is a
process of its own that reads a store, so that its peak memory is its own; the cases take turns, so that what else the
machine does falls on all of them. Ratios are those of the medians, to the first case: of wall-clock time, and of the
processors' time, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._machine import describe, peak_gib

LIMIT = 1.3
"""The ratio, in time and in memory, that a large panel may cost."""


def make(folder: Path, size: float, panels: list[int], per_cell: float) -> None:
    """Write one store per panel into a folder, each with the same transcripts and nuclei."""
    import dask.dataframe as dd
    from spatialdata import SpatialData
    from spatialdata.models import PointsModel
    from spatialdata.transformations import get_transformation

    import ucs

    simulated = ucs.datasets.simulate(
        width_um=size, height_um=size, n_genes=max(panels), transcripts_per_cell=per_cell, seed=0
    )
    points = simulated["transcripts"]
    frame = points[["x", "y", "feature_name", "qv"]].compute()
    code, names = frame["feature_name"].cat.codes.to_numpy(), frame["feature_name"].cat.categories
    for panel in panels:
        # Controls stay behind the genes.
        folded = np.where(code < max(panels), code % panel, code - max(panels) + panel)
        features = pd.Categorical.from_codes(folded, categories=names[:panel].append(names[max(panels) :]))
        element = PointsModel.parse(
            dd.from_pandas(frame.assign(feature_name=features), npartitions=points.npartitions),
            feature_key="feature_name",
            transformations=get_transformation(points, get_all=True),
        )
        out = SpatialData(points={"transcripts": element}, labels={"nucleus_labels": simulated["nucleus_labels"]})
        out.write(folder / f"{panel}.zarr")


def run(store: Path, method: str) -> dict[str, Any]:
    """Segment a store and return seconds per stage and GiB."""
    import spatialdata as sd

    import ucs
    import ucs.tl

    sdata = sd.read_zarr(store)
    before, start = peak_gib(), time.process_time()
    ucs.tl.segment(sdata, method=method, progress=False)
    table = sdata.tables["ucs_table"]
    used = table.uns["ucs"]
    return {
        **{name: float(seconds) for name, seconds in used["timings"].items()},
        "CPU": time.process_time() - start,
        "peak GiB": peak_gib(),
        "GiB before": before,
        "transcripts": int(used["qc"]["n_kept"]),
        "genes": table.n_vars,
        "cells": table.n_obs,
    }


def in_process_of_its_own(*arguments: str) -> str:
    """Run this module with other arguments and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.genes", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(rows: pd.DataFrame, panels: list[int]) -> str:
    """Return medians and ratios as text."""
    medians = rows.groupby("panel").median(numeric_only=True).loc[panels].T
    first = medians[panels[0]]
    for panel in panels[1:]:
        medians[f"{panel} / {panels[0]}"] = medians[panel] / first
    lines = [medians.to_string(float_format=lambda x: f"{x:.4g}")]
    for panel in panels[1:]:
        ratios = medians.loc[["total", "CPU", "peak GiB"], f"{panel} / {panels[0]}"]
        verdict = "holds" if (ratios[["total", "peak GiB"]] <= LIMIT).all() else "does not hold"
        lines.append(
            f"{panel} genes cost {ratios['total']:.2f} x the time ({ratios['CPU']:.2f} x in CPU seconds) and "
            f"{ratios['peak GiB']:.2f} x the memory of {panels[0]}: the limit of {LIMIT} {verdict}."
        )
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=600.0, help="side of the tissue in um")
    parser.add_argument("--genes", type=int, nargs="+", default=[300, 26_000], help="sizes of the panels")
    parser.add_argument("--repeats", type=int, default=3, help="counted runs of each; one more goes before them")
    parser.add_argument("--per-cell", type=float, default=125.0, help="transcripts of a cell")
    parser.add_argument("--method", default="density", help="paper: its first layer grows with the panel")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.make, options.size, options.genes, options.per_cell)
        return
    if options.store:
        print(json.dumps(run(options.store, options.method)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        size = ["--size", str(options.size), "--per-cell", str(options.per_cell)]
        in_process_of_its_own("--make", folder, *size, "--genes", *map(str, options.genes))
        for repeat in range(options.repeats + 1):
            for panel in options.genes:
                store = str(Path(folder) / f"{panel}.zarr")
                line = in_process_of_its_own("--store", store, "--method", options.method).splitlines()[-1]
                if repeat:  # the first run loads or compiles kernels and fills the file cache
                    rows.append({"panel": panel, **json.loads(line)})
    print(describe())
    print(report(pd.DataFrame(rows), options.genes))


if __name__ == "__main__":
    main()
