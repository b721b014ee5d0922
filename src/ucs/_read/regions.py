"""Regions of the tissue, each with a model of its own, as a raster.

Every nucleus belongs to the region of most of its pixels. Ties go to the region that comes first by name, and to any
region before none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from ucs._kernels.labels.ids import renumbered
from ucs._read.nuclei.onto_grid import as_polygons, fill_geometries
from ucs._utils.checks import listed, natural_order
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.sample import Sample
    from ucs._read.source import Source

    RegionsOption = str | int | tuple[str, str] | None

SMALLEST_BLOCK = 48
"""Side in pixels of the smallest block: the side of the paper's training patch."""

BIN_UM = 10.0
"""Side of the bins that get the region of most of their transcripts: about the diameter of a cell."""

# A column with as many values holds positions or ids, not regions.
_MOST_REGIONS = 10_000


@dataclass(frozen=True)
class RegionRule:
    """How regions are defined, checked against the object.

    Attributes
    ----------
    kind
        ``"blocks"``, ``"fov"``, ``"column"`` (of the points) or ``"shapes"``.
    side
        Side of blocks in pixels.
    key
        Key of the shapes.
    column
        Column of the points or shapes; None if each shape is a region.
    """

    kind: str
    side: int = 0
    key: str = ""
    column: str | None = None

    def __str__(self) -> str:
        if self.kind == "blocks":
            return f"blocks of {self.side} px"
        if self.kind == "fov":
            return "field of view"
        of = f"points column {self.column!r}" if self.kind == "column" else f"shapes {self.key!r}"
        return of if self.kind == "column" or self.column is None else f"{of}, column {self.column!r}"


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions with nuclei, on the grid.

    Attributes
    ----------
    names
        Names of the regions.
    labels
        ``(h, w)`` int32: ``k + 1`` for pixels of region ``k``, 0 for pixels in no region.
    of_nucleus
        ``(n + 1,)`` int64: the same for each nucleus, by id; 0 for id 0.
    rule
        How the regions are defined.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int32]
    of_nucleus: NDArray[np.int64]
    rule: RegionRule

    @property
    def n_nuclei(self) -> NDArray[np.int64]:
        """Number of nuclei in each region."""
        return np.bincount(self.of_nucleus[1:], minlength=len(self.names) + 1)[1:]

    @property
    def n_outside(self) -> int:
        """Number of nuclei in no region."""
        return int((self.of_nucleus[1:] == 0).sum())

    def column(self) -> pd.Categorical:
        """Return the region of each nucleus, ``(n,)``; missing for nuclei in no region."""
        import pandas as pd

        return pd.Categorical.from_codes(self.of_nucleus[1:] - 1, categories=list(self.names))


def find_regions(sdata: SpatialData, source: Source, regions: RegionsOption) -> RegionRule | None:
    """Return how regions are defined, without reading any data; see :func:`ucs.tl.segment` for ``regions``.

    Raises
    ------
    KeyError
        If there is no such element or column.
    ValueError
        If the name is that of a column and of an element, or a block is too small.
    TypeError
        If ``regions`` has another type.
    """
    if regions is None:
        return None
    if isinstance(regions, int | np.integer) and not isinstance(regions, bool):
        if regions < SMALLEST_BLOCK:
            msg = f"regions={regions} is the side of blocks in pixels and must be {SMALLEST_BLOCK} or above."
            raise ValueError(msg)
        return RegionRule("blocks", side=int(regions))
    if isinstance(regions, str):
        if regions == "fov" and (len(source.elements) > 1 or source.by_field):
            return RegionRule("fov")
        return _named(sdata, source, regions)
    if isinstance(regions, tuple | list) and len(regions) == 2 and all(isinstance(name, str) for name in regions):
        return _column_of(sdata, source, *regions)
    msg = (
        f"regions={regions!r} must be None, the side of blocks in pixels, 'fov', a column of the points, the key of "
        "shapes, or (key of points or shapes, column)."
    )
    raise TypeError(msg)


