"""Make the sample of ``ucs.datasets.xenium_breast`` and the picture of the README from it.

``python -m benchmarks.breast_sample STORE`` writes the files of the package from a SpatialData store with a crop of the
run as ``spatialdata_io.xenium`` reads it; without STORE only the picture is made, from the files that are there.
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


if __name__ == "__main__":
    if len(sys.argv) > 1:
        import spatialdata

        write_sample(spatialdata.read_zarr(sys.argv[1]))
    draw()
