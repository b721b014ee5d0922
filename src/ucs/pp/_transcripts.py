"""From a points element to transcripts on a raster, in one pass over its partitions."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._checks import listed
from ucs._core.transcripts import TranscriptMap
from ucs._grid import Grid, pixel_index

if TYPE_CHECKING:
    from dask.dataframe import DataFrame as DaskDataFrame
    from numpy.typing import NDArray

    from ucs._platforms import Platform


_LARGEST_COUNT = 2**31 - 1


@dataclass(frozen=True)
class TranscriptColumns:
    """Which columns of a points element are read, and which rows are kept."""

    gene: str
    count: str | None = None
    quality: str | None = None
    minimum_quality: float = 0.0

    @classmethod
    def of(cls, points: DaskDataFrame, gene: str, platform: Platform) -> TranscriptColumns:
        """Find the count and quality columns that a platform names, where they exist."""
        count = next((c for c in platform.count_columns if c in points.columns), None)
        quality = platform.quality_column if platform.quality_column in points.columns else None
        return cls(gene, count, quality, platform.minimum_quality)

    def names(self) -> list[str]:
        """All columns to read."""
        return ["x", "y", *(c for c in (self.gene, self.count, self.quality) if c is not None)]

    def kept(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell which rows pass the quality cut."""
        if self.quality is None:
            return np.ones(len(frame), dtype=bool)
        return frame[self.quality].to_numpy() >= self.minimum_quality


@dataclass
class _Collected:
    """Transcripts of all partitions, with pixels counted from the intrinsic origin."""

    row: list[NDArray[np.int64]] = field(default_factory=list)
    column: list[NDArray[np.int64]] = field(default_factory=list)
    feature: list[NDArray[np.int32]] = field(default_factory=list)
    count: list[NDArray[np.int32]] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    lower: NDArray[np.float64] = field(default_factory=lambda: np.full(2, np.inf))
    upper: NDArray[np.float64] = field(default_factory=lambda: np.full(2, -np.inf))
    n_rows: int = 0
    n_low_quality: int = 0


@dataclass(frozen=True)
class Transcripts:
    """All features of a points element on the smallest grid that covers them.

    Attributes
    ----------
    grid
        The raster.
    map
        Counts per pixel and feature.
    genes, controls
        Names: features ``0..len(genes) - 1`` are the genes, those behind them the controls, each in alphabetical order.
    n_rows
        Rows of the points element.
    n_low_quality
        Rows left out by the quality cut.
    """

    grid: Grid
    map: TranscriptMap
    genes: tuple[str, ...]
    controls: tuple[str, ...]
    n_rows: int
    n_low_quality: int


def read_transcripts(
    points: DaskDataFrame,
    columns: TranscriptColumns,
    platform: Platform,
    *,
    resolution: float,
    um_per_unit: float,
    name: str,
) -> Transcripts:
    """Read a points element in one pass: filter, encode features, bin.

    The result does not depend on how the points are partitioned or ordered.

    Parameters
    ----------
    points
        The element, with ``x`` and ``y`` in intrinsic units.
    columns
        What to read.
    platform
        Tells genes from controls.
    resolution
        Side of a pixel in um.
    um_per_unit
        Length of one intrinsic unit in um.
    name
        Key of the element, for messages.

    Raises
    ------
    ValueError
        If a position is NaN or infinite, a feature is null, a count is negative or not whole, or nothing is left.
    """
    collected = _Collected()
    step = resolution / um_per_unit
    for number, partition in enumerate(points[columns.names()].to_delayed()):
        frame = partition.compute()
        check_frame(frame, columns, where=f"points[{name!r}], partition {number}")
        _collect(frame, columns, step, um_per_unit, collected)
    return _on_grid(collected, platform, resolution=resolution, um_per_unit=um_per_unit, name=name, columns=columns)


def check_frame(frame: pd.DataFrame, columns: TranscriptColumns, where: str) -> None:
    for axis in ("x", "y"):
        bad = ~np.isfinite(frame[axis].to_numpy(dtype=np.float64))
        if bad.any():
            msg = f"{where}: {bad.sum()} of {len(frame)} positions have a NaN or infinite {axis}. Drop them first."
            raise ValueError(msg)
    missing = frame[columns.gene].isna().to_numpy()
    if missing.any():
        msg = f"{where}: {missing.sum()} of {len(frame)} rows have no value in {columns.gene!r}. Drop these rows first."
        raise ValueError(msg)
    if columns.count is not None:
        count = frame[columns.count].to_numpy(dtype=np.float64)
        bad = ~((count >= 0) & (count <= _LARGEST_COUNT) & (count == np.floor(count)))  # NaN is bad too
        if bad.any():
            msg = (
                f"{where}: {bad.sum()} of {len(frame)} values of {columns.count!r} are negative, not whole or too "
                f"large, e.g. {count[bad][0]:g}. Counts must be whole numbers from 0 to {_LARGEST_COUNT}."
            )
            raise ValueError(msg)


