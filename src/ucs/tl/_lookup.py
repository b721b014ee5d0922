"""From positions of transcripts to the label under each, and counts per label and feature."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._checks import check_name
from ucs._grid import Grid
from ucs.pp._bins import centres_of

if TYPE_CHECKING:
    from dask.dataframe import DataFrame as DaskDataFrame
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from ucs._core.transcripts import TranscriptMap
    from ucs.pp._fields import Owner
    from ucs.pp._parts import Part

_BORDER_TOLERANCE = 1e-6  # as in ucs._core.sample: rounding of composed affines must not decide on a border


@dataclass(frozen=True)
class LabelLookup:
    """Labels and the way from positions in the transcripts' frame to their pixels.

    Attributes
    ----------
    labels
        ``(h, w)`` integers.
    placement
        The grid of the labels, or the ``(3, 3)`` matrix from the frame's ``(x, y, 1)`` to the labels' pixels.
    """

    labels: NDArray
    placement: Grid | NDArray[np.floating]

    def at(self, x: NDArray, y: NDArray) -> NDArray:
        """Return the label at each position, 0 outside the raster."""
        if isinstance(self.placement, Grid):
            row, column = self.placement.rows_columns(x, y)
        else:
            m = self.placement
            x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
            column = np.floor(m[0, 0] * x + m[0, 1] * y + m[0, 2] + _BORDER_TOLERANCE).astype(np.int64)
            row = np.floor(m[1, 0] * x + m[1, 1] * y + m[1, 2] + _BORDER_TOLERANCE).astype(np.int64)
        h, w = self.labels.shape
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        out = np.zeros(len(row), dtype=self.labels.dtype)
        out[inside] = self.labels[row[inside], column[inside]]
        return out


def check_free_column(
    sdata: SpatialData, part: Part, column: str, *, overwrite: bool, argument: str = "points_column_added"
) -> None:
    """Check that a column, named by an argument, can be added to the element of a part.

    Raises
    ------
    ValueError
        If the name is not valid, that of a column with data (which is never replaced), or taken and ``overwrite`` is
        False.
    """
    check_name(column, argument)
    element = sdata[part.key]
    if column not in element.columns:
        return
    attributes = element.attrs.get("spatialdata_attrs", {})
    named = {attributes.get("instance_key"), attributes.get("feature_key")}
    if column in {"x", "y", "z", "geometry", "radius", *named, *part.read_columns()}:
        msg = f"{argument}={column!r} is a column of the data itself; choose another."
        raise ValueError(msg)
    if not overwrite:
        kind = "points" if part.key in sdata.points else "shapes"
        msg = (
            f"{kind}[{part.key!r}] has a column {column!r}; pass overwrite=True to replace it or another "
            f"{argument}=."
        )
        raise ValueError(msg)


def labels_of_rows(frame: pd.DataFrame, lookup: LabelLookup, part: Part, owner: Owner | None = None) -> pd.Series:
    """Return the label of each row of a part; 0 for rows that are not counted.

    These are the rows that the quality cut leaves out, and those that another field of view has seen too and owns.
    """
    x, y = part.place(frame)
    label = lookup.at(x, y)
    if part.table_key is None:
        label[~part.columns.kept(frame)] = 0
    if owner is not None:
        label[~owner.owns(x, y)] = 0
    return pd.Series(label, index=frame.index)


def shares_of_rows(frame: pd.DataFrame, lookup: LabelLookup, part: Part, owner: Owner | None = None) -> pd.Series:
    """Return what is held in 1/255 under each row of a part as float32; see :func:`labels_of_rows`."""
    return labels_of_rows(frame, lookup, part, owner).astype(np.float32) / np.float32(255)


def with_label_column(
    sdata: SpatialData,
    part: Part,
    lookup: LabelLookup,
    name: str,
    owner: Owner | None = None,
    *,
    share: tuple[str, LabelLookup] | None = None,
) -> DaskDataFrame | GeoDataFrame:
    """Return the element of a part with one column more; of points it is made when computed, partitions and order stay.

    Parameters
    ----------
    sdata
        Object with the element.
    part
        Names it.
    lookup
        Labels under positions of the frame.
    name
        Of the column.
    owner
        Tells which positions count for this part.
    share
        Name and values in 1/255 (uint8) of another column, float32.
    """
    columns = {name: (labels_of_rows, lookup)} | ({} if share is None else {share[0]: (shares_of_rows, share[1])})
    if part.key in sdata.shapes:
        shapes = sdata.shapes[part.key]
        centres = centres_of(shapes)
        out = shapes.assign(**{key: of_rows(centres, under, part, owner) for key, (of_rows, under) in columns.items()})
    else:
        points = sdata.points[part.key]
        read = points[part.read_columns()]
        made = {}
        for key, (of_rows, under) in columns.items():
            dtype = under.labels.dtype if of_rows is labels_of_rows else np.float32
            meta = pd.Series([], dtype=dtype, index=points._meta.index)
            made[key] = read.map_partitions(of_rows, under, part, owner, meta=meta)
        out = points.assign(**made)
    out.attrs.update(deepcopy(dict(sdata[part.key].attrs)))  # so that the new element's transformations are its own
    return out


def count_in_labels(transcripts: TranscriptMap, labels: NDArray[np.int32], n: int) -> csr_matrix:
    """Count the transcripts of a raster per label on the same raster, ``(n, n_features)`` int32."""
    from scipy.sparse import coo_matrix

    cell = labels[transcripts.rows(), transcripts.column]
    assigned = cell > 0
    entries = (transcripts.count[assigned], (cell[assigned] - 1, transcripts.feature[assigned]))
    return coo_matrix(entries, shape=(n, transcripts.n_features), dtype=np.int32).tocsr()
