"""A MERSCOPE run as the instrument writes it: ``spatialdata_io.merscope`` reads it with no option but the path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import tifffile
from numpy.typing import NDArray

READ_PLANE = 3
"""The plane of the image and of the polygons' file that the reader takes if it is not told another."""


def write_merscope_run(
    path: Path,
    transcripts: pd.DataFrame,
    cells: gpd.GeoDataFrame,
    images: Mapping[str, NDArray],
    *,
    um_per_px: float,
    origin: tuple[float, float],
    boundaries: str = "cell_boundaries.parquet",
) -> Path:
    """Write the files that the reader asks for.

    Parameters
    ----------
    path
        The new folder: its name is the region, that of its parent the slide.
    transcripts
        With ``global_x``, ``global_y``, ``global_z`` and ``gene``.
    cells
        One polygon per cell and plane, with ``EntityID`` and ``ZIndex``.
    images
        Stain -> ``(h, w)``: the mosaic.
    um_per_px, origin
        Pixel of the mosaic, and the place of its first pixel's corner in um.
    boundaries
        Name of the file of the polygons, which a second segmentation by the vendor's tool changes.
    """
    (path / "images").mkdir(parents=True)
    step = 1 / um_per_px
    to_mosaic = np.array([[step, 0, -origin[0] * step], [0, step, -origin[1] * step], [0, 0, 1]])
    np.savetxt(path / "images" / "micron_to_mosaic_pixel_transform.csv", to_mosaic)
    for stain, plane in images.items():
        tifffile.imwrite(path / "images" / f"mosaic_{stain}_z{READ_PLANE}.tif", plane)
    transcripts.to_csv(path / "detected_transcripts.csv")
    cells = cells.assign(geometry=[shapely.MultiPolygon(shapely.get_parts(g).tolist()) for g in cells.geometry])
    (path / boundaries).parent.mkdir(exist_ok=True)
    cells.rename_geometry("Geometry").to_parquet(path / boundaries)
    _write_table(path, transcripts, cells, folder=(path / boundaries).parent)
    return path


def _write_table(path: Path, transcripts: pd.DataFrame, cells: gpd.GeoDataFrame, *, folder: Path) -> None:
    """Write a table without counts: nothing here reads them."""
    first = cells.drop_duplicates("EntityID")
    names = pd.Index(first["EntityID"].astype(str), name="cell")
    genes = sorted(pd.unique(transcripts["gene"]))
    pd.DataFrame(0, index=names, columns=genes).to_csv(folder / "cell_by_gene.csv")
    centre = first.geometry.centroid
    obs = pd.DataFrame({"center_x": centre.x.to_numpy(), "center_y": centre.y.to_numpy()}, index=names)
    obs.rename_axis("EntityID").to_csv(folder / "cell_metadata.csv")
