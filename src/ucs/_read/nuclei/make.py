"""Nuclei where there are none: in the images of the fields of view, or from transcripts known to be nuclear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._nuclei.find import NoNucleiError
from ucs._read.nuclei.field_images import find_in_fields
from ucs._read.nuclei.rows import nuclei_from_rows
from ucs._read.nuclei.stain import Stain, find_stain, stain_image
from ucs._read.platforms import FOV
from ucs._utils.checks import listed
from ucs._utils.log import logger
from ucs._utils.progress import progress_bar
from ucs._utils.transformations import transformation_matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    from spatialdata import SpatialData
    from xarray import DataArray

    from ucs._read.elements import Part
    from ucs._read.source import Source


def check_can_be_made(sdata: SpatialData, source: Source) -> None:
    """Raise ``KeyError`` if nuclei can neither be found in the images of all fields of view nor from transcripts."""
    way_to_make(sdata, source)


def make_nuclei(sdata: SpatialData, source: Source, template: str, *, progress: bool = False) -> dict[str, DataArray]:
    """Find the nuclei of every field of view; ``sdata`` is not changed.

    Parameters
    ----------
    sdata
        Object with the images.
    source
        Names the fields of view.
    template
        Key of the result, with ``{fov}`` for the name of the field.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Labels by key.

    Raises
    ------
    KeyError
        If they can neither be found in images nor from transcripts.
    ValueError
        If a field has none.
    """
    way = way_to_make(sdata, source)
    with progress_bar("nuclei", "field", shown=progress) as update:
        of_fields, empty = _from_images(sdata, source, update) if way == "images" else _from_rows(sdata, source, update)
    where = "the images" if way == "images" else "the nuclear transcripts in the vendor's cells"
    if empty:
        others = [part.key for part in source.parts if part.name not in empty]
        msg = (
            f"No nuclei were found in {len(empty)} of {len(source.parts)} fields of view, from {where}: "
            f"{listed(empty)}. Leave these fields out with points_key={others!r}, or give nuclei with nuclei_key=."
        )
        raise ValueError(msg)
    logger.info("Found the nuclei of %d fields of view, from %s.", len(source.parts), where)
    return {template.replace(FOV, name): element for name, element in of_fields.items()}


def way_to_make(sdata: SpatialData, source: Source) -> str:
    """Return whether nuclei are found in ``"images"`` or, where there are none, from ``"rows"`` of the points.

    Raises ``KeyError`` if neither can be done.
    """
    images = {part.name: _key(source.platform.image_key, part) for part in source.parts}
    without = [name for name, key in images.items() if key not in sdata.images]
    if len(without) == len(images):
        no_rows = _why_not_from_rows(sdata, source)
        if no_rows is None:
            return "rows"
        msg = f"Nor can nuclei be found: there are no images {listed(images.values())}, and {no_rows}"
        raise KeyError(msg)
    if without:
        others = [part.key for part in source.parts if part.name not in without]
        msg = (
            f"Nor can nuclei be found in images: {len(without)} of {len(images)} fields of view have none: "
            f"{listed(without)}. Leave them out with points_key={others!r}, or give nuclei with nuclei_key=."
        )
        raise KeyError(msg)
    for key in images.values():
        try:
            find_stain(sdata, key, None)
        except (KeyError, ValueError) as error:
            msg = (
                f"Nor can nuclei be found in images: {error.args[0]} Find them first, with "
                f"ucs.pp.nuclei(sdata, {source.platform.image_key!r}, channel=...)."
            )
            raise KeyError(msg) from error
    return "images"


def _why_not_from_rows(sdata: SpatialData, source: Source) -> str | None:
    platform = source.platform
    if platform.nuclear_rows is None:
        return f"{platform.name} does not say which transcripts are nuclear."
    column, _ = platform.nuclear_rows
    without = [part.key for part in source.parts if column not in sdata.points[part.key].columns]
    if without:
        return f"there is no column {column!r} in points {listed(without)}."
    keys = [_key(platform.cell_labels_key, part) for part in source.parts]
    missing = [key for key in keys if key not in sdata.labels]
    return f"there are no labels {listed(missing)} with the vendor's cells." if missing else None


def _key(template: str | None, part: Part) -> str:
    return (template or "").replace(FOV, part.name)


def stain_of(sdata: SpatialData, source: Source, part: Part) -> tuple[Stain, float]:
    """Return the image of a field of view and the side of its (finest) pixels in um."""
    stain = find_stain(sdata, _key(source.platform.image_key, part), None)
    to_points = transformation_matrix(sdata, stain.key, part.key)
    scale = float(np.sqrt(abs(np.linalg.det(to_points[:2, :2]))))
    return stain, scale * part.scale * source.um_per_unit


def _from_images(
    sdata: SpatialData, source: Source, update: Callable[[int, int], None]
) -> tuple[dict[str, DataArray], list[str]]:
    images = {part.name: stain_image(*stain_of(sdata, source, part)) for part in source.parts}
    found, empty = find_in_fields(sdata, images, update=update)
    return {name: of_field.element for name, of_field in found.items()}, empty


def _from_rows(
    sdata: SpatialData, source: Source, update: Callable[[int, int], None]
) -> tuple[dict[str, DataArray], list[str]]:
    column, value = source.platform.nuclear_rows or ("", "")
    found, empty = {}, []
    for number, part in enumerate(source.parts):
        labels_key = _key(source.platform.cell_labels_key, part)
        um_per_unit = part.scale * source.um_per_unit
        try:
            found[part.name] = nuclei_from_rows(
                sdata, part, labels_key, column=column, value=value, um_per_unit=um_per_unit
            )
        except NoNucleiError:
            empty.append(part.name)
        update(number + 1, len(source.parts))
    return found, empty
