"""Where a run holds what it has made so far: in memory, or in a folder that is removed at the end.

A folder is needed when memory does not suffice, when the processes of a cluster work together, and when a run is to be
continued after it was killed. Folders of runs that died are removed by the next run that uses the same place, but for
those that may be continued.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import socket
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._utils.log import logger
from ucs._utils.memory import PLAIN_PIXELS, resident_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

_TEMPORARY = ".ucs-tmp-"
_RESUMABLE = ".ucs-resume-"
_OWNER = "owner.json"
_ROOM = 4  # times a result's size must be free for it to be held in memory: more is to come


class Workspace:
    """Memory or a folder.

    Parameters
    ----------
    place
        Folder in which that of the run is made; the system's for temporary files if None.
    limit
        Bytes that the process may hold; None for no limit.
    resumable
        What the run is called if it may be continued, None if not.
    """

    def __init__(self, place: Path | None = None, *, limit: int | None = None, resumable: str | None = None) -> None:
        self.place = Path(tempfile.gettempdir()) if place is None else place
        self.limit = limit
        self.resumable = resumable is not None
        self._name = None if resumable is None else _RESUMABLE + hashlib.sha256(resumable.encode()).hexdigest()[:16]
        self._folder: Path | None = None
        self._part = 0
        self._finalizer: weakref.finalize | None = None
        if self.resumable:
            self.use_folder()  # taken before any work is done

    @property
    def on_disk(self) -> bool:
        """Whether rasters are held in the folder."""
        return self._folder is not None

    @property
    def folder(self) -> Path:
        """The folder, see :meth:`use_folder`."""
        return self.use_folder()

    @property
    def raster_folder(self) -> Path:
        """Where in the folder the rasters are, and the marks of tiles that are done."""
        folder = self.folder / f"rasters-{self._part}"
        folder.mkdir(exist_ok=True)
        return folder

    def use_folder(self) -> Path:
        """Hold rasters in the folder from now on; it is made if it is not there.

        Raises
        ------
        OSError
            If it cannot be made.
        RuntimeError
            If another process works in it.
        """
        if self._folder is None:
            self._folder = self._make()
        return self._folder

    def fits(self, n_bytes: float) -> bool:
        """Tell whether so many bytes more may be held in memory."""
        return self.limit is None or resident_memory() + n_bytes <= self.limit

    def raster(self, name: str, shape: tuple[int, int], dtype: DTypeLike, chunk: int) -> Any:
        """Return a raster of zeros, in memory or in the folder; if it is there already, that one.

        A large one is compressed chunk by chunk, in memory, too: most of what is held of a slide are equal neighbours.

        Parameters
        ----------
        name
            Of the raster.
        shape, dtype
            Of the array.
        chunk
            Side of its chunks in pixels, if it has any.
        """
        if not self.on_disk:
            if shape[0] * shape[1] <= PLAIN_PIXELS:
                return np.zeros(shape, dtype=dtype)
            from zarr.storage import MemoryStore

            return _new_raster(MemoryStore(), shape, dtype, chunk)
        return open_raster(self.raster_folder, name, shape, dtype, chunk)

    def read(self, name: str) -> Any:
        """Return what :meth:`write` wrote; None if nothing was."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def write(self, name: str, content: Any) -> None:
        """Write plain values, all or nothing."""
        replace_file(self.folder / f"{name}.json", json.dumps(content, indent=1).encode())

    def clear(self) -> None:
        """Remove what is in the folder, and keep the folder."""
        # Files first: what is left if the process is killed on the way must not be taken for that of a run.
        for path in sorted(self.folder.iterdir(), key=Path.is_dir):
            if path.name != _OWNER:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def forget_rasters(self) -> None:
        """Remove the rasters and the marks of tiles that are done; those of the same name that follow are others.

        A run that was killed thereafter finds those that followed only when it has come so far again.
        """
        if self.on_disk:
            gone = self.folder / "removed"  # as a whole: marks must not outlive what they stand for
            shutil.rmtree(gone, ignore_errors=True)
            self.raster_folder.rename(gone)
            shutil.rmtree(gone)
        self._part += 1

    def close(self, *, keep: bool = False) -> None:
        """Remove the folder, if there is one; ``keep`` leaves that of a run that may be continued."""
        if self._folder is None:
            return
        if self._finalizer is not None:
            self._finalizer.detach()
        if keep and self.resumable:
            (self._folder / _OWNER).unlink(missing_ok=True)
        else:
            folder = self._folder
            if self.resumable:  # what is left of it if the process is killed now must not be continued
                folder = folder.rename(self.place / f"{_TEMPORARY}{uuid.uuid4().hex}")
            shutil.rmtree(folder, ignore_errors=True)
        self._folder = None

    def settle(self, rasters: Sequence[Any]) -> list[Any]:
        """Return rasters that outlive the folder: in memory if they fit, otherwise in files until the process ends."""
        if not self.on_disk or all(isinstance(raster, np.ndarray) for raster in rasters):
            return list(rasters)  # compressed ones stay compressed
        if self.fits(_ROOM * sum(raster.nbytes for raster in rasters)):
            return [in_memory(raster) for raster in rasters]
        import zarr

        folder = _temporary_folder(self.place)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        settled = []
        for raster in rasters:
            path = Path(raster.store.root)
            settled.append(zarr.open_array(path.rename(folder / path.name), mode="r"))
        return settled

    def _make(self) -> Path:
        self.place.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.place)
        if self._name is None:
            folder = _temporary_folder(self.place)
            self._finalizer = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        else:
            folder = self.place / self._name
            folder.mkdir(exist_ok=True)
            owner = _owner(folder)
            if owner is not None and _alive(owner) and owner != _this_process():
                msg = f"Process {owner['pid']} on {owner['host']} works on the same run in {folder}; wait for its end."
                raise RuntimeError(msg)
            replace_file(folder / _OWNER, json.dumps(_this_process()).encode())
        return folder


