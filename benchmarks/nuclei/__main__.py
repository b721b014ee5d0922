"""Print F1 of nuclei found in simulated and real DAPI: ``python -m benchmarks.nuclei [--tissues ...] [--seeds 10]``.

Real samples are looked for in the folder ``$UCS_TEST_DATA`` (default ``../shared/data``) and left out without it. With
``--overlays FOLDER`` outlines of what was found (red) and of the reference (green) are drawn over the images.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
import pandas as pd
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Image2DModel

import ucs
from benchmarks._machine import describe, peak_gib
from benchmarks.nuclei.images import FAST, TISSUES, degrade, touching_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

UM_PER_PX = 0.2125
DATA = Path(os.environ.get("UCS_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def as_sdata(image: NDArray, chunk: int = 2048) -> SpatialData:
    """Return an object with nothing but an image (y, x) or (c, y, x)."""
    image = image if image.ndim == 3 else image[None]
    names = ["DAPI"] if len(image) == 1 else ["red", "green", "DAPI"]
    element = Image2DModel.parse(da.from_array(image, chunks=(1, chunk, chunk)), dims=("c", "y", "x"), c_coords=names)
    return SpatialData(images={"image": element})


def find(sdata: SpatialData, image_key: str | None = None, **options: float) -> tuple[NDArray, float]:
    """Return the labels found and the seconds it took, labels computed."""
    start = time.perf_counter()
    result = ucs.pp.nuclei(sdata, image_key, inplace=False, progress=False, **options)
    labels = np.asarray(result.labels["ucs_nuclei"])
    return labels, time.perf_counter() - start


def score(truth: NDArray, labels: NDArray) -> dict[str, float]:
    """Return F1 at two thresholds, and what makes up the first."""
    table = ucs.metrics.match(truth, labels, thresholds=(0.5, 0.7))
    first = table.iloc[0]
    return {
        "nuclei": first["n_true"],
        "found": first["n_predicted"],
        "F1@0.5": first["f1"],
        "precision": first["precision"],
        "recall": first["recall"],
        "F1@0.7": table["f1"].iloc[1],
    }


def draw(image: NDArray, labels: NDArray, path: Path, truth: NDArray | None = None) -> None:
    """Write outlines over an image."""
    import matplotlib.pyplot as plt
    from skimage.segmentation import find_boundaries

    low, high = np.percentile(image, [1, 99.7])
    grey = np.clip((image - low) / max(high - low, 1e-9), 0, 1) ** 0.6
    picture = np.stack([grey] * 3, axis=-1)
    if truth is not None:
        picture[find_boundaries(truth, mode="inner")] = (0, 1, 0)
    picture[find_boundaries(labels, mode="inner")] = (1, 0.1, 0.1)
    plt.imsave(path, picture)


def simulated(tissue: str, seed: int, size: float, overlays: Path | None) -> dict[str, float | str]:
    """Score one simulated image."""
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **FAST, **TISSUES[tissue])
    truth = np.asarray(sdata.labels["nucleus_labels"]["scale0"]["image"])
    image = degrade(np.asarray(sdata.images["morphology_focus"]["scale0"]["image"][0]), seed, um_per_px=UM_PER_PX)
    labels, _ = find(as_sdata(image), um_per_px=UM_PER_PX)
    if overlays:
        draw(image, labels, overlays / f"{tissue}_{seed}.png", truth)
    return {"tissue": tissue, "seed": seed, "touching": touching_share(truth), **score(truth, labels)}


def real(overlays: Path | None) -> list[str]:
    """Score the breast crop, and count nuclei where there is no reference."""
    lines = []
    path = DATA / "xenium_breast_rep1_crop.zarr"
    if path.exists():
        with warnings.catch_warnings(action="ignore"):  # of an old store
            sdata = read_zarr(path)
        truth = np.asarray(sdata.labels["nucleus_labels"]["scale0"]["image"])
        for key in ("morphology_focus", "morphology_mip"):
            labels, _ = find(sdata, key)
            figures = ", ".join(f"{name} {value:.3g}" for name, value in score(truth, labels).items())
            lines.append(f"Xenium breast, {key} against the vendor's nucleus_labels: {figures}")
            if overlays:
                image = np.asarray(sdata.images[key]["scale0"]["image"][0])
                draw(image, labels, overlays / f"breast_{key}.png", truth)
    for name, um_per_px in (
        ("merscope_mousebrain/images/mini_dataset_dapi_z0.jpg", 0.10863),
        ("cosmx_lung12/CellComposite/CellComposite_F002.jpg", 0.18),
        ("cosmx_lung12/CellComposite/CellComposite_F003.jpg", 0.18),
    ):
        if (DATA / name).exists():
            lines.append(_count(DATA / name, um_per_px, overlays))
    return lines


def _count(path: Path, um_per_px: float, overlays: Path | None) -> str:
    from skimage.io import imread

    image = imread(path)
    image = image if image.ndim == 2 else image.transpose(2, 0, 1)
    labels, seconds = find(as_sdata(image), um_per_px=um_per_px)
    area = np.bincount(labels.ravel())[1:] * um_per_px**2
    if overlays:
        draw(image if image.ndim == 2 else image[-1], labels, overlays / f"{path.stem}.png")
    low, median, high = np.percentile(area, [5, 50, 95])
    return (
        f"{path.name}: {len(area)} nuclei, area {median:.0f} um2 (5 to 95 %: {low:.0f} to {high:.0f}), "
        f"{seconds / (labels.size / 1e6):.3f} s per Mpx"
    )


def speed(repeats: int, size: float) -> str:
    """Time a large image made of copies of a small one."""
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=0, **FAST, **TISSUES["touching"])
    tile = degrade(np.asarray(sdata.images["morphology_focus"]["scale0"]["image"][0]), 0, um_per_px=UM_PER_PX)
    image = np.tile(tile, (repeats, repeats))
    labels, seconds = find(as_sdata(image), um_per_px=UM_PER_PX)
    return (
        f"{image.shape[0]} x {image.shape[1]} px, {labels.max()} nuclei: {seconds:.1f} s, "
        f"{seconds / (image.size / 1e6):.3f} s per Mpx; peak memory of the process {peak_gib():.2f} GiB, of which the "
        f"image and its labels {(image.nbytes + labels.nbytes) / 2**30:.2f}"
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tissues", nargs="+", default=["touching"], choices=sorted(TISSUES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--size", type=float, default=150.0, help="side of the tissue in um")
    parser.add_argument("--repeats", type=int, default=8, help="side of the image for the timing, in tissues")
    parser.add_argument("--overlays", type=Path, help="folder for pictures")
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel("WARNING")
    if options.overlays:
        options.overlays.mkdir(parents=True, exist_ok=True)
    find(as_sdata(np.random.default_rng(0).gamma(1, 99, (300, 300))), um_per_px=UM_PER_PX, min_signal=0)  # compiles
    timing = speed(options.repeats, options.size)  # first, so that the peak of memory is its own
    table = pd.DataFrame(
        [
            simulated(tissue, seed, options.size, options.overlays)
            for tissue in options.tissues
            for seed in range(options.seeds)
        ]
    )
    print(describe())
    print(table.to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    print("\nMean over seeds")
    columns = ["touching", "F1@0.5", "precision", "recall", "F1@0.7"]
    print(table.groupby("tissue", sort=False)[columns].mean().to_string(float_format=lambda x: f"{x:.3f}"))
    print()
    for line in [*real(options.overlays), timing]:
        print(line)


if __name__ == "__main__":
    main()
