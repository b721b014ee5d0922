"""Tiles on the workers of the user's Dask client: several processes, GPUs or machines."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import stat
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucs._run.output import put_from_elsewhere
from ucs._utils.checks import listed
from ucs._utils.files import BINARY, NO_LINK, is_own
from ucs._utils.log import logger
from ucs.methods.device import resolve_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from distributed import Client

    from ucs._kernels.transcripts import Window
    from ucs._run.output import TileOutput
    from ucs.methods.base import TilePredictor

_WAITING_PER_WORKER = 2  # tasks: one at work, one that it can begin at once
_ONE_AT_A_TIME = threading.Lock()  # of a process: its tiles share a device, and torch's number of threads


def active_client(device: str) -> Client | None:
    """Return the Dask client that the user has made active, None if there is none.

    Raises
    ------
    ValueError
        If it has no workers, or a worker lacks the device.
    """
    if "distributed" not in sys.modules:  # then no client can have been made
        return None
    from distributed import default_client

    try:
        client = default_client()
    except ValueError:
        return None
    if client.status != "running" or client.asynchronous:
        return None
    if not client.nthreads():
        msg = f"The active Dask client ({client.scheduler_info()['address']}) has no workers; start some, or close it."
        raise ValueError(msg)
    if device != "auto":
        lacking = [worker for worker, why in client.run(_why_device_is_lacking, device).items() if why]
        if lacking:
            msg = (
                f"device={device!r} is not there on {len(lacking)} of the {len(client.nthreads())} workers of the "
                f"active Dask client: {listed(lacking)}. Start workers that have it (e.g. "
                "dask_cuda.LocalCUDACluster), or choose the device 'auto'."
            )
            raise ValueError(msg)
    return client


def device_of_training(device: str) -> str:
    """Return where to train: on the device, or, if only the workers of the active client have it, on what is here.

    Raises
    ------
    ValueError
        If the device is not there, see :func:`active_client`.
    """
    if active_client(device) is not None and _why_device_is_lacking(device):
        logger.warning("Workers have the device %r, this process does not: it trains on what it has.", device)
        return "auto"
    resolve_device(device)
    return device


def _why_device_is_lacking(device: str) -> str:
    try:
        resolve_device(device)
    except ValueError as error:
        return str(error)
    return ""


def work_in_cluster(
    client: Client,
    tasks: Iterator[tuple[int, Any]],
    predictor: TilePredictor,
    output: TileOutput,
    tiles: Sequence[Window],
    *,
    device: str,
    tile_size: int,
    done: Callable[[], None],
) -> None:
    """Have workers predict tiles and write them to an output on disk, which they must reach by the same path.

    A worker that dies takes nothing with it: its tiles are given to others. Tasks travel as files in the scratch folder
    rather than through the scheduler, and only a few at a time.

    Parameters
    ----------
    client
        Active.
    tasks
        Number and task of each tile that is to be done.
    predictor
        Of the tasks.
    output
        Where to write.
    tiles
        The tiles, by number.
    device, tile_size
        As in :class:`ucs.options.ComputeOptions`.
    done
        Called when a tile is there.
    """
    from distributed import as_completed

    folder = output.workspace.folder / "tasks"
    if folder.is_symlink() or folder.exists():  # of a run that was killed
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    predictor_file = folder / "predictor.pickle"
    _dump(predictor_file, predictor)
    rasters = str(output.workspace.raster_folder), list(output.rasters)

    def submit(number: int, task: Any) -> Any:
        file = folder / f"{number}.pickle"
        _dump(file, task)
        return client.submit(
            _work, number, str(file), str(predictor_file), rasters, tiles[number], device, tile_size,
            pure=False, retries=2,
        )  # fmt: skip

    at_work = as_completed([submit(*one) for one in itertools.islice(tasks, _waiting(client))])
    try:
        for future in at_work:
            number = future.result()
            (folder / f"{number}.pickle").unlink()
            done()
            at_work.update([submit(*one) for one in itertools.islice(tasks, 1)])
    except BaseException:  # Ctrl-C too: workers would go on
        client.cancel(list(at_work.futures))
        raise
    predictor_file.unlink()


def _waiting(client: Client) -> int:
    return _WAITING_PER_WORKER * max(1, len(client.nthreads()))


def _work(
    number: int,
    file: str,
    predictor_file: str,
    rasters: tuple[str, list[str]],
    core: Window,
    device: str,
    tile_size: int,
) -> int:
    """Predict one tile, on a worker."""
    task = _load(file)
    with _ONE_AT_A_TIME:
        where = resolve_device(device)
        predictor = _predictor(predictor_file, Path(predictor_file).stat().st_mtime_ns, where)
        cells = predictor.decide(predictor.forward(task, device=where, tile_size=tile_size))
    folder, names = rasters
    put_from_elsewhere(Path(folder), names, number, core, cells)
    return number


@lru_cache(maxsize=1)
def _predictor(file: str, _changed: int, device: torch.device) -> TilePredictor:
    """Read the models and send them to the device once, not for each tile."""
    return _load(file).on(device)


def _dump(file: Path, content: Any) -> None:
    with file.open("xb") as stream:
        pickle.dump(content, stream, protocol=5)


def _load(file: str) -> Any:
    """Unpickle what the client wrote.

    Raises
    ------
    PermissionError
        If anybody else could have written it: code that is in a pickle is run.
    """
    with os.fdopen(os.open(file, os.O_RDONLY | NO_LINK | BINARY), "rb") as stream:
        for status in (os.fstat(stream.fileno()), Path(file).parent.lstat()):
            if not is_own(status) or (os.name != "nt" and status.st_mode & stat.S_IWOTH):
                msg = f"{file} is not only this user's: workers must run as the user whose run it is."
                raise PermissionError(msg)
        return pickle.load(stream)  # noqa: S301 - see above
