"""Outlines of labels as polygons, from a raster in memory or on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._kernels.bands import Renumbered, bands, chunk_shape
from ucs._kernels.labels.ids import densify, ids_in
from ucs._kernels.labels.measure import measure
from ucs._kernels.labels.outline import outlines_to_polygons, trace_window, windows_of_boxes
from ucs._kernels.labels.smooth import HALO, smooth_rings
from ucs._results.table import INSTANCE_KEY
from ucs._utils.parallel import n_threads

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray

    from ucs._kernels.bands import Raster
    from ucs._kernels.labels.windows import Window

_HIGHEST_ID = 2**26  # ids below are renumbered by a table of at most 256 MiB


def dense_view(labels: NDArray) -> tuple[Raster, NDArray[np.int32] | None, NDArray]:
    """Return labels renumbered to 1..n in ascending order, without a copy of the raster unless ids are very high.

    Parameters
    ----------
    labels
        ``(h, w)`` ids of any integer type, 0 = background.

    Returns
    -------
    The renumbered labels; the number of each id from 0 on, None if ids are too high for such a table; and ``(n,)`` the
    ids.

    Raises
    ------
    ValueError
        If an id is negative.
    """
    ids = ids_in(labels)
    if len(ids) == 0 or ids[-1] >= _HIGHEST_ID:
        return densify(labels)[0], None, ids
    number = np.zeros(int(ids[-1]) + 1, dtype=np.int32)
    number[ids] = np.arange(1, len(ids) + 1)
    return Renumbered(labels, number), number, ids


def polygon_frame(
    labels: Raster,
    to_intrinsic: NDArray[np.floating],
    *,
    boxes: NDArray[np.int64] | None = None,
    ids: NDArray | None = None,
    smooth: bool = False,
    simplify: float = 0.0,
) -> GeoDataFrame:
    """Return the outlines of labels as polygons, traced in threads, each label in a window that holds it whole.

    Parameters
    ----------
    labels
        ``(h, w)``, 0 = background; in memory or on disk.
    to_intrinsic
        ``(3, 3)`` from ``(column, row, 1)`` to the coordinates of the result.
    boxes
        ``(n + 1, 4)`` bounding boxes by label, as in :class:`ucs._kernels.labels.measure.Measures`; measured if None.
        Labels with an empty box are left out.
    ids
        ``(n,)`` index of label ``k + 1`` in the result; the label itself if None.
    smooth
        Whether outlines are smooth, as in :mod:`ucs._kernels.labels.smooth`, or run along pixel edges. What lies around
        a label is then looked at, without labels that are left out.
    simplify
        Tolerance in pixels, 0 to keep all vertices.
    """
    import shapely
    from geopandas import GeoDataFrame

    if boxes is None:
        boxes = measure(labels, max((int(band.max(initial=0)) for _, band in bands(labels)), default=0)).boxes
    polygons = np.full(len(boxes), None, dtype=object)
    present = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])

    def outline(group: tuple[NDArray[np.int64], Window]) -> None:
        asked, window = group
        around = window.grown(HALO if smooth else 0).clipped(labels.shape)
        pixels = np.asarray(labels[around.slices])
        coordinates, rings, cells, found = trace_window(pixels, asked, boxes, around, every=smooth)
        if smooth:
            coordinates, rings = smooth_rings(coordinates, rings, pixels, present, around, labels.shape)
        polygons[found] = _polygons(coordinates, rings, cells, to_intrinsic, simplify)

    with ThreadPoolExecutor(n_threads()) as pool:
        for _ in pool.map(outline, windows_of_boxes(boxes, chunk_shape(labels))):
            pass  # raises the error of a thread
    found = np.flatnonzero(~shapely.is_missing(polygons)).astype(np.int32)
    index = pd.Index(found if ids is None else ids[found - 1], name=INSTANCE_KEY)  # a name, so that files keep it
    return GeoDataFrame({"geometry": polygons[found]}, index=index)


def _polygons(
    coordinates: NDArray, rings: NDArray, cells: NDArray, to_intrinsic: NDArray[np.floating], simplify: float
) -> NDArray:
    """Return polygons in intrinsic coordinates."""
    import shapely

    if simplify == 0:
        return outlines_to_polygons(_moved(coordinates, to_intrinsic), rings, cells)
    polygons = outlines_to_polygons(coordinates, rings, cells)
    simplified = shapely.simplify(polygons, simplify, preserve_topology=True)
    polygons = np.where(shapely.is_valid(simplified), simplified, polygons)
    return shapely.transform(polygons, lambda xy: _moved(xy, to_intrinsic))


def _moved(coordinates: NDArray, m: NDArray[np.floating]) -> NDArray[np.float64]:
    """Apply a ``(3, 3)`` matrix term by term: a matrix product rounds differently for arrays of other lengths."""
    x, y = coordinates.T
    return np.stack([m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]], axis=1)
