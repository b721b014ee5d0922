"""Work in forked processes that are killed, or whose disk fails, before any one of their file operations."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Literal

import dask

Kind = Literal["kill", "error"]
DONE, FAILED, ODD = 0, 3, 4
"""Exit codes: all went well, an ``OSError`` was raised, or something else."""
_OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}


def operations(work: Callable[[], object]) -> list[str]:
    """Do the work undisturbed, in a process of its own; return its file operations."""
    code, done = _forked(work, None, "kill")
    assert code == DONE
    return done


def disturbed(work: Callable[[], object], at: int, kind: Kind) -> int:
    """Do the work until before its operation ``at``; return the exit code, that of the signal below 0."""
    return _forked(work, at, kind)[0]


def _forked(work: Callable[[], object], at: int | None, kind: Kind) -> tuple[int, list[str]]:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)  # the other threads wait
        child = os.fork()
    if child == 0:
        os.close(reader)
        _work_and_exit(work, at, kind, writer)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code != ODD, text
    return code, json.loads(text) if code == DONE else []


def _work_and_exit(work: Callable[[], object], at: int | None, kind: Kind, writer: int) -> None:
    done: list[str] = []
    watched = True
    sys.dont_write_bytecode = True

    def hook(event: str, arguments: tuple) -> None:
        if event not in _OPERATIONS and not (event == "open" and _writes(arguments[2])) or not watched:
            return
        done.append(f"{event} {arguments[0]}")
        if len(done) - 1 == at:
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.EIO, f"Broken at {done[-1]}")

    code, told = DONE, ""
    try:
        dask.config.set(scheduler="synchronous")  # the threads of its pool are not in this process
        sys.addaudithook(hook)
        work()
    except OSError:
        code = FAILED
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as a second test run
        code, told = ODD, traceback.format_exc()
    finally:
        watched = False
        os.write(writer, (told or json.dumps(done)).encode())
        os._exit(code)


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
