"""Locks that end with their holder.

The system holds them (``flock``), for each opening of the file: they keep apart two processes, also in containers that
do not see each other's, and two threads. On disks that know no locks a record in the file says who has it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ucs._utils.files import NO_LINK
from ucs._utils.log import logger

_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_PAUSE, _PATIENCE = 0.05, 1.0  # seconds


@dataclass
class Lock:
    """A lock that is held."""

    path: Path
    _file: IO[bytes] = field(repr=False)

    def release(self, *, remove: bool = True) -> None:
        """Let others have it; by default the file goes too."""
        if self._file.closed:
            return
        try:
            if remove and os.name != "nt":  # while it is held: whoever waits for it sees that the file has gone
                with contextlib.suppress(FileNotFoundError):
                    self.path.unlink()
        finally:
            self._file.close()
        if remove and os.name == "nt":
            with contextlib.suppress(OSError):
                self.path.unlink()


def try_lock(path: Path) -> Lock | None:
    """Lock a file, which is made if it is not there; None if another one has it.

    Raises
    ------
    FileNotFoundError
        If its folder is gone.
    PermissionError
        If there is something else than a plain file of that name, e.g. a symbolic link.
    """
    while True:
        file = _opened(path)
        if not _claim(file):
            file.close()
            return None
        try:
            same = os.path.samestat(os.fstat(file.fileno()), path.lstat())
        except FileNotFoundError:
            same = False
        if same:
            return Lock(path, file)
        file.close()  # the one before has removed it


def wait_for_lock(path: Path, what: str) -> Lock:
    """Lock a file as soon as it is free; ``what`` is said in the log if that takes a while."""
    began, said = time.monotonic(), False
    while True:
        lock = try_lock(path)
        if lock is not None:
            return lock
        if not said and time.monotonic() - began > _PATIENCE:
            logger.warning("Waiting for %s, which another run is writing to (lock: %s).", what, path)
            said = True
        time.sleep(_PAUSE)


def holder(path: Path) -> str:
    """Return who holds a lock, in words."""
    try:
        owner = json.loads(path.read_bytes())
        return f"Process {int(owner['pid'])} on {owner['host']!s}"
    except (OSError, ValueError, TypeError, KeyError):
        return "Another process"


def _opened(path: Path) -> IO[bytes]:
    odd = f"{path} is not the plain file that a lock is. Delete it: it was not made here."
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o666)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO}:
            raise PermissionError(errno.EPERM, odd) from error
        raise
    file = os.fdopen(descriptor, "r+b", buffering=0)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        file.close()
        raise PermissionError(errno.EPERM, odd)
    return file


def _claim(file: IO[bytes]) -> bool:
    try:
        _lock_file(file)
    except OSError as error:
        if error.errno in _HELD or _holder_may_live(file):
            return False
        logger.warning("The disk of %s knows no locks: let no two runs write there at once.", file.name)
    file.seek(0)
    file.truncate()
    file.write(json.dumps(_this_process()).encode())
    return True


def _lock_file(file: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _this_process() -> dict[str, Any]:
    return {**_machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _machine() -> dict[str, str]:
    """Return within what the number of a process means something: the host since its start, and the container."""
    return {
        "host": socket.gethostname(),
        "boot": _text_of("/proc/sys/kernel/random/boot_id"),
        "processes": _link_of("/proc/self/ns/pid"),
    }


def _holder_may_live(file: IO[bytes]) -> bool:
    """Tell whether the process that is named in a file may be alive; of another machine it cannot be known."""
    file.seek(0)
    content = file.read()
    if not content:
        return False
    try:
        owner = json.loads(content)
        pid, elsewhere = int(owner["pid"]), any(owner.get(key) != value for key, value in _machine().items())
    except (ValueError, TypeError, KeyError, AttributeError):
        return True
    if elsewhere or os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return owner.get("started") == _started(pid)  # the number may have been given to another one


def _started(pid: int) -> str:
    """Return when a process started, in the system's own terms; empty if it does not tell."""
    fields = _text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link_of(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
