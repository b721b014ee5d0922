"""The real samples, laid out as the vendor does and read by spatialdata-io, or by our own readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import geopandas as gpd
import imageio.v3 as imageio
import numpy as np
import pandas as pd
import shapely
from helpers import MERSCOPE_ORIGIN, MERSCOPE_PIXEL_SIZE, require_data
from merscope_run import write_merscope_run
from numpy.typing import NDArray
from scipy.sparse import load_npz
from skimage.transform import resize
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel
from spatialdata.transformations import get_transformation
from xenium_bundle import write_xenium_bundle

import ucs

ISS_UM_PER_PX = 0.325
"""Pixel of a camera (6.5 um) over the magnification (20), not stated with the data; the median nucleus has 117 um^2."""


def read_lung(folder: Path) -> SpatialData:
    """Xenium v1 (1.6) human lung, 200 x 200 um, moved to the slide's corner; nuclei stand for the missing cells."""
    from spatialdata_io import xenium

    path = require_data("xenium_v1_lung")
    transcripts, nuclei = _moved(path, "transcripts", "nucleus_boundaries", origin=(8000, 1500))
    return xenium(write_xenium_bundle(folder / "lung", transcripts, nuclei, nuclei, version="1.6.0"))


def read_prostate(
    folder: Path,
    *,
    version: str = "3.0.0",
    proteins: tuple[str, ...] = (),
    change: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    **options: Any,
) -> SpatialData:
    """Xenium Prime 5K human prostate, 200 x 400 um, moved to the corner of the slide.

    As another version of the vendor's software would write it, with proteins, or with changed transcripts if asked for;
    the options are the reader's.
    """
    from spatialdata_io import xenium

    path = require_data("xenium5k_prostate_west")
    tables = _moved(path, "transcripts", "nucleus_boundaries", "cell_boundaries", origin=(2000, 2000))
    transcripts, nuclei, cells = tables
    nuclei, cells = (v[v.groupby("label_id")["label_id"].transform("size") >= 4] for v in (nuclei, cells))
    nuclei = nuclei[nuclei["cell_id"].isin(cells["cell_id"])]
    transcripts = transcripts.assign(z_location=0.0)
    if change is not None:
        transcripts = change(transcripts)
    folder.mkdir(exist_ok=True)
    path = write_xenium_bundle(folder / "prostate", transcripts, nuclei, cells, version=version, proteins=proteins)
    return xenium(path, **options)


def _moved(path: Path, *names: str, origin: tuple[float, float]) -> list[pd.DataFrame]:
    tables = [pd.read_parquet(path / f"{name}.parquet") for name in names]
    for table in tables:
        for prefix in ("vertex_{}", "{}_location"):
            for axis, start in zip("xy", origin, strict=True):
                if prefix.format(axis) in table:
                    table[prefix.format(axis)] -= start
    return tables


ISS_PART = (6000, 700, 7500, 2200)
"""Some 500 x 500 um with a dense layer of cells."""


def iss_sdata(part: tuple[int, int, int, int] | None = None) -> SpatialData:
    """In situ sequencing of mouse CA1, 2.5 x 1.8 mm or a part: spots and labels of nuclei in pixels of one image."""
    path = require_data("iss_mouse_ca1")
    spots = pd.read_csv(path / "spots.csv").astype({"Gene": "category"})
    nuclei = np.asarray(load_npz(path / "label_image.coo.npz").todense())
    if part is not None:
        x0, y0, x1, y1 = part
        spots = spots[spots["x"].between(x0, x1 - 1) & spots["y"].between(y0, y1 - 1)]
        spots = spots.assign(x=spots["x"] - x0, y=spots["y"] - y0).reset_index(drop=True)
        nuclei = nuclei[y0:y1, x0:x1].copy()
    points = PointsModel.parse(dd.from_pandas(spots, npartitions=2), feature_key="Gene")
    return SpatialData(points={"spots": points}, labels={"nuclei": Labels2DModel.parse(nuclei, dims=("y", "x"))})


