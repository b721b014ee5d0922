"""Where the transcripts of a SpatialData object are, and how to read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._read.bins import COUNT, GENE, annotated, lattice, named_size, tables_of
from ucs._read.columns import TranscriptColumns
from ucs._read.elements import PointsElement
from ucs._read.platforms import (
    FOV,
    Platform,
    fields_of_view,
    pattern_of,
    resolve_gene_key,
    resolve_platform,
    resolve_points_key,
)
from ucs._read.unit import GIVEN, find_unit
from ucs._utils.checks import check_positive, choose_one, listed, natural_order
from ucs._utils.transformations import common_system, matrix_to_system, transformation_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData

# Relative. Registration scales the fields of view of one run by less; a wrong unit differs by far more.
_SAME_SCALE = 0.01
# Relative. Rounding in a transformation must not make the bins larger than a resolution equal to their side.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Source:
    """Elements and columns to read from a SpatialData object.

    Attributes
    ----------
    elements
        The elements with transcripts: one, or one for each field of view.
    platform
        The conventions of the platform.
    um_per_unit
        Length of one unit of the frame in um. The frame is the coordinate system in which the grid is defined: the
        intrinsic coordinates of a single element (rotated onto the lattice for bins), or the coordinate system that
        several elements share.
    resolution
        Side of a pixel in um.
    system
        Name of the shared coordinate system of several elements; None for a single one.
    unit_because
        How the length of the unit is known.
    outlier_um
        Side in um of the squares by which outlying transcripts are left out; None to use them all.
    """

    elements: tuple[PointsElement, ...]
    platform: Platform
    um_per_unit: float
    resolution: float
    system: str | None = None
    unit_because: str = GIVEN
    outlier_um: float | None = None

    @property
    def keys(self) -> list[str]:
        """Keys of the elements."""
        return [element.key for element in self.elements]

    @property
    def points_key(self) -> str:
        """Key of the transcripts, for messages: a list of keys where there are several."""
        keys = self.keys
        return keys[0] if len(keys) == 1 else ", ".join(keys[:4]) + (f", ... ({len(keys)} in all)" if keys[4:] else "")

    @property
    def by_field(self) -> bool:
        """Whether the platform has one element of each kind for each field of view."""
        return FOV in (self.platform.image_key or "")

    @property
    def has_bins(self) -> bool:
        """Whether any element is of bins, each with counts of several genes."""
        return any(part.table_key is not None for part in self.elements)

    @property
    def columns(self) -> TranscriptColumns:
        """Columns to read from the first element."""
        return self.elements[0].columns

    def to_frame(self, sdata: SpatialData, key: str, *, coordinate_system: str | None = None) -> NDArray[np.float64]:
        """Return the ``(3, 3)`` matrix from the intrinsic ``(x, y, 1)`` of any element to the frame.

        Raises
        ------
        ValueError
            If the element is not connected to it.
        """
        if self.system is not None:
            return matrix_to_system(sdata, key, self.system)
        element = self.elements[0]
        matrix = transformation_matrix(sdata, key, element.key, coordinate_system=coordinate_system)
        return matrix if element.in_own_frame else element.to_frame @ matrix

    def output_frame(self, sdata: SpatialData) -> tuple[NDArray[np.floating], dict[str, Any]]:
        """Return the matrix from the frame to the coordinates of results, and the transformations of these.

        Results have the intrinsic coordinates of a single element, with all of its transformations, or the coordinate
        system that several elements share.
        """
        from spatialdata.transformations import Identity, get_transformation

        if self.system is not None:
            return np.eye(3), {self.system: Identity()}
        element = self.elements[0]
        transformations = get_transformation(sdata[element.key], get_all=True)
        return np.eye(3) if element.in_own_frame else np.linalg.inv(element.to_frame), transformations


def find_source(
    sdata: SpatialData,
    points_key: str | Sequence[str] | None = None,
    *,
    platform: str | Platform = "auto",
    coordinate_system: str | None = None,
    gene_key: str | None = None,
    resolution: float | None = None,
    finest: float | None = None,
    um_per_unit: float | None = None,
    z_planes: Sequence[float] | float | None = None,
    outlier_um: float | None = None,
) -> Source:
    """Find the transcripts and determine how to read them.

    Raises what the resolvers of :mod:`ucs._read.platforms` raise.

    Parameters
    ----------
    sdata
        Object with the transcripts.
    points_key
        Key of one element or of several; detected automatically if None.
    platform
        ``"auto"``, the name of a platform, or a platform.
    coordinate_system
        Coordinate system shared by several elements; if None, ``"global"``, else the first that they share.
    gene_key
        Column with the gene; detected automatically if None.
    resolution
        Side of a pixel in um; that of the platform if None.
    finest
        Taken instead of the platform's if that is coarser; bins stay as they are.
    um_per_unit
        Length of one intrinsic unit of the elements in um; detected automatically if None.
    z_planes
        z planes to read; all if None.
    outlier_um
        As in :class:`Source`.
    """
    found = resolve_platform(sdata, platform, points_key)
    for value, argument in ((resolution, "resolution"), (um_per_unit, "um_per_unit")):
        if value is not None:
            check_positive(value, argument)
    table_key = find_bins(sdata, found, points_key)
    if table_key is not None:
        of_bins = _of_bins(sdata, found, table_key, resolution=resolution, um_per_unit=um_per_unit)
        return replace(of_bins, outlier_um=outlier_um)
    named = resolve_points_keys(sdata, found, points_key)
    if points_key is None:
        check_listed_fields(sdata, found, named)
    if resolution is None:
        resolution = found.resolution if finest is None else min(found.resolution, finest)
    unit = find_unit(sdata, found, um_per_unit, named)
    check_positive(unit.um, "um_per_unit")
    elements = []
    for name, key in named.items():
        points = sdata.points[key]
        gene = resolve_gene_key(points, found, gene_key, key)
        columns = TranscriptColumns.of(points, gene, found, z_planes=z_planes, name=key)
        elements.append(PointsElement(key, columns, name))
    system, um_per_unit = None, unit.um
    if len(elements) > 1:
        system = common_system(sdata, [element.key for element in elements], coordinate_system)
        elements = [replace(each, to_frame=matrix_to_system(sdata, each.key, system)) for each in elements]
        um_per_unit = um_per_unit / _common_scale(elements, system)
    return Source(tuple(elements), found, float(um_per_unit), float(resolution), system, unit.because, outlier_um)


def find_bins(sdata: SpatialData, platform: Platform, points_key: str | Sequence[str] | None) -> str | None:
    """Return the key of the table with binned counts, or None if the transcripts are rows of points.

    ``points_key`` may name the table, or the points or shapes that it annotates.

    Raises
    ------
    KeyError
        If the platform has bins, but there is no table of them.
    ValueError
        If several tables fit.
    """
    if isinstance(points_key, str):
        if points_key in sdata.tables:
            return points_key
        if points_key in sdata.shapes or (points_key in sdata.points and not _has_genes(sdata, platform, points_key)):
            tables = tables_of(sdata, points_key)
            if tables:
                return choose_one(None, tables, (".*",), argument="points_key", what="table of these bins")
        return None
    if points_key is not None or not platform.table_keys:
        return None
    if any(_has_genes(sdata, platform, key) for key in sdata.points):
        return None
    available = list(sdata.tables)
    try:
        return choose_one(None, available, platform.table_keys, argument="points_key", what="table of bins")
    except KeyError as error:
        coarser = [key for key in available if (named_size(key) or 0) > platform.resolution]
        hint = f" Bins as coarse as {listed(coarser)} hold several cells each." if coarser else ""
        raise KeyError(error.args[0] + hint) from error


def _has_genes(sdata: SpatialData, platform: Platform, key: str) -> bool:
    try:
        resolve_gene_key(sdata.points[key], platform, None, key)
    except KeyError:
        return False
    return True


def _of_bins(
    sdata: SpatialData, platform: Platform, table_key: str, *, resolution: float | None, um_per_unit: float | None
) -> Source:
    key, _, instance_key = annotated(sdata.tables[table_key])
    if key is None or instance_key is None or (key not in sdata.points and key not in sdata.shapes):
        msg = (
            f"tables[{table_key!r}] must annotate one points or shapes element that holds its bins, not {key!r}; there "
            f"are: {listed([*sdata.points, *sdata.shapes])}. (Visium HD: read with annotate_table_by_labels=False.)"
        )
        raise ValueError(msg)
    columns = TranscriptColumns(GENE, COUNT)
    if key in sdata.points:
        unit = find_unit(sdata, platform, um_per_unit, {key: key})
        element = PointsElement(key, columns, key, table_key)
        resolution = resolution or platform.resolution
        return Source((element,), platform, float(unit.um), float(resolution), unit_because=unit.because)
    matrix = lattice(sdata, key, table_key)
    side, because = None if um_per_unit is not None else named_size(table_key, key), "by the name of the bins"
    if side is None:
        unit = find_unit(sdata, platform, um_per_unit)
        because = unit.because
        side = unit.um / float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if resolution is not None and resolution < side * (1 - _ROUNDING):
        msg = f"resolution={resolution:g} um is finer than the bins of {key!r}, which have {side:g} um."
        raise ValueError(msg)
    element = PointsElement(key, columns, key, table_key, np.diag([side, side, 1.0]) @ matrix)
    resolution = side if resolution is None else resolution
    return Source((element,), platform, 1.0, float(resolution), unit_because=because)


def _common_scale(elements: Sequence[PointsElement], system: str) -> float:
    """Return the length of the intrinsic unit in a coordinate system; it must be the same for all elements and axes."""
    scales = np.array([np.linalg.svd(element.to_frame[:2, :2], compute_uv=False) for element in elements])
    typical = float(np.median(scales))
    wrong = np.abs(scales / typical - 1).max(axis=1) > _SAME_SCALE
    if wrong.any():
        each = ", ".join(
            f"{element.key!r}: {scale[0]:.4g} x {scale[1]:.4g}"
            for element, scale, is_wrong in zip(elements, scales, wrong, strict=True)
            if is_wrong
        )
        msg = (
            f"The elements do not have the same unit in {system!r}: most are {typical:.4g} long, but {each}. "
            "Correct their transformations, or leave these elements out with points_key=[...]."
        )
        raise ValueError(msg)
    return typical


def resolve_points_keys(
    sdata: SpatialData, platform: Platform, points_key: str | Sequence[str] | None
) -> dict[str, str]:
    """Return the keys of the transcripts by the names of their fields of view.

    There are several if several are given, if the given key contains ``{fov}``, or if the platform has one element per
    field of view (the group ``fov`` in its pattern). Otherwise there is one, found by :func:`resolve_points_key`.

    Raises
    ------
    KeyError
        If a key does not exist, or none fits.
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
    """Return the key of a single points element; add advice to the errors of :func:`resolve_points_key`."""
    from spatialdata.transformations import get_transformation

    try:
        return resolve_points_key(sdata, platform, points_key)
    except KeyError as error:
        raise KeyError(error.args[0] + _advice(sdata)) from error
    except ValueError as error:
        all_of_them = list(sdata.points)
        systems = [set(get_transformation(sdata.points[key], get_all=True)) for key in all_of_them]
        advice = f"If they are parts of one sample, name several: points_key={all_of_them!r}."
        if not set.intersection(*systems):
            advice = "They share no coordinate system: segment one after the other, each with a key_added of its own."
        msg = f"{error.args[0]} {advice}"
        raise ValueError(msg) from error


