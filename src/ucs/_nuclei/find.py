"""Nuclei in one image, as a labels element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._nuclei.methods import WATERSHED, load_network, name_of
from ucs._nuclei.tiles import Raster
from ucs._utils.transformations import affine_matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from xarray import DataArray, DataTree

    from ucs._nuclei.tiles import FoundNuclei

_WORKING_UM = 0.5  # pixels are averaged in blocks up to this size, which the watershed does not suffer from
NUCLEUS_AREA_UM2 = (5.0, 500.0)
"""Plausible range of the median area of nuclei, or of small cells in their place."""


class NoNucleiError(ValueError):
    """No nucleus was found in an image."""


@dataclass(frozen=True)
class FoundInImage:
    """Labels of the nuclei in an image, their number, their median area in um2, and the side of a pixel in um."""

    element: DataArray
    n: int
    median_area: float
    um_per_px: float


@dataclass(frozen=True)
class StainImage:
    """The channels with the nuclei, at one level.

    Attributes
    ----------
    key
        Key of the element.
    image
        ``(c, y, x)``.
    to_finest
        ``(3, 3)`` matrix from its pixels to those of the finest level of the element.
    um_per_px
        Side of a pixel in um.
    """

    key: str
    image: DataArray
    to_finest: NDArray[np.float64]
    um_per_px: float


def find_in_image(
    stain: StainImage,
    element: DataArray | DataTree,
    method: str | Callable[[NDArray], NDArray] = WATERSHED,
    options: dict[str, Any] | None = None,
    *,
    tile_size: int = 1024,
    update: Callable[[int, int], None] = lambda done, of: None,
) -> FoundInImage:
    """Find the nuclei in one image; see :func:`ucs.pp.nuclei`.

    Parameters
    ----------
    stain
        Level and channels to search.
    element
        Element of the image, for its transformations.
    method, options, tile_size
        As in :func:`ucs.pp.nuclei`.
    update
        Called with ``(tiles done, tiles)``.

    Raises
    ------
    NoNucleiError
        If there are no nuclei.
    ValueError
        If their median area is implausible.
    """
    found = _run(method, dict(options or {}), stain.image, stain.key, stain.um_per_px, tile_size, update)
    _check_found(found, stain.um_per_px, method)
    median = float(np.median(found.areas)) * stain.um_per_px**2
    return FoundInImage(_element(found, element, stain.to_finest), len(found.areas), median, stain.um_per_px)


def _run(
    method: str | Callable[[NDArray], NDArray],
    options: dict[str, Any],
    image: DataArray,
    name: str,
    um_per_px: float,
    tile_size: int,
    update: Callable[[int, int], None],
) -> FoundNuclei:
    import dask.array as da

    lazy = da.asarray(image.data)
    if method == WATERSHED:
        from ucs._nuclei.watershed import WatershedParams, watershed

        params = WatershedParams.of(options)
        if len(lazy) > 1:
            msg = f"method='watershed' takes one channel, {len(lazy)} given."
            raise ValueError(msg)
        factor = max(1, int(_WORKING_UM / um_per_px + 1e-6))
        raster = Raster(lazy, factor, name)
        return watershed(raster, factor * um_per_px, params, tile_size=max(1, tile_size // factor), update=update)
    from ucs._nuclei.objects import label_objects

    is_network = isinstance(method, str)
    function = load_network(method, um_per_px, options) if isinstance(method, str) else method
    return label_objects(
        Raster(lazy, 1, name), function, um_per_px, name=name_of(method), tile_size=tile_size, scaled=is_network,
        update=update,
    )  # fmt: skip


def _check_found(found: FoundNuclei, um_per_px: float, method: str | Callable) -> None:
    if len(found.areas) == 0:
        msg = (
            f"{name_of(method)} found no nuclei (pixels of {um_per_px:g} um). Look at the image, at channel= and at "
            "um_per_px=, or take another method=."
        )
        raise NoNucleiError(msg)
    median, (low, high) = float(np.median(found.areas)) * um_per_px**2, NUCLEUS_AREA_UM2
    if not low <= median <= high:
        msg = (
            f"The median nucleus has {median:.3g} um2, which is not between {low:g} and {high:g}: "
            f"um_per_px={um_per_px:g} cannot be right, or {name_of(method)} did not find nuclei."
        )
        raise ValueError(msg)


def _element(found: FoundNuclei, image: DataArray | DataTree, to_finest: NDArray[np.float64]) -> DataArray:
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Affine, Identity, get_transformation

    transformations = {}
    for system, transformation in get_transformation(image, get_all=True).items():
        matrix = affine_matrix(transformation) @ to_finest
        is_identity = np.array_equal(matrix, np.eye(3))
        transformations[system] = Identity() if is_identity else Affine(matrix, ("x", "y"), ("x", "y"))
    return Labels2DModel.parse(found.labels, dims=("y", "x"), transformations=transformations)
