"""Nuclei of a sample: the elements with nuclei, or nuclei found in images if there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._read.nuclei.fields import read_nuclei_of_fields
from ucs._read.nuclei.from_image import nuclei_from_image
from ucs._read.nuclei.make import check_can_be_made, make_nuclei
from ucs._read.nuclei.onto_grid import (
    Nuclei,
    cells_of_nuclei,
    fuse_nuclei_of_cells,
    read_nuclei,
    with_nuclei_numbered,
)
from ucs._read.nuclei.stain import find_stain
from ucs._read.platforms import FOV, resolve_nuclei_key
from ucs._utils.checks import listed
from ucs._utils.elements import finest_level, shallow_copy
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.fields import Fields
    from ucs._read.grid import Grid
    from ucs._read.source import Source

NUCLEI_KEY = "ucs_nuclei"
"""Default key of the labels from :func:`ucs.pp.nuclei`."""

_WHAT_TO_ADD = (
    "Every cell needs a nucleus: add labels or polygons of the nuclei to the object, or the image of their stain that "
    "is registered with the transcripts (DAPI, ssDNA, ...), as in sdata['stain'] = Image2DModel.parse(image, "
    "dims=('c', 'y', 'x'), c_coords=['DAPI'], transformations=...)."
)


_WITH_H_AND_E = (
    " H&E is no such stain: have the reader load the nuclei of Space Ranger (load_nucleus_segmentations=True), or give "
    "ucs.pp.nuclei a function that finds them, ucs.pp.nuclei(sdata, image_key, channel=[...], method=function)."
)


def find_nuclei_key(sdata: SpatialData, source: Source, nuclei_key: str | None) -> str:
    """Return the key of the nuclei, or the key under which they will be found if there are none.

    If there is an element for each field of view, the key contains ``{fov}`` in place of the name of the field.

    Raises
    ------
    KeyError
        If an element does not exist, or none fits and nuclei cannot be found in images or transcripts either.
    ValueError
        If several fit equally well.
    """
    if nuclei_key is not None and FOV in nuclei_key:
        _check_all_there(sdata, source, nuclei_key)
        if nuclei_key == source.platform.cell_labels_key:
            logger.warning("The nuclei %r are the vendor's cells, taken for nuclei because you name them.", nuclei_key)
        return nuclei_key
    if nuclei_key is None:
        for template in source.platform.nuclei_keys:
            if FOV in template and _there(sdata, source, template):
                _check_all_there(sdata, source, template)
                return template
    empty: list[str] = []
    try:
        while True:
            key = resolve_nuclei_key(sdata, source.platform, nuclei_key, source.keys, without=empty)
            if not is_empty(sdata, key):
                break
            empty.append(key)
            if nuclei_key is not None:
                msg = f"{_no_nuclei(sdata, empty)} Name others, or leave nuclei_key out, so that others are looked for."
                raise ValueError(msg)
    except KeyError as no_nuclei:
        if nuclei_key is not None:
            raise
        try:
            key = _key_to_be_made(sdata, source)
        except (KeyError, ValueError) as no_stain:
            msg = f"{_no_nuclei(sdata, empty)} {no_nuclei.args[0]} {no_stain.args[0]} {_WHAT_TO_ADD}"
            raise KeyError(msg.strip()) from no_stain
    if empty:
        instead = repr(key) if key in sdata else "those that are found in the image of a stain"
        logger.warning("%s The nuclei are %s instead.", _no_nuclei(sdata, empty), instead)
    return key


def is_empty(sdata: SpatialData, key: str) -> bool:
    """Return whether labels hold background only, or shapes have no rows; reading ends at the first nucleus."""
    if key in sdata.shapes:
        return len(sdata.shapes[key]) == 0
    if key not in sdata.labels:
        return False
    pixels = finest_level(sdata.labels[key]).data
    blocks = pixels.blocks.ravel() if hasattr(pixels, "blocks") else [pixels]
    return not any(np.any(np.asarray(block)) for block in blocks)


def _no_nuclei(sdata: SpatialData, keys: Sequence[str]) -> str:
    if not keys:
        return ""
    of = [f"labels[{key!r}] hold background only" for key in keys if key in sdata.labels]
    of += [f"shapes[{key!r}] have no rows" for key in keys if key in sdata.shapes]
    return f"There are no nuclei: {', '.join(of)}."


def _key_to_be_made(sdata: SpatialData, source: Source) -> str:
    if source.by_field:
        check_can_be_made(sdata, source)
        return f"{FOV}_{NUCLEI_KEY}"
    try:
        find_stain(sdata, None, None, source)
    except (KeyError, ValueError) as no_stain:
        msg = (
            f"Nor can nuclei be found in an image: {no_stain.args[0]} These are arguments of ucs.pp.nuclei, which "
            "finds them first."
        )
        if source.platform.name == "visium_hd":
            msg += _WITH_H_AND_E
        raise KeyError(msg) from no_stain
    return NUCLEI_KEY


def keys_of_nuclei(source: Source, nuclei_key: str) -> list[str]:
    """Return the keys of the elements that a key with ``{fov}`` represents."""
    if FOV not in nuclei_key:
        return [nuclei_key]
    return [nuclei_key.replace(FOV, element.name) for element in source.elements]


def _there(sdata: SpatialData, source: Source, template: str) -> list[str]:
    return [key for key in keys_of_nuclei(source, template) if key in sdata.labels or key in sdata.shapes]


def _check_all_there(sdata: SpatialData, source: Source, template: str) -> None:
    there = _there(sdata, source, template)
    pairs = list(zip(source.elements, keys_of_nuclei(source, template), strict=True))
    missing = [element.name for element, key in pairs if key not in there]
    if missing:
        others = [element.key for element in source.elements if element.name not in missing]
        msg = (
            f"There are nuclei {template!r} for {len(there)} of {len(source.elements)} fields of view, not for "
            f"{listed(missing)}. Add them, or leave these fields out with points_key={others!r}."
        )
        raise KeyError(msg)


def make_missing(
    sdata: SpatialData, source: Source, nuclei_key: str, *, progress: bool
) -> tuple[SpatialData, dict[str, Any]]:
    """Find the nuclei if there are none; return an object with nuclei, and the new elements by key."""
    keys = keys_of_nuclei(source, nuclei_key)
    if all(key in sdata for key in keys):
        return sdata, {}
    if FOV in nuclei_key:
        found = make_nuclei(sdata, source, nuclei_key, progress=progress)
    else:
        found = nuclei_from_image(sdata, labels_key_added=nuclei_key, progress=progress, sample=source)
    return shallow_copy(sdata, found), found


def load_nuclei(
    sdata: SpatialData,
    source: Source,
    nuclei_key: str,
    grid: Grid,
    *,
    fields: Fields | None,
    fov: NDArray[np.int32] | None,
    coordinate_system: str | None,
    fuse_nuclei: bool,
) -> Nuclei:
    """Return the nuclei of a sample on its grid; see :func:`ucs._read.sample.prepare`."""
    keys = keys_of_nuclei(source, nuclei_key)
    for key in keys:
        sdata = with_nuclei_numbered(sdata, key, source.platform)
    matrices = [source.to_frame(sdata, key, coordinate_system=coordinate_system) for key in keys]
    if len(keys) > 1 and fields is not None and fov is not None:
        if fuse_nuclei:
            msg = "fuse_nuclei=True takes one element of nuclei; there is one for each field of view."
            raise ValueError(msg)
        names = [element.name for element in source.elements]
        return read_nuclei_of_fields(sdata, keys, matrices, fields, fov, grid, names=names)
    nuclei = read_nuclei(sdata, keys[0], matrices[0], grid, points_key=source.points_key)
    if fuse_nuclei:
        nuclei = fuse_nuclei_of_cells(nuclei, cells_of_nuclei(sdata, keys[0], source.platform))
    return nuclei
