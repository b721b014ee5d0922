"""Arrays on disk for what does not fit into memory.

Files without a name: the system frees their space when nobody needs them any more, also after a crash. On Windows they
have a name and are deleted when they are closed.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    Entries = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]

_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)


@dataclass(frozen=True)
class Scratch:
    """A folder for temporary arrays.

    Attributes
    ----------
    folder
        It must exist. None for the system's own, see :func:`tempfile.gettempdir`.
    """

    folder: Path | None = None

    def file(self) -> ScratchFile:
        """Open a temporary file.

        Raises
        ------
        OSError
            If the folder cannot be written to.
        """
        try:
            # Closed when the last array on it goes.
            return ScratchFile(tempfile.TemporaryFile(dir=self.folder), self._place)  # noqa: SIM115
        except OSError as error:
            why = error.strerror or error
            msg = f"Cannot make a temporary file in {str(self._place)!r}: {why}. Name another folder."
            raise OSError(error.errno, msg) from error

    def entries(self) -> EntriesOnDisk:
        """Return what collects the entries of a sparse map here."""
        return EntriesOnDisk(self)

    def release(self, array: NDArray) -> None:
        """Release the memory of an array that was made here; it is read again when it is needed."""
        release_pages(array)

    @property
    def _place(self) -> Path:
        return Path(tempfile.gettempdir()) if self.folder is None else self.folder


class ScratchFile:
    """A temporary file that arrays are appended to, and read from."""

    def __init__(self, file: IO[bytes], folder: Path) -> None:
        self._file = file
        self._folder = folder
        self.size = 0

    def append(self, array: NDArray) -> int:
        """Write an array behind what is there already; return the byte at which it begins.

        Raises
        ------
        OSError
            If the disk is full, with the folder, what was needed and what was free. The file is gone then.
        """
        start = self.size
        try:
            self._write(np.ascontiguousarray(array))
        except OSError as error:
            self.close()
            if error.errno not in _OUT_OF_SPACE:
                raise
            msg = (
                f"The disk is full: {array.nbytes / 2**20:.3g} MiB more were needed in {str(self._folder)!r} for "
                f"temporary files, beside {start / 2**20:.3g} MiB written already; {_free(self._folder)} free. They "
                "have been deleted. Make room there, name another folder, or allow more memory."
            )
            raise OSError(error.errno, msg) from error
        self.size += array.nbytes
        return start

    def _write(self, array: NDArray) -> None:
        self._file.write(array.data if array.size else b"")
        self._file.flush()

    def read(self, start: int, n: int, dtype: DTypeLike) -> NDArray[Any]:
        """Read ``n`` numbers from a byte on."""
        self._file.seek(start)
        array: NDArray[Any] = np.empty(n, dtype=dtype)
        if n and self._file.readinto(array.data.cast("B")) != array.nbytes:  # type: ignore[attr-defined]
            msg = f"A temporary file in {str(self._folder)!r} is shorter than it was written."
            raise OSError(errno.EIO, msg)
        return array

    def mapped(self, dtype: DTypeLike) -> NDArray[Any]:
        """Return all that was appended as one array that lives on disk; the file is kept until the array goes."""
        if self.size == 0:
            return np.empty(0, dtype=dtype)
        # Writable, although nobody writes: kernels are compiled anew for arrays that are read-only.
        return np.frombuffer(mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_WRITE), dtype=dtype)

    def close(self) -> None:
        """Delete the file, unless arrays still live on it."""
        self._file.close()


def release_pages(array: NDArray) -> None:
    """Let go the memory that pages of an array on disk take; they are read again when they are needed.

    Nothing happens to arrays in memory, nor where the system does not know how to.
    """
    owner: Any = array
    first = array.__array_interface__["data"][0]
    start = first
    while owner is not None and not isinstance(owner, mmap.mmap):
        if isinstance(owner, np.ndarray):
            start = owner.__array_interface__["data"][0]
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    if owner is None or array.nbytes == 0 or not hasattr(mmap, "MADV_DONTNEED"):
        return
    begin = (first - start) // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, begin, first - start + array.nbytes - begin)


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.3g} MiB were"
    except OSError:
        return "an unknown amount was"


class EntriesOnDisk:
    """Collects columns, features and counts of a sparse map in temporary files."""

    def __init__(self, scratch: Scratch) -> None:
        self._files = [scratch.file() for _ in range(3)]

    def append(self, arrays: Entries) -> None:
        """Add the entries of the next rows."""
        try:
            for file, array in zip(self._files, arrays, strict=True):
                file.append(array)
        except OSError:
            for file in self._files:
                file.close()
            raise

    def finish(self) -> Entries:
        """Return the columns, features and counts."""
        column, feature, count = (file.mapped(np.int32) for file in self._files)
        if os.name != "nt":  # there a closed file is a deleted one
            for file in self._files:
                file.close()
        return column, feature, count
