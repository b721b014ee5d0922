"""What a run on workers is made of, measured on this machine."""

from __future__ import annotations

import contextlib
import logging
import pickle
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from benchmarks.gpu.timings import Tally, Watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client
    from spatialdata import SpatialData

_EMPTY_TASKS = 200


@dataclass
class Parts:
    """Parts of the run on one slide.

    Attributes
    ----------
    mpx
        Area of the slide in mm2, which is Mpx of 1 um.
    tiles
        Number of tiles.
    seconds_beside
        Of all stages but that of the tiles.
    seconds_per_tile, seconds_of_nets
        Of one tile on one worker with one thread, and what of it are nets.
    seconds_per_task, bytes_per_task
        Of the client, to cut out a tile and write it to the scratch folder, one after the other, and its size.
    bytes_of_predictor
        That each worker reads once.
    bytes_per_result
        Of a tile's labels and confidence in the scratch folder, compressed.
    scheduler_seconds
        Of an empty task, from being sent to its result.
    """

    mpx: float = 0.0
    tiles: int = 0
    seconds_beside: float = 0.0
    seconds_per_tile: float = 0.0
    seconds_of_nets: float = 0.0
    seconds_per_task: float = 0.0
    bytes_per_task: float = 0.0
    bytes_of_predictor: float = 0.0
    bytes_per_result: float = 0.0
    scheduler_seconds: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return the fields as plain values."""
        return asdict(self)


@dataclass
class Run:
    """One run: seconds by stage, and what was cut out, sent and written if workers shared the tiles."""

    seconds: dict[str, float] = field(default_factory=dict)
    bytes_of_tasks: list[int] = field(default_factory=list)
    bytes_of_predictor: int = 0
    bytes_of_results: int = 0


def segment(sdata: SpatialData, model: Any, tile_size: int, scratch: Path) -> Run:
    """Segment a slide with a model, on the active client if there is one."""
    import ucs
    from ucs._run import cluster, tiles

    run = Run()
    write, refine = cluster._dump, tiles.refine_output

    def count_task(file: Path, content: Any) -> None:
        write(file, content)
        if file.name == "predictor.pickle":
            run.bytes_of_predictor = file.stat().st_size
        else:
            run.bytes_of_tasks.append(file.stat().st_size)

    def count_results(output: Any, *rest: Any) -> None:
        if output.workspace.on_disk:
            folder = output.workspace.raster_folder
            run.bytes_of_results = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        refine(output, *rest)

    with mock.patch.object(cluster, "_dump", count_task), mock.patch.object(tiles, "refine_output", count_results):
        result = ucs.tl.segment(
            sdata, model=model, inplace=False, progress=False, compute={"tile_size": tile_size, "scratch": scratch}
        )
    run.seconds = {name: float(of) for name, of in result.tables["ucs_table"].uns["ucs"]["timings"].items()}
    return run


def measure(sdata: SpatialData, model: Any, mpx: float, tile_size: int, scratch: Path) -> Parts:
    """Measure the parts in this process, with one thread of torch, as a worker has."""
    from ucs._run import tiles

    parts, tally = Parts(mpx=mpx), Tally()
    cut: list[float] = []
    work = tiles._work_here

    def watched(tasks: Iterator[Any], predictor: Any, device: torch.device, size: int) -> Iterator[Any]:
        return work(_timed(tasks, cut), Watched(predictor, tally).on(device), device, size)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with mock.patch.object(tiles, "_work_here", watched):
            run = segment(sdata, model, tile_size, scratch)
    finally:
        torch.set_num_threads(threads)
        for hook in tally.hooks:
            hook.remove()
    parts.tiles, parts.seconds_per_task = len(cut), sum(cut) / len(cut)
    parts.seconds_beside = run.seconds["total"] - run.seconds["cells"]
    parts.seconds_per_tile = sum(tally.seconds.values()) / parts.tiles
    parts.seconds_of_nets = tally.net_seconds() / parts.tiles
    return parts


def _timed(tasks: Iterator[Any], cut: list[float]) -> Iterator[Any]:
    """Yield tasks, and note the seconds that each takes to be cut out and pickled."""
    while True:
        start = time.perf_counter()
        task = next(tasks, None)
        if task is None:
            return
        pickle.dumps(task, protocol=5)
        cut.append(time.perf_counter() - start)
        yield task


def scheduler_seconds(client: Client) -> float:
    """Return the seconds of an empty task, from many that are sent one by one and gathered."""
    start = time.perf_counter()
    futures = [client.submit(_nothing, k, pure=False) for k in range(_EMPTY_TASKS)]
    client.gather(futures)
    return (time.perf_counter() - start) / _EMPTY_TASKS


def _nothing(k: int) -> int:
    return k


@contextlib.contextmanager
def workers(n: int) -> Iterator[Client]:
    """Start processes with one thread each, and a client that is active."""
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None, "silence_logs": logging.ERROR}
    with LocalCluster(n_workers=n, **options) as cluster, Client(cluster) as client:
        client.wait_for_workers(n)
        yield client
