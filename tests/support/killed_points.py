"""A segmentation in a process of its own that ends before a given change of the files of its store."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import spatialdata as sd
from interrupted import server

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"}


def _run(store: Path, saved: Path, log: Path, die_at: int | None) -> None:
    """Segment again, in a process of its own that ends before the given change of the store's files."""
    import torch
    from scenes import segmented

    changes: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if not arguments or not str(arguments[0]).startswith(str(store)):
            return
        to_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event not in _CHANGES and not to_write:
            return
        if len(changes) == die_at:
            os._exit(9)
        changes.append(f"{event} {Path(str(arguments[0])).relative_to(store)}")

    torch.set_num_threads(1)
    sdata = sd.read_zarr(store)
    sys.addaudithook(hook)
    segmented(sdata, model=str(saved), inplace=True, write="points", overwrite=True, min_transcripts=150)
    done = list(changes)
    log.write_text(json.dumps(done))


def in_child(store: Path, saved: Path, log: Path, die_at: int | None) -> int:
    """Run, and return the exit code; ``log`` then lists all changes, unless the process ended before the last."""
    process = server().Process(target=_run, args=(store, saved, log, die_at))
    process.start()
    process.join(600)
    return process.exitcode
