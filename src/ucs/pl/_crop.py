"""Parts of elements within bounds, in the transcripts' frame, read without loading the slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._kernels.labels.ids import densify
from ucs._read.columns import check_frame
from ucs._read.fields import find_fields
from ucs._results.outlines import polygon_frame
from ucs._utils.elements import levels_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree

    from ucs._read.columns import TranscriptColumns
    from ucs._read.source import Source

    Bounds = tuple[float, float, float, float]  # x_min, y_min, x_max, y_max

_MAX_PIXELS = 2000  # along one side: more than the axes of a common figure have


@dataclass(frozen=True)
class CroppedPoints:
    """Transcripts within bounds.

    Attributes
    ----------
    frame
        Columns ``x``, ``y`` and ``gene`` (str), in random order; a random part if there are too many.
    n_within
        Number of transcripts within the bounds.
    extent
        ``(x_min, y_min, x_max, y_max)`` of all transcripts, also those outside the bounds.
    genes
        Names of all genes of all transcripts.
    """

    frame: pd.DataFrame
    n_within: int
    extent: Bounds
    genes: frozenset[str]


def crop_points(sdata: SpatialData, source: Source, bounds: Bounds | None, *, limit: int) -> CroppedPoints:
    """Read at most ``limit`` of the transcripts within bounds (of all if None), partition by partition.

    Rows that segmentation leaves out are left out here too.

    Raises
    ------
    ValueError
        If a position is not finite, a feature is null, or there is no transcript at all.
    """
    rng = np.random.default_rng(0)
    kept = pd.DataFrame({"x": [], "y": [], "gene": pd.Series([], dtype=object), "key": []})
    lower, upper, n_within = np.full(2, np.inf), np.full(2, -np.inf), 0
    genes: set[str] = set()
    for frame, columns, position in _kept_rows(sdata, source):
        if frame.empty:
            continue
        lower, upper = np.minimum(lower, position.min(axis=0)), np.maximum(upper, position.max(axis=0))
        genes.update(frame[columns.gene].drop_duplicates().astype(str))
        if bounds is not None:
            inside = ((position >= bounds[:2]) & (position <= bounds[2:])).all(axis=1)
            frame, position = frame[inside], position[inside]
        n_within += len(frame)
        # The rows with the lowest random numbers so far are a random part of all rows read so far.
        gene = frame[columns.gene].astype(str).to_numpy()
        part = pd.DataFrame({"x": position[:, 0], "y": position[:, 1], "gene": gene})
        part["key"] = rng.random(len(part))
        kept = pd.concat([kept, part]).nsmallest(limit, "key") if len(kept) else part.nsmallest(limit, "key")
    if not np.isfinite(lower).all():
        msg = f"points[{source.points_key!r}] has no transcripts to show."
        raise ValueError(msg)
    extent = (float(lower[0]), float(lower[1]), float(upper[0]), float(upper[1]))
    return CroppedPoints(kept.drop(columns="key").reset_index(drop=True), n_within, extent, frozenset(genes))


def _kept_rows(
    sdata: SpatialData, source: Source
) -> Iterator[tuple[pd.DataFrame, TranscriptColumns, NDArray[np.float64]]]:
    """Yield the rows that are counted, piece by piece, with their columns and positions ``(n, 2)`` in the frame."""
    fields = find_fields(sdata, source)
    for k, part in enumerate(source.elements):
        owner = None if fields is None else fields.owner(k)
        for where, rows in part.frames(sdata):
            check_frame(rows, part.columns, where=where)
            frame = rows[part.columns.kept(rows)]
            x, y = part.place(frame)
            owned = slice(None) if owner is None else owner.owns(x, y)
            yield frame[owned], part.columns, np.column_stack([x, y]).astype(np.float64)[owned]


def crop_polygons(
    element: GeoDataFrame | DataArray | DataTree,
    to_points: NDArray[np.float64],
    bounds: Bounds,
    *,
    smooth: bool = False,
) -> tuple[NDArray, NDArray]:
    """Return the part of a shapes or labels element within bounds.

    Parameters
    ----------
    element, to_points, bounds
        As in :func:`crop_raster`.
    smooth
        Whether outlines of labels are smooth, or run along the edges of the pixels.

    Returns
    -------
    Geometries ``(n,)`` in the points' coordinates, and their ids ``(n,)``.
    """
    import shapely
    from geopandas import GeoDataFrame

    if not isinstance(element, GeoDataFrame):
        labels, matrix = crop_raster(element, to_points, bounds)
        dense, ids = densify(labels)
        outlines = polygon_frame(dense, matrix, ids=ids, smooth=smooth)
        return outlines.geometry.to_numpy(), outlines.index.to_numpy()
    window = _affine(shapely.box(*bounds), np.linalg.inv(to_points))
    geometry = element.geometry.to_numpy()
    if "radius" in element:
        geometry = shapely.buffer(geometry, element["radius"].to_numpy())
    inside = np.sort(shapely.STRtree(geometry).query(window, predicate="intersects"))
    return _affine(geometry[inside], to_points), element.index.to_numpy()[inside]


def crop_raster(
    element: DataArray | DataTree, to_points: NDArray[np.float64], bounds: Bounds, *, channels: list[int] | None = None
) -> tuple[NDArray, NDArray[np.float64]]:
    """Read the part of an image or of labels that covers the bounds, no finer than a figure can show.

    Parameters
    ----------
    element
        Labels ``(y, x)`` or an image ``(c, y, x)``, of one or several scales.
    to_points
        ``(3, 3)`` from the full-resolution pixels ``(x, y, 1)`` to the points' intrinsic coordinates.
    bounds
        In the points' intrinsic coordinates.
    channels
        Indices of the channels of an image; None for labels.

    Returns
    -------
    The part ``(h, w)``, or ``(c, h, w)`` of an image, of size 0 if the element lies elsewhere, and the ``(3, 3)``
    matrix from its pixels to the points.
    """
    levels = levels_of(element)
    full = np.array(levels[0].shape[-2:], dtype=float)
    x_min, y_min, x_max, y_max = bounds
    corners = np.array([[x_min, x_max, x_min, x_max], [y_min, y_min, y_max, y_max], [1, 1, 1, 1]])
    wanted = (np.linalg.inv(to_points) @ corners)[:2]
    sides = wanted.max(axis=1) - wanted.min(axis=1)
    enough = [k for k, level in enumerate(levels) if (sides * level.shape[-1] / full[1] >= _MAX_PIXELS).any()]
    level = levels[max(enough, default=0)]
    factor = full[::-1] / np.array(level.shape[:-3:-1])  # (x, y)
    # One pixel more on each side, so that outlines of labels are closed outside the bounds.
    first = np.maximum(np.floor(wanted.min(axis=1) / factor).astype(int) - 1, 0)
    last = np.clip(np.ceil(wanted.max(axis=1) / factor).astype(int) + 1, 0, level.shape[:-3:-1])
    step = max(1, int(((last - first) // _MAX_PIXELS).max()))
    planes = level if channels is None else level[channels]
    part = np.asarray(planes[..., first[1] : last[1] : step, first[0] : last[0] : step])
    to_full = np.diag([factor[0] * step, factor[1] * step, 1.0])
    to_full[:2, 2] = first * factor
    return part, to_points @ to_full


def _affine(geometry: object, matrix: NDArray) -> NDArray:
    import shapely

    return shapely.transform(geometry, lambda xy: xy @ matrix[:2, :2].T + matrix[:2, 2])
