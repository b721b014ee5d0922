"""Fields of view: their areas, and the owner of each position where they overlap.

In an overlap the same tissue has been imaged twice. A position belongs to the field in which its depth is largest: the
product of its distances to the nearest vertical and to the nearest horizontal border. Of equal depths the first field
wins. Two fields side by side thus divide their overlap in halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ucs._read.elements import place
from ucs._read.lazy.row_groups import find_row_groups
from ucs._read.platforms import FOV
from ucs._read.unit import raster_size
from ucs._utils.transformations import transformation_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from ucs._read.elements import PointsElement
    from ucs._read.grid import Grid
    from ucs._read.platforms import Platform
    from ucs._read.source import Source


# In units of the frame: positions this close to a border are on it, whatever the rounding of the transformations.
_EDGE = 1e-6
# Relative: depths that differ by less are equal, whichever field's coordinates they are computed in.
_EQUAL = 1e-6
# In intrinsic units: margin of a box around transcripts, so that the outermost are inside.
_BESIDE = 1e-4
# Of the side of a field: vendors report transcripts up to this far beyond the border of their field.
_BEYOND = 0.05


@dataclass(frozen=True, eq=False)
class Field:
    """Area of a field of view: a rectangle in the intrinsic coordinates of an element.

    Attributes
    ----------
    box
        ``(x_min, y_min, x_max, y_max)``, intrinsic.
    from_frame
        ``(3, 3)`` from the frame to these coordinates.
    """

    box: tuple[float, float, float, float]
    from_frame: NDArray[np.floating]

    def depth(self, x: NDArray, y: NDArray) -> NDArray[np.float64]:
        """Return the depth of positions of the frame, ``(n,)``.

        Inside, it is the product of the distances to the nearest vertical and horizontal border, in units of the frame;
        outside, the distance to the border, negative.
        """
        x, y = place(x, y, self.from_frame)
        x0, y0, x1, y1 = self.box
        scale = np.sqrt(abs(np.linalg.det(self.from_frame[:2, :2])))
        along_x, along_y = np.minimum(x - x0, x1 - x) / scale, np.minimum(y - y0, y1 - y) / scale
        nearest = np.minimum(along_x, along_y)
        return np.where(nearest > _EDGE, along_x * along_y, np.where(nearest < -_EDGE, nearest, 0.0))

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """``(x_min, y_min, x_max, y_max)`` in the frame."""
        x0, y0, x1, y1 = self.box
        corners = np.linalg.inv(self.from_frame) @ np.array([[x0, x1, x0, x1], [y0, y0, y1, y1], [1, 1, 1, 1]])
        return np.concatenate([corners[:2].min(axis=1), corners[:2].max(axis=1)])


@dataclass(frozen=True, eq=False)
class Owner:
    """Decides which positions a field owns, against the fields before and behind it in order."""

    own: Field
    before: tuple[Field, ...]
    behind: tuple[Field, ...]

    def owns(self, x: NDArray, y: NDArray) -> NDArray[np.bool_]:
        """Return which positions of this field, in the frame, it owns, ``(n,)``.

        On a common border, where the depth is 0, a field keeps its own: a border is imaged by one field only.
        """
        depth = np.maximum(self.own.depth(x, y), 0)
        owned = np.ones(len(depth), dtype=bool)
        for other in (*self.before, *self.behind):
            owned &= ~_deeper(other.depth(x, y), depth)
        for other in self.before:
            owned &= _deeper(depth, other.depth(x, y)) | (depth == 0)
        return owned


@dataclass(frozen=True, eq=False)
class Fields:
    """All fields of a sample."""

    fields: tuple[Field, ...]

    def owner(self, k: int) -> Owner:
        """Return the owner of field ``k`` against the fields that overlap with it."""
        own = self.fields[k].bounds
        reach = _BEYOND * (own[2:] - own[:2])
        own = np.concatenate([own[:2] - reach, own[2:] + reach])
        others = [(j, other) for j, other in enumerate(self.fields) if j != k and _overlap(own, other.bounds)]
        before = tuple(other for j, other in others if j < k)
        return Owner(self.fields[k], before, tuple(other for j, other in others if j > k))

    def raster(self, grid: Grid) -> NDArray[np.int32]:
        """Return the field of each pixel centre, ``(h, w)``: ``k + 1`` for field ``k``, 0 for none.

        Pixels on a border, with a centre up to one pixel outside all fields, belong to the nearest field.
        """
        out = np.zeros(grid.shape, dtype=np.int32)
        best = np.full(grid.shape, -grid.step)
        for k, field in enumerate(self.fields):
            window, x, y = pixel_centres(grid, field.bounds)
            depth = field.depth(x.ravel(), y.ravel()).reshape(x.shape)
            better = _deeper(depth, best[window])
            out[window][better] = k + 1
            best[window][better] = depth[better]
        return out


def find_fields(sdata: SpatialData, source: Source) -> Fields | None:
    """Return the areas of the elements of a sample; None for a single element.

    The area of a field is that of its image or labels, or the bounding box of its transcripts if it has neither.
    """
    if source.system is None:
        return None
    fields = []
    for element in source.elements:
        box = _box_of_rasters(sdata, source.platform, element) or _box_of_positions(sdata, element)
        fields.append(Field(box, np.linalg.inv(element.to_frame)))
    return Fields(tuple(fields))


def _box_of_rasters(
    sdata: SpatialData, platform: Platform, element: PointsElement
) -> tuple[float, float, float, float] | None:
    """Return the box of the image or labels of a field in the intrinsic coordinates of its points."""
    for template, elements in ((platform.image_key, sdata.images), (platform.cell_labels_key, sdata.labels)):
        key = (template or "").replace(FOV, element.name)
        if key in elements:
            width, height = raster_size(elements[key])
            to_points = transformation_matrix(sdata, key, element.key)
            corners = to_points @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
            (x0, y0), (x1, y1) = corners[:2].min(axis=1), corners[:2].max(axis=1)
            return float(x0), float(y0), float(x1), float(y1)
    return None


def _box_of_positions(sdata: SpatialData, element: PointsElement) -> tuple[float, float, float, float]:
    lower, upper = np.full(2, np.inf), np.full(2, -np.inf)
    positions = sdata.points[element.key][["x", "y"]]
    row_groups = find_row_groups(positions, ["x", "y"])
    for some in row_groups or ():
        lower, upper = np.minimum(lower, some.lower), np.maximum(upper, some.upper)
    for partition in positions.to_delayed() if row_groups is None else ():
        position = partition.compute().to_numpy(dtype=np.float64)
        lower = np.fmin(lower, np.fmin.reduce(position, axis=0, initial=np.inf))
        upper = np.fmax(upper, np.fmax.reduce(position, axis=0, initial=-np.inf))
    x0, y0, x1, y1 = (float(v) for v in (*lower, *upper))
    return x0 - _BESIDE, y0 - _BESIDE, x1 + _BESIDE, y1 + _BESIDE


def most_frequent(labels: NDArray[np.integer], values: NDArray[np.integer], n: int) -> NDArray[np.int32]:
    """Return for each label ``1..n`` the most frequent value above 0, the lowest of several, or 0, ``(n,)``."""
    inside = (labels > 0) & (values > 0)
    n_values = int(values.max(initial=0)) + 1
    key, count = np.unique(labels[inside].astype(np.int64) * n_values + values[inside], return_counts=True)
    order = np.lexsort((-key, count))  # the last one written stays: the most frequent, the lowest of several
    out = np.zeros(n + 1, dtype=np.int32)
    out[key[order] // n_values] = key[order] % n_values
    return out[1:]


def pixel_centres(grid: Grid, bounds: ArrayLike) -> tuple[tuple[slice, slice], NDArray, NDArray]:
    """Return the window of a grid around a box of the frame, and x and y of its pixel centres, ``(h, w)`` each."""
    x0, y0, x1, y1 = np.asarray(bounds)
    (top, bottom), (left, right) = grid.rows_columns(np.array([x0, x1]), np.array([y0, y1]))
    rows = _within(int(top) - 1, int(bottom) + 2, grid.shape[0])
    columns = _within(int(left) - 1, int(right) + 2, grid.shape[1])
    x = (np.arange(columns.start, columns.stop) + grid.column0 + 0.5) * grid.step
    y = (np.arange(rows.start, rows.stop) + grid.row0 + 0.5) * grid.step
    return (rows, columns), *np.meshgrid(x, y)


def _within(start: int, stop: int, size: int) -> slice:
    start = min(max(start, 0), size)
    return slice(start, max(min(stop, size), start))


def _deeper(a: NDArray, b: NDArray) -> NDArray[np.bool_]:
    """Return where one depth is larger than another by more than rounding."""
    return a - b > _EQUAL * (np.abs(a) + np.abs(b))


def _overlap(a: NDArray, b: NDArray) -> bool:
    return bool((a[:2] < b[2:]).all() and (b[:2] < a[2:]).all())
