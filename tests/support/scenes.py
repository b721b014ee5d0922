"""One small tissue, with nuclei on a raster of 1 um that the grid meets exactly, and many ways to say where it is."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import shapely
from calls import segment, train
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel, PointsModel, ShapesModel
from spatialdata.transformations import Affine, BaseTransformation, Scale

import ucs
from ucs._kernels.labels.resample import sample_labels
from ucs.methods import UCSModel

X0, Y0 = -37.0, -13.0  # where the tissue begins, in um: grids must do with negative coordinates
TINY = {"max_steps": 4, "patch_size": 24}
"""Training that takes a second: the nets are nets, but they know next to nothing."""
PAPER_TINY = {**TINY, "background": 5.0, "cell_steps": 10, "cell_patches": 4}
"""The same of the paper's method."""
SHORT = {"max_steps": 30, "patch_size": 24}
"""Training that takes some seconds and gives cells with cytoplasm and tissue with background."""
PAPER_SHORT = {**SHORT, "background": 5.0, "cell_steps": 60, "cell_patches": 12}
"""The same of the paper's method."""
PARAMS = {"density": SHORT, "paper": PAPER_SHORT}


@dataclass(frozen=True)
class Scene:
    """Nuclei (h, w) with 1 um pixels from (X0, Y0) on, and transcripts (x, y, feature_name, qv) in um."""

    nuclei: NDArray
    points: pd.DataFrame

    @property
    def to_um(self) -> NDArray[np.float64]:
        """From pixels of the nuclei to um."""
        return translation(X0, Y0)

    def sdata(self, **options: Any) -> SpatialData:
        """The scene as SpatialData: see :func:`make_sdata`."""
        return make_sdata(self.nuclei, self.points, **{"labels_to_um": self.to_um, **options})

    def with_points(self, points: pd.DataFrame) -> Scene:
        return replace(self, points=points)


@functools.cache
def scene() -> Scene:
    """Some thirty cells of simulated tissue on 96 x 72 um."""
    simulated = ucs.datasets.simulate(width_um=96, height_um=72, n_genes=40, seed=3)
    labels = np.asarray(simulated["nucleus_labels"]["scale0"]["image"]).astype(np.int32)
    points = simulated["transcripts"].compute()[["x", "y", "feature_name", "qv"]].astype({"x": float, "y": float})
    points = points[(points["x"] < 96) & (points["y"] < 72)]
    # On a raster of 2^-10 um: sums and doublings of such coordinates are exact.
    points[["x", "y"]] = np.floor(points[["x", "y"]] * 1024) / 1024 + [X0, Y0]
    # One in either corner, so that the grid is the raster of the nuclei.
    corners = pd.DataFrame({"x": [X0 + 0.25, X0 + 95.75], "y": [Y0 + 0.25, Y0 + 71.75], "feature_name": "GENE0001"})
    points = pd.concat([points.astype({"feature_name": str}), corners], ignore_index=True)
    points = points.astype({"feature_name": "category"}).assign(qv=np.float32(30))
    return Scene(sample_labels(labels, scaling(1 / 0.2125), (72, 96)), points)


def model(method: str = "density") -> UCSModel:
    """A model of a method, trained on the scene."""
    return _model(method)


def cells(method: str = "density") -> SpatialData:
    """The scene with the cells that the model finds; not to be written to."""
    return _cells(method)


@functools.cache
def _model(method: str) -> UCSModel:
    return train(scene().sdata(), method=method, params=PARAMS[method])


@functools.cache
def _cells(method: str) -> SpatialData:
    return segmented(scene().sdata(), method=method)


def segmented(sdata: SpatialData, *keys: Any, method: str = "density", **options: Any) -> SpatialData:
    """A new object with the cells that the model finds."""
    return segment(sdata, *keys, **{"model": model(method), **options})


def labels_of(sdata: SpatialData, key: str = "ucs_cells") -> NDArray:
    return np.asarray(sdata.labels[key])


def make_points(
    points: pd.DataFrame,
    transformations: dict[str, BaseTransformation] | None = None,
    *,
    npartitions: int = 2,
) -> dd.DataFrame:
    """A points element that keeps the order of the rows."""
    return PointsModel.parse(
        dd.from_pandas(points, npartitions=npartitions, sort=False),
        feature_key="feature_name" if "feature_name" in points else None,
        transformations=transformations or {"global": affine(np.eye(3))},
    )


def make_sdata(
    nuclei: NDArray | GeoDataFrame,
    points: pd.DataFrame,
    *,
    labels_to_um: NDArray | None = None,
    um_to_global: NDArray | None = None,
    points_to_um: NDArray | None = None,
    labels_options: dict[str, Any] | None = None,
    npartitions: int = 2,
    points_systems: dict[str, NDArray] | None = None,
    nuclei_systems: dict[str, NDArray] | None = None,
) -> SpatialData:
    """Nuclei (a raster or polygons) and points as SpatialData, both placed in `global` through um.

    `points_systems` and `nuclei_systems`, coordinate system -> matrix from intrinsic coordinates, replace that.
    """
    um_to_global = np.eye(3) if um_to_global is None else um_to_global
    labels_to_um = np.eye(3) if labels_to_um is None else labels_to_um
    points_to_um = np.eye(3) if points_to_um is None else points_to_um
    of_points = points_systems or {"global": um_to_global @ points_to_um}
    of_nuclei = nuclei_systems or {"global": um_to_global @ labels_to_um}
    of_points, of_nuclei = ({name: affine(m) for name, m in systems.items()} for systems in (of_points, of_nuclei))
    elements = {"transcripts": make_points(points, of_points, npartitions=npartitions)}
    if isinstance(nuclei, GeoDataFrame):
        elements["nucleus_boundaries"] = ShapesModel.parse(nuclei, transformations=of_nuclei)
    else:
        elements["nucleus_labels"] = Labels2DModel.parse(
            nuclei, dims=("y", "x"), transformations=of_nuclei, **(labels_options or {})
        )
    return SpatialData.init_from_elements(elements)


def boxes(*boxes: tuple[float, float, float, float], index: Any = None) -> GeoDataFrame:
    """Rectangles (x0, y0, x1, y1) as polygons."""
    return GeoDataFrame({"geometry": [shapely.box(*box) for box in boxes]}, index=index)


def affine(matrix: NDArray) -> Affine:
    return Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))


def scaling(sx: float, sy: float | None = None) -> NDArray[np.float64]:
    return np.diag([sx, sx if sy is None else sy, 1.0])


def translation(dx: float, dy: float) -> NDArray[np.float64]:
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def rotation(degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def shear(k: float) -> NDArray[np.float64]:
    return np.array([[1.0, k, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


AFFINES = {
    "scale": scaling(1 / 0.2125, 3.7),
    "translation": translation(1234.5, -987.25),
    "rotation": rotation(33.0),
    "shear": shear(0.4),
    "flip": scaling(1.0, -1.0),
    "all": translation(5000, -20) @ rotation(-71) @ shear(-0.3) @ scaling(-4.7, 0.9),
}


IMAGE_UM = 0.5
"""Side of a pixel of :func:`stain`."""


def stain():
    """The nuclei of the scene as a stain, in pixels of half a um."""
    from scipy.ndimage import gaussian_filter

    pixels = (scene().nuclei > 0).repeat(2, axis=0).repeat(2, axis=1).astype(float)
    return (1000 * gaussian_filter(pixels, 1.5) + 50).astype(np.uint16)


def scaled(factor):
    return Scale([factor, factor], axes=("x", "y"))
