"""Nuclei of fields of view without any: found in images, or from transcripts that are marked as nuclear."""

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

    from ucs._read.elements import PointsElement
    from ucs._read.source import Source


def check_can_be_made(sdata: SpatialData, source: Source) -> None:
    """Raise ``KeyError`` if nuclei can be found neither in images of all fields of view nor from transcripts."""
    way_to_make(sdata, source)


def make_nuclei(sdata: SpatialData, source: Source, template: str, *, progress: bool = False) -> dict[str, DataArray]:
    """Find the nuclei of every field of view; ``sdata`` is not changed.

    Parameters
    ----------
    sdata
        Object with the images.
    source
        Elements of the fields of view.
    template
        Key of the result, with ``{fov}`` in place of the name of the field.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Labels by key.

    Raises
    ------
    KeyError
        If they can be found neither in images nor from transcripts.
    ValueError
        If a field has no nuclei.
    """
    way = way_to_make(sdata, source)
    with progress_bar("nuclei", "field", shown=progress) as update:
        of_fields, empty = _from_images(sdata, source, update) if way == "images" else _from_rows(sdata, source, update)
    where = "the images" if way == "images" else "the nuclear transcripts in the vendor's cells"
    if empty:
        others = [element.key for element in source.elements if element.name not in empty]
        msg = (
            f"No nuclei were found in {len(empty)} of {len(source.elements)} fields of view, from {where}: "
            f"{listed(empty)}. Leave these fields out with points_key={others!r}, or give nuclei with nuclei_key=."
        )
        raise ValueError(msg)
    logger.info("Found the nuclei of %d fields of view, from %s.", len(source.elements), where)
    return {template.replace(FOV, name): element for name, element in of_fields.items()}


def way_to_make(sdata: SpatialData, source: Source) -> str:
    """Return whether nuclei are to be found in ``"images"`` or, if there are none, from ``"rows"`` of the points.

    Raises ``KeyError`` if neither is possible.
    """
    images = {element.name: _key(source.platform.image_key, element) for element in source.elements}
    without = [name for name, key in images.items() if key not in sdata.images]
    if len(without) == len(images):
        no_rows = _why_not_from_rows(sdata, source)
        if no_rows is None:
            return "rows"
        msg = f"Nor can nuclei be found: there are no images {listed(images.values())}, and {no_rows}"
        raise KeyError(msg)
    if without:
        others = [element.key for element in source.elements if element.name not in without]
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
    without = [element.key for element in source.elements if column not in sdata.points[element.key].columns]
    if without:
        return f"there is no column {column!r} in points {listed(without)}."
    keys = [_key(platform.cell_labels_key, element) for element in source.elements]
    missing = [key for key in keys if key not in sdata.labels]
    return f"there are no labels {listed(missing)} with the vendor's cells." if missing else None


def _key(template: str | None, element: PointsElement) -> str:
    return (template or "").replace(FOV, element.name)


def stain_of(sdata: SpatialData, source: Source, element: PointsElement) -> tuple[Stain, float]:
    """Return the image of a field of view and the side of its (finest) pixels in um."""
    stain = find_stain(sdata, _key(source.platform.image_key, element), None)
    to_points = transformation_matrix(sdata, stain.key, element.key)
    scale = float(np.sqrt(abs(np.linalg.det(to_points[:2, :2]))))
    return stain, scale * element.scale * source.um_per_unit


def _from_images(
    sdata: SpatialData, source: Source, update: Callable[[int, int], None]
) -> tuple[dict[str, DataArray], list[str]]:
    images = {element.name: stain_image(*stain_of(sdata, source, element)) for element in source.elements}
    found, empty = find_in_fields(sdata, images, update=update)
    return {name: of_field.element for name, of_field in found.items()}, empty


def _from_rows(
    sdata: SpatialData, source: Source, update: Callable[[int, int], None]
) -> tuple[dict[str, DataArray], list[str]]:
    column, value = source.platform.nuclear_rows or ("", "")
    found, empty = {}, []
    for number, element in enumerate(source.elements):
        labels_key = _key(source.platform.cell_labels_key, element)
        um_per_unit = element.scale * source.um_per_unit
        try:
            found[element.name] = nuclei_from_rows(
                sdata, element, labels_key, column=column, value=value, um_per_unit=um_per_unit
            )
        except NoNucleiError:
            empty.append(element.name)
        update(number + 1, len(source.elements))
    return found, empty