def _named(sdata: SpatialData, source: Source, name: str) -> RegionRule:
    """Return the rule for a name, which may be a column of the points or the key of shapes."""
    is_column = all(name in sdata[element.key].columns for element in source.elements)
    is_shapes = name in sdata.shapes
    if is_column and is_shapes:
        msg = (
            f"regions={name!r} is a column of the points and the key of shapes; pass "
            f"regions=({source.elements[0].key!r}, {name!r}) for the column, ({name!r}, 'index') for the shapes."
        )
        raise ValueError(msg)
    if is_column:
        return _column_of(sdata, source, source.elements[0].key, name)
    if is_shapes:
        return RegionRule("shapes", key=name)
    one = " There is one field of view, or one element for all:" if name == "fov" else ""
    msg = (
        f"regions={name!r} is not there.{one} {source.points_key!r} has the columns "
        f"{listed(sdata[source.elements[0].key].columns)}; shapes are: {listed(sdata.shapes)}."
    )
    raise KeyError(msg)


def _column_of(sdata: SpatialData, source: Source, key: str, column: str) -> RegionRule:
    """Return the rule for a column of the points or shapes."""
    used = {element.key: element for element in source.elements}
    if key not in used and key not in sdata.shapes:
        msg = (
            f"regions=({key!r}, {column!r}): {key!r} is neither the transcripts ({listed(used)}) nor among the shapes "
            f"({listed(sdata.shapes)})."
        )
        raise KeyError(msg)
    missing = [name for name in (used if key in used else [key]) if column not in sdata[name].columns]
    if key in sdata.shapes and key not in used and column == "index":
        missing = []
    if missing:
        msg = f"regions: {missing[0]!r} has no column {column!r}, but {listed(sdata[missing[0]].columns)}."
        raise KeyError(msg)
    if key not in used:
        return RegionRule("shapes", key=key, column=None if column not in sdata[key].columns else column)
    if any(element.table_key is not None for element in source.elements):
        msg = f"regions={column!r}: {key!r} holds bins, whose columns cannot be regions; pass the key of polygons."
        raise ValueError(msg)
    if column in {"x", "y", "z", *(element.columns.gene for element in source.elements)}:
        msg = f"regions={column!r} is a column of positions or genes; name one that says where a transcript lies."
        raise ValueError(msg)
    return RegionRule("column", key=key, column=column)


def read_regions(
    sdata: SpatialData, sample: Sample, rule: RegionRule, *, coordinate_system: str | None = None
) -> Regions:
    """Rasterize the regions on the grid of a sample and assign each nucleus to one.

    Raises
    ------
    ValueError
        If no nucleus lies in a region, shapes are not polygons, or a column has far too many values.
    """
    if rule.kind == "blocks":
        names, labels = split_into_blocks(sample.transcripts.grid.shape, rule.side)
    elif rule.kind == "fov":
        names, labels = list(sample.fov_names), _fov_raster(sample)
    elif rule.kind == "column":
        names, labels = vote(sdata, sample, cast("str", rule.column))
    else:
        names, labels = fill_regions(sdata, sample, rule.key, rule.column, coordinate_system)
    of_nucleus = majority(sample.nuclei.labels, labels, len(sample.nuclei.ids), len(names))
    if not of_nucleus.any():
        msg = f"No nucleus lies in any region ({rule}): {listed(names)}. Check where they lie and what they are called."
        raise ValueError(msg)
    regions = _without_empty(names, labels, of_nucleus, rule)
    logger.info(
        "Regions: %d (%s) with %d to %d nuclei; %d nuclei lie in none.",
        len(regions.names),
        rule,
        regions.n_nuclei.min(),
        regions.n_nuclei.max(),
        regions.n_outside,
    )
    return regions


def _fov_raster(sample: Sample) -> NDArray[np.int32]:
    return np.ones(sample.transcripts.grid.shape, dtype=np.int32) if sample.fov is None else sample.fov


