"""A whole SpatialData into a new Zarr store: complete or not there at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ucs._files.disk import check_writable, explained_if_full
from ucs._files.swap import Area, clean, swapping
from ucs._files.vendor import known_folders, read_vendor, vendor_of

if TYPE_CHECKING:
    from spatialdata import SpatialData


def read_store(path: Path, *, to_be_changed: bool = False) -> SpatialData:
    """Read a SpatialData Zarr store, or the folder of a vendor's instrument.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ImportError
        If it is such a folder, and what reads it is not installed.
    ValueError
        If it is something else, or such a folder although it is to be changed.
    """
    if not path.exists():
        msg = f"{path} does not exist."
        raise FileNotFoundError(msg)
    vendor = vendor_of(path)
    if vendor is not None and to_be_changed:
        msg = f"{path} is a folder of {vendor}, in which nothing is written: name a new store with --output."
        raise ValueError(msg)
    if vendor is not None:
        return read_vendor(path, vendor)
    import spatialdata  # only now: a wrong path should not have to wait for it

    advice = (
        "Give a store, or the folder of an instrument that is known by its files "
        f"({known_folders(path)}); others are read with spatialdata_io and written: reader(folder).write(store)."
    )
    try:
        sdata = spatialdata.read_zarr(path)
    except (OSError, KeyError, ValueError) as error:
        msg = f"{path} is not a SpatialData Zarr store ({str(error).rstrip('.')}). {advice}"
        raise ValueError(msg) from error
    if next(sdata.gen_elements(), None) is None:
        msg = f"{path} is a Zarr store without SpatialData elements. {advice}"
        raise ValueError(msg)
    return sdata


def check_new_store(output: Path, *, source: Path | None = None, overwrite: bool = False) -> None:
    """Check, before any work is done, that a store can be written to a path.

    Raises
    ------
    FileExistsError
        If something is there and may not be overwritten, or is no Zarr store.
    ValueError
        If ``output`` is the source itself, lies within it or holds it.
    NotADirectoryError
        If the folder of the output is a file.
    PermissionError
        If its folder cannot be written to.
    """
    if source is not None:
        of_output, of_source = output.resolve(), source.resolve()
        if of_output.is_relative_to(of_source) or of_source.is_relative_to(of_output):
            msg = f"The output {output} and the store {source} must lie apart; without an output the store is added to."
            raise ValueError(msg)
    if output.parent.is_dir() and os.access(output.parent, os.W_OK):
        clean(_area(output))  # so that what a killed process had moved away is back
    if os.path.lexists(output):
        if not overwrite:
            msg = f"{output} exists; pass --overwrite to replace it or another --output."
            raise FileExistsError(msg)
        if not any((output / name).is_file() for name in ("zarr.json", ".zgroup")):
            msg = f"{output} exists and is no Zarr store: it is not overwritten. Choose another --output."
            raise FileExistsError(msg)
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    if not folder.is_dir():
        msg = f"{folder} is a file: {output} cannot be made in it."
        raise NotADirectoryError(msg)
    check_writable(folder)


def write_new_store(sdata: SpatialData, output: Path) -> None:
    """Write an object to a store of its own; one that is there is replaced once the new one is complete.

    Raises
    ------
    PermissionError
        If the folder of the output cannot be written to.
    OSError
        If its disk is full.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    path = sdata.path
    committed: list[bool] = []
    try:
        with (
            explained_if_full(output.parent, f"{output.name} could not be written"),
            swapping(_area(output), lambda: committed.append(True)) as swap,
        ):
            swap.new.mkdir()
            sdata.write(swap.new / output.name)
            swap.replace([output.name])
    except BaseException as error:  # Ctrl-C too
        sdata.path = output if committed else path
        if committed and isinstance(error, KeyboardInterrupt):
            msg = f"interrupted when all was done: the object is in {output}."
            raise KeyboardInterrupt(msg) from error
        raise
    sdata.path = output


def _area(output: Path) -> Area:
    return Area(output.parent, f".{output.name}.ucs-", lambda place: place == output.name)
