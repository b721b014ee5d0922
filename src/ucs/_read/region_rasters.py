"""Regions of the tissue as a raster: blocks, polygons, or by the vote of transcripts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ucs._read.nuclei.onto_grid import fill_geometries
from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.sample import Sample

BIN_UM = 10.0
"""Side of the bins in which transcripts vote for the region that a column gives them."""

_MOST_REGIONS = 10_000


def split_into_blocks(shape: tuple[int, int], side: int) -> tuple[list[str], NDArray[np.int32]]:
    """Cut a raster into squares from its origin on; what is left over joins the last if less than half a side.

    Returns
    -------
    ``(names, labels)``, as all functions here: the names of the regions, and ``(h, w)`` int32, ``k + 1`` where a pixel
    lies in region ``k``, 0 where in none.
    """
    n_rows, n_columns = (max(1, int(length / side + 0.5)) for length in shape)
    row = np.minimum(np.arange(shape[0], dtype=np.int32) // side, n_rows - 1)
    column = np.minimum(np.arange(shape[1], dtype=np.int32) // side, n_columns - 1)
    labels = row[:, None] * np.int32(n_columns) + column[None, :] + np.int32(1)
    return [f"r{i}c{j}" for i in range(n_rows) for j in range(n_columns)], labels


def vote(sdata: SpatialData, sample: Sample, column: str) -> tuple[list[str], NDArray[np.int32]]:
    """Give each bin of 10 um the value that most of its transcripts have, and each empty bin that of the nearest.

    Of values with equal votes the first by name wins. Transcripts without a value vote for no region.

    Raises
    ------
    ValueError
        If the column has far too many values.
    """
    grid = sample.transcripts.grid
    side = max(1, round(BIN_UM / grid.um_per_px))
    bins = (-(-grid.shape[0] // side), -(-grid.shape[1] // side))
    codes: dict[str, int] = {}
    ballots: list[tuple[NDArray, NDArray]] = []
    for part in sample.source.parts:
        for partition in sdata.points[part.key][["x", "y", column]].to_delayed():
            frame = partition.compute()
            row, col = grid.rows_columns(*part.place(frame))
            inside = (row >= 0) & (col >= 0) & (row < grid.shape[0]) & (col < grid.shape[1])
            value = frame[column].astype("category").cat.remove_unused_categories()
            code = np.array([0, *(codes.setdefault(str(name), len(codes) + 1) for name in value.cat.categories)])
            _check_few(codes, column)
            voted = code[value.cat.codes.to_numpy()[inside] + 1]
            ballots.append(_count((row[inside] // side) * bins[1] + col[inside] // side, voted, _MOST_REGIONS))
    names = sorted(codes, key=_natural_order)
    rank = np.zeros(_MOST_REGIONS, dtype=np.int64)
    rank[[codes[name] for name in names]] = np.arange(1, len(names) + 1)
    winner = np.full(bins[0] * bins[1], -1, dtype=np.int32)
    where, region = _most_frequent(ballots, rank)
    winner[where] = region
    labels = _nearest_filled(winner.reshape(bins))
    return names, np.repeat(np.repeat(labels, side, axis=0), side, axis=1)[: grid.shape[0], : grid.shape[1]]


def fill_regions(
    sdata: SpatialData, sample: Sample, key: str, column: str | None, coordinate_system: str | None
) -> tuple[list[str], NDArray[np.int32]]:
    """Fill polygons, those with one value of a column as one region; where they overlap, the first in order wins.

    Raises
    ------
    ValueError
        If some are no polygons or have no value, or the element is not connected to the transcripts.
    """
    import shapely

    element, grid = sdata.shapes[key], sample.transcripts.grid
    geometry = element.geometry.to_numpy()
    points = shapely.get_type_id(geometry) == 0
    if points.any() and "radius" in element:
        geometry = np.where(points, shapely.buffer(geometry, element["radius"].to_numpy(), quad_segs=16), geometry)
    valid = np.isin(shapely.get_type_id(geometry), (3, 6)) & ~shapely.is_empty(geometry)  # Polygon, MultiPolygon
    if not valid.all():
        msg = (
            f"regions: {int((~valid).sum())} of {len(valid)} geometries of shapes[{key!r}] are no polygons or empty: "
            f"{listed(element.index[~valid])}. Drop them first."
        )
        raise ValueError(msg)
    values = element.index.to_series() if column is None else element[column]
    if values.isna().any():
        msg = (
            f"regions: shapes[{key!r}] have no value in {column!r} for {listed(element.index[values.isna()])}. Fill or "
            "drop them."
        )
        raise ValueError(msg)
    of_each = values.astype(str).tolist()
    names = sorted(set(of_each), key=_natural_order)
    to_frame = sample.source.to_frame(sdata, key, coordinate_system=coordinate_system)
    labels = fill_geometries(geometry, np.linalg.inv(grid.px_to_intrinsic) @ to_frame, grid.shape)
    number = {name: k + 1 for k, name in enumerate(names)}
    return names, np.array([0, *(number[name] for name in of_each)], dtype=np.int32)[labels]


def majority(nuclei: NDArray[np.int32], labels: NDArray[np.int32], n: int, n_regions: int) -> NDArray[np.int64]:
    """Return the region of most pixels of each nucleus, ``(n + 1,)``: of equals the lower, and any before none."""
    counts = []
    for row0 in range(0, len(nuclei), 1024):
        rows = slice(row0, row0 + 1024)
        inside = nuclei[rows] > 0
        counts.append(_count(nuclei[rows][inside], labels[rows][inside], n_regions + 1))
    nucleus, region = _most_frequent(counts, np.arange(n_regions + 1))
    out = np.zeros(n + 1, dtype=np.int64)
    out[nucleus] = region
    return out


def _count(place: NDArray, value: NDArray, n_values: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count how often each pair occurs: ``place * n_values + value``, and its count."""
    return np.unique(place.astype(np.int64) * n_values + value, return_counts=True)


def _most_frequent(
    counts: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]], rank: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each place once, and the rank of the value that it has most often: of equals the lower, but 0 last."""
    pairs, times = (np.concatenate(parts) for parts in zip(*counts, strict=True))
    pair, index = np.unique(pairs, return_inverse=True)
    total = np.bincount(index, weights=times, minlength=len(pair))
    place, value = pair // len(rank), rank[pair % len(rank)]
    order = np.lexsort((np.where(value == 0, len(rank), value), -total, place))
    place, value = place[order], value[order]
    first = np.concatenate([[True], place[1:] != place[:-1]])[: len(place)]
    return place[first], value[first]


def _check_few(codes: dict[str, int], column: str) -> None:
    if len(codes) >= _MOST_REGIONS:
        msg = (
            f"regions={column!r} has {_MOST_REGIONS} different values or more ({listed(list(codes)[:3])}, ...): that "
            "is no column of regions."
        )
        raise ValueError(msg)


def _nearest_filled(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """Replace each -1 by the value of the nearest place that has one."""
    from scipy.ndimage import distance_transform_edt

    if (values >= 0).all():
        return values
    nearest = distance_transform_edt(values < 0, return_distances=False, return_indices=True)
    return values[tuple(nearest)]


def _natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a key by which ``"2"`` sorts before ``"10"``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
