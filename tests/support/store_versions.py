"""A small store with an element of the user's and results in two versions."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from anndata import AnnData
from scipy.sparse import csr_matrix
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel, ShapesModel, TableModel


def elements(version: int) -> dict[str, object]:
    """Results of three cells that differ by version."""
    labels = np.kron(np.array([[1, 2], [3, 0]]), np.ones((8, 8), dtype=int)).astype(np.int32)
    ids = np.arange(1, 4, dtype=np.int32)
    boxes = [shapely.box(0, 0, version, version), shapely.box(8, 0, 9, 1), shapely.box(0, 8, 1, 9)]
    table = AnnData(
        csr_matrix(np.full((3, 2), version, dtype=np.int32)),
        obs=pd.DataFrame({"cell_id": ids, "region": pd.Categorical(["cells"] * 3)}, index=[str(i) for i in ids]),
    )
    return {
        "ours": Labels2DModel.parse(labels * (version == 1) + 2 * (version == 2) * labels, dims=("y", "x")),
        "cells": ShapesModel.parse(gpd.GeoDataFrame({"geometry": boxes}, index=ids)),
        "counts": TableModel.parse(table, region="cells", region_key="region", instance_key="cell_id"),
    }


def version_of(sdata: SpatialData, key: str) -> int | None:
    """Which version of an element an object has; None if it has none."""
    if key not in sdata:
        return None
    if key == "ours":
        return int(np.asarray(sdata[key])[0, 0])
    return int(sdata[key].geometry.loc[1].bounds[2]) if key == "cells" else int(sdata[key].X.max())


def original(store: Path, *, with_results: bool) -> None:
    """Write a store with an element of the user's."""
    labels = np.arange(64, dtype=np.int32).reshape(8, 8)
    sdata = SpatialData(labels={"users": Labels2DModel.parse(labels, dims=("y", "x"))})
    for key, element in elements(1).items() if with_results else ():
        sdata[key] = element
    sdata.write(store)
