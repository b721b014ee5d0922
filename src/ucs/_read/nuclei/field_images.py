"""Nuclei in the images of fields of view, each image extended by a strip of its neighbours.

Nuclei at borders are thus found whole. Registration leaves a few dark pixels along the sides of an image (in CosMx
about 1 um), which are replaced by the nearest line that is not dark.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._nuclei.find import FoundInImage, NoNucleiError, StainImage, find_in_image
from ucs._nuclei.methods import WATERSHED
from ucs._utils.transformations import common_system, matrix_to_system

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray

    Strip = tuple[slice, slice]

_STRIP_UM = 20.0  # wider than a nucleus
_DARK_UM = 2.0  # widest strip that registration leaves dark; wider ones are tissue without stain
_DARK = 0.5  # a strip is dark if its outermost line has less of the brightness farther inside ...
_LEVEL = 0.9  # ... and ends where a line has this share of the brightness of the next two
_IMAGES_KEPT = 12  # images held in memory: a field, its eight neighbours, and some of the next row


def find_in_fields(
    sdata: SpatialData,
    images: Mapping[str, StainImage],
    method: str | Callable[[NDArray], NDArray] = WATERSHED,
    options: dict[str, Any] | None = None,
    *,
    tile_size: int = 1024,
    update: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[dict[str, FoundInImage], list[str]]:
    """Find the nuclei in the images of all fields of view, as :func:`ucs._nuclei.find.find_in_image` does in one.

    Labels extend beyond a field as far as its image was extended.

    Returns
    -------
    Nuclei by the name of their field, and the names of the fields without nuclei.
    """
    together = FieldImages(sdata, list(images.values()), common_system(sdata, [image.key for image in images.values()]))
    found, empty = {}, []
    for k, (field, image) in enumerate(images.items()):
        widened, own = together.widened(k)
        try:
            in_field = find_in_image(widened, sdata.images[image.key], method, options, tile_size=tile_size)
        except NoNucleiError:
            empty.append(field)
        else:
            if int(in_field.element[own].max()) > 0:
                found[field] = in_field
            else:  # all of them are its neighbours'
                empty.append(field)
        update(k + 1, len(images))
    return found, empty


class FieldImages:
    """The images of all fields of view.

    Parameters
    ----------
    sdata
        Object with the images.
    images
        One image of each field.
    system
        Coordinate system that they share.
    """

    def __init__(self, sdata: SpatialData, images: Sequence[StainImage], system: str) -> None:
        self.images = images
        self.to_system = [matrix_to_system(sdata, image.key, system) @ image.to_finest for image in images]
        self._read: OrderedDict[int, NDArray] = OrderedDict()

    def widened(self, k: int) -> tuple[StainImage, Strip]:
        """Return the image of a field extended by 20 um of its neighbours, and the window of its own pixels in it.

        Sides without neighbours are not extended; corners that no neighbour covers repeat the nearest pixels.
        """
        own = self.images[k]
        pixels = self._pixels(k)
        height, width = pixels.shape[1:]
        margin = round(_STRIP_UM / own.um_per_px)
        sides = {j: self._sides(j, k, margin) for j in range(len(self.images)) if j != k}
        around = [j for j, on in sides.items() if any(on)]
        top, bottom, left, right = (margin if any(sides[j][n] for j in around) else 0 for n in range(4))
        padded = np.pad(pixels, ((0, 0), (top, bottom), (left, right)), mode="edge")
        strips = [
            np.s_[:top, :],
            np.s_[top + height :, :],
            np.s_[top : top + height, :left],
            np.s_[top : top + height, left + width :],
        ]
        for j in around:
            for strip in strips:
                self._fill(padded, strip, (top, left), j, k)
        shift = np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])
        window = slice(top, top + height), slice(left, left + width)
        return replace(own, image=_as_image(padded), to_finest=own.to_finest @ shift), window

    def _sides(self, j: int, k: int, margin: int) -> tuple[bool, bool, bool, bool]:
        """Return beyond which sides of field ``k`` (top, bottom, left, right) field ``j`` extends."""
        height, width = self.images[j].image.shape[1:]
        corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
        x, y = (np.linalg.inv(self.to_system[k]) @ self.to_system[j] @ corners)[:2]
        height, width = self.images[k].image.shape[1:]
        near = x.min() < width + margin and x.max() > -margin and y.min() < height + margin and y.max() > -margin
        # By half a pixel at least: estimated transformations are not exact.
        beyond = y.min() < -0.5, y.max() > height + 0.5, x.min() < -0.5, x.max() > width + 0.5
        top, bottom, left, right = (bool(near and side) for side in beyond)
        return top, bottom, left, right

    def _fill(self, padded: NDArray, strip: Strip, origin: tuple[int, int], j: int, k: int) -> None:
        """Fill a strip around field ``k`` from the image of field ``j``."""
        rows, columns = (np.arange(n)[part] for n, part in zip(padded.shape[1:], strip, strict=True))
        if len(rows) == 0 or len(columns) == 0:
            return
        y, x = np.meshgrid(rows - origin[0] + 0.5, columns - origin[1] + 0.5, indexing="ij")
        m = np.linalg.inv(self.to_system[j]) @ self.to_system[k]
        column = np.floor(m[0, 0] * x + m[0, 1] * y + m[0, 2]).astype(np.int64)
        row = np.floor(m[1, 0] * x + m[1, 1] * y + m[1, 2]).astype(np.int64)
        height, width = self.images[j].image.shape[1:]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        if inside.any():
            i, n = np.nonzero(inside)
            padded[:, rows[i], columns[n]] = self._pixels(j)[:, row[inside], column[inside]]

    def _pixels(self, k: int) -> NDArray:
        """Return an image ``(c, h, w)`` without its dark lines, from memory if it was read lately."""
        if k not in self._read:
            self._read[k] = continued(np.asarray(self.images[k].image), self.images[k].um_per_px)
        self._read.move_to_end(k)
        while len(self._read) > _IMAGES_KEPT:
            self._read.popitem(last=False)
        return self._read[k]


def _as_image(pixels: NDArray) -> DataArray:
    import dask.array as da
    from xarray import DataArray

    return DataArray(da.from_array(pixels, chunks=(1, 2048, 2048)), dims=("c", "y", "x"))


def continued(pixels: NDArray, um_per_px: float) -> NDArray:
    """Return an image ``(c, h, w)`` with the dark lines along its sides replaced by the first line that is not dark.

    A side has dark lines if the outermost is on average less than half as bright as those beyond the outermost 2 um.
    They end at the line that is at least 0.9 times as bright as the next two.
    """
    width = max(1, round(_DARK_UM / um_per_px))
    dark = {axis: [_dark_lines(pixels, axis, width, at_end=end) for end in (False, True)] for axis in (1, 2)}
    (top, bottom), (left, right) = dark[1], dark[2]
    if not top + bottom + left + right:
        return pixels
    height, width = pixels.shape[1:]
    inner = pixels[:, top : height - bottom, left : width - right]
    return np.pad(inner, ((0, 0), (top, bottom), (left, right)), mode="edge")


def _dark_lines(pixels: NDArray, axis: int, width: int, *, at_end: bool) -> int:
    """Return the number of dark lines along a side."""
    if pixels.shape[axis] < 4 * width:
        return 0
    strip = np.take(pixels, np.arange(2 * width) if not at_end else -1 - np.arange(2 * width), axis=axis)
    profile = strip.mean(axis=tuple(k for k in range(3) if k != axis), dtype=np.float64)
    if profile[0] >= _DARK * np.median(profile[width:]):
        return 0
    level = profile[:width] >= _LEVEL * np.maximum(profile[1 : width + 1], profile[2 : width + 2])
    return int(np.argmax(level & (profile[:width] > 0))) if level.any() else 0
