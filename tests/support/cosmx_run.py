"""A CosMx run as the instrument writes it, so that ``spatialdata_io.cosmx`` reads it with no option but the path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from skimage.measure import regionprops_table


def write_cosmx_run(
    path: Path,
    transcripts: pd.DataFrame,
    labels: Mapping[int, NDArray],
    images: Mapping[int, NDArray],
    positions: pd.DataFrame,
    *,
    metadata: Mapping[str, float] | None = None,
) -> Path:
    """Write the files that the reader asks for.

    Parameters
    ----------
    path
        The new folder: its name is that of the run.
    transcripts
        The vendor's columns: ``fov``, ``cell_ID``, ``x_global_px``, ..., ``target``, ``CellComp``.
    labels
        Field of view -> ``(h, w)`` ids of cells. Rows are counted from the top of the image, where ``y_local_px`` is
        largest.
    images
        Field of view -> ``(h, w, 3)``.
    positions
        ``fov``, ``x_global_px``, ``y_global_px``: of the corner where the local positions are 0.
    metadata
        Columns that newer exports add for each cell: name -> value per pixel of its area.
    """
    path.mkdir(parents=True)
    positions.to_csv(path / f"{path.name}_fov_positions_file.csv", index=False)
    transcripts.to_csv(path / f"{path.name}_tx_file.csv", index=False)
    cells = pd.concat([_cells_of(fov, of_fov, positions) for fov, of_fov in labels.items()], ignore_index=True)
    for name, per_pixel in (metadata or {}).items():
        cells[name] = cells["Area"] * per_pixel
    cells.to_csv(path / f"{path.name}_metadata_file.csv", index=False)
    _counts(transcripts, cells).to_csv(path / f"{path.name}_exprMat_file.csv", index=False)
    for folder, rasters in (("CellLabels", labels), ("CellComposite", images)):
        (path / folder).mkdir()
        for fov, raster in rasters.items():
            tifffile.imwrite(path / folder / f"{folder}_F{fov:03d}.tif", raster, compression="zlib")
    return path


def _cells_of(fov: int, labels: NDArray, positions: pd.DataFrame) -> pd.DataFrame:
    measured = regionprops_table(labels, properties=("label", "num_pixels", "centroid", "bbox"))
    x0, y0 = positions.set_index("fov").loc[fov, ["x_global_px", "y_global_px"]]
    x, y = measured["centroid-1"] + 0.5, labels.shape[0] - (measured["centroid-0"] + 0.5)
    width, height = (measured[f"bbox-{k + 2}"] - measured[f"bbox-{k}"] for k in (1, 0))
    return pd.DataFrame(
        {
            "fov": fov,
            "cell_ID": measured["label"],
            "Area": measured["num_pixels"],
            "AspectRatio": np.round(width / height, 2),
            "CenterX_local_px": x,
            "CenterY_local_px": y,
            "CenterX_global_px": x + x0,
            "CenterY_global_px": y + y0,
            "Width": width,
            "Height": height,
        }
    )


def _counts(transcripts: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """One row per cell, and one per field of view for the transcripts in none, as the vendor has it."""
    counts = pd.crosstab([transcripts["fov"], transcripts["cell_ID"]], transcripts["target"])
    outside = pd.DataFrame({"fov": cells["fov"].unique(), "cell_ID": 0})
    rows = pd.concat([outside, cells[["fov", "cell_ID"]]]).sort_values(["fov", "cell_ID"])
    return counts.reindex(pd.MultiIndex.from_frame(rows), fill_value=0).reset_index()


LUNG_FIELD = (5472, 3648)
"""Width and height of a field of view of the first instruments, in px of 0.18 um."""


def write_lung_run(path: Path, source: Path) -> Path:
    """Two neighbouring fields of human lung, of which only the corners where they meet have been kept.

    They are put back where they were in fields of full size: all positions are those of the vendor.
    """
    transcripts = pd.read_csv(source / "Lung12_tx_file.csv", keep_default_na=False)
    positions = pd.read_csv(source / "Lung12_fov_positions_file.csv")
    labels, images = {}, {}
    for fov, column in ((2, 4800), (3, 0)):
        crop = imageio.imread(source / "CellLabels" / f"CellLabels_F{fov:03d}.tif").astype(np.uint16)
        place = np.s_[: crop.shape[0], column : column + crop.shape[1]]
        labels[fov] = np.zeros(LUNG_FIELD[::-1], dtype=np.uint16)
        images[fov] = np.zeros((*LUNG_FIELD[::-1], 3), dtype=np.uint8)
        labels[fov][place] = crop
        images[fov][place] = imageio.imread(source / "CellComposite" / f"CellComposite_F{fov:03d}.jpg")
    return write_cosmx_run(path, transcripts, labels, images, positions)
