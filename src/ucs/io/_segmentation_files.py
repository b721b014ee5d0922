"""Files with cells: polygons, masks, and tables of transcripts."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_NONE = ("", "0", "-1", "nan", "None", "<NA>", "UNASSIGNED", "unassigned")
"""What programs write for no cell."""


def read_polygons(
    path: Path, cell: Sequence[str], zero_based: Sequence[str] = ()
) -> tuple[NDArray, NDArray[np.object_]]:
    """Return the name of the cell of each polygon, ``(n,)``, and its geometry; polygons of one cell are joined.

    Parameters
    ----------
    path
        GeoJSON (also gzip-compressed; a FeatureCollection, or a GeometryCollection with ``cell``), GeoParquet, or a
        table of vertices as Xenium has it (``cell_id``, ``vertex_x``, ``vertex_y``).
    cell
        What the cell of a polygon may be called.
    zero_based
        Which of these count from 0: one is added.

    Raises
    ------
    KeyError
        If none of them is there.
    ValueError
        If the file holds no polygons, or is of another format.
    """
    import shapely

    if path.name.endswith((".json", ".geojson", ".json.gz", ".geojson.gz")):
        names, geometry = _from_geojson(path, cell, zero_based)
    else:
        names, geometry = _from_table(path, cell, zero_based)
    if len(names) == 0:
        msg = f"{path} holds no polygons."
        raise ValueError(msg)
    codes, unique = pd.factorize(names)
    if len(unique) < len(names):
        geometry = np.array([shapely.union_all(geometry[codes == k]) for k in range(len(unique))], dtype=object)
    return np.asarray(unique), geometry


def _from_geojson(path: Path, cell: Sequence[str], zero_based: Sequence[str]) -> tuple[NDArray, NDArray[np.object_]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        try:
            read = json.load(file)
        except json.JSONDecodeError as error:
            msg = f"{path} is no GeoJSON: {error}."
            raise ValueError(msg) from error
    items = read.get("features", read.get("geometries", []))
    names, geometry = [], []
    for item in items:
        said = {"id": item.get("id"), "cell": item.get("cell"), **(item.get("properties") or {})}
        called = next((key for key in cell if said.get(key) is not None), None)
        if called is None:
            msg = f"{path}: a polygon has none of {listed(cell)} among {listed(said)}."
            raise KeyError(msg)
        names.append(said[called] + 1 if called in zero_based else said[called])
        geometry.append(_shape(item.get("geometry", item)))
    return np.asarray(names), np.array([*geometry, None], dtype=object)[:-1]


def _shape(geometry: dict[str, Any]) -> Any:
    """Return a polygon; an empty one of rings with fewer than three corners, which some programs write."""
    import shapely

    several = geometry["type"] == "MultiPolygon"
    parts = geometry["coordinates"] if several else [geometry["coordinates"]]
    polygons = [shapely.Polygon(rings[0], rings[1:]) for rings in parts if rings and len(rings[0]) >= 4]
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def _from_table(path: Path, cell: Sequence[str], zero_based: Sequence[str]) -> tuple[NDArray, NDArray[np.object_]]:
    import geopandas
    import shapely

    table = read_table(path)
    name = _column(table, cell, path)
    if name in zero_based:
        table[name] += 1
    if {"vertex_x", "vertex_y"} <= set(table.columns):
        table = table.sort_values(name, kind="stable")
        ring, unique = pd.factorize(table[name])
        corners = np.bincount(ring)
        if corners.min(initial=3) < 3:
            table = table[(corners >= 3)[ring]]
            ring, unique = pd.factorize(table[name])
        rings = shapely.linearrings(table[["vertex_x", "vertex_y"]].to_numpy(np.float64), indices=ring)
        return np.asarray(unique), shapely.polygons(rings)
    if "geometry" not in table:
        msg = f"{path} has neither a geometry nor vertex_x and vertex_y; its columns are {listed(table.columns)}."
        raise ValueError(msg)
    return table[name].to_numpy(), geopandas.read_parquet(path).geometry.to_numpy()


def read_mask(path: Path) -> NDArray[np.int32]:
    """Return a mask ``(h, w)`` of a TIFF or NumPy file; of Cellpose's ``_seg.npy`` its ``masks``.

    Raises
    ------
    ValueError
        If it is no 2D raster of whole numbers from 0 on with a cell, or the file is of another format.
    """
    if path.suffix == ".npy":
        mask = np.load(path, allow_pickle=path.name.endswith("_seg.npy"))
        if mask.dtype == object:
            mask = mask.item()["masks"]
    elif path.suffix == ".npz":
        arrays = np.load(path)
        if len(arrays.files) != 1:
            msg = f"{path} holds {listed(arrays.files)}: a file with one array is needed."
            raise ValueError(msg)
        mask = arrays[arrays.files[0]]
    else:
        from skimage.io import imread

        mask = imread(path)
    mask = np.squeeze(np.asarray(mask))
    if mask.ndim != 2 or mask.dtype.kind not in "iub" or mask.min(initial=0) < 0 or not mask.any():
        msg = f"{path} holds {mask.dtype} of shape {mask.shape}: cells are a 2D raster of ids from 0 (none) on."
        raise ValueError(msg)
    return mask.astype(np.int32)


def read_table(path: Path) -> pd.DataFrame:
    """Return a CSV (also gzip-compressed) or Parquet file as a frame, bytes as text."""
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    for name in frame.columns:
        if len(frame) and isinstance(frame[name].iloc[0], bytes) and name != "geometry":
            frame[name] = frame[name].str.decode("utf-8")
    return frame


def read_transcripts(
    path: Path, cell: Sequence[str], number: pd.Series | None, zero_based: Sequence[str] = ()
) -> pd.Series:
    """Return the number of the cell of each transcript, 0 for none, by ``transcript_id`` if the file has it.

    Parameters
    ----------
    path
        The table.
    cell
        What its column with the cell may be called.
    number
        Number of each cell by name; None if names are numbers. Cells that are not listed have none: 0.
    zero_based
        Names of columns that count from 0: one is added.
    """
    table = read_table(path)
    name = _column(table, cell, path)
    names = table[name] + 1 if name in zero_based else table[name]
    own = cell_numbers(names.dropna().unique())
    # Some programs write whole names in one file and numbers in the other.
    shared = number if number is not None and number.index.isin(own.index).any() else own
    found = names.map(shared.to_dict()).fillna(0).to_numpy(dtype=np.int64)
    if number is not None:
        found[~np.isin(found, number)] = 0
    return pd.Series(found, index=pd.Index(table["transcript_id"]) if "transcript_id" in table else None)


def cell_numbers(names: NDArray) -> pd.Series:
    """Return a number for each name of a cell: itself, what it ends with after a dash or underscore, or its place.

    0 for names that mean no cell.
    """
    unique = pd.unique(np.asarray(names))
    text = pd.Series(unique).astype(str).str.removesuffix(".0")
    none = text.isin(_NONE).to_numpy()
    number = pd.to_numeric(text.str.extract(r"(?:^|^.*[-_])(\d+)$", expand=False)).fillna(0).to_numpy(np.int64)
    # Zero-based numbers and Xenium's own names, which end with the number of the dataset, would not be told apart.
    if (number[~none] < 1).any() or len(np.unique(number[~none])) < (~none).sum():
        number = np.arange(1, len(unique) + 1)
    return pd.Series(np.where(none, 0, number), index=unique)


def _column(table: pd.DataFrame, names: Sequence[str], path: Path) -> str:
    name = next((one for one in names if one in table.columns), None)
    if name is None:
        msg = f"{path} has no column {listed(names)} with the cells; its columns are {listed(table.columns)}."
        raise KeyError(msg)
    return name
