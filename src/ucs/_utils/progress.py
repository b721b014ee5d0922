"""Stages of a run: how long each took, and a progress bar while it runs, or a line where no bar can be drawn."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ucs._utils.compiled import compile_seconds, where_kept
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


TOTAL, COMPILE = "total", "compile"
"""Names of the time of all stages, and of that for compiling, which is in no other stage."""

_WORTH_A_LINE = 1.0  # seconds of compiling


class Stages:
    """Times stages and shows their progress.

    Parameters
    ----------
    progress
        Whether to show bars, or a line for each stage where no bar can be drawn.

    Attributes
    ----------
    seconds
        Seconds by name of the stage, without those for compiling.
    """

    def __init__(self, *, progress: bool = False) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str, *, unit: str | None = None, detail: str = "") -> Iterator[Callable[[int, int], None]]:
        """Time a stage.

        Parameters
        ----------
        name
            Label of the bar. Stages within :data:`TOTAL` are counted in it.
        unit
            Unit of the count; neither a bar nor a line if None.
        detail
            Text behind the name, to distinguish several bars of one stage.

        Yields
        ------
        A function to call with ``(done, total)``.
        """
        start, compiled = time.perf_counter(), compile_seconds()
        shown, label = self.progress and unit is not None, f"{name} {detail}".rstrip()
        with progress_bar(label, unit or "it", shown=shown) as update:
            yield update
        elapsed, compiled = time.perf_counter() - start, compile_seconds() - compiled
        if name == TOTAL:
            self.seconds[COMPILE] = compiled
            if compiled > _WORTH_A_LINE:
                logger.info("Compiled for this machine: %.1f s, %s.", compiled, where_kept())
        else:
            elapsed = max(elapsed - compiled, 0.0)
            if shown and _bar() is None:
                logger.info("%s: %.1f s.", label, elapsed)
        self.seconds[name] = self.seconds.get(name, 0.0) + elapsed


@contextlib.contextmanager
def progress_bar(name: str, unit: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; yield a function to call with ``(done, total)``."""
    of = _bar() if shown else None
    with (of or tqdm)(desc=name, unit=unit, disable=of is None, leave=False) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def _bar() -> Any:
    """Return what draws bars: in a terminal or a notebook with widgets; None elsewhere, where a stage is a line."""
    if sys.stderr is not None and sys.stderr.isatty():
        return tqdm
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or "IPKernelApp" not in shell.config or importlib.util.find_spec("ipywidgets") is None:
        return None
    from tqdm.notebook import tqdm as of_notebook

    return of_notebook
