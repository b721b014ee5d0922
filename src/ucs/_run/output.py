"""The rasters that tiles are written to, and their refinement to cells."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._kernels.labels.refine import influence, refine_cells
from ucs._kernels.lattice import BLOCK, bounding_boxes, tiles_of
from ucs._utils.files import write_file
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from ucs._files.workspace import Workspace
    from ucs._kernels.transcripts import Window
    from ucs.methods.base import TileCells

_DTYPES = {"labels": np.int32, "confidence": np.uint8, "foreground": np.uint8}
_ROWS_AT_ONCE = 1024
_MOVES = "moves"  # folder, beside the rasters


@dataclass(frozen=True)
class TileOutput:
    """What tiles say of all pixels, ``(h, w)`` each: plain arrays, or Zarr arrays in memory or on disk.

    Attributes
    ----------
    rasters
        Those fields of :class:`ucs.methods.base.TileCells` that are wanted, by name.
    chunk
        Side of a chunk, that of a tile: two tiles never write to one chunk.
    workspace
        Where the rasters are.
    done
        Numbers of the tiles that are there already.
    moves
        Of tiles in memory, by number: transcripts of another cell than their pixel; those on disk are files.
    """

    rasters: dict[str, Any]
    chunk: int
    workspace: Workspace
    done: frozenset[int]
    moves: dict[int, NDArray[np.int32]] = field(default_factory=dict)

    @classmethod
    def open(cls, workspace: Workspace, shape: tuple[int, int], tile_size: int, *, foreground: bool) -> TileOutput:
        """Make the rasters, or find those that an earlier run has begun."""
        chunk = -(-tile_size // BLOCK) * BLOCK
        names = [name for name in _DTYPES if foreground or name != "foreground"]
        rasters = {name: workspace.raster(name, shape, _DTYPES[name], chunk) for name in names}
        done: frozenset[int] = frozenset()
        if workspace.on_disk:
            marks = workspace.raster_folder / "done"
            marks.mkdir(exist_ok=True)
            (workspace.raster_folder / _MOVES).mkdir(exist_ok=True)
            done = _intact(marks, rasters, list(tiles_of(shape, tile_size)))
        return cls(rasters, chunk, workspace, done)

    def put(self, number: int, core: Window, cells: TileCells) -> None:
        """Write a tile; on disk it counts as done only once it is complete."""
        for name, raster in self.rasters.items():
            raster[core.slices] = getattr(cells, name)
        moves = moves_in_raster(core, cells)
        if self.workspace.on_disk:
            finish_tile(self.workspace.raster_folder, number, moves, digest_of_tile(cells, moves, list(self.rasters)))
        else:
            self.moves[number] = moves

    def all_moves(self, n_tiles: int) -> list[NDArray[np.int32]]:
        """Return the transcripts of another cell than their pixel, by tile."""
        if not self.workspace.on_disk:
            return [self.moves[number] for number in range(n_tiles)]
        return [_read_moves(self.workspace.raster_folder, number) for number in range(n_tiles)]


def put_from_elsewhere(folder: Path, names: list[str], number: int, core: Window, cells: TileCells) -> None:
    """Write a tile to the rasters that another process holds in a folder.

    Raises
    ------
    FileNotFoundError
        If the rasters are gone, as the run has failed.
    """
    import zarr

    for name in names:
        zarr.open_array(folder / name, mode="r+")[core.slices] = getattr(cells, name)
    moves = moves_in_raster(core, cells)
    finish_tile(folder, number, moves, digest_of_tile(cells, moves, names))


def moves_in_raster(core: Window, cells: TileCells) -> NDArray[np.int32]:
    """Return the moves of a tile with rows and columns of the raster."""
    out = cells.moves.copy()
    out[:, 0] += core.row0
    out[:, 1] += core.column0
    return out


def finish_tile(folder: Path, number: int, moves: NDArray[np.int32], digest: str) -> None:
    """Write the moves of a tile whose rasters are written, and mark it."""
    with (folder / _MOVES / str(number)).open("wb") as file:
        np.save(file, moves)
    mark_done(folder, number, digest)


def _read_moves(folder: Path, number: int) -> NDArray[np.int32]:
    with (folder / _MOVES / str(number)).open("rb") as file:
        return np.load(file)


def mark_done(folder: Path, number: int, digest: str) -> None:
    """Leave a mark that a tile is complete, and what it was."""
    write_file(folder / "done" / str(number), digest.encode())


def digest_of_tile(cells: TileCells, moves: NDArray[np.int32], names: list[str]) -> str:
    """Return a digest of what a tile says."""
    return _digest([*(getattr(cells, name).astype(_DTYPES[name], copy=False) for name in names), moves])


def _digest(arrays: Iterable[NDArray]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _intact(marks: Path, rasters: dict[str, Any], tiles: list[Window]) -> frozenset[int]:
    """Return the tiles that are marked and still what they were; a chunk that is missing would be read as zeros."""
    done, damaged = set(), []
    for mark in marks.iterdir():
        if not (mark.name.isdecimal() and int(mark.name) < len(tiles)):
            continue
        number = int(mark.name)
        try:
            there = [raster[tiles[number].slices] for raster in rasters.values()]
            same = mark.read_text() == _digest([*there, _read_moves(marks.parent, number)])
        except (OSError, ValueError, RuntimeError, TypeError):  # how decompression fails
            same = False
        if same:
            done.add(number)
        else:
            damaged.append(number)
    if damaged:
        logger.warning("%d tiles in %s are damaged and are made again.", len(damaged), marks.parent)
    return frozenset(done)


def refine_output(output: TileOutput, nuclei: NDArray[np.int32], n: int, update: Callable[[int, int], None]) -> None:
    """Turn decisions into cells, and confidence to 0 outside them; in place, or into rasters of the same names.

    Of rasters that are held in chunks, each tile is refined with as much around it as its pixels depend on.

    Parameters
    ----------
    output
        Complete.
    nuclei, n
        ``(h, w)`` ids, and the highest of them.
    update
        Called with ``(tiles done, tiles)``.
    """
    rasters = output.rasters
    labels, confidence = rasters["labels"], rasters["confidence"]
    if isinstance(labels, np.ndarray):
        rasters["labels"] = refine_cells(labels, nuclei, bounding_boxes(labels, n))
        confidence[rasters["labels"] == 0] = 0
        return
    shape = labels.shape
    halo = influence(_largest_cell(labels, n))
    cells = output.workspace.raster("cells", shape, np.int32, output.chunk)
    sure = output.workspace.raster("cell_confidence", shape, np.uint8, output.chunk)
    tiles = list(tiles_of(shape, output.chunk))
    for done, core in enumerate(tiles, start=1):
        window = core.grown(halo).clipped(shape)
        held = labels[window.slices]
        refined = refine_cells(held, nuclei[window.slices], bounding_boxes(held, n))[core.seen_from(window).slices]
        cells[core.slices] = refined
        sure[core.slices] = np.where(refined > 0, confidence[core.slices], np.uint8(0))
        update(done, len(tiles))
    rasters["labels"], rasters["confidence"] = cells, sure


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
