"""Real samples of which vendor's cells, markers or a reference say something, from the folder ``$UCS_TEST_DATA``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy.sparse import load_npz
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, ShapesModel
from spatialdata.transformations import Affine, Identity

import ucs

DATA = Path(os.environ.get("UCS_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
RADII_UM = (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 12, 15)
MERSCOPE_UM_PER_PX = 0.10863
STAINS = ("dapi", "polyT")  # of MERSCOPE
MERSCOPE_ORIGIN = (6399.977, 4699.967)
ISS_UM_PER_PX = 0.325
ISS_PART = (5500, 700, 7600, 2200)  # px: the densest layer and what lies around it


@dataclass(frozen=True)
class RealSample:
    """One real sample and what it is measured by.

    Attributes
    ----------
    name
        Short name.
    sdata
        Transcripts and nuclei.
    nuclei_key, um_per_unit
        As in :func:`ucs.tl.segment`.
    segmentations
        Name -> key of the vendor's cells, if any.
    truth_key
        Key of the shapes that are taken for true, with a column ``group`` by which agreement is told apart. Cells whose
        nucleus belongs to none of them do not count.
    owner
        Column of the nuclei with the id of the true cell that each belongs to.
    resolutions
        Sides of a pixel in um at which it is measured.
    markers, reference, type_key, scale
        As in :func:`ucs.tl.compare`.
    """

    name: str
    sdata: SpatialData
    nuclei_key: str
    um_per_unit: float = 1.0
    segmentations: Mapping[str, str] = field(default_factory=dict)
    truth_key: str | None = None
    owner: str | None = None
    resolutions: tuple[float, ...] = (1.0,)
    markers: Any = None
    reference: Any = None
    type_key: str | None = None
    scale: Any = None


def breast() -> RealSample:
    """Xenium breast, 191 x 162 um: the vendor's cells are expanded nuclei; markers and profiles from single cells."""
    references = DATA / "xenium_breast_rep1_slide" / "sc_references"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the store is of an older format
        sdata = read_zarr(DATA / "xenium_breast_rep1_crop.zarr")
    return RealSample(
        "breast",
        sdata,
        "nucleus_labels",
        segmentations={"vendor": "cell_labels"},
        markers=pd.read_csv(references / "sc_breast_markers_pos.csv", index_col=0),
        reference=pd.read_csv(references / "sc_breast.csv", index_col=0).drop(columns=["ct_idx", "atlas"]),
        type_key="cell_type",
        scale="log1p",
        resolutions=(1.0, 0.5),
    )


def prostate() -> RealSample:
    """Xenium Prime 5K prostate, 200 x 400 um: cells that hold a nucleus, those that saw a membrane stain apart.

    Cells are the vendor's with a nucleus and 20 transcripts or more. Several nuclei of one cell are one nucleus here,
    as otherwise no method that makes a cell of each nucleus could find it.
    """
    folder = DATA / "xenium5k_prostate_west"
    points = pd.read_parquet(folder / "transcripts.parquet").rename(columns={"x_location": "x", "y_location": "y"})
    points["feature_name"] = points["feature_name"].astype("category")
    nuclei = _fused(_outlines(pd.read_parquet(folder / "nucleus_boundaries.parquet")))
    cells = _outlines(pd.read_parquet(folder / "cell_boundaries.parquet")).set_index("cell_id")
    vendor = pd.read_parquet(folder / "cells.parquet").set_index("cell_id").reindex(cells.index)
    cells["group"] = np.where(vendor["segmentation_method"].str.contains("boundary stain"), "membrane", "other")
    cells = cells[cells.index.isin(nuclei["cell_id"]) & (vendor["transcript_counts"] >= 20).to_numpy()]
    sdata = SpatialData(
        points={"transcripts": PointsModel.parse(dd.from_pandas(points, npartitions=2), feature_key="feature_name")},
        shapes={"nucleus_boundaries": ShapesModel.parse(nuclei), "cells": ShapesModel.parse(cells)},
    )
    return RealSample(
        "prostate",
        sdata,
        "nucleus_boundaries",
        segmentations={"vendor": "cells"},
        truth_key="cells",
        owner="cell_id",
        resolutions=(0.5, 1.0),
    )


def _outlines(vertices: pd.DataFrame) -> gpd.GeoDataFrame:
    """Make a polygon of each label with three corners or more; the crop has cut some down to fewer."""
    corners = vertices.drop_duplicates(["label_id", "vertex_x", "vertex_y"]).groupby("label_id").size()
    vertices = vertices[vertices["label_id"].isin(corners.index[corners >= 3])]
    ids, ring = np.unique(vertices["label_id"], return_inverse=True)
    order = np.argsort(ring, kind="stable")
    rings = shapely.linearrings(vertices[["vertex_x", "vertex_y"]].to_numpy()[order], indices=ring[order])
    owner = vertices.groupby("label_id")["cell_id"].first().loc[ids].to_numpy()
    return gpd.GeoDataFrame({"geometry": shapely.polygons(rings), "cell_id": owner}, index=ids)


