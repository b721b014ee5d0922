"""A whole SpatialData into a new Zarr store: complete or not there at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spatialdata import SpatialData


def read_store(path: Path) -> SpatialData:
    """Read a SpatialData Zarr store.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is something else.
    """
    if not path.exists():
        msg = f"{path} does not exist."
        raise FileNotFoundError(msg)
    import spatialdata  # only now: a wrong path should not have to wait for it

    advice = "Make one of a vendor's folder with spatialdata_io, e.g. spatialdata_io.xenium(folder).write(store)."
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
    check_writable_folder(folder)


def check_writable_folder(folder: Path) -> None:
    """Raise ``PermissionError`` if nothing can be made in a folder."""
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"{folder} cannot be written to: its permissions forbid it."
        raise PermissionError(msg)


def write_new_store(sdata: SpatialData, output: Path) -> None:
    """Write an object to a store of its own; one that is there is replaced once the new one is complete."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    replaced = output.with_name(f".{output.name}.{os.getpid()}.replaced")
    try:
        sdata.write(partial)
        if output.exists():
            output.rename(replaced)
        partial.rename(output)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not output.exists():
            replaced.rename(output)
        raise
    sdata.path = output
    shutil.rmtree(replaced, ignore_errors=True)
