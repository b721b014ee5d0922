"""From positions of transcripts to the label under each, and counts per label and feature."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._grid import Grid

if TYPE_CHECKING:
    from dask.dataframe import DataFrame as DaskDataFrame
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from ucs._core.transcripts import TranscriptMap
    from ucs.pp._transcripts import TranscriptColumns

_BORDER_TOLERANCE = 1e-6  # as in ucs._core.sample: rounding of composed affines must not decide on a border


@dataclass(frozen=True)
class LabelLookup:
    """Labels and the way from intrinsic positions of points to their pixels.

    Attributes
    ----------
    labels
        ``(h, w)`` integers.
    placement
        The grid of the labels, or the ``(3, 3)`` matrix from the points' ``(x, y, 1)`` to the labels' pixels.
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


def label_column(frame: pd.DataFrame, lookup: LabelLookup, columns: TranscriptColumns) -> pd.Series:
    """Return the label of each row; 0 for rows that the quality cut leaves out."""
    label = lookup.at(frame["x"].to_numpy(), frame["y"].to_numpy())
    label[~columns.kept(frame)] = 0
    return pd.Series(label, index=frame.index)


def with_label_column(
    points: DaskDataFrame, lookup: LabelLookup, columns: TranscriptColumns, name: str
) -> DaskDataFrame:
    """Return the points with one column more, made when computed; partitions and order stay."""
    meta = pd.Series([], dtype=lookup.labels.dtype, index=points._meta.index)
    label = points[columns.names()].map_partitions(label_column, lookup, columns, meta=meta)
    out = points.assign(**{name: label})
    out.attrs.update(deepcopy(dict(points.attrs)))  # so that the new element's transformations are its own
    return out


def count_in_labels(transcripts: TranscriptMap, labels: NDArray[np.int32], n: int) -> csr_matrix:
    """Count the transcripts of a raster per label on the same raster, ``(n, n_features)`` int32."""
    from scipy.sparse import coo_matrix

    cell = labels[transcripts.rows(), transcripts.column]
    assigned = cell > 0
    entries = (transcripts.count[assigned], (cell[assigned] - 1, transcripts.feature[assigned]))
    return coo_matrix(entries, shape=(n, transcripts.n_features), dtype=np.int32).tocsr()
