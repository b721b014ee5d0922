"""Length of the unit of the transcripts' coordinates, decided once for a sample, from the strongest evidence there is.

The order is: what the user says; what ``attrs`` of the object state; a coordinate system whose name is a unit of
length; columns with the same positions in pixels; the transformation to images of the instrument, whose pixels are
known; for CosMx what follows; and what the platform's points are in. If the object itself says two things, that is an
error, and so is a length from the user that is none of those that the object and the platform name.

CosMx positions are in pixels of 0.12028 um, or of 0.18 um on the first instruments. No reader states which, but it can
be inferred from an object. In this order:

1. areas of the vendor's cells both in pixels and in um2 (columns ``Area`` and ``Area.um2`` of the table);
2. their positions both in pixels (``obsm["global"]``) and in mm (columns ``x_slide_mm`` and ``y_slide_mm``);
3. the size of a field of view in pixels, from its image or its labels: 5472 x 3648 or 4256 x 4256;
4. transcripts farther from the corner of their field than 4256 px.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._read.platforms import FOV, GENERIC, fields_of_view
from ucs._utils.checks import reading_option
from ucs._utils.log import logger
from ucs._utils.transformations import affine_matrix, transformation_matrix

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anndata import AnnData
    from spatialdata import SpatialData

    from ucs._read.platforms import Platform

_FIRST, _LATER = 0.18, 0.12028  # um per px, of the first and of the later instruments
_FIELDS = {(5472, 3648): _FIRST, (4256, 4256): _LATER}  # width and height of a field in px
_LATER_WIDTH = 4256
# Relative. Estimates from areas and positions scatter by less; the two instruments differ by a factor of 1.5.
_SAME = 0.02
_PIXEL_UM = (0.05, 0.5)  # pixels of instruments
_ANY_UNIT = ("cosmx", "generic", "stereoseq")  # platforms whose points are not always in one unit
_LENGTHS = {
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers"), 1.0),
    **dict.fromkeys(("mm", "millimeter", "millimeters"), 1000.0),
}

GIVEN, NOTHING = "given", "assumed: nothing tells it"
"""Of units that the user gives, and of those that are assumed to be um."""


@dataclass(frozen=True)
class Unit:
    """Length of the intrinsic unit of the transcripts in um, and how it is known."""

    um: float
    because: str


def find_unit(
    sdata: SpatialData, platform: Platform, given: float | None, keys: Mapping[str, str] | None = None
) -> Unit:
    """Decide the length of the intrinsic unit of the transcripts.

    Parameters
    ----------
    sdata
        Object with the transcripts.
    platform
        The platform.
    given
        The length, if it is known.
    keys
        Keys of the points elements by the names of their fields of view; detected automatically if None.

    Raises
    ------
    ValueError
        If the fields of view have different units, the object states two, or the given length is none of those stated.
    """
    if keys is None:
        keys = fields_of_view(platform.points_keys[0], sdata.points) if platform.points_keys else {}
    said = _said(sdata, platform, keys)
    if given is not None:
        _check_given(given, said, platform)
        return Unit(given, GIVEN)
    if said:
        because, um = next(iter(said.items()))
        if max(said.values()) > min(said.values()) * (1 + _SAME):
            msg = f"The object says two things of the unit of its transcripts: {_each(said)}. {_give(um)}"
            raise ValueError(msg)
        if platform.name not in _ANY_UNIT and not _same(um, platform.um_per_unit):
            msg = (
                f"The unit of the transcripts is {um:.5g} um by {because}, but {platform.um_per_unit:g} um in data of "
                f"{platform.name}. {_give(um)}"
            )
            raise ValueError(msg)
        logger.info("The unit of the transcripts is %.5g um, by %s.", um, because)
        return Unit(um, because)
    if platform.name == "cosmx":
        return _of_cosmx(sdata, platform, keys)
    return Unit(platform.um_per_unit, NOTHING if platform is GENERIC else f"that of {platform.name}")


def _check_given(given: float, said: Mapping[str, float], platform: Platform) -> None:
    """Raise ``ValueError`` if a length is none of those that are stated; warn of others that are."""
    others = {because: um for because, um in said.items() if not _same(um, given)}
    of_platform = platform.name not in _ANY_UNIT and _same(given, platform.um_per_unit)
    if others and len(others) == len(said) and not of_platform:
        msg = (
            f"The unit of the transcripts is {given:g} um as given, but {_each(others)}. Leave um_per_unit out if that "
            "is right; otherwise correct what is wrong in the object: the attrs, or the transformation, with "
            "spatialdata.transformations.set_transformation."
        )
        raise ValueError(msg)
    if others:
        logger.warning("The unit of the transcripts is %g um as given, but %s.", given, _each(others))


def _same(um: float, other: float) -> bool:
    return abs(um / other - 1) <= _SAME


def _each(said: Mapping[str, float]) -> str:
    return "; ".join(f"{um:.5g} um by {because}" for because, um in said.items())


def _give(um: float) -> str:
    return f"Give it: {reading_option('um_per_unit', float(f'{um:.5g}'))}."


def _said(sdata: SpatialData, platform: Platform, keys: Mapping[str, str]) -> dict[str, float]:
    """Return what the object itself says of the unit in um, by how it does so."""
    from spatialdata.transformations import get_transformation

    said: dict[str, float] = {}
    stated = sdata.attrs.get(platform.name, {}).get("um_per_unit")
    if stated is not None:
        return {f"the object's attrs[{platform.name!r}]": float(stated)}
    for key in keys.values():
        if key not in sdata.points:
            continue
        for system, transformation in get_transformation(sdata.points[key], get_all=True).items():
            length = _LENGTHS.get(system.lower())
            if length is not None:
                scale = float(np.sqrt(abs(np.linalg.det(affine_matrix(transformation)[:2, :2]))))
                said.setdefault(f"its transformation to the coordinate system {system!r}", scale * length)
        if platform.name == "cosmx":
            um = _from_columns(sdata, key)
            if um is not None:
                said.setdefault(f"the positions of {key!r} in pixels beside those in 'x'", um)
                break
    if platform.image_um is not None and sdata.attrs.get("spatialdata_io_reader") in platform.readers:
        for key in (key for key in keys.values() if key in sdata.points):
            said.update(_from_images(sdata, platform, key, platform.image_um))
    return said


def _from_images(sdata: SpatialData, platform: Platform, key: str, image_um: float) -> dict[str, float]:
    """Return what the transformations to the instrument's images say, whose pixels are known.

    Images may have been stored smaller. So what fits the platform's unit with pixels that are a whole number of times
    as large is taken for that unit.
    """
    from spatialdata.transformations import get_transformation

    said, of_points = {}, set(get_transformation(sdata.points[key], get_all=True))
    for image in (name for name in sdata.images if any(re.fullmatch(p, name) for p in platform.known_images)):
        if not set(get_transformation(sdata[image], get_all=True)) & of_points:
            continue
        to_px = transformation_matrix(sdata, key, image)
        um = image_um * float(np.sqrt(abs(np.linalg.det(to_px[:2, :2]))))
        times = platform.um_per_unit / um
        fits = round(times) >= 1 and _same(times, round(times))
        because = f"the transformation to images[{image!r}], whose pixels have {image_um:g} um"
        said[because] = platform.um_per_unit if fits else um
    return said


def _from_columns(sdata: SpatialData, key: str) -> float | None:
    """Return 1 or 1000 if positions are in um or mm, by their spread and that of the same positions in pixels."""
    points = sdata.points[key]
    pixels = next((name for name in ("x_global_px", "x_local_px") if name in points.columns), None)
    if pixels is None:
        return None
    some = points[["x", pixels]].get_partition(0).compute()
    in_px = float(some[pixels].std())
    if not in_px > 0:
        return None
    size = float(some["x"].std()) / in_px
    return next((um for um in (1.0, 1000.0) if _PIXEL_UM[0] <= size * um <= _PIXEL_UM[1]), None)


def _of_cosmx(sdata: SpatialData, platform: Platform, keys: Mapping[str, str]) -> Unit:
    """Return the size of the pixels of an instrument, which are the unit of its readers."""
    for clue, sizes in _clues(sdata, platform, keys):
        found = {field: size for field, size in sizes.items() if np.isfinite(size) and size > 0}
        if not found:
            continue
        _check_same(found, clue)
        size = float(np.median(list(found.values())))
        known = [value for value in (_FIRST, _LATER) if abs(size / value - 1) < _SAME]
        logger.info("CosMx: %.5g um per pixel, from %s.", known[0] if known else size, clue)
        return Unit(known[0] if known else size, f"told by {clue}")
    logger.warning(
        "CosMx: nothing in the object tells the size of its pixels; %g um is assumed. Instruments of the first "
        "generation had %g; if this is one of them, pass %s.",
        platform.um_per_unit,
        _FIRST,
        reading_option("um_per_unit", _FIRST),
    )
    return Unit(platform.um_per_unit, f"that of {platform.name}")


def _clues(sdata: SpatialData, platform: Platform, keys: Mapping[str, str]) -> Iterable[tuple[str, dict[str, float]]]:
    """Yield the sources of evidence in order: a name, and the um per pixel of each field of view."""
    tables = [table for table in sdata.tables.values() if "fov" in table.obs and "ucs" not in table.uns]
    yield "the areas of cells in px and um2", _merged((_from_areas(table) for table in tables), keys)
    yield "the positions of cells in px and mm", _merged((_from_positions(table) for table in tables), keys)
    yield "the size of its fields of view", _from_rasters(sdata, platform, keys)
    yield "the positions of transcripts in their fields of view", _from_extent(sdata, keys)


def _merged(sizes: Iterable[dict[str, float]], keys: Mapping[str, str]) -> dict[str, float]:
    return {field: size for of_table in sizes for field, size in of_table.items() if field in keys}


def _from_areas(table: AnnData) -> dict[str, float]:
    if not {"Area", "Area.um2"} <= set(table.obs):
        return {}
    size = np.sqrt(table.obs["Area.um2"].astype(float) / table.obs["Area"].astype(float))
    return size.groupby(table.obs["fov"].astype(str)).median().to_dict()


def _from_positions(table: AnnData) -> dict[str, float]:
    """Compare the spread of cells in mm and px, which needs no common origin."""
    if not {"x_slide_mm", "y_slide_mm"} <= set(table.obs) or "global" not in table.obsm:
        return {}
    mm, px = table.obs[["x_slide_mm", "y_slide_mm"]].to_numpy(float), np.asarray(table.obsm["global"], float)
    fields = table.obs["fov"].astype(str).to_numpy()
    of_field = {name: fields == name for name in np.unique(fields)}
    spread = {name: np.hypot(*px[rows].std(axis=0)) for name, rows in of_field.items()}
    return {n: 1000 * float(np.hypot(*mm[of_field[n]].std(axis=0)) / s) for n, s in spread.items() if s > 0}


def _from_rasters(sdata: SpatialData, platform: Platform, keys: Mapping[str, str]) -> dict[str, float]:
    out = {}
    for field in keys:
        for template, elements in ((platform.image_key, sdata.images), (platform.cell_labels_key, sdata.labels)):
            key = (template or "").replace(FOV, field)
            if key in elements:
                size = _known_field(raster_size(elements[key]))
                if size is not None:
                    out[field] = size
    return out


def _known_field(size: tuple[int, int]) -> float | None:
    for known, um_per_px in _FIELDS.items():
        if all(abs(a / b - 1) < _SAME for a, b in zip(size, known, strict=True)):
            return um_per_px
    return None


def raster_size(element: Any) -> tuple[int, int]:
    """Return the width and height of an image or labels element in pixels of its finest level."""
    from xarray import DataTree

    finest = next(iter(element["scale0"].to_dataset().values())) if isinstance(element, DataTree) else element
    return finest.sizes["x"], finest.sizes["y"]


def _from_extent(sdata: SpatialData, keys: Mapping[str, str]) -> dict[str, float]:
    """Recognise the first instruments; positions within the smaller field may be of either."""
    for field, key in keys.items():
        if float(sdata.points[key]["x"].max().compute()) > _LATER_WIDTH * (1 + _SAME):
            return {field: _FIRST}
    return {}


def _check_same(sizes: Mapping[str, float], clue: str) -> None:
    smallest, largest = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[largest] > sizes[smallest] * (1 + _SAME):
        msg = (
            f"The fields of view do not have the same unit: by {clue}, a pixel of {smallest!r} has "
            f"{sizes[smallest]:.4g} um and one of {largest!r} {sizes[largest]:.4g}. Segment them apart, with "
            f"points_key=[...], or give the unit of all: {reading_option('um_per_unit', _LATER)}."
        )
        raise ValueError(msg)
