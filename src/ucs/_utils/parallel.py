"""Threads over kernels that release the GIL, and over tasks.

Numba's own parallel loops are not used: some of its threading layers abort if they are entered from several threads at
once, as by Dask, or after a fork.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")

_PIECES_PER_THREAD = 8  # so that all threads end at about the same time, though pieces differ


def n_threads() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(kernel: Callable[..., Any], n_items: int, *arguments: Any) -> None:
    """Call ``kernel(first, stop, *arguments)`` for pieces of ``range(n_items)`` in threads.

    The kernel must release the GIL and treat the items independently of each other.
    """
    threads = n_threads()
    n_pieces = min(n_items, threads * _PIECES_PER_THREAD)
    if n_pieces < _PIECES_PER_THREAD or threads == 1:  # starting threads would take longer
        kernel(0, n_items, *arguments)
        return
    edges = np.linspace(0, n_items, n_pieces + 1).astype(np.int64).tolist()
    with ThreadPoolExecutor(threads) as pool:
        tasks = [pool.submit(kernel, a, b, *arguments) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        for task in tasks:
            task.result()


def in_order(tasks: Iterable[Callable[[], T]], *, most: int) -> Generator[T]:
    """Call tasks in threads; yield their results in the order of the tasks, and work no further ahead than threads.

    If several tasks fail, the error of the first of them is raised, whichever comes up first.

    Parameters
    ----------
    tasks
        What to call.
    most
        Upper bound of the number of threads, as each task holds memory.
    """
    threads = min(n_threads(), most)
    if threads == 1:
        for task in tasks:
            yield task()
        return
    pool = ThreadPoolExecutor(threads)
    try:
        pending: deque[Future[T]] = deque()
        for task in tasks:
            pending.append(pool.submit(task))
            if len(pending) == threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
