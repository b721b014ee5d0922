"""Transcripts counted in bins, laid out as the readers of spatialdata-io do."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from scenes import X0, Y0, Scene
from scipy.sparse import csr_matrix
from spatialdata import SpatialData
from spatialdata.models import PointsModel, ShapesModel, TableModel
from spatialdata.transformations import Identity, Scale

BIN_UM = 2.0
UM_PER_PX = 0.27
"""Of the full-resolution image of a Visium HD run, whose pixels its coordinates are."""


def binned(points: pd.DataFrame, side: float, *, gene: str = "feature_name") -> pd.DataFrame:
    """Columns ``column``, ``row``, ``gene`` and ``count``, a row for each gene in each bin, counted from 0."""
    placed = pd.DataFrame(
        {
            "column": np.floor((points["x"] - X0) / side).astype(int),
            "row": np.floor((points["y"] - Y0) / side).astype(int),
            "gene": points[gene].astype(str),
        }
    )
    return placed.groupby(["column", "row", "gene"]).size().rename("count").reset_index()


def _table(rows: pd.DataFrame, region: str, instance_key: str) -> tuple[AnnData, pd.DataFrame]:
    """Counts (bin x gene) that annotate an element, and the bins."""
    bins = rows[["column", "row"]].drop_duplicates().reset_index(drop=True)
    index = pd.MultiIndex.from_frame(bins).get_indexer(pd.MultiIndex.from_frame(rows[["column", "row"]]))
    genes = pd.Categorical(rows["gene"])
    counts = csr_matrix((rows["count"].to_numpy(), (index, genes.codes)), shape=(len(bins), len(genes.categories)))
    obs = pd.DataFrame({instance_key: np.arange(len(bins)), "region": pd.Categorical([region] * len(bins))})
    obs.index = obs.index.astype(str)
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=genes.categories.astype(str))), bins


def visium_hd_sdata(
    scene: Scene, nuclei: GeoDataFrame, *, degrees: float = 3.0, flip: bool = True, array: bool = True
) -> tuple[SpatialData, NDArray[np.float64]]:
    """A Visium HD run of bins of 2 um that lie at an angle in the image, and the matrix from um to its pixels.

    Squares are parallel to the axes, as the reader makes them, unless no columns number them (``array=False``).
    """
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    to_px = np.array([[c, -s, 900.0], [s, c, 700.0], [0, 0, 1]]) @ np.diag([1, -1 if flip else 1, 1])
    to_px[:2, :2] /= UM_PER_PX
    rows = binned(scene.points, BIN_UM)
    name = "Visium_HD_Sample_square_002um"
    table, bins = _table(rows, name, "location_id")
    table.X = table.X.astype(np.float32)
    um = (bins.to_numpy() + 0.5) * BIN_UM + [X0, Y0]
    px = um @ to_px[:2, :2].T + to_px[:2, 2]
    hires = Scale([0.1, 0.1], axes=("x", "y"))
    transformations = {"Visium_HD_Sample": Identity(), "Visium_HD_Sample_downscaled_hires": hires}
    circles = ShapesModel.parse(px, geometry=0, radius=BIN_UM / UM_PER_PX / 2, index=pd.RangeIndex(len(px)))
    squares = circles.buffer(circles["radius"], cap_style=3)
    if array:
        table.obs["in_tissue"] = 1
        table.obs["array_row"], table.obs["array_col"] = bins["row"].to_numpy(), bins["column"].to_numpy()
    else:
        squares = GeoDataFrame(geometry=squares).rotate(degrees, origin="centroid")
    table.obsm["spatial"] = px
    nuclei = nuclei.set_geometry(nuclei.affine_transform([*to_px[0, :2], *to_px[1, :2], *to_px[:2, 2]]))
    sdata = SpatialData(
        shapes={
            name: ShapesModel.parse(GeoDataFrame(geometry=squares), transformations=dict(transformations)),
            "Visium_HD_Sample_nucleus_segmentations": ShapesModel.parse(nuclei, transformations=dict(transformations)),
        },
        tables={"square_002um": TableModel.parse(table, region=name, region_key="region", instance_key="location_id")},
        attrs={"spatialdata_io_reader": "visium_hd"},
    )
    return sdata, to_px


def stereoseq_sdata(scene: Scene) -> SpatialData:
    """A Stereo-seq run as the reader lays it out: points with positions only, and a table with their counts."""
    rows = binned(scene.points, 0.5)
    table, bins = _table(rows, "bin1_genes", "instance_id")
    points = PointsModel.parse(bins.rename(columns={"column": "x", "row": "y"}), coordinates={"x": "x", "y": "y"})
    table = TableModel.parse(table, region="bin1_genes", region_key="region", instance_key="instance_id")
    return SpatialData(
        points={"bin1_genes": points}, tables={"bin1_table": table}, attrs={"spatialdata_io_reader": "stereoseq"}
    )
