"""Folders of the vendors' instruments, read by spatialdata-io."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ucs._utils.log import logger

if TYPE_CHECKING:
    from pathlib import Path

    from spatialdata import SpatialData

_FILES = {
    "xenium": ("experiment.xenium",),
    "merscope": ("detected_transcripts.csv", "images/micron_to_mosaic_pixel_transform.csv"),
    "cosmx": ("*_tx_file.csv*", "*_fov_positions_file.csv*"),
}
"""Reader of spatialdata-io -> patterns of files, all of which its folders have."""


def vendor_of(folder: Path) -> str | None:
    """Return which reader of spatialdata-io a folder is for; None if its files are none that are known."""
    for reader, patterns in _FILES.items():
        if all(next(folder.glob(pattern), None) for pattern in patterns):
            return reader
    return None


def known_folders() -> str:
    """Return which files the folders have that are known, in words."""
    return "; ".join(f"{reader}: {', '.join(patterns)}" for reader, patterns in _FILES.items())


def read_vendor(folder: Path, reader: str) -> SpatialData:
    """Read the folder of an instrument.

    Raises
    ------
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
    logger.info("Reading %s with spatialdata_io.%s.", folder, reader)
    try:
        return getattr(spatialdata_io, reader)(folder)
    except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError) as error:
        msg = (
            f"spatialdata_io.{reader} cannot read {folder} ({type(error).__name__}: {str(error).rstrip('.')}). Look "
            "for missing files, or read it with the reader's own options and write a store: "
            f"spatialdata_io.{reader}(folder, ...).write(store)."
        )
        raise ValueError(msg) from error
