"""Where a run works: in which folder, and with tiles of which size."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ucs._files.disk import check_writable
from ucs._utils.log import logger
from ucs._utils.memory import DISK_BYTES_PER_PIXEL, bytes_of_rasters, resident_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from spatialdata import SpatialData

    from ucs._files.workspace import Workspace

_LEAST_TILE = 192


def place_of(scratch: str | Path | None, sdata: SpatialData, *, resume: bool) -> Path | None:
    """Return the folder in which a run makes its own.

    Raises
    ------
    ValueError
        If a run is to be continued, but it cannot be told where it was.
    NotADirectoryError
        If ``scratch`` is a file.
    PermissionError
        If it cannot be written to.
    """
    if scratch is not None:
        place = Path(scratch)
        if place.exists() and not place.is_dir():
            msg = f"compute['scratch']={str(scratch)!r} is a file; name a folder."
            raise NotADirectoryError(msg)
        place.mkdir(parents=True, exist_ok=True)
        check_writable(place)
        return place
    if not resume:
        return None
    if sdata.path is None:
        msg = (
            "compute={'resume': True} needs a folder that is found again: name one with compute={'scratch': ...}, or "
            "read the object from a Zarr store, whose folder is used then."
        )
        raise ValueError(msg)
    place = Path(sdata.path).absolute().parent
    check_writable(place)
    return place


def fit_tiles(
    workspace: Workspace, shape: tuple[int, int], tile_size: int, *, bytes_of_tile: Callable[[int, int], int]
) -> int:
    """Decide whether rasters are held on disk, and return a side of tiles that memory suffices for.

    Parameters
    ----------
    workspace
        Of the run.
    shape
        Of the raster in pixels.
    tile_size
        Side that is wanted.
    bytes_of_tile
        Bytes that are held of a tile, of its side and the pixels of the raster.

    Raises
    ------
    MemoryError
        If not even small tiles fit.
    OSError
        If the disk has no room for the rasters.
    """
    n_pixels = shape[0] * shape[1]

    if not workspace.fits(bytes_of_rasters(n_pixels) + bytes_of_tile(tile_size, n_pixels)):
        workspace.use_folder()
    if not workspace.on_disk:
        return tile_size
    needed, free = n_pixels * DISK_BYTES_PER_PIXEL, shutil.disk_usage(workspace.folder).free
    if needed > free:
        msg = (
            f"The run needs about {needed / 2**30:.3g} GiB in the scratch folder {workspace.place}, where "
            f"{free / 2**30:.3g} GiB are free. Name another folder with compute={{'scratch': ...}}, or raise "
            "compute['memory_limit']."
        )
        raise OSError(msg)
    held = n_pixels  # one byte of each is held: how far it is from nuclei
    side = tile_size
    while side > _LEAST_TILE and not workspace.fits(held + bytes_of_tile(side, n_pixels)):
        side //= 2
    needed = held + bytes_of_tile(side, n_pixels)
    if not workspace.fits(needed):
        msg = (
            f"compute['memory_limit'] allows {(workspace.limit or 0) / 2**30:.3g} GiB, of which "
            f"{resident_memory() / 2**30:.3g} GiB are held already; even with tiles of {side} px the run needs "
            f"{needed / 2**30:.3g} GiB more."
        )
        raise MemoryError(msg)
    logger.info("Rasters are held in %s, tiles have %d px.", workspace.folder, side)
    return side
