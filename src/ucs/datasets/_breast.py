"""A small real sample that comes with the package."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from spatialdata import SpatialData

_UM_PER_PX = 0.2125
STAIN_STEP = 16  # counts that are one step of the stored stain, which then fits into 8 bits


def xenium_breast() -> SpatialData:
    """Return a part of a Xenium run: human breast cancer, 191 x 162 um, 23,691 transcripts of 313 genes, 132 nuclei.

    It comes with the package (0.6 MB), laid out as ``spatialdata_io.xenium`` does. By 10x Genomics, CC BY 4.0
    (Janesick et al., Nature Communications 14, 8353, 2023); source, licence and changes stand in ``SOURCE.md`` beside
    the files, ``ucs/datasets/breast``.

    Returns
    -------
    In coordinate system ``global`` (pixels of 0.2125 um):

    - points ``transcripts`` (um): ``x``, ``y``, ``z``, ``feature_name``, ``qv``, ``cell_id`` (the vendor's, 0 = none),
    - labels ``nucleus_labels``, shapes ``cell_boundaries`` (the vendor's cells, um),
    - images ``morphology_focus`` (DAPI) and ``he_image`` (H&E of the same section).

    Examples
    --------
    >>> sdata = xenium_breast()
    >>> len(sdata["transcripts"])
    23691
    """
    with as_file(files("ucs.datasets") / "breast") as folder:
        return _read(folder)


def _read(folder: Path) -> SpatialData:
    import geopandas as gpd
    import numpy as np
    import pandas as pd
    from PIL import Image
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, ShapesModel
    from spatialdata.transformations import Affine, Scale

    placement = json.loads((folder / "placement.json").read_text())
    to_global = {
        name: {"global": Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))}
        for name, matrix in placement.items()
    }
    from_um = {"global": Scale([1 / _UM_PER_PX, 1 / _UM_PER_PX], axes=("x", "y"))}
    with Image.open(folder / "dapi.png") as opened:
        dapi = np.asarray(opened).astype(np.uint16)[None] * STAIN_STEP
    with Image.open(folder / "he.jpg") as opened:
        stained = np.moveaxis(np.asarray(opened), -1, 0)
    with np.load(folder / "nuclei.npz") as opened:
        nuclei = opened["labels"]
    cells = gpd.read_parquet(folder / "cells.parquet")
    return SpatialData(
        images={
            "morphology_focus": Image2DModel.parse(
                dapi, dims=("c", "y", "x"), c_coords=["DAPI"], transformations=to_global["dapi"]
            ),
            "he_image": Image2DModel.parse(
                stained, dims=("c", "y", "x"), c_coords=["r", "g", "b"], transformations=to_global["he"]
            ),
        },
        labels={"nucleus_labels": Labels2DModel.parse(nuclei, dims=("y", "x"), transformations=to_global["dapi"])},
        points={
            "transcripts": PointsModel.parse(
                pd.read_parquet(folder / "transcripts.parquet"),
                coordinates={"x": "x", "y": "y", "z": "z"},
                feature_key="feature_name",
                instance_key="cell_id",
                transformations=from_um,
            )
        },
        shapes={"cell_boundaries": ShapesModel.parse(cells, transformations=from_um)},
    )
