"""Writes results to copies of a store in processes that are killed on the way; run as a program by its tests.

``python kill_writer.py STORE FOLDER MODE NUMBER``. Processes are forked before any thread has started, which is quicker
than to start each anew. Copy ``k`` is ``FOLDER/k.zarr``; ``FOLDER/events.json`` lists what an undisturbed process did
to the files of its store.

- ``steps``: killed at so many of the steps that put elements in their place, and at some before.
- ``moments``: killed by a signal after random times.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from anndata import AnnData
from scipy.sparse import csr_matrix
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel, ShapesModel, TableModel

from ucs._files.store import write_elements

with contextlib.suppress(ImportError):
    import distributed  # noqa: F401 - by this process, and not by each of its children

_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "open"}


def elements(version: int) -> dict[str, object]:
    """Results of three cells that differ by version."""
    labels = np.kron(np.array([[1, 2], [3, 0]]), np.ones((8, 8), dtype=int)).astype(np.int32)
    ids = np.arange(1, 4, dtype=np.int32)
    boxes = [shapely.box(0, 0, version, version), shapely.box(8, 0, 9, 1), shapely.box(0, 8, 1, 9)]
    table = AnnData(
        csr_matrix(np.full((3, 2), version, dtype=np.int32)),
        obs=pd.DataFrame({"cell_id": ids, "region": pd.Categorical(["cells"] * 3)}, index=[str(i) for i in ids]),
    )
    return {
        "ours": Labels2DModel.parse(labels * (version == 1) + 2 * (version == 2) * labels, dims=("y", "x")),
        "cells": ShapesModel.parse(gpd.GeoDataFrame({"geometry": boxes}, index=ids)),
        "counts": TableModel.parse(table, region="cells", region_key="region", instance_key="cell_id"),
    }


def version_of(sdata: SpatialData, key: str) -> int | None:
    """Which version of an element an object has; None if it has none."""
    if key not in sdata:
        return None
    if key == "ours":
        return int(np.asarray(sdata[key])[0, 0])
    return int(sdata[key].geometry.loc[1].bounds[2]) if key == "cells" else int(sdata[key].X.max())


def original(store: Path, *, with_results: bool) -> None:
    """Write a store with an element of the user's."""
    labels = np.arange(64, dtype=np.int32).reshape(8, 8)
    sdata = SpatialData(labels={"users": Labels2DModel.parse(labels, dims=("y", "x"))})
    for key, element in elements(1).items() if with_results else ():
        sdata[key] = element
    sdata.write(store)


def _write(store: Path, new: dict[str, object], log: Path | None, die_at: int | None) -> None:
    """Write in a child process; ``die_at`` is the number of the step before which it ends."""
    events: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if event not in _EVENTS or not str(arguments[0]).startswith(str(store)):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if len(events) == die_at:
            os._exit(9)
        events.append(f"{event} {Path(str(arguments[0])).relative_to(store)}")

    if log is not None or die_at is not None:
        sys.addaudithook(hook)
    write_elements(store, new)
    if log is not None:
        done = list(events)
        log.write_text(json.dumps(done))


def _fork(store: Path, new: dict[str, object], *, log: Path | None = None, die_at: int | None = None) -> int:
    child = os.fork()
    if child == 0:
        try:
            _write(store, new, log, die_at)
        finally:
            os._exit(0)
    return child


def main(store: Path, folder: Path, mode: str, number: int) -> None:
    """See the module."""
    new = elements(2)
    first = Path(shutil.copytree(store, folder / "undisturbed.zarr"))
    start = time.perf_counter()
    os.waitpid(_fork(first, new, log=folder / "events.json"), 0)
    duration = time.perf_counter() - start
    events = json.loads((folder / "events.json").read_text())
    rng = random.Random(0)
    if mode == "steps":
        swap = next(k for k, event in enumerate(events) if "journal" in event)
        at = [*rng.sample(range(swap), 3), *np.linspace(swap, len(events) - 1, number).astype(int).tolist()]
    else:
        at = list(range(number))
    for k in dict.fromkeys(at):
        copy = Path(shutil.copytree(store, folder / f"{k}.zarr"))
        child = _fork(copy, new, die_at=k if mode == "steps" else None)
        if mode == "moments":
            time.sleep(rng.uniform(0.1, 1.05) * duration)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
