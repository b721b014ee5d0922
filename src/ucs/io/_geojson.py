"""Cells as GeoJSON, for QuPath and others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pandas as pd

from ucs._files.new_files import new_files
from ucs._utils.checks import choose_one, listed
from ucs._utils.log import logger
from ucs._utils.transformations import transformation_matrix
from ucs.io._cells import Cells, source_of, to_um

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.platforms import Platform

DECIMALS = 4  # of coordinates: 0.1 nm


def to_geojson(
    sdata: SpatialData,
    path: str | os.PathLike,
    *,
    shapes_key: str = "ucs_boundaries",
    table_key: str | None = None,
    image_key: str | None = None,
    type_key: str | None = None,
    measurements: Sequence[str] | None = None,
    points_key: str | None = None,
    platform: str | Platform = "auto",
    um_per_unit: float | None = None,
    overwrite: bool = False,
) -> None:
    """Write the outlines of cells as a GeoJSON FeatureCollection, as QuPath imports it.

    Each cell is one feature of the type ``cell``: a polygon, or a multi-polygon if it has several parts. ``id`` is a
    UUID made of the key and the cell's id, the same in every export; ``properties`` has the cell's id as ``cell_id``
    and ``name``, its type as ``classification``, and ``measurements``.

    Parameters
    ----------
    sdata
        Object with the cells.
    path
        The file.
    shapes_key
        Outlines of the cells.
    table_key
        Table of the cells; that which annotates the shapes if None. Cells that it does not list are left out.
    image_key
        Coordinates are pixels of this image (of its finest level), as QuPath has them; um if None, along the intrinsic
        axes of the transcripts, as in ``obsm["spatial"]``.
    type_key
        Column of ``obs`` with the types of the cells; none if None.
    measurements
        Columns of ``obs``; all numbers and truth values if None. Values that are missing are left out.
    points_key, platform, um_per_unit
        As in :func:`ucs.tl.compare`: what states the unit. Without effect with ``image_key``.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    KeyError
        If an element or a column is missing.
    ValueError
        If the shapes are no polygons, a column holds no numbers, or no path leads to the image.
    FileExistsError
        If the file exists and ``overwrite`` is False.

    Examples
    --------
    >>> import tempfile, pathlib, geopandas, ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "nuclei.geojson"
    >>> ucs.io.to_geojson(sdata, path, shapes_key="nucleus_boundaries", image_key="morphology_focus")
    >>> len(geopandas.read_file(path)) == len(sdata["nucleus_boundaries"])
    True
    """
    path = Path(path)
    cells = Cells.of(sdata, shapes_key, table_key)
    obs = cells.obs()
    types = None if type_key is None else _column(obs, type_key, "type_key").astype(object).to_numpy()
    columns = _measured(obs, measurements)
    if image_key is None:
        source = source_of(sdata, points_key=points_key, platform=platform, um_per_unit=um_per_unit)
        matrix = to_um(sdata, source, shapes_key)
    else:
        choose_one(image_key, list(sdata.images), (), argument="image_key", what="image")
        matrix = transformation_matrix(sdata, shapes_key, image_key)
    with new_files(path.parent, [path.name], overwrite=overwrite) as made:
        features = _features(cells, cells.placed(matrix), shapes_key, types, columns)
        write_collection(made / path.name, features)
    unit = "um" if image_key is None else f"pixels of {image_key}"
    logger.info("Written to %s: %d cells of %s in %s.", path, len(cells.ids), shapes_key, unit)


def write_collection(path: Path, features: Iterable[dict[str, Any]], kind: str = "FeatureCollection") -> None:
    """Write GeoJSON, one feature (or geometry) a line."""
    member = "features" if kind == "FeatureCollection" else "geometries"
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"type": "{kind}", "{member}": [')
        for k, feature in enumerate(features):
            file.write(",\n" if k else "\n")
            json.dump(feature, file, allow_nan=False)
        file.write("\n]}\n")


def geometries(polygons: NDArray[np.object_]) -> Iterator[dict[str, Any]]:
    """Yield polygons as GeoJSON geometries with rounded coordinates."""
    import shapely

    for geometry in shapely.transform(polygons, lambda xy: np.round(xy, DECIMALS)):
        yield shapely.geometry.mapping(geometry)


def _features(
    cells: Cells,
    polygons: NDArray[np.object_],
    key: str,
    types: NDArray[np.object_] | None,
    columns: dict[str, NDArray[np.float64]],
) -> Iterator[dict[str, Any]]:
    for k, (cell, geometry) in enumerate(zip(cells.ids.tolist(), geometries(polygons), strict=True)):
        properties: dict[str, Any] = {"objectType": "cell", "name": str(cell), "cell_id": cell}
        if types is not None and not pd.isna(types[k]):
            properties["classification"] = {"name": str(types[k])}
        properties["measurements"] = {
            name: float(values[k]) for name, values in columns.items() if np.isfinite(values[k])
        }
        identity = str(uuid5(NAMESPACE_URL, f"spatialdata-ucs/{key}/{cell}"))
        yield {"type": "Feature", "id": identity, "geometry": geometry, "properties": properties}


def _measured(obs: pd.DataFrame, names: Sequence[str] | None) -> dict[str, NDArray[np.float64]]:
    if names is None:
        names = [name for name in obs if pd.api.types.is_numeric_dtype(obs[name])]
    columns = {}
    for name in names:
        column = _column(obs, name, "measurements")
        if not pd.api.types.is_numeric_dtype(column):
            msg = f"measurements={name!r}: the column holds no numbers but {column.dtype}. Give it as type_key=."
            raise ValueError(msg)
        columns[name] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return columns


def _column(obs: pd.DataFrame, name: str, argument: str) -> pd.Series:
    if name not in obs:
        msg = f"{argument}={name!r} is no column of the cells' table; there are: {listed(obs.columns)}."
        raise KeyError(msg)
    return obs[name]
