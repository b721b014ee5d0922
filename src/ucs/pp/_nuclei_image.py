"""Nuclei from a nuclear stain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._checks import check_at_least, check_free_keys, check_name, listed
from ucs._logging import logger
from ucs._progress import stage
from ucs.pp._nuclei import affine_matrix
from ucs.pp._nuclei_methods import WATERSHED, check_method, load_network, name_of
from ucs.pp._nuclei_stain import find_stain, pixel_size, working_level
from ucs.pp._nuclei_tiles import Raster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree

    from ucs.pp._nuclei_tiles import FoundNuclei

_WORKING_UM = 0.5  # blocks up to this size lose nothing that the watershed needs
_AREA_UM2 = (5.0, 500.0)  # median areas that nuclei can have


def nuclei(
    sdata: SpatialData,
    image_key: str | None = None,
    *,
    channel: str | int | Sequence[str | int] | None = None,
    method: str | Callable[[NDArray], NDArray] = WATERSHED,
    labels_key_added: str = "ucs_nuclei",
    um_per_px: float | None = None,
    tile_size: int = 2048,
    overwrite: bool = False,
    inplace: bool = True,
    progress: bool = True,
    **options: Any,
) -> SpatialData | None:
    """Find nuclei in an image of a nuclear stain.

    The image is read tile by tile and the labels are kept compressed, so neither is ever in memory as a whole. With the
    built-in method the result does not depend on ``tile_size``. Images that come from a file in one piece are read anew
    for every tile: write such an object to Zarr first.

    Parameters
    ----------
    sdata
        Object with the image, as a reader of spatialdata-io returns it. Nothing of the user's is changed.
    image_key
        Key of the image; if None, the one with a nuclear stain (DAPI, Hoechst, DNA, ... among its channels, or a single
        channel under such a name or ``morphology_focus``).
    channel
        Name (or position) of the channel; the one named after a nuclear stain if None. Several are passed on, in the
        order given, to methods that take them; the built-in method takes one.
    method
        ``"watershed"``: built in, needs no weights (see Notes). ``"cellpose"``, ``"stardist"``, ``"instanseg"``: by
        their own packages. Or a function from ``(c, y, x)``, in the type of the image, to integer labels ``(y, x)``,
        which is called for windows of up to ``tile_size`` pixels and a margin of 40 um, and should not depend on more.
    labels_key_added
        Key of the result.
    um_per_px
        Side of a pixel of the image (its finest level) in um; if None, from its transformation to the transcripts.
    tile_size
        Side in pixels of what is worked on at once, and of the chunks of the labels.
    overwrite
        Whether labels of an earlier run may be replaced.
    inplace
        Whether to add the result to ``sdata``, or to return a new object that shares its elements.
    progress
        Whether to show a progress bar.
    **options
        Of the method. ``"watershed"``: ``blob=1.6`` (um, about half the radius of the smallest nuclei: 1.2 where they
        are small and crowded, 2.0 where they are large), ``contrast=0.2`` (of the brightness of nuclei around: lower
        finds dimmer ones), ``min_area=8`` and ``max_area=400`` (um^2), and the other fields of
        ``ucs.pp._nuclei_watershed.WatershedParams``. The networks: ``model`` (name or path of the weights), ``gpu`` or
        ``device``, and whatever their function for one image takes.

    Returns
    -------
    None, or the new object. It has ``labels[labels_key_added]``: ``(y, x)`` uint32 on Dask, 0 = background, ids 1..n in
    the order of their first pixels, in all coordinate systems of the image. A multiscale image is labelled at the
    coarsest level with pixels of at most 0.3 um, or the finest.

    Raises
    ------
    KeyError
        If the image or the channel is not there, or none shows a nuclear stain.
    ValueError
        If several could be meant, the image is not two-dimensional, constant, or has NaN pixels, the size of a pixel is
        not known or cannot be right, a name is taken, the method is unknown, or no nucleus is found.
    TypeError
        If the method has no such option.
    ImportError
        If the package of a method is not installed.
    RuntimeError
        If the weights of a method cannot be had.

    Notes
    -----
    The built-in method smooths the image, takes off the local background, scales it by the local brightness of nuclei,
    and cuts its blob contrast (negative Laplacian of Gaussian of the root) into basins by steepest ascent. Each basin
    is cut halfway between its own brightness and what is darkest in it. Those of one nucleus are put together again:
    where the valley between their peaks is shallow, or where their union is an ellipse.
    """
    check_name(labels_key_added, "labels_key_added")
    check_at_least(tile_size, 32, "tile_size")
    check_free_keys(sdata, {"labels_key_added": ("labels", labels_key_added)}, overwrite=overwrite)
    check_method(method, options)
    source = find_stain(sdata, image_key, channel)
    um_per_px = pixel_size(sdata, source.key, um_per_px)
    image, level_scale = working_level(source, um_per_px)
    level_um = um_per_px * float(np.sqrt(level_scale[0] * level_scale[1]))
    timings: dict[str, float] = {}
    with stage("nuclei", timings, progress=progress, unit="tile") as update:
        found = _run(method, options, image, source.key, level_um, int(tile_size), update)
    _check_found(found, level_um, um_per_px, method)
    result = sdata if inplace else _shallow_copy(sdata)
    _add(result, labels_key_added, found, sdata.images[source.key], level_scale)
    logger.info(
        "Added labels %r: %d nuclei, median area %.0f um2, from images[%r] channel %s at %.3g um per px (%s), %.1f s.",
        labels_key_added,
        len(found.areas),
        np.median(found.areas) * level_um**2,
        source.key,
        listed(source.channels),
        level_um,
        name_of(method),
        timings["nuclei"],
    )
    return None if inplace else result


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
        from ucs.pp._nuclei_watershed import WatershedParams, watershed

        params = WatershedParams.of(options)
        if len(lazy) > 1:
            msg = f"method='watershed' takes one channel, {len(lazy)} given."
            raise ValueError(msg)
        factor = max(1, int(_WORKING_UM / um_per_px + 1e-6))
        raster = Raster(lazy, factor, name)
        return watershed(raster, factor * um_per_px, params, tile_size=max(1, tile_size // factor), update=update)
    from ucs.pp._nuclei_objects import label_objects

    is_network = isinstance(method, str)
    function = load_network(method, um_per_px, options) if isinstance(method, str) else method
    return label_objects(
        Raster(lazy, 1, name), function, um_per_px, name=name_of(method), tile_size=tile_size, scaled=is_network,
        update=update,
    )  # fmt: skip


def _check_found(found: FoundNuclei, level_um: float, um_per_px: float, method: str | Callable) -> None:
    if len(found.areas) == 0:
        msg = (
            f"{name_of(method)} found no nuclei (pixels of {um_per_px:g} um). Look at the image, at channel= and at "
            "um_per_px=, or take another method=."
        )
        raise ValueError(msg)
    median = float(np.median(found.areas)) * level_um**2
    if not _AREA_UM2[0] <= median <= _AREA_UM2[1]:
        msg = (
            f"The median nucleus has {median:.3g} um2, which is not between {_AREA_UM2[0]:g} and {_AREA_UM2[1]:g}: "
            f"um_per_px={um_per_px:g} cannot be right, or {name_of(method)} did not find nuclei."
        )
        raise ValueError(msg)


def _add(
    sdata: SpatialData, key: str, found: FoundNuclei, image: DataArray | DataTree, scale: tuple[float, float]
) -> None:
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Affine, Identity, get_transformation

    to_finest = np.diag([scale[1], scale[0], 1.0])
    transformations = {}
    for system, transformation in get_transformation(image, get_all=True).items():
        matrix = affine_matrix(transformation) @ to_finest
        is_identity = np.array_equal(matrix, np.eye(3))
        transformations[system] = Identity() if is_identity else Affine(matrix, ("x", "y"), ("x", "y"))
    element = Labels2DModel.parse(found.labels, dims=("y", "x"), transformations=transformations)
    if key in sdata:  # it may be replaced; spatialdata warns of a key that is set twice
        del sdata[key]
    sdata[key] = element


def _shallow_copy(sdata: SpatialData) -> SpatialData:
    """Return an object with the same elements, without a store."""
    from spatialdata import SpatialData

    elements = {name: element for _, name, element in sdata.gen_elements()}
    return SpatialData.init_from_elements(elements, attrs=dict(sdata.attrs))
