"""Data for the tests: where the real samples are, how they become SpatialData, and cheap copies."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import dask.dataframe as dd
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from anndata import AnnData
from dask.dataframe import DataFrame as DaskDataFrame
from scipy.sparse import coo_array
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, PointsModel, ShapesModel, TableModel
from spatialdata.transformations import Affine, Scale
from xarray import DataArray, DataTree

XENIUM_PIXEL_SIZE = 0.2125  # um per px of the morphology image, the pixels of `global`
PRIME_5K_CONTROLS = ("NegControl", "Intergenic_Region", "UnassignedCodeword", "DeprecatedCodeword")
DEFAULT_DATA_DIR = Path(__file__).parents[3] / "shared" / "data"


def require_data(name: str = "") -> Path:
    """Path of a real sample; without it the test is skipped, or fails when UCS_REQUIRE_DATA=1."""
    path = Path(os.environ.get("UCS_TEST_DATA", DEFAULT_DATA_DIR)) / name
    if not path.exists():
        reason = f"no real data at {path}: set UCS_TEST_DATA to the folder that holds the samples"
        if os.environ.get("UCS_REQUIRE_DATA") == "1":
            pytest.fail(f"{reason} (UCS_REQUIRE_DATA=1 forbids to skip)")
        pytest.skip(reason)
    return path


def prostate_sdata(path: Path) -> SpatialData:
    """A folder of Xenium Prime 5K parquet files, laid out as `spatialdata_io.xenium` does.

    Coordinates are in um, with a Scale to the pixels of `global`. Nuclei are indexed by their own label id and carry
    the id of their cell, since a cell may have several. Vertices that the crop cut off are missing at its border;
    outlines left with fewer than three distinct vertices are dropped.
    """
    points = _xenium_points(path / "transcripts.parquet")
    cells = _xenium_polygons(path / "cell_boundaries.parquet")
    cell_boundaries = cells.set_index("cell_id")
    nuclei = _xenium_polygons(path / "nucleus_boundaries.parquet")
    return SpatialData(
        points={
            "transcripts": PointsModel.parse(
                dd.from_pandas(points, npartitions=2),
                feature_key="feature_name",
                instance_key="cell_id",
                transformations=_to_global(),
                sort=True,
            )
        },
        shapes={
            "nucleus_boundaries": ShapesModel.parse(nuclei, transformations=_to_global()),
            "cell_boundaries": ShapesModel.parse(cell_boundaries, transformations=_to_global()),
        },
        tables={"table": _xenium_table(points, pd.read_parquet(path / "cells.parquet"))},
    )


def _to_global() -> dict[str, Scale]:
    return {"global": Scale([1 / XENIUM_PIXEL_SIZE, 1 / XENIUM_PIXEL_SIZE], axes=("x", "y"))}


def _xenium_points(path: Path) -> pd.DataFrame:
    points = pd.read_parquet(path).rename(columns={"x_location": "x", "y_location": "y"})
    points["feature_name"] = points["feature_name"].astype("category")
    return points


def _xenium_polygons(path: Path) -> gpd.GeoDataFrame:
    """One polygon per label id, with the id of its cell."""
    vertices = pd.read_parquet(path)
    n_distinct = vertices.drop_duplicates(["label_id", "vertex_x", "vertex_y"]).groupby("label_id").size()
    vertices = vertices[vertices["label_id"].isin(n_distinct.index[n_distinct >= 3])]
    label_ids, ring = np.unique(vertices["label_id"], return_inverse=True)
    rings = shapely.linearrings(vertices[["vertex_x", "vertex_y"]].to_numpy(), indices=ring)
    cell_ids = vertices.groupby("label_id")["cell_id"].first()
    return gpd.GeoDataFrame(
        {"geometry": shapely.polygons(rings), "cell_id": cell_ids.loc[label_ids].to_numpy()}, index=label_ids
    )


def _xenium_table(points: pd.DataFrame, cells: pd.DataFrame) -> AnnData:
    """The vendor's cells: counts of the gene transcripts assigned to each, from `qv` 20 on."""
    row = pd.Index(cells["cell_id"]).get_indexer(points["cell_id"])
    genes = points["feature_name"].cat.categories
    genes = genes[~genes.str.startswith(PRIME_5K_CONTROLS)]
    column = genes.get_indexer(points["feature_name"])
    counted = (row >= 0) & (column >= 0) & (points["qv"].to_numpy() >= 20)
    counts = coo_array(
        (np.ones(counted.sum(), dtype=np.int32), (row[counted], column[counted])), shape=(len(cells), len(genes))
    )
    obs = cells.drop(columns=["x_centroid", "y_centroid"]).set_axis(cells["cell_id"].to_numpy(), axis=0)
    obs["region"] = pd.Categorical(["cell_boundaries"] * len(obs))
    table = AnnData(counts.tocsr(), obs=obs, var=pd.DataFrame(index=genes))
    table.obsm["spatial"] = cells[["x_centroid", "y_centroid"]].to_numpy()
    return TableModel.parse(table, region="cell_boundaries", region_key="region", instance_key="cell_id")


