"""From points elements to transcripts on a raster, in one pass over their partitions."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._files.scratch import Scratch
from ucs._read.chunks import Piece, compact, in_order
from ucs._read.collected import Collected
from ucs._read.columns import TranscriptColumns, check_frame
from ucs._read.features import order_features
from ucs._read.grid import Grid
from ucs._utils.checks import listed
from ucs._utils.memory import release_unused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from spatialdata import SpatialData

    from ucs._kernels.transcripts import TranscriptMap
    from ucs._read.elements import Part
    from ucs._read.fields import Fields
    from ucs._read.platforms import Platform


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
    scratch: Path | None = None,
    memory_limit: int | None = None,
    update: Callable[[int, int], None] = lambda _done, _total: None,
) -> Transcripts:
    """Read the transcripts of a sample in one pass: filter, encode features, bin.

    The result does not depend on how the elements are partitioned or ordered, nor on whether it is held in memory.

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
    scratch
        Folder for transcripts that do not fit into memory; None for the system's own for temporary files.
    memory_limit
        Bytes that the process may hold. If transcripts would take more than half of it they go to disk. None for all
        in memory.
    update
        Called with ``(pieces read, pieces)``.

    Raises
    ------
    ValueError
        If a position is NaN or infinite, a feature is null, a count is negative or not whole, or nothing is left.
    OSError
        If the disk is full.
    MemoryError
        If the grid is too large for this machine.
    """
    collected = Collected(memory_limit, Scratch(scratch))
    step = resolution / um_per_unit

    n_pieces = sum(part.n_pieces(sdata) for part in parts)

    def tasks() -> Iterator[Callable[[], Piece]]:
        for k, part in enumerate(parts):
            owner = None if fields is None else fields.owner(k)
            for where, read in part.pieces(sdata):
                yield partial(read_piece, where, read, part, step=step, um_per_unit=um_per_unit, owner=owner)

    try:
        with closing(in_order(tasks())) as pieces:
            for done, piece in enumerate(pieces, start=1):
                collected.add(piece, step=step, um_per_unit=um_per_unit)
                update(done, max(n_pieces, done))
        release_unused()
        return on_grid(collected, platform, resolution=resolution, um_per_unit=um_per_unit, parts=parts)
    finally:
        collected.close()


def read_piece(where: str, read: Callable[[], pd.DataFrame], part: Part, **options: Any) -> Piece:
    """Read, check and bin a piece; ``options`` are those of :func:`ucs._read.chunks.compact`."""
    frame = read()
    check_frame(frame, part.columns, where=where)
    return compact(frame, part, **options)


def on_grid(
    collected: Collected,
    platform: Platform,
    *,
    resolution: float,
    um_per_unit: float,
    parts: Sequence[Part],
) -> Transcripts:
    """Bring collected transcripts onto the smallest grid; raise ``ValueError`` if nothing is left to work with."""
    where = f"points[{', '.join(repr(part.key) for part in parts)}]"
    _check_planes(collected, parts[0].columns, where)
    if not collected.occurring:
        msg = f"{where} has no transcripts to work with: {_why_none_is_left(collected, parts[0].columns)}."
        raise ValueError(msg)
    occurring = np.zeros(len(collected.codes), dtype=bool)
    occurring[list(collected.occurring)] = True
    new_code, genes, controls = order_features(collected.codes, occurring, platform, collected.votes)
    if not genes:
        msg = f"{where} holds control features only{_who_says_so(parts[0].columns)}: {listed(controls)}."
        raise ValueError(msg)
    (row0, column0), (height, width) = collected.first.tolist(), (collected.last - collected.first + 1).tolist()
    grid = Grid(column0, row0, (height, width), resolution / um_per_unit, um_per_unit)
    return Transcripts(
        grid,
        collected.sort(new_code, grid, len(genes) + len(controls)),
        genes,
        controls,
        collected.n_rows,
        n_low_quality=collected.n_low_quality,
        n_other_planes=collected.n_other_planes,
        n_seen_twice=collected.n_seen_twice,
        n_zero_count=collected.n_zero_count,
    )


def _why_none_is_left(collected: Collected, columns: TranscriptColumns) -> str:
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


def _check_planes(collected: Collected, columns: TranscriptColumns, where: str) -> None:
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
