"""Print what the lazy transcript map of a slide costs: ``python -m benchmarks.rasterize [--mpx 41] [--genes 313]``.

A slide is simulated as Xenium's reader would give it, one transcript per pixel of 1 um, a fifth of them below the
quality cut, and written to a store in 48 partitions: once with one block of the slide in each, as fields of view are,
and once with transcripts of the whole slide in each, where every partition reaches every chunk. Each is then opened,
cropped to 1000 x 1000 pixels and summed by gene, the crop and the whole, in a process of its own, whose peak resident
set is stated; the sums must be those of the transcripts that were written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks._machine import describe, peak_gib

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACROSS, DOWN = 8, 6
"""Blocks of the slide, and partitions."""

LAYOUTS = "a block in each partition", "the whole in each partition"

N_CONTROLS, CONTROLS = 200, 0.004
LIMIT_GIB = 2.0
CROP = 1000


def partition(number: int, *, width: int, height: int, n_genes: int, by_block: bool, seed: int) -> pd.DataFrame:
    """Return the transcripts of a partition."""
    rng = np.random.default_rng([seed, number])
    n = rng.poisson(width * height / (ACROSS * DOWN))
    low, size = (number % ACROSS, number // ACROSS), (width / ACROSS, height / DOWN)
    if not by_block:
        low, size = (0, 0), (width, height)
    x, y = ((rng.random(n, dtype=np.float32) + low[axis]) * size[axis] for axis in (0, 1))
    weight = 1 / np.arange(1, n_genes + 1)
    code = rng.choice(n_genes, n, p=weight / weight.sum())
    control = rng.random(n) < CONTROLS
    code[control] = n_genes + rng.integers(N_CONTROLS, size=np.count_nonzero(control))
    names = [f"GENE{k:04d}" for k in range(n_genes)] + [f"NegControlProbe_{k:04d}" for k in range(N_CONTROLS)]
    return pd.DataFrame(
        {
            "x": np.minimum(x, np.nextafter(np.float32(width), np.float32(0))).astype(np.float32),
            "y": np.minimum(y, np.nextafter(np.float32(height), np.float32(0))).astype(np.float32),
            "z": rng.normal(18, 2, n).astype(np.float32),
            "feature_name": pd.Categorical.from_codes(code, categories=names),
            "qv": np.where(rng.random(n) < 0.2, 12.0, 35.0).astype(np.float32),
            "transcript_id": np.arange(n, dtype=np.uint64) + (np.uint64(number) << np.uint64(32)),
        }
    )


def make(store: Path, mpx: float, n_genes: int, *, by_block: bool, seed: int) -> None:
    """Write a slide."""
    import dask
    import dask.dataframe as dd
    from spatialdata import SpatialData
    from spatialdata.models import PointsModel

    side = round((mpx * 1e6) ** 0.5)
    options: dict[str, Any] = {"width": side, "height": side, "n_genes": n_genes, "by_block": by_block, "seed": seed}
    empty = partition(0, **{**options, "width": 0, "height": 0})
    with dask.config.set({"dataframe.convert-string": False}):
        frame = dd.from_map(partition, range(ACROSS * DOWN), meta=empty, **options)
        axes = {"x": "x", "y": "y", "z": "z"}
        points = PointsModel.parse(frame, coordinates=axes, feature_key="feature_name", sort=True)
        SpatialData(points={"transcripts": points}).write(store)


def expected(store: Path) -> NDArray[np.int64]:
    """Count the transcripts of each gene that was written, by pandas."""
    total: pd.Series | int = 0
    for path in (store / "points" / "transcripts" / "points.parquet").glob("*.parquet"):
        frame = pd.read_parquet(path, columns=["feature_name", "qv"])
        total = frame["feature_name"][frame["qv"] >= 20].value_counts(sort=False) + total
    return total[[name for name in total.index if name.startswith("GENE")]].to_numpy()


def run(store: Path) -> dict[str, float]:
    """Open, crop and sum a slide; return seconds and GiB. Wrong sums are an error."""
    import spatialdata as sd

    import ucs

    rows: dict[str, float] = {"GiB before": peak_gib()}
    start = time.perf_counter()
    image = ucs.pp.rasterize(sd.read_zarr(store), platform="xenium")
    rows["open (s)"] = time.perf_counter() - start
    middle = {axis: slice(image.sizes[axis] // 2, image.sizes[axis] // 2 + CROP) for axis in ("y", "x")}
    for name, part in (("crop", image.isel(middle)), ("whole", image)):
        start = time.perf_counter()
        by_gene = part.sum(("y", "x")).compute()
        rows[f"{name} (s)"] = time.perf_counter() - start
        rows[f"{name}: peak GiB"] = peak_gib()
    np.testing.assert_array_equal(by_gene, expected(store))
    n_pixels = image.sizes["y"] * image.sizes["x"]
    return {**rows, "Mpx": n_pixels / 1e6, "genes": image.sizes["c"], "transcripts": int(by_gene.sum())}


def in_process_of_its_own(*arguments: str) -> str:
    """Run this module with other arguments and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.rasterize", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mpx", type=float, default=41.0, help="pixels of the slide in millions")
    parser.add_argument("--genes", type=int, default=313)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for the slides, 1 GB each; the system's own by default")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--make", choices=LAYOUTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.store, options.mpx, options.genes, by_block=options.make == LAYOUTS[0], seed=options.seed)
        return
    if options.store:
        print(json.dumps(run(options.store)))
        return
    rows = {}
    size = ["--mpx", str(options.mpx), "--genes", str(options.genes), "--seed", str(options.seed)]
    for layout in LAYOUTS:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            store = ["--store", str(Path(folder) / "slide.zarr")]
            # Not here: the peak of a process is no lower than what its parent holds when it starts.
            in_process_of_its_own("--make", layout, *store, *size)
            # The first run loads or compiles kernels and fills the file cache.
            for _ in range(2):
                line = in_process_of_its_own(*store).splitlines()[-1]
            rows[layout] = json.loads(line)
    table = pd.DataFrame(rows)
    print(describe())
    print(table.to_string(float_format=lambda x: f"{x:.4g}"))
    holds = (table.loc["whole: peak GiB"] <= LIMIT_GIB).all()
    print(f"The limit of {LIMIT_GIB:g} GiB {'holds' if holds else 'does not hold'}.")


if __name__ == "__main__":
    main()
