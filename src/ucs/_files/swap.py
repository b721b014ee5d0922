"""Folders put in the place of others: all of them or none, also if the process is killed in between.

What is new is made in a hidden folder beside its place, so that putting it there is but a renaming. Before the first
one, a journal in that folder says what is about to happen. It is deleted once all is done, and that is the moment at
which the new has replaced the old: a journal that is found later is that of a process that was killed, and tells how to
undo what it had begun. A process holds a lock on its folder for as long as it lives.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shutil
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LOCK, _JOURNAL = "lock", "journal.json"
_PARTIAL = re.compile(r"\.([0-9a-f]{32}|ucs)\.partial$")  # files half written, by Zarr and by us
_OUT_OF_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def hidden_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder with a name of its own, locked, and delete it at the end with all that is in it.

    What :func:`replace` began and did not finish in it is undone before.

    Raises
    ------
    PermissionError
        If nothing can be made in ``parent``.
    """
    check_writable(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = _lock(folder)
        if lock is not None:
            break  # otherwise another process has taken it for a leftover, just before it was locked
    with lock:
        try:
            yield folder
        finally:
            undo(folder, parent)
            shutil.rmtree(folder, ignore_errors=True)


def replace(
    folder: Path,
    parent: Path,
    moves: Sequence[tuple[str, str]],
    *,
    files: Sequence[str] = (),
    before: Callable[[Path], None] | None = None,
    after: Callable[[], None] | None = None,
) -> None:
    """Put what is in a hidden folder in its place; if anything fails, or the user interrupts, all is as it was.

    Parameters
    ----------
    folder
        From :func:`hidden_folder` in ``parent``.
    parent
        All is in this folder.
    moves
        Path in ``folder`` and path in ``parent`` of each thing; what is there goes into ``folder``.
    files
        Paths in ``parent`` of small files that ``before`` or ``after`` may change or make.
    before, after
        Called before the first and after the last move; ``before`` with ``parent``, also before anything is undone.
    """
    kept = folder / "files"
    kept.mkdir()
    for number, file in enumerate(files):
        if (parent / file).is_file():
            shutil.copyfile(parent / file, kept / str(number))
    (folder / "replaced").mkdir()
    journal = {"moves": list(moves), "files": list(files), "unlisted": before is not None}
    write_file(folder / _JOURNAL, json.dumps(journal).encode())
    try:
        if before is not None:
            before(parent)
        for number, (source, place) in enumerate(moves):
            if (parent / place).exists():
                _move(parent / place, folder / "replaced" / str(number))
            _move(folder / source, parent / place)
        if after is not None:
            after()
    except BaseException:  # Ctrl-C too
        undo(folder, parent, before=before)
        raise
    (folder / _JOURNAL).unlink()


def undo(folder: Path, parent: Path, *, before: Callable[[Path], None] | None = None) -> bool:
    """Undo what the journal of a hidden folder tells of, and return whether there was one.

    It may be interrupted and begun again at any moment.
    """
    if not (folder / _JOURNAL).is_file():
        return False
    journal = json.loads((folder / _JOURNAL).read_bytes())
    if before is not None and journal["unlisted"]:
        before(parent)
    for number, (source, place) in reversed(list(enumerate(journal["moves"]))):
        if not (folder / source).exists() and (parent / place).exists():
            (parent / place).rename(folder / source)
        if (folder / "replaced" / str(number)).exists():
            (folder / "replaced" / str(number)).rename(parent / place)
    for number, file in enumerate(journal["files"]):
        kept = folder / "files" / str(number)
        if kept.is_file():
            write_file(parent / file, kept.read_bytes())
        else:
            (parent / file).unlink(missing_ok=True)
    for place in {(parent / file).parent for file in journal["files"]}:
        for rest in place.glob("*.partial"):
            if _PARTIAL.search(rest.name):
                rest.unlink()
    (folder / _JOURNAL).unlink()
    return True


def clean(parent: Path, prefix: str, *, before: Callable[[Path], None] | None = None) -> None:
    """Undo and delete what processes left that were killed; folders of processes that live stay.

    Parameters
    ----------
    parent, prefix
        As for :func:`hidden_folder`.
    before
        As for :func:`replace`.
    """
    for folder in sorted(parent.glob(f"{glob.escape(prefix)}*")):
        lock = _lock(folder) if folder.is_dir() else None
        if lock is None:
            continue
        with lock:
            if undo(folder, parent, before=before):
                logger.warning("A process was killed while it wrote to %s; what it had begun is undone.", parent)
            shutil.rmtree(folder, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Raise ``PermissionError`` if nothing can be made in a folder: by its permissions, or on a read-only disk."""
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"{folder} cannot be written to: its permissions forbid it, or its disk is read-only."
        raise PermissionError(msg)


def check_space(folder: Path, n_bytes: float, what: str) -> None:
    """Raise ``OSError`` if a disk has less space left than is needed.

    Parameters
    ----------
    folder
        On the disk.
    n_bytes
        Needed.
    what
        What for.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        msg = f"{what} needs about {_size(n_bytes)} on the disk of {folder}, which has {_size(free)} left."
        raise OSError(errno.ENOSPC, msg)


@contextmanager
def explained_if_full(folder: Path, what: str) -> Iterator[None]:
    """Say of an error for want of space what could not be written where."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OUT_OF_SPACE:
            raise
        msg = f"The disk of {folder} is full: {what}. Make room there and try again; nothing was changed."
        raise OSError(error.errno, msg) from error


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def _move(source: Path, target: Path) -> None:
    source.rename(target)


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all."""
    partial = path.with_name(f"{path.name}.ucs.partial")
    partial.write_bytes(content)
    os.replace(partial, path)  # noqa: PTH105 - Path.replace is the same; renames of folders alone go by Path


def _lock(folder: Path) -> IO[bytes] | None:
    """Lock a folder until the file is closed or the process ends; None if another one has it, or it is gone."""
    try:
        file = (folder / _LOCK).open("a+b")
    except FileNotFoundError:
        return None
    try:
        _lock_file(file)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN, errno.EDEADLK} or _owner_lives(file):
            file.close()
            return None
    file.truncate(0)
    file.write(f"{socket.gethostname()} {os.getpid()}".encode())
    file.flush()
    return file


def _lock_file(file: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _owner_lives(file: IO[bytes]) -> bool:
    """Return whether the process that is named in a file may be alive; for disks that know no locks."""
    file.seek(0)
    host, _, process = file.read().decode().partition(" ")
    if not process:
        return False
    if host != socket.gethostname() or os.name == "nt":
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    return True
