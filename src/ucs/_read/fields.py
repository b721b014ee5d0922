"""Fields of view: what each of several parts of a sample covers, and which of them a place belongs to.

Where fields overlap, the same tissue has been seen twice. A place belongs to the field in which it lies deepest: in
which the product of its distances to the nearer border on the left or right and to the nearer one above or below is
largest; to the first of two if it is the same. Two fields side by side thus share their overlap in halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ucs._read.elements import place
from ucs._read.platforms import FOV
from ucs._read.row_groups import find_row_groups
from ucs._read.unit import raster_size
from ucs._utils.transformations import transformation_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from spatialdata import SpatialData

    from ucs._read.elements import Part
    from ucs._read.grid import Grid
    from ucs._read.platforms import Platform
    from ucs._read.source import Source


_EDGE = 1e-6  # this near to a border in units of the frame is on it
_EQUAL = 1e-6  # relative: so near to another depth is equal to it, from the coordinates of whichever field one looks
_BESIDE = 1e-4  # in intrinsic units: the outermost transcripts lie inside the box that is drawn around them
_BEYOND = 0.05  # of the side of a field: so far beyond its border it may place what it saw


@dataclass(frozen=True, eq=False)
class Field:
    """A rectangle in the intrinsic coordinates of an element.

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
        """Return how deep positions of the frame lie inside.

        A product of distances in units of the frame where they do, the distance to the border, negative, where not.
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
    """Tells which positions a field owns: those that no field before or behind it has a better claim on."""

    own: Field
    before: tuple[Field, ...]
    behind: tuple[Field, ...]

    def owns(self, x: NDArray, y: NDArray) -> NDArray[np.bool_]:
        """Tell for each position of the frame, seen in this field.

        On a common border, where the depth is 0, a field keeps what it has seen: nothing is seen twice there.
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
        """Return what tells the positions that field ``k`` owns, given those fields that may have seen them too."""
        own = self.fields[k].bounds
        reach = _BEYOND * (own[2:] - own[:2])
        own = np.concatenate([own[:2] - reach, own[2:] + reach])
        others = [(j, other) for j, other in enumerate(self.fields) if j != k and _overlap(own, other.bounds)]
        before = tuple(other for j, other in others if j < k)
        return Owner(self.fields[k], before, tuple(other for j, other in others if j > k))

    def raster(self, grid: Grid) -> NDArray[np.int32]:
        """Return the field of each pixel centre, ``(h, w)``: ``k + 1`` for field ``k``, 0 where there is none.

        The pixels cut by a border, whose centre lies up to one pixel outside all fields, belong to the nearest.
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
    """Find what the parts of a sample cover, None for a single one.

    That is what the images or labels named after a field of view cover, if there are any, or else its transcripts.
    """
    if source.system is None:
        return None
    fields = []
    for part in source.parts:
        box = _box_of_rasters(sdata, source.platform, part) or _box_of_positions(sdata, part)
        fields.append(Field(box, np.linalg.inv(part.to_frame)))
    return Fields(tuple(fields))


def _box_of_rasters(
    sdata: SpatialData, platform: Platform, part: Part
) -> tuple[float, float, float, float] | None:
    """Return what the image or the labels of a field cover, in the intrinsic coordinates of its points."""
    for template, elements in ((platform.image_key, sdata.images), (platform.cell_labels_key, sdata.labels)):
        key = (template or "").replace(FOV, part.name)
        if key in elements:
            width, height = raster_size(elements[key])
            to_points = transformation_matrix(sdata, key, part.key)
            corners = to_points @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
            (x0, y0), (x1, y1) = corners[:2].min(axis=1), corners[:2].max(axis=1)
            return float(x0), float(y0), float(x1), float(y1)
    return None


def _box_of_positions(sdata: SpatialData, part: Part) -> tuple[float, float, float, float]:
    lower, upper = np.full(2, np.inf), np.full(2, -np.inf)
    positions = sdata.points[part.key][["x", "y"]]
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
    """Return for each label ``1..n`` the value above 0 that most of its pixels have, the lowest of several, or 0."""
    inside = (labels > 0) & (values > 0)
    n_values = int(values.max(initial=0)) + 1
    key, count = np.unique(labels[inside].astype(np.int64) * n_values + values[inside], return_counts=True)
    order = np.lexsort((-key, count))  # the last one written stays: the most frequent, the lowest of several
    out = np.zeros(n + 1, dtype=np.int32)
    out[key[order] // n_values] = key[order] % n_values
    return out[1:]


def pixel_centres(grid: Grid, bounds: ArrayLike) -> tuple[tuple[slice, slice], NDArray, NDArray]:
    """Return the window of a grid around bounds of the frame, and the x and y of its pixel centres, ``(h, w)`` each."""
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
    """Tell where one depth is larger than another, beyond rounding."""
    return a - b > _EQUAL * (np.abs(a) + np.abs(b))


def _overlap(a: NDArray, b: NDArray) -> bool:
    return bool((a[:2] < b[2:]).all() and (b[:2] < a[2:]).all())
