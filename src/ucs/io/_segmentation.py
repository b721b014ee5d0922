"""Segmentations of other programs, as elements beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._read.grid import planar
from ucs._results.write import Elements, add_elements
from ucs._utils.checks import check_free_keys, check_name, check_option, check_positive, choose_one, listed
from ucs._utils.elements import finest_level
from ucs._utils.frames import add_columns
from ucs._utils.log import logger
from ucs._utils.transformations import affine_matrix
from ucs.io._cells import source_of
from ucs.io._segmentation_files import cell_numbers, read_mask, read_polygons, read_transcripts

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.source import Source


@dataclass(frozen=True)
class Layout:
    """Files of a program, the first that exists, and what it calls things in them.

    Attributes
    ----------
    polygons, masks, transcripts
        Patterns of file names in the program's folder; of masks and polygons only one kind is read.
    cell, cell_of_transcript
        What the cell of a polygon and that of a transcript may be called.
    zero_based
        Which of these count from 0: one is added.
    """

    polygons: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    transcripts: tuple[str, ...] = ()
    cell: tuple[str, ...] = ("cell_id", "cell", "id")
    cell_of_transcript: tuple[str, ...] = ("cell", "cell_id")
    zero_based: tuple[str, ...] = ()


KINDS = {
    "baysor": Layout(
        ("*polygons_2d.json", "*polygons*.json", "cell_boundaries.parquet"),
        transcripts=("segmentation.csv", "*segmentation.csv", "molecules.parquet"),
    ),
    "proseg": Layout(
        ("cell-polygons.geojson*", "*cell-polygons*.geojson*", "cells.parquet"),
        transcripts=("transcript-metadata.*", "transcripts.parquet"),
        cell=("nucleus_id", "cell"),
        cell_of_transcript=("proseg_id", "assignment"),
        zero_based=("cell", "assignment"),
    ),
    "xenium": Layout(
        ("cell_boundaries.parquet", "cell_boundaries.csv.gz"),
        transcripts=("transcripts.parquet", "transcripts.csv.gz"),
    ),
    "cellpose": Layout(masks=("*_seg.npy", "*_cp_masks.*", "*masks*.tif*")),
    "bidcell": Layout(masks=("*_connected.tif*", "*.tif*")),
    "mask": Layout(masks=("*.tif*", "*.npy", "*.npz")),
    "polygons": Layout(("*.geojson*", "*.json", "*.parquet")),
}
"""Files of the programs whose results :func:`read_segmentation` reads."""


def read_segmentation(
    path: str | os.PathLike,
    kind: str,
    *,
    sdata: SpatialData,
    key_added: str | None = None,
    um_per_unit: float | None = None,
    origin_um: tuple[float, float] = (0.0, 0.0),
    image_key: str | None = None,
    points_key: str | None = None,
    platform: str | Platform = "auto",
    overwrite: bool = False,
) -> None:
    """Add the cells that another program made of a sample to its object, for :func:`ucs.tl.compare`.

    Polygons become shapes ``{key_added}_boundaries``, masks labels ``{key_added}_cells``, with the transformations of
    the transcripts. Where the program has a table of transcripts and assigns each to a cell, the points get the column
    ``{key_added}_cell_id``, 0 for none: rows are found by ``transcript_id``, or are the same in number and order. Cells
    have the program's own numbers (proseg's, which begin at 0, plus 1); the shapes' column ``name`` has its names.

    Parameters
    ----------
    path
        Folder with the program's results, or the file with polygons or the mask.
    kind
        - ``"baysor"``: ``segmentation.csv`` and polygons in JSON, or the Parquet files;
        - ``"proseg"``: ``cell-polygons.geojson.gz`` and ``transcript-metadata.csv.gz`` or ``.parquet``;
        - ``"xenium"``: a folder of Xenium or Xenium Ranger;
        - ``"cellpose"``: ``*_seg.npy`` or masks; ``"bidcell"`` or ``"mask"``: a mask as TIFF or NumPy file;
        - ``"polygons"``: GeoJSON or GeoParquet.
    sdata
        Object of the sample.
    key_added
        Prefix of the new keys; ``kind`` if None.
    um_per_unit
        Length of a unit of the polygons, or of a pixel of the mask, in um. Polygons are in the unit of the transcripts
        (Xenium's in um) if None; for a mask it or ``image_key`` is needed.
    origin_um
        Position (x, y) of the file's origin in um.
    image_key
        The image that the mask was made of, whose place it takes; a mask of another size covers the same area.
    points_key, platform
        As in :func:`ucs.tl.segment`.
    overwrite
        Whether existing elements and columns of these names may be replaced.

    Raises
    ------
    FileNotFoundError
        If no file of the kind is there.
    KeyError
        If an element is missing, or a file has no column with cells.
    ValueError
        If a key is taken, the place of a mask is unknown, or a file holds no cells.

    Examples
    --------
    >>> import tempfile, pathlib, numpy, ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "masks.npy"
    >>> numpy.save(path, numpy.asarray(sdata["true_cells"]))
    >>> ucs.io.read_segmentation(path, "mask", sdata=sdata, key_added="other", image_key="morphology_focus")
    >>> ucs.tl.compare(sdata, {"other": "other_cells"}, truth="true_cells", resolution=1.0)["f1_0.5"].tolist()
    [1.0]
    """
    check_option(kind, "kind", tuple(KINDS))
    layout, path = KINDS[kind], Path(path)
    key = kind if key_added is None else key_added
    check_name(key, "key_added")
    if um_per_unit is not None:
        check_positive(um_per_unit, "um_per_unit")
    source = source_of(sdata, points_key=points_key, platform=platform)
    file, is_mask = _file_of(path, layout, kind)
    if is_mask:
        new_key, number = f"{key}_cells", None
        check_free_keys(sdata, {"key_added": ("labels", new_key)}, overwrite=overwrite)
        mask = read_mask(file)
        matrix = _mask_matrix(sdata, source, mask.shape, image_key, um_per_unit, origin_um)
        element = _labels(sdata, source, mask, matrix)
        n = int(np.count_nonzero(np.unique(mask)))
    else:
        new_key = f"{key}_boundaries"
        check_free_keys(sdata, {"key_added": ("shapes", new_key)}, overwrite=overwrite)
        if image_key is not None:
            msg = f"image_key={image_key!r} has no effect on polygons ({file.name}). Leave it out; give um_per_unit=."
            raise ValueError(msg)
        names, geometry = read_polygons(file, layout.cell, layout.zero_based)
        number = cell_numbers(names)
        unit = um_per_unit or (1.0 if kind == "xenium" else source.um_per_unit)
        element = _shapes(sdata, source, number, names, geometry, unit, origin_um)
        n = len(element)
    column = f"{key}_cell_id"
    points = {} if path.is_file() else _assigned(sdata, source, path, layout, number, column, overwrite=overwrite)
    add_elements(sdata, Elements({new_key: element}, points))
    with_points = ", with their transcripts" if points else ""
    logger.info("%s: %d cells of %s as %s%s.", kind, n, file.name, new_key, with_points)


def _file_of(path: Path, layout: Layout, kind: str) -> tuple[Path, bool]:
    """Return the file with the cells, and whether it is a mask."""
    if path.is_file():
        return path, not layout.polygons
    for pattern in layout.polygons or layout.masks:
        found = sorted(path.glob(pattern))
        if found:
            return found[0], not layout.polygons
    wanted = listed(layout.polygons or layout.masks)
    there = listed(sorted(one.name for one in path.iterdir())) if path.is_dir() else "no such folder"
    msg = f"{path} has no cells of kind={kind!r}: looked for {wanted}, there are: {there}. Name the file itself."
    raise FileNotFoundError(msg)


def _mask_matrix(
    sdata: SpatialData,
    source: Source,
    shape: tuple[int, ...],
    image_key: str | None,
    um_per_px: float | None,
    origin_um: tuple[float, float],
) -> NDArray[np.float64]:
    """Return the ``(3, 3)`` matrix from pixels of the mask to the frame of the transcripts."""
    if (image_key is None) == (um_per_px is None):
        msg = "Where a mask lies is told by image_key=, the image it was made of, or by um_per_unit=, its pixel in um."
        raise ValueError(msg)
    if image_key is None:
        assert um_per_px is not None
        side, origin = um_per_px / source.um_per_unit, np.array(origin_um) / source.um_per_unit
        return np.array([[side, 0, origin[0]], [0, side, origin[1]], [0, 0, 1.0]])
    choose_one(image_key, list(sdata.images), (), argument="image_key", what="image")
    height, width = finest_level(sdata.images[image_key]).shape[-2:]
    scale = np.diag([width / shape[1], height / shape[0], 1.0])
    return np.asarray(source.to_frame(sdata, image_key) @ scale)


def _labels(sdata: SpatialData, source: Source, mask: NDArray, to_frame: NDArray[np.float64]) -> Any:
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Affine

    to_home, transformations = source.output_frame(sdata)
    axes = ("x", "y")
    placed = {
        name: Affine(affine_matrix(one) @ to_home @ to_frame, input_axes=axes, output_axes=axes)
        for name, one in transformations.items()
    }
    return Labels2DModel.parse(mask, dims=("y", "x"), transformations=placed)


def _shapes(
    sdata: SpatialData,
    source: Source,
    number: pd.Series,
    names: NDArray,
    geometry: NDArray[np.object_],
    unit: float,
    origin_um: Sequence[float],
) -> GeoDataFrame:
    import shapely
    from geopandas import GeoDataFrame
    from spatialdata.models import ShapesModel

    to_home, transformations = source.output_frame(sdata)
    ids = number.loc[names].to_numpy()
    geometry = np.where(shapely.is_valid(geometry), geometry, shapely.buffer(geometry, 0))
    kept = (ids > 0) & ~shapely.is_empty(geometry) & (shapely.area(geometry) > 0)
    if not kept.any():
        msg = f"None of {len(kept)} polygons is a cell: they are empty, or belong to cell 0."
        raise ValueError(msg)
    if not kept.all():
        logger.warning("%d of %d polygons are empty or belong to no cell, and are left out.", (~kept).sum(), len(kept))
    scale, origin = unit / source.um_per_unit, np.array(origin_um) / source.um_per_unit
    linear, shift = to_home[:2, :2] * scale, to_home[:2, :2] @ origin + to_home[:2, 2]
    placed = shapely.transform(geometry[kept], lambda xy: xy @ linear.T + shift)
    frame = GeoDataFrame({"name": names[kept].astype(str)}, geometry=placed, index=pd.Index(ids[kept]))
    return ShapesModel.parse(frame, transformations=planar(transformations))


def _assigned(
    sdata: SpatialData,
    source: Source,
    folder: Path,
    layout: Layout,
    number: pd.Series | None,
    column: str,
    *,
    overwrite: bool,
) -> dict[str, Any]:
    """Return the points with the cell that the program assigns each transcript to; nothing if it has no such table."""
    file = next((one for pattern in layout.transcripts for one in sorted(folder.glob(pattern))), None)
    if file is None:
        return {}
    if len(source.elements) > 1:
        logger.warning("%s is left out: the sample has several points elements.", file.name)
        return {}
    key = source.keys[0]
    points = sdata.points[key]
    if column in points.columns and not overwrite:
        msg = f"points[{key!r}] has a column {column!r}; pass overwrite=True to replace it, or another key_added."
        raise ValueError(msg)
    assigned = read_transcripts(file, layout.cell_of_transcript, number, layout.zero_based)
    if "transcript_id" in points.columns and assigned.index.name == "transcript_id":
        values = assigned[~assigned.index.duplicated()]
        new = add_columns(points, lambda frame: _by_id(frame, values, column))
    else:
        lengths = points.map_partitions(len).compute().to_numpy()
        if lengths.sum() != len(assigned):
            logger.warning(
                "%s is left out: it has %d rows, points[%r] %d, and no transcript_id that both have.",
                file.name, len(assigned), key, lengths.sum(),
            )  # fmt: skip
            return {}
        import dask.dataframe as dd

        frame = points.compute().assign(**{column: assigned.to_numpy()})
        new = dd.from_pandas(frame, npartitions=points.npartitions, sort=False)
    new.attrs.update(points.attrs)
    return {key: new}


def _by_id(frame: pd.DataFrame, values: pd.Series, column: str) -> pd.DataFrame:
    ids = frame["transcript_id"].astype(values.index.dtype)  # of one type: large ids are not exact as floats
    found = values.reindex(ids.to_numpy()).fillna(0).to_numpy(dtype=np.int64)
    return pd.DataFrame({column: found}, index=frame.index)
