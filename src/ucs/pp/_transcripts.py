"""From points elements to transcripts on a raster, in one pass over their partitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ucs._checks import listed
from ucs._core.transcripts import TranscriptMap
from ucs._grid import Grid, pixel_index
from ucs._memory import check_fits_memory
from ucs.pp._columns import TranscriptColumns, check_frame
from ucs.pp._features import counts_of, encode_features, order_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._platforms import Platform
    from ucs.pp._fields import Fields, Owner
    from ucs.pp._parts import Part


@dataclass
class _Collected:
    """Transcripts of all partitions, with pixels counted from the intrinsic origin."""

    row: list[NDArray[np.int64]] = field(default_factory=list)
    column: list[NDArray[np.int64]] = field(default_factory=list)
    feature: list[NDArray[np.int32]] = field(default_factory=list)
    count: list[NDArray[np.int32]] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    votes: dict[str, int] = field(default_factory=dict)
    planes: set[float] = field(default_factory=set)
    lower: NDArray[np.float64] = field(default_factory=lambda: np.full(2, np.inf))
    upper: NDArray[np.float64] = field(default_factory=lambda: np.full(2, -np.inf))
    n_rows: int = 0
    n_low_quality: int = 0
    n_other_planes: int = 0
    n_seen_twice: int = 0
    n_zero_count: int = 0


@dataclass(frozen=True)
class Transcripts:
    """All features of a sample on the smallest grid that covers them.

    Attributes
    ----------
    grid
        The raster.
    map
        Counts per pixel and feature.
    genes, controls
        Names: features ``0..len(genes) - 1`` are the genes, those behind them the controls, each in alphabetical order.
    n_rows
        Rows of the points elements (of binned input: entries of the table).
    n_low_quality
        Rows left out by the quality cut.
    n_other_planes
        Rows of good quality left out because they lie in other planes in z than those chosen.
    n_seen_twice
        Rows left out because another field of view has seen the same place, and lies better around it.
    n_zero_count
        Rows left out because they stand for no molecule.
    """

    grid: Grid
    map: TranscriptMap
    genes: tuple[str, ...]
    controls: tuple[str, ...]
    n_rows: int
    n_low_quality: int
    n_other_planes: int = 0
    n_seen_twice: int = 0
    n_zero_count: int = 0


def read_transcripts(
    sdata: SpatialData,
    parts: Sequence[Part],
    platform: Platform,
    *,
    resolution: float,
    um_per_unit: float,
    fields: Fields | None = None,
) -> Transcripts:
    """Read the transcripts of a sample in one pass: filter, encode features, bin.

    The result does not depend on how the elements are partitioned or ordered.

    Parameters
    ----------
    sdata
        Object with the elements.
    parts
        What to read of them.
    platform
        Tells genes from controls.
    resolution
        Side of a pixel in um.
    um_per_unit
        Length of one unit of the parts' common frame in um.
    fields
        Where several parts lie, so that what two of them have seen is counted once.

    Raises
    ------
    ValueError
        If a position is NaN or infinite, a feature is null, a count is negative or not whole, or nothing is left.
    """
    collected = _Collected()
    step = resolution / um_per_unit
    for k, part in enumerate(parts):
        owner = None if fields is None else fields.owner(k)
        for where, frame in part.frames(sdata):
            check_frame(frame, part.columns, where=where)
            _collect(frame, part, step, um_per_unit, collected, owner)
    return _on_grid(collected, platform, resolution=resolution, um_per_unit=um_per_unit, parts=parts)


def _collect(
    frame: pd.DataFrame, part: Part, step: float, um_per_unit: float, collected: _Collected, owner: Owner | None
) -> None:
    columns = part.columns
    good = columns.good(frame)
    kept = columns.kept(frame)
    collected.n_rows += len(frame)
    collected.n_low_quality += int((~good).sum())
    collected.n_other_planes += int((good & ~kept).sum())
    columns.add_votes(frame, collected.votes)
    if columns.plane is not None:
        collected.planes.update(np.unique(frame[columns.plane].to_numpy(dtype=np.float64)).tolist())
    if columns.count is not None:
        positive = frame[columns.count].to_numpy() > 0
        collected.n_zero_count += int((kept & ~positive).sum())
        kept &= positive
    frame = frame[kept]
    x, y = part.place(frame)
    if owner is not None:
        owned = owner.owns(x, y)
        collected.n_seen_twice += int(len(frame) - owned.sum())
        frame, x, y = frame[owned], x[owned], y[owned]
    if frame.empty:
        return
    collected.lower = np.minimum(collected.lower, [x.min(), y.min()])
    collected.upper = np.maximum(collected.upper, [x.max(), y.max()])
    # Before pixels are counted: on a far too fine grid their numbers would not even fit into 64 bits.
    check_fits_memory((collected.upper - collected.lower) / step, step * um_per_unit, collected.n_rows)
    collected.row.append(pixel_index(y, step))
    collected.column.append(pixel_index(x, step))
    collected.feature.append(encode_features(frame[columns.gene], collected.codes))
    collected.count.append(counts_of(frame, columns))


def _on_grid(
    collected: _Collected,
    platform: Platform,
    *,
    resolution: float,
    um_per_unit: float,
    parts: Sequence[Part],
) -> Transcripts:
    where = f"points[{', '.join(repr(part.key) for part in parts)}]"
    row, column, feature, count = (
        np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        for parts in (collected.row, collected.column, collected.feature, collected.count)
    )
    _check_planes(collected, parts[0].columns, where)
    if len(row) == 0:
        msg = f"{where} has no transcripts to work with: {_why_none_is_left(collected, parts[0].columns)}."
        raise ValueError(msg)
    new_code, genes, controls = order_features(
        collected.codes, np.bincount(feature, minlength=len(collected.codes)) > 0, platform, collected.votes
    )
    grid = Grid(
        int(column.min()),
        int(row.min()),
        (int(row.max() - row.min()) + 1, int(column.max() - column.min()) + 1),
        resolution / um_per_unit,
        um_per_unit,
    )
    if not genes:
        msg = f"{where} holds control features only{_who_says_so(parts[0].columns)}: {listed(controls)}."
        raise ValueError(msg)
    transcripts = TranscriptMap.from_positions(
        row - grid.row0,
        column - grid.column0,
        new_code[feature],
        count,
        shape=grid.shape,
        n_features=len(genes) + len(controls),
    )
    return Transcripts(
        grid,
        transcripts,
        genes,
        controls,
        collected.n_rows,
        n_low_quality=collected.n_low_quality,
        n_other_planes=collected.n_other_planes,
        n_seen_twice=collected.n_seen_twice,
        n_zero_count=collected.n_zero_count,
    )


def _why_none_is_left(collected: _Collected, columns: TranscriptColumns) -> str:
    n = collected.n_rows
    if n == 0:
        return "the element is empty"
    reasons = {
        f"have {columns.quality} < {columns.minimum_quality:g}": collected.n_low_quality,
        f"lie in other planes ({columns.plane}) than z_planes={list(columns.planes)}": collected.n_other_planes,
        "were seen in another field of view, too": collected.n_seen_twice,
    }
    reasons = {reason: count for reason, count in reasons.items() if count}
    if n in reasons.values():
        return f"all {n} rows {next(iter(reasons))}"
    if not reasons:
        return f"all {n} rows have {columns.count} = 0"
    named = ", ".join(f"{count} of {n} rows {reason}" for reason, count in reasons.items())
    return named if sum(reasons.values()) == n else f"{named}, the others a count of 0"


def _check_planes(collected: _Collected, columns: TranscriptColumns, where: str) -> None:
    missing = set(columns.planes) - collected.planes
    if missing and collected.planes:
        msg = (
            f"z_planes={list(columns.planes)}: {where} has no transcripts in {listed(sorted(missing))}; in its column "
            f"{columns.plane!r} are {listed(sorted(collected.planes))}."
        )
        raise ValueError(msg)


def _who_says_so(columns: TranscriptColumns) -> str:
    named = [repr(name) for name in (columns.is_gene, columns.category) if name is not None]
    return f", by their names or by the column {' and '.join(named)}" if named else ""
