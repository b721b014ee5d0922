"""The real, thinned layouts of ``vendor_layouts/``, completed by what readers need and they lack, then read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import geopandas as gpd
import imageio.v3 as imageio
import numpy as np
import pandas as pd
import tifffile
from helpers import require_data
from merscope_run import write_merscope_run
from spatialdata import SpatialData
from xenium_bundle import write_xenium_bundle


def read_xenium_layout(folder: Path) -> SpatialData:
    """Xenium 1.9: the vendor's own tables, matrix and images; masks and manifest are made from the polygons."""
    from spatialdata_io import xenium

    source = require_data("vendor_layouts/xenium")
    transcripts = pd.read_parquet(source / "transcripts.parquet")
    nuclei, cells = (_decoded(pd.read_parquet(source / f"{name}_boundaries.parquet")) for name in ("nucleus", "cell"))
    path = write_xenium_bundle(folder / "xenium", transcripts, nuclei, cells, version="1.9.0")
    for file in path.iterdir():
        if (source / file.name).exists():
            shutil.copyfile(source / file.name, file)
    return xenium(path)


def _decoded(vertices: pd.DataFrame) -> pd.DataFrame:
    return vertices.assign(cell_id=vertices["cell_id"].str.decode("utf-8"))


def read_merscope_layout(folder: Path, name: str) -> SpatialData:
    """MERSCOPE runs: polygons of the instrument (``vizgen_cellbound``), or of a second segmentation by cellpose.

    The thinned polygons are single ones and, in two of the three samples, of plane 3 only, where real files have
    multipolygons of all planes: they are written as those of plane 0, the only ones that are read.
    """
    from spatialdata_io import merscope

    source = require_data(f"vendor_layouts/{name}")
    manifest = json.loads((source / "images" / "manifest.json").read_text())
    x0, y0, x1, _ = manifest["bbox_microns"]
    files = ("cell_boundaries.parquet", f"Cellpose/{_CELLPOSE}", _CELLPOSE)
    file = next(file for file in files if (source / file).exists())
    cells = gpd.read_parquet(source / file).rename_geometry("geometry")
    cells = cells.assign(EntityID=cells["EntityID"].astype(str), ZIndex=0)
    images = {p.stem.split("_")[1]: imageio.imread(p) for p in sorted((source / "images").glob("mosaic_*_z[03].tif"))}
    with_cellpose = "cellpose" in file
    path = write_merscope_run(
        folder / "slide" / name,
        pd.read_csv(source / "detected_transcripts.csv", index_col=0),
        cells[["EntityID", "ZIndex", "geometry"]],
        images,
        um_per_px=(x1 - x0) / manifest["mosaic_width_pixels"],
        origin=(x0, y0),
        boundaries=f"Cellpose/{_CELLPOSE}" if with_cellpose else "cell_boundaries.parquet",
    )
    return merscope(path, vpt_outputs=path / "Cellpose" if with_cellpose else None)


_CELLPOSE = "cellpose_micron_space.parquet"


def read_cosmx_layout(folder: Path) -> SpatialData:
    """CosMx, one FOV of mouse brain: the vendor's own tables; images and labels are made from the polygons."""
    from skimage.draw import polygon
    from spatialdata_io import cosmx

    source = require_data("vendor_layouts/cosmx")
    path = folder / "cosmx"
    for name in ("CellComposite", "CellLabels"):
        (path / name).mkdir(parents=True)
    for file in source.glob("*_file.csv"):
        shutil.copyfile(file, path / file.name)
    positions = pd.DataFrame({"fov": [1], "x_global_px": [171400.0], "y_global_px": [11341.7]})
    positions.to_csv(path / "Run5642_S3_Quarter_fov_positions_file.csv", index=False)
    vertices = pd.read_csv(source / "Run5642_S3_Quarter-polygons.csv")
    labels = np.zeros((4256, 4256), dtype=np.uint16)  # of files, row 0 is the top: y is counted from the bottom
    for cell, ring in vertices.groupby("cellID"):
        row, column = polygon(len(labels) - 1 - ring["y_local_px"], ring["x_local_px"], labels.shape)
        labels[row, column] = cell
    tifffile.imwrite(path / "CellLabels" / "CellLabels_F001.tif", labels, compression="zlib")
    image = np.repeat((np.where(labels > 0, 200, 10).astype(np.uint8))[..., None], 3, axis=2)
    imageio.imwrite(path / "CellComposite" / "CellComposite_F001.jpg", image)
    return cosmx(path)