def cheap_copy(sdata: SpatialData) -> SpatialData:
    """A copy that a test may write to: tables and shapes copied, the data of rasters and points shared."""
    elements = {name: _copy_element(element) for _, name, element in sdata.gen_elements()}
    return SpatialData.init_from_elements(elements, attrs=deepcopy(sdata.attrs))


def _copy_element(
    element: DataArray | DataTree | DaskDataFrame | gpd.GeoDataFrame | AnnData,
) -> DataArray | DataTree | DaskDataFrame | gpd.GeoDataFrame | AnnData:
    copied = element.copy()
    # Transformations live in attrs, which shallow copies share.
    if isinstance(element, DataTree):
        for scale in copied.values():
            for variable in scale.data_vars.values():
                variable.attrs = deepcopy(variable.attrs)
    elif isinstance(element, DaskDataFrame):
        copied.attrs.update(deepcopy(dict(element.attrs)))
    elif not isinstance(element, AnnData):
        copied.attrs = deepcopy(element.attrs)
    return copied


MERSCOPE_PIXEL_SIZE = 0.10863  # um per px of the mosaic
MERSCOPE_ORIGIN = (6399.977, 4699.967)  # um of the mosaic's corner


def merscope_sdata(path: Path) -> SpatialData:
    """The MERSCOPE mouse brain crop as ``spatialdata_io.merscope`` lays a run out: transcripts in um, a mosaic in px.

    There are no nuclei: the vendor's polygons are cells.
    """
    import imageio.v3 as imageio

    frame = pd.read_csv(path / "vizgen_transcripts_crop500x450.csv.gz").rename(
        columns={"global_x": "x", "global_y": "y", "global_z": "z"}
    )
    frame["gene"] = frame["gene"].astype("category")
    step = 1 / MERSCOPE_PIXEL_SIZE
    x0, y0 = MERSCOPE_ORIGIN
    to_mosaic = Affine(
        np.array([[step, 0, -x0 * step], [0, step, -y0 * step], [0, 0, 1]]),
        input_axes=("x", "y"),
        output_axes=("x", "y"),
    )
    points = PointsModel.parse(
        dd.from_pandas(frame, npartitions=2), feature_key="gene", transformations={"global": to_mosaic}
    )
    planes = [imageio.imread(path / "images" / f"mini_dataset_{stain}_z0.jpg") for stain in ("dapi", "polyT")]
    planes = [plane if plane.ndim == 2 else plane[..., 0] for plane in planes]
    image = Image2DModel.parse(np.stack(planes), dims=("c", "y", "x"), c_coords=["DAPI", "PolyT"])
    return SpatialData(
        points={"brain_region_0_transcripts": points},
        images={"brain_region_0_z0": image},
        attrs={"spatialdata_io_reader": "merscope"},
    )
