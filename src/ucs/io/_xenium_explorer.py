"""Cells as the Xenium Explorer opens them, written by sopa."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._files.new_files import new_files
from ucs._read.columns import counts_of
from ucs._read.fields import find_fields
from ucs._utils.checks import choose_one, listed
from ucs._utils.elements import finest_level
from ucs._utils.log import hidden, logger
from ucs.io._cells import Cells, in_one_part, source_of

if TYPE_CHECKING:
    import os

    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.source import Source

IDS = "cell_ids.csv"
FILES = (
    "experiment.xenium", "cells.zarr.zip", "transcripts.zarr.zip", "cell_feature_matrix.zarr.zip", "analysis.zarr.zip",
    "morphology.ome.tif", IDS,
)  # fmt: skip
_SAME_SCALE = 0.01  # relative: pixels that are less square are shown distorted


def to_xenium_explorer(
    sdata: SpatialData,
    folder: str | os.PathLike,
    *,
    shapes_key: str = "ucs_boundaries",
    table_key: str | None = None,
    layer: str | None = None,
    image_key: str | None = None,
    points_key: str | None = None,
    platform: str | Platform = "auto",
    um_per_unit: float | None = None,
    max_vertices: int = 25,
    overwrite: bool = False,
) -> None:
    """Write a folder that the Xenium Explorer opens by its ``experiment.xenium``, of any platform's data.

    The files are written by sopa (``pip install "spatialdata-ucs[explorer]"``): outlines, counts, transcripts of genes
    and controls that pass the quality cut, categories of ``obs``, and the image. The Explorer names cells by letters:
    cell ``k`` is number ``k`` in its code (1 is ``aaaaaaab-1``), and ``cell_ids.csv`` lists both.

    Parameters
    ----------
    sdata
        Object with cells and transcripts.
    folder
        Folder for the files; it is made if it does not exist.
    shapes_key, table_key
        Outlines, and the table with the counts; that which annotates the shapes if None.
    layer
        Layer of the table with the counts; ``X`` if None.
    image_key
        The image to show; the only one if None. Without images the density of the transcripts is shown instead.
    points_key, platform, um_per_unit
        As in :func:`ucs.tl.compare`.
    max_vertices
        Vertices of an outline; those with more are simplified.
    overwrite
        Whether existing files may be replaced.

    Raises
    ------
    ImportError
        If sopa is not installed.
    KeyError
        If an element is missing.
    ValueError
        If there are several images and none is named, or counts are no whole numbers.
    FileExistsError
        If a file exists and ``overwrite`` is False.
    """
    write = _writer()
    folder = Path(folder)
    cells = Cells.of(sdata, shapes_key, table_key)
    source = source_of(sdata, points_key=points_key, platform=platform, um_per_unit=um_per_unit)
    with new_files(folder, FILES, overwrite=overwrite) as made:
        points = _points(sdata, source)
        image, to_px = _image(sdata, source, image_key, points)
        pixel_um = source.um_per_unit / np.sqrt(abs(np.linalg.det(to_px[:2, :2])))
        points[["x", "y"]] = points[["x", "y"]].to_numpy() @ to_px[:2, :2].T + to_px[:2, 2]
        names = _names(cells.ids)
        outlines = in_one_part(cells.placed(to_px @ source.to_frame(sdata, shapes_key)), "The Xenium Explorer")
        # It tells the place of its files, which are moved from there once they are complete.
        with hidden("sopa.io.explorer.converter", "Saved files in", "You can open"):
            write(
                str(made),
                _in_pixels(image, points, outlines, names, _table(cells, names, layer)),
                image_key="image",
                shapes_key="cells",
                points_key="transcripts",
                gene_column="gene",
                pixel_size=float(pixel_um),
                polygon_max_vertices=max_vertices,
                run_name=shapes_key,
            )
        pd.DataFrame({"cell_id": cells.ids, "explorer_id": names}).to_csv(made / IDS, index=False)
    experiment = folder / "experiment.xenium"
    logger.info("Written to %s: %d cells, %d transcripts. Open %s.", folder, len(cells.ids), len(points), experiment)


def _writer() -> Any:
    try:
        from sopa.io.explorer import write
    except ImportError as error:
        msg = 'to_xenium_explorer needs sopa: pip install "spatialdata-ucs[explorer]".'
        raise ImportError(msg) from error
    return write


def _points(sdata: SpatialData, source: Source) -> pd.DataFrame:
    """Return position in the frame and feature of all transcripts that pass the quality cut."""
    fields = find_fields(sdata, source)
    frames = []
    for k, part in enumerate(source.elements):
        owner = None if fields is None else fields.owner(k)
        for _, frame in part.frames(sdata):
            kept = frame[part.columns.kept(frame)]
            x, y = part.place(kept)
            one = pd.DataFrame({"x": x, "y": y, "gene": kept[part.columns.gene].astype(str).to_numpy()})
            n = counts_of(kept, part.columns) * (1 if owner is None else owner.owns(x, y))
            frames.append(one.loc[one.index.repeat(n)])
    out = pd.concat(frames, ignore_index=True).astype({"x": np.float64, "y": np.float64, "gene": "category"})
    if len(out) == 0:
        msg = f"points[{source.points_key!r}] has no transcript that passes the quality cut."
        raise ValueError(msg)
    return out


def _image(
    sdata: SpatialData, source: Source, key: str | None, points: pd.DataFrame
) -> tuple[Any, NDArray[np.floating]]:
    """Return the image as a DataArray, and the ``(3, 3)`` matrix from the frame to its pixels."""
    from xarray import DataArray

    if key is None and len(sdata.images) > 1:
        msg = f"There are several images: {listed(sdata.images)}. Name the one to show with image_key=."
        raise ValueError(msg)
    if key is None and not len(sdata.images):
        logger.warning("There is no image: the Explorer shows the density of the transcripts instead.")
        side = source.resolution / source.um_per_unit
        xy = points[["x", "y"]].to_numpy()
        origin = xy.min(axis=0)
        column, row = ((xy - origin) / side).astype(np.int64).T
        density = np.zeros((1, row.max() + 1, column.max() + 1), dtype=np.uint16)
        np.add.at(density[0], (row, column), 1)
        image = DataArray(density, dims=("c", "y", "x"), coords={"c": ["transcripts"]})
        return image, np.array([[1 / side, 0, -origin[0] / side], [0, 1 / side, -origin[1] / side], [0, 0, 1.0]])
    key = choose_one(key or next(iter(sdata.images)), list(sdata.images), (), argument="image_key", what="image")
    to_frame = source.to_frame(sdata, key)
    sides = np.linalg.norm(to_frame[:2, :2], axis=0)
    if abs(sides[0] / sides[1] - 1) > _SAME_SCALE:
        logger.warning("The pixels of %s are not square, as the Explorer has them: distances are distorted.", key)
    return finest_level(sdata.images[key]), np.linalg.inv(to_frame)


def _names(ids: NDArray) -> list[str]:
    """Return the Explorer's names: the number in hexadecimal with the digits a to p, and the suffix of the dataset."""
    numbers = ids if np.issubdtype(ids.dtype, np.integer) else np.arange(1, len(ids) + 1)
    letters = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
    return [f"{number:08x}".translate(letters) + "-1" for number in numbers.tolist()]


