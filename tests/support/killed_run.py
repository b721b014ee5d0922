"""A run of any method in a process of its own, which is killed when some tiles are done."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from interrupted import server


def killed_after(n_tiles: int, store: Path, **options: Any) -> int:
    """Run :func:`ucs.tl.segment` on a store until so many tiles are done; return the exit code.

    A method that is given as an object is known to the process by being imported there.
    """
    process = server().Process(target=_run, args=(n_tiles, store, options))
    process.start()
    process.join(300)
    return process.exitcode


def _run(n_tiles: int, store: Path, options: dict[str, Any]) -> None:
    import spatialdata
    import torch

    import ucs
    from ucs._run import output

    mark_done, done = output.mark_done, []

    def mark_and_die(folder: Path, number: int, digest: str) -> None:
        mark_done(folder, number, digest)
        done.append(number)
        if len(done) == n_tiles:
            os.kill(os.getpid(), signal.SIGKILL)

    output.mark_done = mark_and_die
    torch.set_num_threads(1)
    ucs.tl.segment(spatialdata.read_zarr(store), progress=False, **options)
