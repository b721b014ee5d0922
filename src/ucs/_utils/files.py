"""Files and folders that are written as a whole, survive a crash, and are read only if they are what they seem."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PARTIAL = ".ucs-partial"
"""End of the names of files that are being written."""
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""For :func:`os.open`: follows no symbolic link, and does not wait for the other end of a pipe."""
BINARY = getattr(os, "OBINARY", 0)
_NO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES, errno.EISDIR}
_BLOCK = 1 << 20


def write_file(path: Path, content: bytes, *, by_way_of: Path | None = None) -> None:
    """Write a file so that it is as before or complete, whatever happens, and safe on the disk on return.

    What is at ``path`` is replaced, also if it is a symbolic link, whose target stays as it is. If the process is
    killed, a part of it may be left in the folder ``by_way_of``, on the same disk; beside the file if None.
    """
    partial = (by_way_of or path.parent) / f".{uuid.uuid4().hex}{PARTIAL}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK | BINARY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)  # noqa: PTH105 - Path.replace is the same; renames of folders alone go by Path
    except BaseException:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder safe on the disk, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno in _NO_SYNC:  # Windows opens no folders
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Have all that is in a folder safe on the disk."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)


def digest_of_tree(folder: Path) -> str:
    """Return a digest of names and content of all that is in a folder; symbolic links count with where they lead."""
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        total.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        if path.is_symlink():
            total.update(str(path.readlink()).encode())
        elif path.is_file():
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    total.update(block)
    return total.hexdigest()


def digest_of_bytes(content: bytes) -> str:
    """Return the digest of a content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def read_plain(path: Path, *, at_most: int, own: bool = False) -> bytes:
    """Return the content of a plain file.

    Parameters
    ----------
    path
        The file; not a symbolic link.
    at_most
        Bytes that it may have.
    own
        Whether it must belong to this user.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    PermissionError
        If it is a link, or a pipe, or of another user, where it must be the user's.
    ValueError
        If it is longer.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_LINK | BINARY)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK, errno.ENXIO}:
            msg = f"{path} is a symbolic link or a pipe; only a plain file is read there."
            raise PermissionError(errno.EPERM, msg) from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            msg = f"{path} is no plain file."
            raise PermissionError(errno.EPERM, msg)
        if own and not is_own(status):
            msg = f"{path} belongs to user {status.st_uid}, not to the one who runs this."
            raise PermissionError(errno.EPERM, msg)
        if status.st_size > at_most:
            msg = f"{path} has {status.st_size} bytes; at most {at_most} are read."
            raise ValueError(msg)
        return file.read(at_most)


def is_own_folder(path: Path) -> bool:
    """Tell whether a path is a real folder of this user's, not a link to one."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and is_own(status)


def is_own(status: os.stat_result) -> bool:
    """Tell whether something belongs to this user; on Windows, which knows no such numbers, always."""
    return os.name == "nt" or status.st_uid == os.geteuid()
