"""Small objects drawn at random: positions, units, ids, types of columns and partitions as they may occur."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from scenes import affine, rotation, scaling, translation
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel, PointsModel, ShapesModel
from spatialdata.transformations import get_transformation
from xarray import DataTree

_FEATURES = [f"GENE{k}" for k in range(9)] + ["NegControlProbe_1", "Blank-3"]


@dataclass(frozen=True)
class Generated:
    """An object, the options to segment it with, and what is known of it."""

    sdata: SpatialData
    options: dict[str, Any]
    um_per_unit: float
    count_key: str | None
    nuclei_key: str


def generate(seed: int) -> Generated:
    """Draw an object of 1 to 7 nuclei on 15 to 45 um."""
    rng = np.random.default_rng(seed)
    width, height = rng.uniform(15, 45, 2)
    discs = _discs(rng, width, height)
    um_per_unit = float(rng.choice([1.0, 1.0, 0.2125, 0.5]))
    origin = rng.choice([0.0, -50.0, 1e4]) * rng.uniform(0.5, 1, 2)
    frame, count_key = _points(rng, width, height, discs, um_per_unit, origin)
    parts = np.sort(rng.integers(0, len(frame), rng.integers(0, 6)))
    pieces = [piece for piece in np.split(np.arange(len(frame)), parts) if len(piece) or rng.random() < 0.5]
    partitions = [dd.from_pandas(frame.iloc[piece], npartitions=1, sort=False) for piece in pieces]
    points = dd.concat(partitions).persist()  # each step would optimise the concatenation again
    # From um to the coordinate systems: any affine without loss of area.
    place = rotation(rng.uniform(0, 360)) @ scaling(rng.uniform(0.3, 4), rng.choice([-1, 1]) * rng.uniform(0.3, 4))
    place = [np.eye(3), place, translation(*rng.uniform(-99, 99, 2)) @ place][rng.integers(3)]
    to_um = translation(*-origin) @ scaling(um_per_unit)
    systems = ["global", "aligned"][: rng.integers(1, 3)]
    of_points = {name: affine(place @ to_um) for name in systems}
    feature_key = "feature_name" if rng.random() < 0.5 else None
    elements = {"transcripts": PointsModel.parse(points, feature_key=feature_key, transformations=of_points)}
    key, nuclei = _nuclei(rng, width, height, discs, place, systems[-1])
    elements[key] = nuclei
    options: dict[str, Any] = {"resolution": float(rng.choice([0.5, 1.0])), "tile_size": int(rng.choice([16, 1024]))}
    options |= {"um_per_unit": um_per_unit, "min_transcripts": int(rng.choice([0, 0, 3]))}
    if rng.random() < 0.3:
        options["confidence_column"] = "confidence"
    return Generated(SpatialData.init_from_elements(elements), options, um_per_unit, count_key, key)


def _discs(rng, width, height) -> NDArray[np.float64]:
    """Centres and radii (x, y, r) in um of nuclei that do not touch."""
    discs = np.zeros((0, 3))
    for _ in range(rng.integers(1, 8)):
        x, y, r = rng.uniform(3, width - 3), rng.uniform(3, height - 3), rng.uniform(2, 3.5)
        if (np.hypot(discs[:, 0] - x, discs[:, 1] - y) > discs[:, 2] + r + 1).all():
            discs = np.vstack([discs, [x, y, r]])
    return discs


def _points(rng, width, height, discs, um_per_unit, origin) -> tuple[pd.DataFrame, str | None]:
    n = int(rng.integers(80, 900))
    around = discs[rng.integers(0, len(discs), n), :2] + rng.normal(0, 2.5, (n, 2))
    position = np.where(rng.random((n, 1)) < 0.8, around, rng.uniform(0, 1, (n, 2)) * [width, height])
    position = np.clip(position, 0, [width, height])
    if rng.random() < 0.3:  # on the borders of pixels, many on one place
        position = np.floor(position)
    dtype = rng.choice([np.float32, np.float64])
    frame = pd.DataFrame(((position + origin) / um_per_unit).astype(dtype), columns=["x", "y"])
    if rng.random() < 0.3:
        frame = frame.assign(z=np.float32(rng.uniform(0, 9, n)))
    names = np.array(_FEATURES, dtype=object)[np.minimum(rng.geometric(0.3, n) - 1, len(_FEATURES) - 1)]
    kind = rng.choice(["category", "string", "object"])
    frame["feature_name"] = pd.Series(names, index=frame.index).astype(kind)
    count_key = None
    if rng.random() < 0.6:
        frame["qv"] = rng.uniform(5, 40, n).astype(rng.choice([np.float32, np.float64]))
    elif rng.random() < 0.5:
        count_key = "count"
        frame[count_key] = rng.integers(0, 4, n).astype(rng.choice([np.int32, np.int64, np.uint8]))
    frame["extra"] = rng.integers(0, 99, n)
    index = [np.arange(n), np.arange(n) * 3 + 7, rng.permutation(n), np.zeros(n, dtype=int)][rng.integers(4)]
    return frame.set_axis(index, axis=0), count_key


def _nuclei(rng, width, height, discs, place, system) -> tuple[str, Any]:
    """The discs as polygons in um or as labels with pixels of another size, and their key."""
    ids = rng.choice([1, 2, 3, 5, 8, 100, 65_535, 2**31 - 1], len(discs), replace=False)
    if rng.random() < 0.4:
        index = ids if rng.random() < 0.5 else [f"cell-{one}" for one in ids]
        shapes = GeoDataFrame(geometry=[shapely.Point(x, y).buffer(r) for x, y, r in discs], index=index)
        return "nucleus_boundaries", ShapesModel.parse(shapes, transformations={system: affine(place)})
    px = float(rng.choice([0.2125, 0.5, 1.0, 0.7]))
    shape = int(np.ceil(height / px)) + 3, int(np.ceil(width / px)) + 3
    labels = np.zeros(shape, dtype=rng.choice(["i4", "u4", "i8"]))
    row, column = np.indices(labels.shape)
    shift = rng.uniform(-1, 1, 2) * rng.integers(2)
    for number, (x, y, r) in zip(ids, discs, strict=True):
        labels[np.hypot((column + 0.5) * px + shift[0] - x, (row + 0.5) * px + shift[1] - y) < r] = number
    to_system = affine(place @ translation(*shift) @ scaling(px))
    options = {"scale_factors": [2]} if rng.random() < 0.3 else {}
    return "nucleus_labels", Labels2DModel.parse(
        labels, dims=("y", "x"), transformations={system: to_system}, **options
    )


def snapshot(sdata: SpatialData) -> dict[str, Any]:
    """Copies of all that an object holds."""
    held: dict[str, Any] = {"attrs": deepcopy(dict(sdata.attrs))}
    for kind, name, element in sdata.gen_elements():
        if kind == "points":
            held[name] = element.compute().copy(deep=True)
        elif kind == "shapes":
            held[name] = element.copy(deep=True)
        else:
            held[name] = finest(element).copy()
        held[f"attrs of {name}"] = deepcopy(getattr(element, "attrs", {}).get("spatialdata_attrs"))
        held[f"placement of {name}"] = {
            system: one.to_affine_matrix(("x", "y"), ("x", "y"))
            for system, one in get_transformation(element, get_all=True).items()
        }
    return held


def finest(element) -> NDArray:
    """The pixels of a labels element, of its finest level."""
    return np.asarray(element["scale0"]["image"] if isinstance(element, DataTree) else element)


def level_read(element, px_per_px: float) -> tuple[NDArray, int]:
    """The pixels of the level that is read, and how many of the finest level each spans.

    It is the coarsest of those drawn here, if that has two pixels per pixel of the grid; ``px_per_px`` is how many the
    finest has.
    """
    coarser = isinstance(element, DataTree) and px_per_px / 2 >= 2
    return (np.asarray(element["scale1"]["image"]), 2) if coarser else (finest(element), 1)
