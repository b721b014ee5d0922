"""Simulated tissue with cells to export: one in two parts, one without transcripts."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import shapely
from helpers import cheap_copy
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel
from spatialdata.transformations import get_transformation

import ucs

UM_PER_PX = 0.2125


def exported() -> SpatialData:
    """A copy of the tissue with ucs_cells, ucs_boundaries, ucs_table and the column ucs_cell_id."""
    return cheap_copy(_exported())


@functools.cache
def _exported() -> SpatialData:
    sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    labels = np.asarray(sdata["true_cells"]).astype(np.int32)
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    middle = int(np.flatnonzero((labels == largest).any(axis=1)).mean())
    labels[middle : middle + 3][labels[middle : middle + 3] == largest] = 0
    points = sdata["transcripts"].compute()
    seen = np.zeros(labels.shape, dtype=bool)
    row, column = (np.clip((points[axis] / UM_PER_PX).astype(int), 0, 282) for axis in ("y", "x"))
    seen[row, column] = True
    labels[tuple(np.argwhere((labels == 0) & ~seen)[0])] = labels.max() + 1
    sdata["ucs_cells"] = Labels2DModel.parse(
        labels, dims=("y", "x"), transformations=get_transformation(sdata["true_cells"], get_all=True)
    )
    ucs.tl.outlines(sdata, "ucs_cells", shapes_key_added="ucs_boundaries")
    ucs.tl.aggregate(sdata, "ucs_cells", table_key_added="ucs_table", points_column_added="ucs_cell_id")
    table = sdata["ucs_table"]
    table.obs["n_parts"] = shapely.get_num_geometries(sdata["ucs_boundaries"].geometry.to_numpy())
    table.obs["type"] = pd.Categorical(np.where(np.arange(table.n_obs) % 2, "odd", "even"))
    table.obs["region"] = pd.Categorical(["ucs_boundaries"] * table.n_obs)
    sdata.set_table_annotates_spatialelement("ucs_table", region="ucs_boundaries")
    return sdata
