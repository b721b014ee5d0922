"""One progress bar per stage."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stage(
    name: str, timings: dict[str, float], *, progress: bool, unit: str = "it", detail: str = ""
) -> Iterator[Callable[[int, int], None]]:
    """Time a stage and show its progress.

    Parameters
    ----------
    name
        Label of the bar, and key in ``timings``.
    timings
        Receives the seconds that the stage took.
    progress
        Whether to show a bar.
    unit
        Unit of the count.
    detail
        Text behind the name, to distinguish several bars of one stage.

    Yields
    ------
    A function to call with ``(done, total)``.
    """
    start = time.perf_counter()
    with tqdm(desc=f"{name} {detail}".rstrip(), unit=unit, disable=not progress, leave=False) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update
    timings[name] = timings.get(name, 0.0) + time.perf_counter() - start