def _collect(
    frame: pd.DataFrame, columns: TranscriptColumns, step: float, um_per_unit: float, collected: _Collected
) -> None:
    kept = columns.kept(frame)
    collected.n_rows += len(frame)
    collected.n_low_quality += int(len(frame) - kept.sum())
    if columns.count is not None:
        kept &= frame[columns.count].to_numpy() > 0
    frame = frame[kept]
    if frame.empty:
        return
    collected.lower = np.minimum(collected.lower, [frame["x"].min(), frame["y"].min()])
    collected.upper = np.maximum(collected.upper, [frame["x"].max(), frame["y"].max()])
    # Before pixels are counted: on a far too fine grid their numbers would not even fit into 64 bits.
    check_fits_memory((collected.upper - collected.lower) / step, step * um_per_unit, collected.n_rows)
    gene = frame[columns.gene]
    if not isinstance(gene.dtype, pd.CategoricalDtype):
        gene = gene.astype("category")
    codes = collected.codes
    new_code = np.array([codes.setdefault(str(c), len(codes)) for c in gene.cat.categories], dtype=np.int32)
    collected.row.append(pixel_index(frame["y"], step))
    collected.column.append(pixel_index(frame["x"], step))
    collected.feature.append(new_code[gene.cat.codes.to_numpy()])
    count = np.ones(len(frame)) if columns.count is None else frame[columns.count].to_numpy()
    collected.count.append(count.astype(np.int32))


def _on_grid(
    collected: _Collected,
    platform: Platform,
    *,
    resolution: float,
    um_per_unit: float,
    name: str,
    columns: TranscriptColumns,
) -> Transcripts:
    row, column, feature, count = (
        np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        for parts in (collected.row, collected.column, collected.feature, collected.count)
    )
    if len(row) == 0:
        msg = f"points[{name!r}] has no transcripts to work with: {_why_none_is_left(collected, columns)}."
        raise ValueError(msg)
    new_code, genes, controls = _order_features(collected.codes, feature, platform)
    grid = Grid(
        int(column.min()),
        int(row.min()),
        (int(row.max() - row.min()) + 1, int(column.max() - column.min()) + 1),
        resolution / um_per_unit,
        um_per_unit,
    )
    if not genes:
        msg = f"points[{name!r}] holds control features only: {listed(controls)}."
        raise ValueError(msg)
    transcripts = TranscriptMap.from_positions(
        row - grid.row0,
        column - grid.column0,
        new_code[feature],
        count,
        shape=grid.shape,
        n_features=len(genes) + len(controls),
    )
    return Transcripts(grid, transcripts, genes, controls, collected.n_rows, collected.n_low_quality)


def _why_none_is_left(collected: _Collected, columns: TranscriptColumns) -> str:
    n, n_low = collected.n_rows, collected.n_low_quality
    if n == 0:
        return "the element is empty"
    if n_low == 0:
        return f"all {n} rows have {columns.count} = 0"
    below = f"{columns.quality} < {columns.minimum_quality:g}"
    return f"all {n} rows have {below}" if n_low == n else f"{n_low} of {n} rows have {below}, the others a count of 0"


def _order_features(
    codes: dict[str, int], feature: NDArray, platform: Platform
) -> tuple[NDArray[np.int32], tuple[str, ...], tuple[str, ...]]:
    """Number the features that occur: genes first, then controls, each alphabetically, whatever order they came in."""
    occurring = np.bincount(feature, minlength=len(codes)) > 0
    names = sorted(name for name, code in codes.items() if occurring[code])
    genes = tuple(name for name in names if not platform.is_control(name))
    controls = tuple(name for name in names if platform.is_control(name))
    new_code = np.full(len(codes), -1, dtype=np.int32)
    for number, feature_name in enumerate(genes + controls):
        new_code[codes[feature_name]] = number
    return new_code, genes, controls


_BYTES_PER_PIXEL = 32
_BYTES_PER_TRANSCRIPT = 60


def check_fits_memory(extent: NDArray[np.float64], resolution: float, n_transcripts: int) -> None:
    """Raise ``MemoryError`` if a grid would not fit into this machine's memory, with the numbers.

    Parameters
    ----------
    extent
        Width and height in pixels.
    resolution
        Side of a pixel in um.
    n_transcripts
        Transcripts held.
    """
    available = _memory()
    fixed = n_transcripts * _BYTES_PER_TRANSCRIPT
    pixel_bytes = float(extent[0] + 1) * float(extent[1] + 1) * _BYTES_PER_PIXEL
    if available is None or pixel_bytes + fixed <= available:
        return
    finest = resolution * np.sqrt(pixel_bytes / max(available - fixed, 1))
    msg = (
        f"resolution={resolution:g} um gives a grid of {extent[1] + 1:.0f} x {extent[0] + 1:.0f} pixels, which needs "
        f"about {(pixel_bytes + fixed) / 2**30:.3g} GiB; this machine has {available / 2**30:.1f} GiB. The finest "
        f"resolution that fits is about {finest:.2g} um."
    )
    raise MemoryError(msg)


def _memory() -> int | None:
    """Return the machine's memory in bytes, or None if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
