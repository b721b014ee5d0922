"""Runs tiles: one after the other here, or shared by the workers of a Dask client. Unaware of the method."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ucs._kernels.lattice import tiles_of
from ucs._kernels.moved import MovedTranscripts
from ucs._run.cluster import active_client, work_in_cluster
from ucs._run.output import TileOutput, refine_output
from ucs._utils.log import logger
from ucs._utils.memory import release_unused
from ucs.methods.device import resolve_device

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ucs._files.workspace import Workspace
    from ucs._utils.progress import Stages
    from ucs.methods.base import TileCells, TilePlan, TilePredictor


def run_tiles(
    plan: TilePlan,
    nuclei: NDArray[np.int32],
    n: int,
    n_features: int,
    *,
    tile_size: int,
    device: str,
    workspace: Workspace,
    foreground: bool,
    stages: Stages,
) -> dict[str, Any]:
    """Predict all tiles and refine their cells.

    Parameters
    ----------
    plan
        Cuts out the tasks.
    nuclei, n
        ``(h, w)`` ids, and the highest of them.
    n_features
        Of the transcripts.
    tile_size, device
        As in :class:`ucs.options.ComputeOptions`.
    workspace
        Where rasters are held; on disk if the workers of a client share them.
    foreground
        Whether the probability of lying in a cell is wanted.
    stages
        Times the stages ``"cells"`` and ``"refine"``.

    Returns
    -------
    ``"labels"``, ``"confidence"`` and, if wanted, ``"foreground"``, ``(h, w)`` each: plain arrays or, of large rasters
    and in the scratch folder, Zarr arrays. And ``"moved"``: the transcripts of another cell than their pixel.
    """
    client = active_client(device) if workspace.on_disk else None  # workers share rasters by way of the disk
    tiles = list(tiles_of(nuclei.shape, tile_size))
    output = TileOutput.open(workspace, nuclei.shape, tile_size, foreground=foreground)
    todo = [number for number in range(len(tiles)) if number not in output.done]
    if len(todo) < len(tiles):
        logger.info("%d of %d tiles are there already.", len(tiles) - len(todo), len(tiles))
    n_done = len(tiles) - len(todo)
    with stages.stage("cells", unit="tile") as update:
        update(n_done, len(tiles))

        def count() -> None:
            nonlocal n_done
            n_done += 1
            update(n_done, len(tiles))

        tasks = ((number, plan.task(tiles[number])) for number in todo)
        if client is not None:
            work = plan.predictor, output, tiles
            work_in_cluster(client, tasks, *work, device=device, tile_size=tile_size, done=count)
        else:
            where = resolve_device(device)
            for number, cells in _work_here(tasks, plan.predictor.on(where), where, tile_size):
                output.put(number, tiles[number], cells)
                count()
                release_unused()  # each thread of the nets keeps what it has used
    with stages.stage("refine", unit="tile") as update:
        refine_output(output, nuclei, n, update)
    moved = MovedTranscripts.of_tiles(nuclei.shape, n_features, output.all_moves(len(tiles)))
    return {**output.rasters, "moved": moved}


def _work_here(
    tasks: Iterator[tuple[int, Any]], predictor: TilePredictor, device: torch.device, tile_size: int
) -> Iterator[tuple[int, TileCells]]:
    """Work on tiles one after the other; on a GPU, the CPU's part of one beside the net's part of the next."""

    def forward(number: int, task: Any) -> tuple[int, Any]:
        return number, predictor.forward(task, device=device, tile_size=tile_size)

    if device.type == "cpu":
        for number, task in tasks:
            yield number, predictor.decide(forward(number, task)[1])
        return
    with ThreadPoolExecutor(1) as ahead:
        before = None
        for number, task in tasks:
            after = ahead.submit(forward, number, task)
            if before is not None:
                finished, scores = before.result()
                yield finished, predictor.decide(scores)
            before = after
        if before is not None:
            finished, scores = before.result()
            yield finished, predictor.decide(scores)