def _advice(sdata: SpatialData) -> str:
    """Return what to do if there are no points elements."""
    if sdata.points:
        return ""
    tables = {key: table for key, table in sdata.tables.items() if "ucs" not in table.uns}
    bins = [key for key, table in tables.items() if annotated(table)[0] in sdata.shapes]
    counted = f" If these tables count genes in square bins, name one: {listed(bins)}." if bins else ""
    return (
        f"{counted} Single transcripts are needed: have the reader load them (transcripts=True), or add them, as in "
        "sdata['transcripts'] = PointsModel.parse(frame, coordinates={'x': 'x', 'y': 'y'}, feature_key='gene')."
    )


def check_listed_fields(sdata: SpatialData, platform: Platform, named: dict[str, str]) -> None:
    """Raise ``KeyError`` if a table lists fields of view without transcripts."""
    if platform.cell_labels_key is None or FOV not in platform.cell_labels_key:
        return
    wanted: set[str] = set()
    for table in sdata.tables.values():
        if "fov" in table.obs and "ucs" not in table.uns:
            wanted |= set(table.obs["fov"].astype(str))
    missing = sorted(wanted - set(named), key=natural_order)
    if missing:
        msg = (
            f"The table lists {len(wanted)} fields of view, but there are no transcripts of {listed(missing)}: "
            f"{listed(named.values())} are there. Leave these fields out with points_key={list(named.values())!r}."
        )
        raise KeyError(msg)
