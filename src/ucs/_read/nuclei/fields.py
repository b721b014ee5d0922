"""Nuclei of several fields of view on one grid, each nucleus once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.labels.stitch import Sightings, contacts, stitch
from ucs._read.fields import Field, pixel_centres
from ucs._read.nuclei.onto_grid import Nuclei, sample_nuclei
from ucs._read.unit import raster_size
from ucs._utils.checks import listed
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.fields import Fields
    from ucs._read.grid import Grid

_CHIP_UM2 = 5.0  # smaller than any nucleus: what is left of one that a border cuts


def read_nuclei_of_fields(
    sdata: SpatialData,
    keys: Sequence[str],
    to_frame: Sequence[NDArray[np.float64]],
    fields: Fields,
    fov: NDArray[np.int32],
    grid: Grid,
    *,
    names: Sequence[str],
) -> Nuclei:
    """Return the nuclei of several fields of view on a grid.

    Every pixel has the label of its own field. Nuclei that are cut by a border between fields, or seen by two fields in
    an overlap, are joined: see :mod:`ucs._kernels.labels.stitch`. A nucleus that lies mostly in another field is
    dropped if that field does not see it.

    Parameters
    ----------
    sdata
        Object with the elements.
    keys
        Keys of the labels or shapes of each field.
    to_frame
        ``(3, 3)`` matrices from their intrinsic coordinates to those of the grid.
    fields
        Areas of the fields.
    fov
        ``(h, w)``: ``k + 1`` for pixels of field ``k``, 0 elsewhere.
    grid
        The grid.
    names
        Names of the fields.

    Returns
    -------
    Nuclei with ids ``"{name}_{id}"``, in the order of fields and ids; a joined nucleus has the id of its largest part.

    Raises
    ------
    ValueError
        If a field has no nuclei, and as :func:`ucs._read.nuclei.onto_grid.read_nuclei`.
    """
    labels, inside = np.zeros(grid.shape, dtype=np.int32), np.zeros(grid.shape, dtype=bool)
    seen: list[_Seen] = []
    names_of: list[list[str]] = []
    n_own: list[int] = []
    n = 0
    for k, (key, matrix, field) in enumerate(zip(keys, to_frame, fields.fields, strict=True)):
        seen_there = _seen_by(sdata, key, matrix) or field
        window, x, y = pixel_centres(grid, seen_there.bounds)
        found = sample_nuclei(sdata, key, matrix, _part_of(grid, window))
        within = seen_there.depth(x.ravel(), y.ravel()).reshape(x.shape) >= 0
        all_seen = np.where((found.labels > 0) & within, found.labels + n, 0)
        own = fov[window] == k + 1
        labels[window][own] = all_seen[own]
        inside[window] |= own & within
        n_own.append(len(np.unique(all_seen[own & (all_seen > 0)])))
        row, column = (at.astype(np.int32) for at in np.nonzero(within & ~own))
        areas = np.bincount(all_seen[all_seen > 0] - n - 1, minlength=len(found.ids))
        elsewhere = row + window[0].start, column + window[1].start, all_seen[row, column].astype(np.int32)
        seen.append(_Seen(k + 1, areas, *elsewhere))
        names_of.append([f"{names[k]}_{i}" for i in found.ids.tolist()])
        n += len(found.ids)
    _check_each_has_nuclei(n_own, names, keys)
    _close_gaps(labels, fov, inside)
    object_of = _stitch(labels, fov, seen, chip=_CHIP_UM2 / grid.um_per_px**2)
    ids = np.array([name for of_field in names_of for name in of_field])
    return _renumber(labels, object_of, seen, ids)


@dataclass(frozen=True)
class _Seen:
    """What a field sees: the areas of its nuclei, and its labels at pixels of other fields."""

    field: int
    areas: NDArray[np.int64]
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    label: NDArray[np.int32]


def _seen_by(sdata: SpatialData, key: str, to_frame: NDArray[np.float64]) -> Field | None:
    """Return the area of labels, which may exceed their field; None for polygons."""
    if key not in sdata.labels:
        return None
    width, height = raster_size(sdata.labels[key])
    return Field((0.0, 0.0, float(width), float(height)), np.linalg.inv(to_frame))


def _part_of(grid: Grid, window: tuple[slice, slice]) -> Grid:
    rows, columns = window
    shape = rows.stop - rows.start, columns.stop - columns.start
    return replace(grid, row0=grid.row0 + rows.start, column0=grid.column0 + columns.start, shape=shape)


def _check_each_has_nuclei(n_nuclei: Sequence[int], names: Sequence[str], keys: Sequence[str]) -> None:
    empty = [name for name, n in zip(names, n_nuclei, strict=True) if n == 0]
    if empty:
        of_empty = [key for key, n in zip(keys, n_nuclei, strict=True) if n == 0]
        msg = (
            f"{len(empty)} of {len(names)} fields of view have no nuclei where their transcripts are: {listed(empty)} "
            f"(looked at {listed(of_empty)}). Leave these fields out with points_key=[...], which names the points "
            "elements of the others, or give nuclei with nuclei_key=."
        )
        raise ValueError(msg)


def _close_gaps(labels: NDArray[np.int32], fov: NDArray[np.int32], inside: NDArray[np.bool_]) -> None:
    """Extend nuclei into the gap, thinner than a pixel, between two fields."""
    row, column = np.nonzero((fov > 0) & ~inside)
    own = fov[row, column]
    beside_other = np.zeros(len(row), dtype=bool)
    continued = np.zeros(len(row), dtype=np.int32)
    for down, right in ((0, -1), (0, 1), (-1, 0), (1, 0)):
        i, j = row + down, column + right
        on_grid = (i >= 0) & (i < fov.shape[0]) & (j >= 0) & (j < fov.shape[1])
        i, j = np.where(on_grid, i, row), np.where(on_grid, j, column)
        beside_other |= (fov[i, j] != own) & (fov[i, j] > 0)
        continued = np.where((continued == 0) & (fov[i, j] == own) & inside[i, j], labels[i, j], continued)
    labels[row[beside_other], column[beside_other]] = continued[beside_other]


def _stitch(
    labels: NDArray[np.int32], fov: NDArray[np.int32], seen: Sequence[_Seen], *, chip: float
) -> NDArray[np.int64]:
    full_area = np.concatenate([[0], *(of.areas for of in seen)])
    field_of = np.concatenate([[0], *(np.full(len(of.areas), of.field) for of in seen)])
    row, column, label, field = (
        np.concatenate(parts)
        for parts in zip(*((of.row, of.column, of.label, np.full(len(of.row), of.field)) for of in seen), strict=True)
    )
    owned = fov[row, column] > 0
    row, column, label, field = row[owned], column[owned], label[owned], field[owned]
    return stitch(
        field_of,
        contact=contacts(labels, fov),
        seen_twice=Sightings.of(label, labels[row, column], field, fov[row, column]),
        area=np.bincount(labels.ravel(), minlength=len(full_area)),
        full_area=full_area,
        chip=chip,
    )


def _renumber(labels: NDArray[np.int32], object_of: NDArray[np.int64], seen: Sequence[_Seen], ids: NDArray) -> Nuclei:
    """Return the joined nuclei, each extended over pixels of the other field that have no label."""
    objects = np.unique(object_of[object_of > 0])
    new_id = np.zeros(len(object_of), dtype=np.int32)
    new_id[objects] = np.arange(1, len(objects) + 1)
    new_id = new_id[object_of]
    out = new_id[labels]
    for of in seen:
        free = (out[of.row, of.column] == 0) & (of.label > 0)
        out[of.row[free], of.column[free]] = new_id[of.label[free]]
    owned = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(object_of)))
    n_parts = np.bincount(object_of[owned[owned > 0]], minlength=1)
    logger.info(
        "Nuclei of %d fields of view: %d, of which %d were joined across borders; %d were dropped that only one of two "
        "fields sees.",
        len(seen),
        len(objects),
        int((n_parts[1:] > 1).sum()),
        int(n_parts[0]),
    )
    return Nuclei(out, ids[objects - 1], 0)
