"""Where a run holds what it has made so far: in memory, or in a folder that is removed at the end.

A folder is needed when memory does not suffice, when the processes of a cluster work together, and when a run is to be
continued after it was killed. Folders of runs that died are removed by the next run that uses the same place, but for
those that may be continued. A run lives as long as it holds the lock in its folder.

The place may be one that others write to, too: folders are this user's alone (mode 700), and those of others, or links
that have their names, are never used, read or removed.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._utils.files import is_own, is_own_folder, read_plain, write_file
from ucs._utils.lock import Lock, holder, try_lock
from ucs._utils.log import logger
from ucs._utils.memory import PLAIN_PIXELS, resident_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

_TEMPORARY = ".ucs-tmp-"
_RESUMABLE = ".ucs-resume-"
_LOCK, _GENERATION = "lock", "generation"
_LONGEST = 1 << 26  # bytes of plain values
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
        self._lock: Lock | None = None
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
        """Where in the folder the rasters are, and the marks of tiles that are done.

        Workers of a run that died may still write: to folders of another name, once a run was begun afresh.
        """
        folder = self.folder / f"rasters-{self.read(_GENERATION) or 0}-{self._part}"
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
        try:
            raster = open_raster(self.raster_folder, name, shape, dtype, chunk)
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise self.damaged(f"{self.raster_folder.name}/{name}: {error}") from error
        if (raster.shape, raster.dtype) != (shape, np.dtype(dtype)):
            raise self.damaged(f"{self.raster_folder.name}/{name} has shape {raster.shape}, not {shape}")
        return raster

    def read(self, name: str) -> Any:
        """Return what :meth:`write` wrote; None if nothing was.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        path = self.folder / f"{name}.json"
        try:
            return json.loads(read_plain(path, at_most=_LONGEST, own=True))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise self.damaged(f"{path.name}: {error}") from error

    def damaged(self, what: str) -> ValueError:
        """Return the error for a folder whose run cannot be continued."""
        return ValueError(
            f"The folder {self.folder} of a run that is to be continued is damaged ({what}). Delete it: the run then "
            "begins afresh."
        )

    def write(self, name: str, content: Any) -> None:
        """Write plain values, all or nothing."""
        write_file(self.folder / f"{name}.json", json.dumps(content, indent=1).encode())

    def clear(self) -> None:
        """Remove what is in the folder, and keep the folder."""
        # Files first: what is left if the process is killed on the way must not be taken for that of a run.
        for path in sorted(self.folder.iterdir(), key=_is_folder):
            if path.name != _LOCK:
                shutil.rmtree(path) if _is_folder(path) else path.unlink()
        self.write(_GENERATION, uuid.uuid4().hex[:12])

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
        folder, self._folder = self._folder, None
        if keep and self.resumable:
            self._unlock(remove=True)
            return
        if self._lock is None:
            return
        try:
            if self.resumable:  # what is left of it if the process is killed now must not be continued
                folder = folder.rename(self.place / f"{_TEMPORARY}{uuid.uuid4().hex}")
            _remove(folder, self._lock)
        finally:
            self._unlock(remove=False)

    def _unlock(self, *, remove: bool) -> None:
        if self._lock is not None:
            self._lock.release(remove=remove)
            self._lock = None

    def settle(self, rasters: Sequence[Any]) -> list[Any]:
        """Return rasters that outlive the folder: in memory if they fit, otherwise in files until the process ends."""
        if not self.on_disk or all(isinstance(raster, np.ndarray) for raster in rasters):
            return list(rasters)  # compressed ones stay compressed
        if self.fits(_ROOM * sum(raster.nbytes for raster in rasters)):
            return [in_memory(raster) for raster in rasters]
        import zarr

        folder, lock = _temporary_folder(self.place)
        atexit.register(_remove, folder, lock)  # which keeps the lock until then
        settled = []
        for raster in rasters:
            path = Path(raster.store.root)
            settled.append(zarr.open_array(path.rename(folder / path.name), mode="r"))
        return settled

    def _make(self) -> Path:
        self.place.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.place)
        if self._name is None:
            folder, self._lock = _temporary_folder(self.place)
            self._finalizer = weakref.finalize(self, _remove, folder, self._lock)
            return folder
        folder = _private_folder(self.place / self._name)
        self._lock = try_lock(folder / _LOCK)
        if self._lock is None:
            who = holder(folder / _LOCK)
            msg = f"{who} works on the same run in {folder}; wait for its end."
            raise RuntimeError(msg)
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


def _temporary_folder(place: Path) -> tuple[Path, Lock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=place))
        with contextlib.suppress(FileNotFoundError):  # taken for a leftover before it was locked
            lock = try_lock(folder / _LOCK)
            if lock is not None and folder.exists():
                return folder, lock


def _remove(folder: Path, lock: Lock) -> None:
    """Remove a folder with the lock last: without it what is left would not be known as a leftover."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name != _LOCK:
                shutil.rmtree(path) if _is_folder(path) else path.unlink()
        shutil.rmtree(folder)
    lock.release(remove=False)


def _private_folder(folder: Path) -> Path:
    """Make a folder that is this user's alone, or find it.

    Raises
    ------
    PermissionError
        If there is something else, or others could have written to it.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or not is_own(status):
        msg = (
            f"{folder} is a link, a file, or of another user: no run is continued there. Delete it, or name another "
            "folder with compute={'scratch': ...}."
        )
        raise PermissionError(msg)
    if os.name != "nt" and status.st_mode & 0o077:
        folder.chmod(0o700)
        if folder.lstat().st_mode & 0o077:
            logger.warning("The disk of %s knows no permissions: others may read and write there.", folder)
        elif status.st_mode & 0o022:
            msg = f"Others could write to {folder}: no run is continued there. Delete it; the run then begins afresh."
            raise PermissionError(msg)
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


def remove_leftovers(place: Path) -> None:
    """Remove folders that runs on this machine left behind when they died."""
    for folder in place.glob(f"{_TEMPORARY}*"):
        if not is_own_folder(folder):
            continue
        if not os.path.lexists(folder / _LOCK):
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty
            continue
        try:
            lock = try_lock(folder / _LOCK)
        except OSError as error:
            logger.debug("%s is left alone: %s", folder, error)
            continue
        if lock is not None:
            logger.info("Removed what a run that died left behind: %s", folder)
            _remove(folder, lock)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