def merscope_files() -> tuple[pd.DataFrame, gpd.GeoDataFrame, dict[str, NDArray]]:
    """MERSCOPE mouse brain, 500 x 450 um: transcripts, the vendor's cells of both planes (in one file), images."""
    path = require_data("merscope_mousebrain")
    transcripts = pd.read_csv(path / "vizgen_transcripts_crop500x450.csv.gz")
    cells = [
        _merscope_polygons(path / "cell_boundaries" / f"z{plane}_polygons_crop.csv.gz").assign(ZIndex=plane)
        for plane in (0, 1)
    ]
    images = {
        name: imageio.imread(path / "images" / f"mini_dataset_{stain}_z0.jpg")
        for name, stain in (("DAPI", "dapi"), ("PolyT", "polyT"))
    }
    images = {name: plane if plane.ndim == 2 else plane[..., 0] for name, plane in images.items()}
    return transcripts, pd.concat(cells), images


def _merscope_polygons(path: Path) -> gpd.GeoDataFrame:
    vertices = pd.read_csv(path, dtype={"poly_ID": str})
    ids, ring = np.unique(vertices["poly_ID"], return_inverse=True)
    order = np.argsort(ring, kind="stable")  # in the file the rings of cells may be mixed
    coordinates = vertices[["x", "y"]].to_numpy()[order] * [1, -1]
    rings = shapely.linearrings(coordinates, indices=ring[order])
    return gpd.GeoDataFrame({"EntityID": ids}, geometry=shapely.polygons(rings))


def read_merscope(folder: Path) -> SpatialData:
    """MERSCOPE mouse brain, 500 x 450 um, planes 0 and 1; the image of plane 0 stands for the one that is read."""
    from spatialdata_io import merscope

    path = folder / "mouse_brain" / "region_0"
    transcripts, cells, images = merscope_files()
    return merscope(
        write_merscope_run(path, transcripts, cells, images, um_per_px=MERSCOPE_PIXEL_SIZE, origin=MERSCOPE_ORIGIN)
    )


def read_stereoseq(folder: Path, *, width_um: float = 200, n_genes: int = 26_000) -> SpatialData:
    """Simulated tissue as Stereo-seq sees it: a GEM of DNBs of 0.5 um, and the ssDNA image registered with it."""
    truth = ucs.datasets.simulate(
        width_um=width_um, height_um=width_um, n_genes=n_genes, transcripts_per_cell=1300, diffusion_share=0.3, seed=5
    )
    rows = truth["transcripts"].compute()
    rows = rows[~rows["feature_name"].str.match("NegControl|Unassigned|BLANK")]
    rows = pd.DataFrame(
        {"geneID": rows["feature_name"].astype(str), "x": (rows["x"] * 2).astype(int), "y": (rows["y"] * 2).astype(int)}
    )
    rows = rows.value_counts().rename("MIDCount").reset_index().sort_values(["geneID", "x", "y"])
    rows.to_csv(folder / "simulated.gem.gz", sep="\t", index=False)
    sdata = ucs.io.read_gem(folder / "simulated.gem.gz", progress=False)
    image = np.asarray(truth["morphology_focus"]["scale0"]["image"])[0].astype(float)
    side = int(width_um * 2)
    resampled = resize(image, (side, side), anti_aliasing=True, preserve_range=True).astype(np.uint16)
    sdata["ssDNA_regist"] = Image2DModel.parse(resampled[None], dims=("c", "y", "x"), c_coords=["ssDNA"])
    labels = np.asarray(truth["nucleus_labels"]["scale0"]["image"])
    at = ((np.arange(side) + 0.5) * 0.5 / truth_pixel_size(truth)).astype(int)
    sdata["truth"] = Labels2DModel.parse(labels[np.ix_(at, at)].astype(np.int32), dims=("y", "x"))
    return sdata


def truth_pixel_size(truth: SpatialData) -> float:
    """Of the simulator's rasters, in um."""
    return 1 / float(get_transformation(truth["transcripts"]).to_affine_matrix(("x", "y"), ("x", "y"))[0, 0])


def stereoseq_real() -> SpatialData:
    """Stereo-seq mouse tissue, 300 x 300 DNBs (150 x 150 um), 10,631 genes, without its image."""
    return ucs.io.read_gem(require_data("stereoseq_gem") / "SS200000135TL_D1_bin1_small.gem.gz", progress=False)
