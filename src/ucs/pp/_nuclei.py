"""Nuclei from a nuclear stain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._nuclei.find import StainImage, find_in_image
from ucs._nuclei.methods import WATERSHED, check_method, name_of
from ucs._read.keys import FOV, fields_of_view, pattern_of
from ucs._read.nuclei.field_images import find_in_fields
from ucs._read.nuclei.stain import find_stain, pixel_size
from ucs._read.platforms import resolve_platform
from ucs._utils.checks import check_at_least, check_free_keys, check_name, listed
from ucs._utils.log import logger
from ucs._utils.progress import Stages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray


def nuclei(
    sdata: SpatialData,
    image_key: str | None = None,
    *,
    channel: str | int | Sequence[str | int] | None = None,
    method: str | Callable[[NDArray], NDArray] = WATERSHED,
    labels_key_added: str = "ucs_nuclei",
    um_per_px: float | None = None,
    tile_size: int = 1024,
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
        channel under such a name or ``morphology_focus``). Of CosMx the images of all fields of view; ``{fov}`` in the
        key stands for their names.
    channel
        Name (or position) of the channel; the one named after a nuclear stain if None. Several are passed on, in the
        order given, to methods that take them; the built-in method takes one.
    method
        ``"watershed"``: built in, needs no weights (see Notes). ``"cellpose"``, ``"stardist"``, ``"instanseg"``: by
        their own packages. Or a function from ``(c, y, x)``, in the type of the image, to integer labels ``(y, x)``,
        which is called for windows of up to ``tile_size`` pixels and a margin of 40 um, and should not depend on more.
    labels_key_added
        Key of the result; of fields of view it follows their names, as ``2_ucs_nuclei``.
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
        ``ucs._nuclei.watershed.WatershedParams``. The networks: ``model`` (name or path of the weights), ``gpu`` or
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
    images = images_of_fields(sdata, image_key)
    keys = [_key_of_field(labels_key_added, field) for field in images] if images else [labels_key_added]
    for key in keys:
        check_name(key, "labels_key_added")
        check_free_keys(sdata, {"labels_key_added": ("labels", key)}, overwrite=overwrite)
    check_at_least(tile_size, 32, "tile_size")
    check_method(method, options)
    result = sdata if inplace else _shallow_copy(sdata)
    stages = Stages(progress=progress)
    if images:
        stains = {
            field: StainImage.of(find_stain(sdata, key, channel), pixel_size(sdata, key, um_per_px))
            for field, key in images.items()
        }
        with stages.stage("nuclei", unit="field") as update:
            of_fields, empty = find_in_fields(
                sdata, stains, method, options, tile_size=int(tile_size), update=update
            )
        _check_none_empty(empty, images, method)
        for key, in_field in zip(keys, of_fields.values(), strict=True):
            _put(result, key, in_field.element)
        logger.info(
            "Added labels %s, from images of %d fields of view (%s), %.1f s.",
            listed(keys),
            len(images),
            name_of(method),
            stages.seconds["nuclei"],
        )
        return None if inplace else result
    source = find_stain(sdata, image_key, channel)
    um_per_px = pixel_size(sdata, source.key, um_per_px)
    with stages.stage("nuclei", unit="tile") as update:
        found = find_in_image(
            StainImage.of(source, um_per_px),
            sdata.images[source.key],
            method,
            options,
            tile_size=int(tile_size),
            update=update,
        )
    _put(result, labels_key_added, found.element)
    logger.info(
        "Added labels %r: %d nuclei, median area %.0f um2, from images[%r] channel %s at %.3g um per px (%s), %.1f s.",
        labels_key_added,
        found.n,
        found.median_area,
        source.key,
        listed(source.channels),
        found.um_per_px,
        name_of(method),
        stages.seconds["nuclei"],
    )
    return None if inplace else result


def images_of_fields(sdata: SpatialData, image_key: str | None) -> dict[str, str]:
    """Return the images of fields of view by the names of these, none if a single image is meant."""
    template = image_key or resolve_platform(sdata, "auto", None).image_key or ""
    return fields_of_view(pattern_of(template), sdata.images) if FOV in template else {}


def _key_of_field(key: str, field: str) -> str:
    return key.replace(FOV, field) if FOV in key else f"{field}_{key}"


def _check_none_empty(empty: Sequence[str], images: Mapping[str, str], method: str | Callable) -> None:
    if empty:
        msg = (
            f"{name_of(method)} found no nuclei in {len(empty)} of {len(images)} fields of view: {listed(empty)}. Look "
            "at their images, at channel= and at um_per_px=, or find the nuclei of the others one by one, with "
            "image_key=."
        )
        raise ValueError(msg)


def _put(sdata: SpatialData, key: str, element: DataArray) -> None:
    if key in sdata:  # it may be replaced; spatialdata warns of a key that is set twice
        del sdata[key]
    sdata[key] = element


def _shallow_copy(sdata: SpatialData) -> SpatialData:
    """Return an object with the same elements, without a store."""
    from spatialdata import SpatialData

    elements = {name: element for _, name, element in sdata.gen_elements()}
    return SpatialData.init_from_elements(elements, attrs=dict(sdata.attrs))
