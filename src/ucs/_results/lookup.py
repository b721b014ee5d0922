"""Labels at the positions of transcripts, and the columns of points made of them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ucs._kernels.bands import values_at
from ucs._kernels.binning import BORDER_TOLERANCE
from ucs._read.bins import centres_of
from ucs._read.grid import Grid
from ucs._utils.checks import check_name
from ucs._utils.frames import add_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask.dataframe import DataFrame as DaskDataFrame
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._kernels.bands import Raster
    from ucs._kernels.moved import MovedTranscripts
    from ucs._read.elements import PointsElement
    from ucs._read.fields import Owner


@dataclass(frozen=True)
class Moves:
    """One of the columns of transcripts that belong to another cell than their pixel."""

    moved: MovedTranscripts
    column: int

    def instead_of(
        self, values: NDArray, row: NDArray[np.int64], column: NDArray[np.int64], feature: NDArray
    ) -> NDArray:
        """Return values ``(n,)`` of pixels, replaced for transcripts that belong elsewhere."""
        at = self.moved.find(row, column, feature)
        if not len(self.moved.moves):
            return values
        return np.where(at >= 0, self.moved.moves[at, self.column].astype(values.dtype), values)


@dataclass(frozen=True, eq=False)
class LabelLookup:
    """Labels, to be looked up at positions in the transcripts' frame.

    Attributes
    ----------
    labels
        ``(h, w)`` integers. Of a raster in chunks only the parts around the positions are read.
    placement
        Grid of the labels, or the ``(3, 3)`` matrix from ``(x, y, 1)`` in the frame to pixels of the labels.
    renumber
        ``(n + 1,)`` value to return for each of the labels 0..n; the label itself if None.
    moves
        What to return instead for transcripts of another cell than their pixel.
    """

    labels: Raster
    placement: Grid | NDArray[np.floating]
    renumber: NDArray | None = None
    moves: Moves | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that are returned."""
        return np.dtype(self.labels.dtype if self.renumber is None else self.renumber.dtype)

    def at(self, x: NDArray, y: NDArray, feature: NDArray | None = None) -> NDArray:
        """Return ``(n,)`` the label at each position, 0 outside the raster; of transcripts, if features are given."""
        if isinstance(self.placement, Grid):
            row, column = self.placement.rows_columns(x, y)
        else:
            m = self.placement
            x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
            column = np.floor(m[0, 0] * x + m[0, 1] * y + m[0, 2] + BORDER_TOLERANCE).astype(np.int64)
            row = np.floor(m[1, 0] * x + m[1, 1] * y + m[1, 2] + BORDER_TOLERANCE).astype(np.int64)
        h, w = self.labels.shape
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        label = values_at(self.labels, row[inside], column[inside])
        if self.moves is not None and feature is not None:
            label = self.moves.instead_of(label, row[inside], column[inside], feature[inside])
        out = np.zeros(len(row), dtype=self.dtype)
        out[inside] = label if self.renumber is None else self.renumber[label]
        return out


def check_free_column(
    sdata: SpatialData, part: PointsElement, column: str, *, overwrite: bool, argument: str = "points_column_added"
) -> None:
    """Check that a column, named by an argument, can be added to the element of a part.

    Raises
    ------
    ValueError
        If the name is invalid, is that of a column with data (which is never replaced), or is taken and ``overwrite``
        is False.
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
        msg = f"{kind}[{part.key!r}] has a column {column!r}; pass overwrite=True to replace it, or another {argument}."
        raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class PointColumns:
    """New columns of a points element: the label under each row, and a share between 0 and 1.

    Attributes
    ----------
    part
        Element, with its positions in the frame and its quality cut.
    owner
        Positions that count for this part, where fields of view overlap; all if None.
    lookup
        Labels at positions of the frame.
    name
        Name of the column of labels. It is 0 for rows that are not counted: those below the quality cut, and those that
        another field of view owns.
    share
        Name of the second column (float32) and its values in 1/255 (uint8), 0 outside labels; None for no such column.
    number
        Of each feature by name, if transcripts of one pixel may belong to several cells.
    """

    part: PointsElement
    owner: Owner | None
    lookup: LabelLookup
    name: str
    share: tuple[str, LabelLookup] | None = None
    number: Mapping[str, int] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [self.name] if self.share is None else [self.name, self.share[0]]

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the columns for the rows of a frame."""
        x, y = self.part.place(frame)
        feature = self._features(frame)
        label = self.lookup.at(x, y, feature)
        if self.part.table_key is None:
            label[~self.part.columns.kept(frame)] = 0
        if self.owner is not None:
            label[~self.owner.owns(x, y)] = 0
        columns = {self.name: label}
        if self.share is not None:
            name, values = self.share
            columns[name] = np.where(label > 0, values.at(x, y, feature), 0).astype(np.float32) / np.float32(255)
        return pd.DataFrame(columns, index=frame.index)

    def _features(self, frame: pd.DataFrame) -> NDArray[np.int64] | None:
        """Return the number of the feature of each row, -1 for unknown ones; None if features do not matter."""
        if self.number is None:
            return None
        of_row = frame[self.part.columns.gene].astype("category").cat
        number = np.array([*(self.number.get(str(name), -1) for name in of_row.categories), -1], dtype=np.int64)
        return number[of_row.codes.to_numpy()]


def with_label_column(sdata: SpatialData, columns: PointColumns) -> DaskDataFrame | GeoDataFrame:
    """Return the element of a part with the columns added; those of points are lazy, with the same partitions."""
    part = columns.part
    if part.key in sdata.shapes:
        shapes = sdata.shapes[part.key]
        out = shapes.assign(**dict(columns.of(centres_of(shapes)).items()))
    else:
        out = add_columns(sdata.points[part.key], columns.of)
    out.attrs.update(deepcopy(dict(sdata[part.key].attrs)))  # transformations are changed in place
    return out
