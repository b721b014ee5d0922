"""Whether a disk can be written to and has room, and errors that say so."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OUT_OF_SPACE = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


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
