"""Where Numba keeps what it compiled, also if neither installation nor home can be written to; how long it took."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable

_VARIABLE = "NUMBA_CACHE_DIR"
_WORTH_SAYING = 2.0  # seconds: all that a run needs is not compiled yet, not a rare function of it alone
_TEMPORARY = "ucs-numba-"  # begin of the names of folders that end with their process


def provide_cache() -> None:
    """Give Numba a folder of this process, deleted at its end, if it has none; it would refuse to compile.

    To compile once only, name a lasting one in ``NUMBA_CACHE_DIR``.
    """
    if os.environ.get(_VARIABLE) or os.access(Path(__file__).parents[1], os.W_OK) or _home_is_writable():
        return
    folder = tempfile.mkdtemp(prefix=_TEMPORARY)
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


def compile_seconds() -> float:
    """Return how long Numba has compiled in this process, counted from the first call on."""
    return _compile_clock()()


def where_kept() -> str:
    """Return what becomes of that which was compiled, in words."""
    if Path(os.environ.get(_VARIABLE, "")).name.startswith(_TEMPORARY):
        return "not kept, as neither installation nor home can be written to: name a lasting folder in NUMBA_CACHE_DIR"
    return "kept for later runs"


@cache
def _compile_clock() -> Callable[[], float]:
    from numba.core import event

    class Clock(event.Listener):
        """Numba compiles one function at a time, and what that one calls within it."""

        seconds, start, depth = 0.0, 0.0, 0

        def on_start(self, event: object) -> None:
            if self.depth == 0:
                self.start = time.perf_counter()
            self.depth += 1

        def on_end(self, event: object) -> None:
            self.depth -= 1
            if self.depth == 0:
                before, self.seconds = self.seconds, self.seconds + time.perf_counter() - self.start
                if before <= _WORTH_SAYING < self.seconds:
                    logger.info("Compiling for this machine: it takes about a minute, once.")

    clock = Clock()
    event.register("numba:compile", clock)
    return lambda: clock.seconds
