"""Stages of a run: how long each took, and a progress bar while it runs."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Stages:
    """Times stages and shows their progress.

    Parameters
    ----------
    progress
        Whether to show bars.

    Attributes
    ----------
    seconds
        Seconds by name of the stage.
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
            Label of the bar.
        unit
            Unit of the count; no bar if None.
        detail
            Text behind the name, to distinguish several bars of one stage.

        Yields
        ------
        A function to call with ``(done, total)``.
        """
        start = time.perf_counter()
        shown = self.progress and unit is not None
        with progress_bar(f"{name} {detail}".rstrip(), unit or "it", shown=shown) as update:
            yield update
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@contextlib.contextmanager
def progress_bar(name: str, unit: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; yield a function to call with ``(done, total)``."""
    with tqdm(desc=name, unit=unit, disable=not shown, leave=False) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update