def _without_empty(
    names: list[str], labels: NDArray[np.int32], of_nucleus: NDArray[np.int64], rule: RegionRule
) -> Regions:
    """Drop regions without nuclei: there is nothing to train or segment in them."""
    occupied = np.bincount(of_nucleus, minlength=len(names) + 1)[1:] > 0
    if not occupied.all():
        empty = [name for name, is_occupied in zip(names, occupied, strict=True) if not is_occupied]
        # Blocks beyond the tissue are expected; other empty regions may be a mistake.
        say = logger.info if rule.kind == "blocks" else logger.warning
        say("%d of %d regions (%s) have no nucleus and are dropped: %s.", len(empty), len(names), rule, listed(empty))
        number = renumbered(occupied)
        labels, of_nucleus = number[labels], number[of_nucleus].astype(np.int64)
        names = [name for name, is_occupied in zip(names, occupied, strict=True) if is_occupied]
    return Regions(tuple(names), labels, of_nucleus, rule)


def split_into_blocks(shape: tuple[int, int], side: int) -> tuple[list[str], NDArray[np.int32]]:
    """Cut a raster into squares; a remainder of less than half a side joins the last square.

    Returns
    -------
    Names of the regions, and ``(h, w)`` int32: ``k + 1`` for pixels of region ``k``, 0 for pixels in no region.
    """
    n_rows, n_columns = (max(1, int(length / side + 0.5)) for length in shape)
    row = np.minimum(np.arange(shape[0], dtype=np.int32) // side, n_rows - 1)
    column = np.minimum(np.arange(shape[1], dtype=np.int32) // side, n_columns - 1)
    labels = row[:, None] * np.int32(n_columns) + column[None, :] + np.int32(1)
    return [f"r{i}c{j}" for i in range(n_rows) for j in range(n_columns)], labels


def vote(sdata: SpatialData, sample: Sample, column: str) -> tuple[list[str], NDArray[np.int32]]:
    """Assign each bin of 10 um to the region of most of its transcripts, empty bins to that of the nearest bin.

    Of regions with equally many transcripts the first by name wins. Transcripts without a value count for no region.

    Returns
    -------
    As :func:`split_into_blocks`.

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
    for element in sample.source.elements:
        for partition in sdata.points[element.key][["x", "y", column]].to_delayed():
            frame = partition.compute()
            row, col = grid.rows_columns(*element.place(frame))
            inside = (row >= 0) & (col >= 0) & (row < grid.shape[0]) & (col < grid.shape[1])
            value = frame[column].astype("category").cat.remove_unused_categories()
            code = np.array([0, *(codes.setdefault(str(name), len(codes) + 1) for name in value.cat.categories)])
            _check_few(codes, column)
            voted = code[value.cat.codes.to_numpy()[inside] + 1]
            ballots.append(_count((row[inside] // side) * bins[1] + col[inside] // side, voted, _MOST_REGIONS))
    names = sorted(codes, key=natural_order)
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
    """Rasterize polygons, those with the same value of a column as one region; in overlaps the first polygon wins.

    Returns
    -------
    As :func:`split_into_blocks`.

    Raises
    ------
    ValueError
        If some shapes are not polygons or have no value, or the element is not connected to the transcripts.
    """
    element, grid = sdata.shapes[key], sample.transcripts.grid
    geometry, valid = as_polygons(element)
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
    names = sorted(set(of_each), key=natural_order)
    to_frame = sample.source.to_frame(sdata, key, coordinate_system=coordinate_system)
    labels = fill_geometries(geometry, np.linalg.inv(grid.px_to_intrinsic) @ to_frame, grid.shape)
    number = {name: k + 1 for k, name in enumerate(names)}
    return names, np.array([0, *(number[name] for name in of_each)], dtype=np.int32)[labels]


def majority(nuclei: NDArray[np.int32], labels: NDArray[np.int32], n: int, n_regions: int) -> NDArray[np.int64]:
    """Return the region of most pixels of each nucleus, ``(n + 1,)``; ties go to the lower, and to any before 0."""
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
    """Return each pair that occurs as ``place * n_values + value``, and its count."""
    return np.unique(place.astype(np.int64) * n_values + value, return_counts=True)


def _most_frequent(
    counts: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]], rank: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each place once, and the rank of its most frequent value; ties go to the lower rank, but 0 comes last."""
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
    """Replace each -1 by the nearest other value."""
    from scipy.ndimage import distance_transform_edt

    if (values >= 0).all():
        return values
    nearest = distance_transform_edt(values < 0, return_distances=False, return_indices=True)
    return values[tuple(nearest)]
