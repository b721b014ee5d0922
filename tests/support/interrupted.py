"""Runs of :func:`ucs.tl.segment` in processes of their own that are killed on the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MODULES = [
    "spatialdata",
    "ucs._run.run",
    "ucs.methods.density.training",
    "ucs._run.output",
    "ucs._files.swap",
    __name__,
]

STAGES = {
    "training": ("ucs.methods.density.training", "_loss"),
    "model": ("ucs.methods.model.UCSModel", "save"),
    "tile": ("ucs.methods.density.predict.DensityPredictor", "decide"),
    "mark": ("ucs._run.output", "mark_done"),
    "refine": ("ucs._run.output", "refine_cells"),
    "elements": ("ucs._run.run", "build_elements"),
    "move": ("ucs._files.swap", "_move"),
}
"""Functions in which a run may be stopped."""


def server() -> Any:
    """A context of processes that begin with all modules read, and with no thread but their own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    return context


def killed(store: Path, stage: str, call: int, **options: Any) -> int:
    """Run in a process that kills itself in the given call of a stage's function; return its exit code."""
    process = server().Process(target=_run, args=(store, stage, call, "kill", options))
    process.start()
    process.join(120)
    return process.exitcode


def begun(store: Path, **options: Any) -> Any:
    """Begin a run in a process of its own, and return that."""
    process = server().Process(target=_run, args=(store, "tile", -1, "", options))
    process.start()
    return process


def stopped(store: Path, stage: str, call: int, sign: Path, **options: Any) -> Any:
    """Run in a process that waits in the given call; return it as soon as it does."""
    process = server().Process(target=_run, args=(store, stage, call, str(sign), options))
    process.start()
    while not sign.exists() and process.is_alive():
        time.sleep(0.02)
    return process


def _run(store: Path, stage: str, call: int, what: str, options: dict[str, Any]) -> None:
    import spatialdata
    import torch
    from calls import segment

    torch.set_num_threads(1)
    _stop_in(stage, call, what)
    segment(spatialdata.read_zarr(store), inplace=True, **options)


def _stop_in(stage: str, call: int, what: str) -> None:
    from pkgutil import resolve_name

    module, name = STAGES[stage]
    owner = resolve_name(module)
    original, calls = getattr(owner, name), [0]

    def counting(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            if stage == "model":  # half of it is there
                original(*arguments, **options)
            _stop(what)
        return original(*arguments, **options)

    setattr(owner, name, counting)


def _stop(what: str) -> None:
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(what).touch()
    time.sleep(120)


def interrupt(monkeypatch: Any, stage: str, call: int) -> Callable[[], int]:
    """Raise KeyboardInterrupt in the given call, in this very process; the result tells how many calls there were."""
    from pkgutil import resolve_name

    module, name = STAGES[stage]
    owner = resolve_name(module)
    original, calls = getattr(owner, name), [0]

    def counting(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, counting)
    return lambda: calls[0]
