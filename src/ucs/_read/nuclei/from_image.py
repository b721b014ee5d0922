"""Nuclei found in an image of a nuclear stain, or in the images of all fields of view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._nuclei.find import find_in_image
from ucs._nuclei.methods import WATERSHED, check_method, name_of
from ucs._read.nuclei.field_images import find_in_fields
from ucs._read.nuclei.stain import find_stain, pixel_size, stain_image
from ucs._read.platforms import FOV, fields_of_view, pattern_of, resolve_platform
from ucs._utils.checks import check_at_least, check_free_keys, check_name, listed
from ucs._utils.log import logger
from ucs._utils.progress import Stages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._read.source import Source


def nuclei_from_image(
    sdata: SpatialData,
    image_key: str | None = None,
    *,
    channel: str | int | Sequence[str | int] | None = None,
    method: str | Callable[[NDArray], NDArray] = WATERSHED,
    options: dict[str, Any] | None = None,
    labels_key_added: str = "ucs_nuclei",
    um_per_px: float | None = None,
    tile_size: int = 1024,
    overwrite: bool = False,
    progress: bool = True,
    sample: Source | None = None,
) -> dict[str, DataArray]:
    """Return labels of nuclei by the keys under which they are to be added; ``sdata`` is not changed.

    See :func:`ucs.pp.nuclei` for the parameters and the errors; ``options`` are those of the method. The transcripts of
    a ``sample`` tell which images are meant and how large their pixels are; without them all that there are.
    """
    options = options or {}
    images = images_of_fields(sdata, image_key) if sample is None else {}
    keys = [_key_of_field(labels_key_added, field) for field in images] if images else [labels_key_added]
    for key in keys:
        check_name(key, "labels_key_added")
        check_free_keys(sdata, {"labels_key_added": ("labels", key)}, overwrite=overwrite)
    check_at_least(tile_size, 32, "tile_size")
    check_method(method, options)
    stages = Stages(progress=progress)
    if images:
        stains = {
            field: stain_image(find_stain(sdata, key, channel), pixel_size(sdata, key, um_per_px))
            for field, key in images.items()
        }
        with stages.stage("nuclei", unit="field") as update:
            of_fields, empty = find_in_fields(sdata, stains, method, options, tile_size=int(tile_size), update=update)
        _check_none_empty(empty, images, method)
        logger.info(
            "Added labels %s, from images of %d fields of view, by %s, %.1f s.",
            listed(keys),
            len(images),
            name_of(method).removeprefix("method="),
            stages.seconds["nuclei"],
        )
        return {key: in_field.element for key, in_field in zip(keys, of_fields.values(), strict=True)}
    source = find_stain(sdata, image_key, channel, sample)
    um_per_px = pixel_size(sdata, source.key, um_per_px, sample)
    with stages.stage("nuclei", unit="tile") as update:
        found = find_in_image(
            stain_image(source, um_per_px),
            sdata.images[source.key],
            method,
            options,
            tile_size=int(tile_size),
            update=update,
        )
    logger.info(
        "Added labels %r: %d nuclei, median area %.0f um2, from images[%r] channel %s at %.3g um per px by %s, %.1f s.",
        labels_key_added,
        found.n,
        found.median_area,
        source.key,
        listed(source.channels),
        found.um_per_px,
        name_of(method).removeprefix("method="),
        stages.seconds["nuclei"],
    )
    return {labels_key_added: found.element}


def images_of_fields(sdata: SpatialData, image_key: str | None) -> dict[str, str]:
    """Return the keys of images by the names of their fields of view; empty if there is a single image."""
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
