"""Folders of the vendors' instruments, read by spatialdata-io."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ucs._utils.log import hidden, logger

if TYPE_CHECKING:
    from pathlib import Path

    from spatialdata import SpatialData

_FILES = {
    "xenium": ("experiment.xenium",),
    "merscope": ("detected_transcripts.csv", "images/micron_to_mosaic_pixel_transform.csv"),
    "cosmx": ("*_tx_file.csv*", "*_fov_positions_file.csv*"),
}
"""Reader of spatialdata-io -> patterns of files, all of which its folders have."""

_COSMX_TABLES = ("exprMat", "metadata", "tx", "fov_positions")
_COSMX_RASTERS = ("CellComposite", "CellLabels")
_MIDDLE_PLANE = 3  # of a MERSCOPE's seven: the one that the reader takes by default


def vendor_of(folder: Path) -> str | None:
    """Return which reader of spatialdata-io a folder is for; None if its files are none that are known."""
    for reader, patterns in _FILES.items():
        if not _missing(folder, patterns):
            return reader
    return None


def known_folders(folder: Path) -> str:
    """Return which files the folders have that are known, in words, and what this one lacks if it is nearly one."""
    known = "; ".join(f"{reader}: {', '.join(patterns)}" for reader, patterns in _FILES.items())
    for reader, patterns in _FILES.items():
        missing = _missing(folder, patterns)
        if len(missing) < len(patterns):
            return f"{known}. This one would be of {reader}, but has no {', '.join(missing)}"
    return known


def read_vendor(folder: Path, reader: str) -> SpatialData:
    """Read the folder of an instrument.

    Raises
    ------
    FileNotFoundError
        If the folder lacks files without which the reader cannot do.
    ImportError
        If spatialdata-io is not installed.
    ValueError
        If the reader takes the folder for incomplete or of an unknown version.
    """
    try:
        import spatialdata_io
    except ImportError as error:
        msg = (
            f"{folder} is a folder of {reader}, which needs spatialdata-io: pip install 'spatialdata-ucs[io]', or give "
            "a SpatialData Zarr store."
        )
        raise ImportError(msg) from error
    if reader == "cosmx":
        _check_cosmx(folder)
    options = {"z_layers": _plane_of(folder)} if reader == "merscope" else {}
    given = "".join(f" (plane {plane})" for plane in options.values() if plane is not None)
    logger.info("Reading %s with spatialdata_io.%s%s.", folder, reader, given)
    try:
        # Of categories that a reader leaves unknown only its authors can make known ones.
        with hidden("spatialdata._logging", "is categorical with unknown categories"):
            return getattr(spatialdata_io, reader)(folder, **options)
    except (AssertionError, AttributeError, IndexError, KeyError, OSError, TypeError, ValueError) as error:
        msg = (
            f"spatialdata_io.{reader} cannot read {folder} ({type(error).__name__}: {str(error).rstrip('.')}). Look "
            "for missing files, or read it with the reader's own options and write a store: "
            f"spatialdata_io.{reader}(folder, ...).write(store)."
        )
        raise ValueError(msg) from error


def _missing(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    return [pattern for pattern in patterns if next(folder.glob(pattern), None) is None]


def _check_cosmx(folder: Path) -> None:
    """Check for what the reader needs: tables that are not compressed, and folders of images and cells."""
    packed = [f"*_{table}_file.csv.gz" for table in _COSMX_TABLES if _missing(folder, (f"*_{table}_file.csv",))]
    packed = [pattern for pattern in packed if not _missing(folder, (pattern,))]
    if packed:
        msg = f"{folder} has {', '.join(packed)}, which spatialdata_io.cosmx reads uncompressed only: gunzip them."
        raise FileNotFoundError(msg)
    tables = _missing(folder, tuple(f"*_{table}_file.csv" for table in _COSMX_TABLES))
    if tables:
        msg = f"{folder} lacks {', '.join(tables)}, which the reader needs: put these flat files there, too."
        raise FileNotFoundError(msg)
    rasters = _missing(folder, _COSMX_RASTERS)
    if rasters:
        msg = (
            f"{folder} lacks the folders {' and '.join(rasters)}, which are not among the flat files: collect the "
            "files CellComposite_F*.jpg and CellLabels_F*.tif of the run's raw files (CellStatsDir) in them."
        )
        raise FileNotFoundError(msg)


def _plane_of(folder: Path) -> int | None:
    """Return the plane of a MERSCOPE's images in which nuclei are looked for: the middle one, or the nearest to it."""
    stains: dict[str, set[int]] = {}
    for path in (folder / "images").glob("mosaic_*_z*.tif"):
        found = re.fullmatch(r"mosaic_(.+)_z(\d+)\.tif", path.name)
        if found:
            stains.setdefault(found[1], set()).add(int(found[2]))
    planes: set[int] = set.intersection(*stains.values()) if stains else set()
    return min(planes, key=lambda plane: (abs(plane - _MIDDLE_PLANE), plane), default=None)