def _fused(nuclei: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Make one multi-polygon of the nuclei of each cell (no union: some outlines cross themselves)."""
    owner, number = np.unique(nuclei["cell_id"].astype(str), return_inverse=True)
    order = np.argsort(number, kind="stable")
    parts = shapely.multipolygons(nuclei.geometry.to_numpy()[order], indices=number[order])
    return gpd.GeoDataFrame({"geometry": parts, "cell_id": owner}, index=np.arange(1, len(owner) + 1))


def ca1() -> RealSample:
    """In situ sequencing of mouse CA1, 680 x 490 um of it, 92 genes: classes of single cells, merged by first name."""
    folder = DATA / "iss_mouse_ca1"
    x0, y0, x1, y1 = ISS_PART
    spots = pd.read_csv(folder / "spots.csv").astype({"Gene": "category"})
    spots = spots[spots["x"].between(x0, x1 - 1) & spots["y"].between(y0, y1 - 1)]
    spots = spots.assign(x=spots["x"] - x0, y=spots["y"] - y0).reset_index(drop=True)
    nuclei = np.asarray(load_npz(folder / "label_image.coo.npz").todense())[y0:y1, x0:x1]
    classes = pd.read_csv(folder / "scRNA_class_means_92x71.csv", index_col=0).T
    sdata = SpatialData(
        points={"spots": PointsModel.parse(dd.from_pandas(spots, npartitions=2), feature_key="Gene")},
        labels={"nuclei": Labels2DModel.parse(nuclei.astype(np.int32), dims=("y", "x"))},
    )
    return RealSample(
        "ca1",
        sdata,
        "nuclei",
        um_per_unit=ISS_UM_PER_PX,
        reference=classes.groupby([name.split(".")[0] for name in classes.index]).mean(),
    )


def merscope() -> RealSample:
    """MERSCOPE mouse brain, 500 x 450 um: nuclei from DAPI by the built-in method, polyT, vendor's cells (z0)."""
    import imageio.v3 as imageio

    folder = DATA / "merscope_mousebrain"
    points = pd.read_csv(folder / "vizgen_transcripts_crop500x450.csv.gz").rename(
        columns={"global_x": "x", "global_y": "y", "global_z": "z"}
    )
    points["gene"] = points["gene"].astype("category")
    step, (x0, y0) = 1 / MERSCOPE_UM_PER_PX, MERSCOPE_ORIGIN
    axes = {"input_axes": ("x", "y"), "output_axes": ("x", "y")}
    to_mosaic = {"global": Affine(np.array([[step, 0, -x0 * step], [0, step, -y0 * step], [0, 0, 1]]), **axes)}
    image = np.stack([_grey(imageio.imread(folder / "images" / f"mini_dataset_{name}_z0.jpg")) for name in STAINS])
    vertices = pd.read_csv(folder / "cell_boundaries" / "z0_polygons_crop.csv.gz", dtype={"poly_ID": str})
    ids, ring = np.unique(vertices["poly_ID"], return_inverse=True)
    order = np.argsort(ring, kind="stable")
    outlines = shapely.polygons(
        shapely.linearrings(vertices[["x", "y"]].to_numpy()[order] * [1, -1], indices=ring[order])
    )
    cells = gpd.GeoDataFrame({"geometry": shapely.make_valid(outlines)}, index=ids)
    sdata = SpatialData(
        points={
            "brain_transcripts": PointsModel.parse(
                dd.from_pandas(points, npartitions=2), feature_key="gene", transformations=to_mosaic
            )
        },
        images={
            "brain_z0": Image2DModel.parse(
                image, dims=("c", "y", "x"), c_coords=["DAPI", "PolyT"], transformations={"global": Identity()}
            )
        },
        shapes={"brain_polygons": ShapesModel.parse(cells, transformations=to_mosaic)},
        attrs={"spatialdata_io_reader": "merscope"},
    )
    ucs.pp.nuclei(sdata, "brain_z0", labels_key_added="found_nuclei", progress=False)
    return RealSample("merscope", sdata, "found_nuclei", segmentations={"vendor": "brain_polygons"})


def _grey(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 2 else image[..., 0]


SAMPLES: dict[str, Callable[[], RealSample]] = {
    "prostate": prostate,
    "breast": breast,
    "ca1": ca1,
    "merscope": merscope,
}
