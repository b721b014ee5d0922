"""Keys of elements of which there is one for each field of view."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ucs._read.bins import annotated
from ucs._read.platforms import Platform, resolve_points_key
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spatialdata import SpatialData

FOV = "{fov}"
"""Stands for the name of a field of view in keys."""


def resolve_points_keys(
    sdata: SpatialData, platform: Platform, points_key: str | Sequence[str] | None
) -> dict[str, str]:
    """Return the keys of the transcripts by the names of their fields of view.

    Several if they are given, if ``{fov}`` in the key given stands for their names, or if the platform has one element
    per field of view (the group ``fov`` in its pattern). Otherwise one, as :func:`resolve_points_key` finds it.

    Raises
    ------
    KeyError
        If a key is not there, or none fits.
    ValueError
        If several fit equally well, or a key is given twice.
    """
    available = list(sdata.points)
    if points_key is None:
        for pattern in platform.points_keys:
            fields = fields_of_view(pattern, available)
            if fields:
                return fields
    if isinstance(points_key, str) and "{fov}" in points_key:
        fields = fields_of_view(pattern_of(points_key), available)
        if not fields:
            msg = f"points_key={points_key!r} fits no points element; there are: {listed(available)}."
            raise KeyError(msg)
        return fields
    if points_key is None or isinstance(points_key, str):
        keys = [_the_only_one(sdata, platform, points_key)]
    else:
        keys = [resolve_points_key(sdata, platform, key) for key in points_key]
    if not keys or len(set(keys)) < len(keys):
        msg = f"points_key={points_key!r} must name at least one element, and none twice."
        raise ValueError(msg)
    by_key = {key: name for pattern in platform.points_keys for name, key in fields_of_view(pattern, keys).items()}
    return {by_key.get(key, key): key for key in keys}


def _the_only_one(sdata: SpatialData, platform: Platform, points_key: str | None) -> str:
    """Return the key of the one points element, with advice in the errors of :func:`resolve_points_key`."""
    try:
        return resolve_points_key(sdata, platform, points_key)
    except KeyError as error:
        raise KeyError(error.args[0] + _advice(sdata)) from error
    except ValueError as error:
        all_of_them = list(sdata.points)
        msg = f"{error.args[0]} If they are parts of one sample, name several: points_key={all_of_them!r}."
        raise ValueError(msg) from error


def _advice(sdata: SpatialData) -> str:
    """Return what to do where no transcripts are found."""
    if sdata.points:
        return ""
    tables = {key: table for key, table in sdata.tables.items() if "ucs" not in table.uns}
    bins = [key for key, table in tables.items() if annotated(table)[0] in sdata.shapes]
    counted = f" If these tables count genes in square bins, name one: {listed(bins)}." if bins else ""
    return (
        f"{counted} Single transcripts are needed: have the reader load them (transcripts=True), or add them, as in "
        "sdata['transcripts'] = PointsModel.parse(frame, coordinates={'x': 'x', 'y': 'y'}, feature_key='gene')."
    )


def pattern_of(template: str) -> str:
    """Return the pattern of the keys that a key with ``{fov}`` stands for."""
    return re.escape(template).replace(re.escape(FOV), "(?P<fov>.+)")


def fields_of_view(pattern: str, available: Iterable[str]) -> dict[str, str]:
    """Return the elements that a pattern with a group ``fov`` fits, by the names of their fields, 2 before 10."""
    if "(?P<fov>" not in pattern:
        return {}
    found = {match["fov"]: match[0] for match in (re.fullmatch(pattern, key) for key in available) if match}
    return {name: found[name] for name in sorted(found, key=_natural)}


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that compares the numbers within names as numbers."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def check_listed_fields(sdata: SpatialData, platform: Platform, named: dict[str, str]) -> None:
    """Raise ``KeyError`` if a table lists fields of view of which there are no transcripts."""
    if platform.cell_labels_key is None or FOV not in platform.cell_labels_key:
        return
    wanted: set[str] = set()
    for table in sdata.tables.values():
        if "fov" in table.obs and "ucs" not in table.uns:
            wanted |= set(table.obs["fov"].astype(str))
    missing = sorted(wanted - set(named), key=_natural)
    if missing:
        msg = (
            f"The table lists {len(wanted)} fields of view, but there are no transcripts of {listed(missing)}: "
            f"{listed(named.values())} are there. Leave these fields out with points_key={list(named.values())!r}."
        )
        raise KeyError(msg)
