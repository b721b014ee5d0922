"""The rasters that tiles are written to, and their refinement to cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._files.workspace import Workspace
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.refine import influence, refine_cells
from ucs._kernels.transcripts import Window
from ucs.methods.density.confidence import confidence_in_owners
from ucs.methods.density.statistics import LATTICE, tiles_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs.methods.density.tile import TileCells

_DTYPES = {"labels": np.int32, "certainty": np.uint8, "from_cells": np.uint8}
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Canvas:
    """What is said of all pixels, ``(h, w)`` each: plain arrays, or Zarr arrays in memory or on disk.

    Attributes
    ----------
    labels, certainty, from_cells
        As in :class:`ucs.methods.density.tile.TileCells`.
    chunk
        Side of a chunk, that of a tile: two tiles never write to one chunk.
    workspace
        Where the rasters are.
    done
        Numbers of the tiles that are there already.
    """

    labels: Any
    certainty: Any
    from_cells: Any
    chunk: int
    workspace: Workspace
    done: frozenset[int]

    @classmethod
    def open(cls, workspace: Workspace, shape: tuple[int, int], tile_size: int) -> Canvas:
        """Make the rasters, or find those that an earlier run has begun."""
        chunk = -(-tile_size // LATTICE) * LATTICE
        labels, certainty, from_cells = (workspace.raster(name, shape, dtype, chunk) for name, dtype in _DTYPES.items())
        done: frozenset[int] = frozenset()
        if workspace.on_disk:
            marks = workspace.raster_folder / "done"
            marks.mkdir(exist_ok=True)
            done = frozenset(int(mark.name) for mark in marks.iterdir())
        return cls(labels, certainty, from_cells, chunk, workspace, done)

    def put(self, number: int, core: Window, cells: TileCells) -> None:
        """Write a tile; on disk it counts as done only once it is complete."""
        for name in _DTYPES:
            getattr(self, name)[core.slices] = getattr(cells, name)
        if self.workspace.on_disk:
            mark_done(self.workspace.raster_folder, number)

    @property
    def handle(self) -> Handle:
        """What another process needs to write to the same rasters."""
        return Handle(str(self.workspace.raster_folder))


@dataclass(frozen=True)
class Handle:
    """Rasters on disk, for other processes."""

    folder: str

    def put(self, number: int, core: Window, cells: TileCells) -> None:
        """Write a tile.

        Raises
        ------
        FileNotFoundError
            If the rasters are gone, as the run has failed.
        """
        import zarr

        for name in _DTYPES:
            zarr.open_array(Path(self.folder, name), mode="r+")[core.slices] = getattr(cells, name)
        mark_done(Path(self.folder), number)


def mark_done(folder: Path, number: int) -> None:
    """Leave a mark that a tile is complete."""
    (folder / "done" / str(number)).touch()


def refine_canvas(
    canvas: Canvas, nuclei: NDArray[np.int32], n: int, update: Callable[[int, int], None]
) -> tuple[Any, Any]:
    """Turn decisions into cells, and certainty into confidence; plain arrays are overwritten.

    Of rasters that are held in chunks, each tile is refined with as much around it as its pixels depend on.

    Parameters
    ----------
    canvas
        Complete.
    nuclei, n
        ``(h, w)`` ids, and the highest of them.
    update
        Called with ``(tiles done, tiles)``.

    Returns
    -------
    Labels and 255 times the confidence in them, ``(h, w)`` each.
    """
    if isinstance(canvas.labels, np.ndarray):
        labels = refine_cells(canvas.labels, nuclei, bounding_boxes(canvas.labels, n))
        confidence_in_owners(labels, canvas.certainty, canvas.from_cells)
        return labels, canvas.certainty
    shape = canvas.labels.shape
    halo = influence(_largest_cell(canvas.labels, n))
    cells = canvas.workspace.raster("cells", shape, np.int32, canvas.chunk)
    confidence = canvas.workspace.raster("confidence", shape, np.uint8, canvas.chunk)
    tiles = list(tiles_of(shape, canvas.chunk))
    for done, core in enumerate(tiles, start=1):
        window = core.grown(halo).clipped(shape)
        labels = canvas.labels[window.slices]
        labels = refine_cells(labels, nuclei[window.slices], bounding_boxes(labels, n))[core.seen_from(window).slices]
        certainty = canvas.certainty[core.slices]
        confidence_in_owners(labels, certainty, canvas.from_cells[core.slices])
        cells[core.slices], confidence[core.slices] = labels, certainty
        update(done, len(tiles))
    return cells, confidence


def _largest_cell(labels: Any, n: int) -> int:
    """Return the longest side of any label's bounding box, in pixels."""
    low, high = np.full((n + 1, 2), np.iinfo(np.int64).max), np.full((n + 1, 2), -1, dtype=np.int64)
    for row0 in range(0, labels.shape[0], _ROWS_AT_ONCE):
        boxes = bounding_boxes(labels[row0 : row0 + _ROWS_AT_ONCE], n)
        there = boxes[:, 2] > 0
        boxes[:, [0, 2]] += row0
        low[there] = np.minimum(low[there], boxes[there, :2])
        high[there] = np.maximum(high[there], boxes[there, 2:])
    there = high[:, 0] >= 0
    return int((high[there] - low[there]).max(initial=0))
