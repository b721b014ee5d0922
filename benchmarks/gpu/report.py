"""What the check found, as one JSON file that is written after each part, and the time that each part may take."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.engine import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_GRACE = 10.0  # s after the last moment until a part that hangs in compiled code is given up, with the process


class Report:
    """Parts of the check with what they found, their seconds and their errors.

    Parameters
    ----------
    path
        Of the JSON file.
    seconds
        That all parts may take together.
    head
        What the file begins with.
    """

    def __init__(self, path: Path, seconds: float, **head: Any) -> None:
        self.path, self.end = path, time.perf_counter() + seconds
        self.content: dict[str, Any] = {**head, "passed": False, "complete": False, "parts": {}}
        self._watchdog = threading.Timer(seconds + _GRACE, self._give_up)
        self._watchdog.daemon = True
        self._watchdog.start()

    @property
    def left(self) -> float:
        """Seconds that are left to all parts."""
        return self.end - time.perf_counter()

    def part(self, name: str, work: Callable[[dict[str, Any], float], None], *, later: float) -> None:
        """Do a part; whatever happens the file then says so.

        Parameters
        ----------
        name
            Of the part.
        work
            Called with the dictionary to fill, and ``time.perf_counter()`` at which it has to end; what it has entered
            by then is kept.
        later
            Seconds that are left to the parts that follow.
        """
        found: dict[str, Any] = {}
        self.content["parts"][name] = found
        start, cpu, seconds = time.perf_counter(), time.process_time(), self.left - later
        try:
            if seconds <= 0:
                raise OutOfTime(name)
            _limited(work, found, seconds)
        except OutOfTime:
            found["out_of_time"] = True
        except Exception as error:  # noqa: BLE001 - it is reported, and the parts that follow are done
            found["error"], found["traceback"] = repr(error), traceback.format_exc()
        found["seconds"] = round(time.perf_counter() - start, 2)
        found["cpu_seconds"] = round(time.process_time() - cpu, 2)
        self.write()
        print(f"{name}: {found['seconds']} s {found.get('error', '')}{' (out of time)' * ('out_of_time' in found)}")

    def finish(self) -> bool:
        """Write the file for the last time; return whether all went well."""
        self._watchdog.cancel()
        self.content["complete"] = not any("out_of_time" in part for part in self.content["parts"].values())
        self.content["failures"] = failures(self.content["parts"])
        self.content["passed"] = not self.content["failures"]
        self.write()
        return self.content["passed"]

    def write(self) -> None:
        """Replace the file as a whole."""
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps(self.content, indent=1))
        partial.replace(self.path)

    def _give_up(self) -> None:
        self.content["hung"] = True
        self.write()
        os._exit(1)


def failures(found: dict[str, Any], name: str = "") -> list[str]:
    """Name all that went wrong: what has an error, or is not ``ok``."""
    out = [name] if "error" in found or found.get("ok") is False else []
    for key, value in found.items():
        if isinstance(value, dict):
            out += failures(value, f"{name}/{key}".lstrip("/"))
    return out


def _limited(work: Callable[[dict[str, Any], float], None], found: dict[str, Any], seconds: float) -> None:
    """Call with a time limit, which holds wherever Python gets to run."""

    def stop(_signal: int, _frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        work(found, time.perf_counter() + seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
