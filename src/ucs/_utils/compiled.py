"""Where Numba keeps what it compiled: also if neither the installation nor a home can be written to."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

_VARIABLE = "NUMBA_CACHE_DIR"


def provide_cache() -> None:
    """Give Numba a folder of this process, deleted at its end, if it has none; it would refuse to compile.

    To compile once only, name a lasting one in ``NUMBA_CACHE_DIR``.
    """
    if os.environ.get(_VARIABLE) or os.access(Path(__file__).parents[1], os.W_OK) or _home_is_writable():
        return
    folder = tempfile.mkdtemp(prefix="ucs-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[_VARIABLE] = folder
    if "numba" in sys.modules:  # has read its environment before
        sys.modules["numba"].config.CACHE_DIR = folder


def _home_is_writable() -> bool:
    """Return whether Numba can make a folder where it does for each user."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no such place, or nobody knows where a home is
        return False
    return os.access(folder, os.W_OK)