def _table(cells: Cells, names: list[str], layer: str | None) -> AnnData | None:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    if cells.table is None:
        return None
    counts = csr_matrix(cells.table.X if layer is None else cells.table.layers[layer])
    if (counts.data != np.floor(counts.data)).any() or counts.data.min(initial=0) < 0:
        msg = f"{'X' if layer is None else layer} of the table holds no counts. Name a layer with counts by layer=."
        raise ValueError(msg)
    obs = cells.obs()
    kinds = [name for name in obs if obs[name].dtype.kind == "b" or isinstance(obs[name].dtype, pd.CategoricalDtype)]
    shown = pd.DataFrame({name: obs[name].astype(str).astype("category").to_numpy() for name in kinds}, index=names)
    return AnnData(
        counts, obs=shown.assign(cell=names, region=pd.Categorical(["cells"] * len(names))), var=cells.table.var[[]]
    )


def _in_pixels(
    image: Any, points: pd.DataFrame, outlines: NDArray[np.object_], names: list[str], table: AnnData | None
) -> SpatialData:
    """Return an object in which everything is in pixels of the image."""
    import dask.dataframe as dd
    from geopandas import GeoDataFrame
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, PointsModel, ShapesModel, TableModel

    bare = image.copy(deep=False)
    bare.attrs = {}
    elements = {
        "image": Image2DModel.parse(bare, c_coords=bare.coords["c"].to_numpy().tolist()),
        "transcripts": PointsModel.parse(dd.from_pandas(points, npartitions=1), feature_key="gene"),
        "cells": ShapesModel.parse(GeoDataFrame(geometry=outlines, index=names)),
    }
    if table is not None:
        elements["table"] = TableModel.parse(table, region="cells", region_key="region", instance_key="cell")
    return SpatialData.init_from_elements(elements)
