"""Sixteen cells as each vendor's instrument writes them: small folders that the readers of spatialdata-io take."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from cosmx_run import write_cosmx_run
from merscope_run import write_merscope_run
from numpy.typing import NDArray
from xenium_bundle import write_xenium_bundle

N_CELLS = 16
N_TRANSCRIPTS = 60 * N_CELLS
_CENTRES = 14.0 * (1 + np.stack(np.divmod(np.arange(N_CELLS), 4), axis=1))  # um, in four rows
_NUCLEUS_UM, _CELL_UM, _SIDE_UM = 3.0, 6.0, 70.0  # radii; side of the field


def _transcripts() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
    """Position in um, cell from 0 on and gene of each transcript."""
    rng = np.random.default_rng(0)
    place = np.repeat(_CENTRES, 60, axis=0) + rng.normal(0, 2.5, (N_TRANSCRIPTS, 2))
    return place, np.repeat(np.arange(N_CELLS), 60), rng.choice([f"Gene{k}" for k in range(12)], N_TRANSCRIPTS)


def _rasters(um_per_px: float) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Stain of the nuclei, and labels of the cells from 1 on."""
    at = (np.arange(round(_SIDE_UM / um_per_px)) + 0.5) * um_per_px
    distance = np.hypot(at[None, :, None] - _CENTRES[:, 0], at[:, None, None] - _CENTRES[:, 1])
    stain = np.where(distance.min(axis=2) < _NUCLEUS_UM, 200, 10).astype(np.uint8)
    return stain, np.where(distance.min(axis=2) < _CELL_UM, distance.argmin(axis=2) + 1, 0).astype(np.uint16)


def xenium_run(folder: Path) -> Path:
    """Nuclei and cells are squares."""
    place, cell, gene = _transcripts()
    names = np.array([f"aaaaaaa{letter}-1" for letter in "abcdefghijklmnop"])
    transcripts = pd.DataFrame({
        "transcript_id": np.arange(len(place), dtype=np.uint64),
        "cell_id": names[cell],
        "overlaps_nucleus": np.uint8(0),
        "feature_name": gene,
        "x_location": place[:, 0].astype(np.float32),
        "y_location": place[:, 1].astype(np.float32),
        "z_location": np.float32(5),
        "qv": np.float32(40),
    })  # fmt: skip
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])

    def squares(half: float) -> pd.DataFrame:
        ring = (_CENTRES[:, None] + half * square).reshape(-1, 2)
        return pd.DataFrame({"cell_id": np.repeat(names, 5), "vertex_x": ring[:, 0], "vertex_y": ring[:, 1]})

    return write_xenium_bundle(folder / "run", transcripts, squares(_NUCLEUS_UM), squares(_CELL_UM), version="3.0.0")


def merscope_run(folder: Path) -> Path:
    """Its mosaic begins at (1000, 2000) um."""
    um_per_px, origin = 0.2, (1000.0, 2000.0)
    place, _, gene = _transcripts()
    transcripts = pd.DataFrame(
        {"global_x": place[:, 0] + origin[0], "global_y": place[:, 1] + origin[1], "global_z": 0.0, "gene": gene}
    )
    cells = shapely.buffer(shapely.points(_CENTRES + origin), _CELL_UM)
    frame = gpd.GeoDataFrame({"EntityID": np.arange(N_CELLS).astype(str), "ZIndex": 0}, geometry=cells)
    stain, _ = _rasters(um_per_px)
    images = {"DAPI": stain, "PolyT": stain // 2}
    return write_merscope_run(
        folder / "slide" / "region_0", transcripts, frame, images, um_per_px=um_per_px, origin=origin
    )


def cosmx_run(folder: Path) -> Path:
    """One field of view, at (5000, 6000) px."""
    um_per_px, (x0, y0) = 0.12028, (5000.0, 6000.0)
    place, cell, gene = _transcripts()
    x, y = (place / um_per_px).T
    transcripts = pd.DataFrame({
        "fov": 1, "cell_ID": cell + 1, "x_global_px": x + x0, "y_global_px": y + y0, "x_local_px": x, "y_local_px": y,
        "z": 0, "target": gene, "CellComp": "Cytoplasm",
    })  # fmt: skip
    stain, cells = _rasters(um_per_px)
    image = np.stack([np.zeros_like(stain), np.zeros_like(stain), stain], axis=2)
    positions = pd.DataFrame({"fov": [1], "x_global_px": [x0], "y_global_px": [y0]})
    return write_cosmx_run(
        folder / "R1", transcripts, {1: cells[::-1]}, {1: image[::-1]}, positions, metadata={"Area.um2": um_per_px**2}
    )
