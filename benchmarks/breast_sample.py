"""Make the sample of ``ucs.datasets.xenium_breast`` and the pictures of the README and the FAQ from it.

``python -m benchmarks.breast_sample STORE`` writes the files of the package from a SpatialData store with a crop of the
run as ``spatialdata_io.xenium`` reads it; without STORE only the pictures are made, from the files that are there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ucs
from ucs.datasets._breast import STAIN_STEP

if TYPE_CHECKING:
    from spatialdata import SpatialData

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "src" / "ucs" / "datasets" / "breast"
PICTURE = ROOT / "docs" / "images" / "breast.png"
CURVE = PICTURE.with_name("breast_curve.png")
THRESHOLDS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
RADII_UM = (0, 1, 2, 3, 4, 6, 8, 10)
BOUNDS = (1595.0, 2760.0, 1705.0, 2870.0)  # um: loose stroma on the left, crowded tumour on the right
_DECIMALS = {"x": 2, "y": 2, "z": 1}
_COLORS = 96  # of the picture, which is then a quarter as large


def write_sample(sdata: SpatialData) -> None:
    """Write the files of the sample."""
    from PIL import Image
    from spatialdata.transformations import get_transformation

    placement = {
        name: get_transformation(sdata[key]["scale0"]["image"], "global").to_affine_matrix(("x", "y"), ("x", "y"))
        for name, key in (("dapi", "morphology_focus"), ("he", "he_image"))
    }
    text = json.dumps({name: matrix.tolist() for name, matrix in placement.items()}, indent=1)
    (FOLDER / "placement.json").write_text(text + "\n")
    stain = np.asarray(sdata["morphology_focus"]["scale0"]["image"])[0]
    Image.fromarray((stain // STAIN_STEP).astype(np.uint8)).save(FOLDER / "dapi.png", optimize=True)
    stained = np.moveaxis(np.asarray(sdata["he_image"]["scale0"]["image"]), 0, -1)
    Image.fromarray(stained).save(FOLDER / "he.jpg", quality=95)
    labels = np.asarray(sdata["nucleus_labels"]["scale0"]["image"]).astype(np.uint32)
    np.savez_compressed(FOLDER / "nuclei.npz", labels=labels)
    points = sdata["transcripts"].compute()[[*_DECIMALS, "qv", "feature_name", "cell_id"]].round(_DECIMALS)
    points["qv"] = np.floor(10 * points["qv"]) / 10  # so that none passes the cut at 20 that did not
    points["feature_name"] = points["feature_name"].astype(str).astype("category")
    points.attrs.clear()  # transformations, which cannot be stored
    points.to_parquet(FOLDER / "transcripts.parquet", compression="zstd", index=False)
    cells = sdata["cell_boundaries"].copy()
    cells.attrs.clear()
    cells.to_parquet(FOLDER / "cells.parquet", compression="zstd")


def draw() -> None:
    """Draw the vendor's cells and ours over the same transcripts."""
    import matplotlib as mpl
    from PIL import Image

    mpl.use("Agg")
    sdata = ucs.datasets.xenium_breast()
    ucs.tl.segment(sdata, progress=False)
    cells = {"the vendor's cells (nuclei expanded)": "cell_boundaries", "ucs.tl.segment(sdata)": "ucs_boundaries"}
    axes = ucs.pl.compare(sdata, cells, bounds=BOUNDS, show=("transcripts", "nuclei", "scale_bar"))
    for ax in axes:
        ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    axes[0].child_axes[0].remove()  # one colour bar serves both
    PICTURE.parent.mkdir(exist_ok=True)
    axes[0].figure.savefig(PICTURE, dpi=90)
    with Image.open(PICTURE) as drawn:
        drawn.convert("RGB").quantize(_COLORS).save(PICTURE, optimize=True)


def draw_curve() -> None:
    """Draw purity against capture over thresholds and expansions, with the vendor's cells; print the figures."""
    import matplotlib as mpl

    mpl.use("Agg")
    sdata = ucs.datasets.xenium_breast()
    model = ucs.tl.train(sdata, progress=False)
    names = {f"threshold {threshold:g}": f"t{round(100 * threshold)}" for threshold in THRESHOLDS}
    for threshold, key in zip(THRESHOLDS, names.values(), strict=True):
        ucs.tl.predict(sdata, model, threshold=threshold, key_added=key, progress=False)
    cells = {"vendor": "cell_boundaries"} | {name: f"{key}_cells" for name, key in names.items()}
    table = ucs.tl.compare(sdata, cells, expansions_um=RADII_UM)
    table.loc[list(names), "curve"] = "ucs, thresholds"
    table.loc[list(names), "threshold"] = list(THRESHOLDS)
    ax = ucs.pl.purity_capture(table)
    ax.figure.savefig(CURVE, dpi=90, bbox_inches="tight")
    print(table[["area_um2", "transcripts_per_cell", "capture", "spurious_coexpression"]].round(2).to_string())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        import spatialdata

        write_sample(spatialdata.read_zarr(sys.argv[1]))
    draw()
    draw_curve()