@contextlib.contextmanager
def closing(workspace: Workspace) -> Iterator[Workspace]:
    """Close a workspace when the run ends; if it fails, one that may be continued keeps its folder."""
    try:
        yield workspace
    except BaseException:  # Ctrl-C too
        workspace.close(keep=True)
        raise
    workspace.close()


def _temporary_folder(place: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=place))
    replace_file(folder / _OWNER, json.dumps(_this_process()).encode())
    return folder


def open_raster(folder: Path, name: str, shape: tuple[int, ...], dtype: DTypeLike, chunk: int) -> Any:
    """Return a Zarr array of zeros in a folder; if it is there already, that one."""
    import zarr

    path = folder / name
    if (path / "zarr.json").exists():
        return zarr.open_array(path, mode="r+")
    return _new_raster(path, shape, dtype, chunk)


def _new_raster(store: Any, shape: tuple[int, ...], dtype: DTypeLike, chunk: int) -> Any:
    import zarr

    return zarr.create_array(store, shape=shape, dtype=np.dtype(dtype), chunks=(chunk,) * len(shape), fill_value=0)


def in_memory(raster: Any) -> NDArray:
    """Return a raster as an array in memory."""
    return raster if isinstance(raster, np.ndarray) else raster[:]


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is either as before or complete, also if the process is killed on the way."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def remove_leftovers(place: Path) -> None:
    """Remove folders that runs on this machine left behind when they died."""
    for folder in place.glob(f"{_TEMPORARY}*"):
        owner = _owner(folder)
        if owner is not None and owner["host"] == socket.gethostname() and not _alive(owner):
            logger.info("Removed what a run that died left behind: %s", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _owner(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / _OWNER).read_text())
    except (OSError, ValueError):
        return None


def _alive(owner: dict[str, Any]) -> bool:
    """Tell whether a process still runs; of another machine it cannot be known, and is believed."""
    if owner["host"] != socket.gethostname():
        return True
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return owner["started"] == _started(owner["pid"])  # the number may have been given to another one


def _started(pid: int) -> str:
    """Return when a process started, in the system's own terms; empty if it does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
