"""Prediction with the density net: where cells are, which nucleus owns each pixel, how sure that is.

The raster is looked over once; then each tile is worked on by itself (:mod:`ucs.methods.density.tile`), here or by the
workers of a Dask client, and written to a canvas in memory or in the scratch folder. Refinement follows, cell by cell.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._run.cluster import active_client, work_in_cluster
from ucs._run.output import Canvas, refine_canvas
from ucs._utils.log import logger
from ucs._utils.memory import release_unused
from ucs._utils.progress import stage
from ucs.methods.density.cores import count_in_cores
from ucs.methods.density.overviews import overview_of
from ucs.methods.density.statistics import tiles_of
from ucs.methods.density.tile import Judge, Judges, TileTask, ask_nets, decide
from ucs.methods.device import resolve_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from ucs._files.workspace import Workspace
    from ucs._kernels.bands import Raster
    from ucs._kernels.transcripts import Window
    from ucs._read.sample import Sample
    from ucs.methods.density.expression import KindNet
    from ucs.methods.density.levels import Levels
    from ucs.methods.density.statistics import Overview, Selection
    from ucs.methods.density.tile import Density, TileCells
    from ucs.methods.model import UCSModel


_NUCLEI_AT_ONCE = 8192


def predict_by_density(
    sample: Sample,
    models: Sequence[UCSModel],
    judge: NDArray[np.int64],
    *,
    ownership: str,
    tile_size: int,
    device: str,
    workspace: Workspace,
    progress: bool,
    timings: dict[str, float],
) -> tuple[Raster, Raster]:
    """Return labels and 255 times the confidence in them (:mod:`ucs.methods.density.confidence`), ``(h, w)`` each.

    They are plain arrays or, of large rasters and in the scratch folder, Zarr arrays.

    Parameters
    ----------
    sample
        The sample.
    models
        Density models; of several, each judges where the cells of its nuclei end. Which of two nuclei a pixel belongs
        to is a comparison, for which one measure must serve all: the kinds of the first model.
    judge
        ``(n + 1,)`` number of the model of each nucleus.
    ownership
        ``"expression"`` or ``"distance"``.
    workspace
        Where rasters are held.
    tile_size, device, progress, timings
        As in :func:`ucs.tl.segment`.
    """
    with stage("survey", timings, progress=progress, unit="tile") as update:
        job = _Job.prepare(sample, models, judge, ownership=ownership, update=update)
    release_unused()
    client = active_client(device) if workspace.on_disk else None  # workers share rasters by way of the disk
    tiles = list(tiles_of(job.overviews[0].shape, tile_size))
    canvas = Canvas.open(workspace, job.overviews[0].shape, tile_size)
    todo = [number for number in range(len(tiles)) if number not in canvas.done]
    if len(todo) < len(tiles):
        logger.info("%d of %d tiles are there already.", len(tiles) - len(todo), len(tiles))
    n_done = len(tiles) - len(todo)
    with stage("cells", timings, progress=progress, unit="tile") as update:
        update(n_done, len(tiles))

        def count(_number: int) -> None:
            nonlocal n_done
            n_done += 1
            update(n_done, len(tiles))

        tasks = (job.task(number, tiles[number]) for number in todo)
        if client is not None:
            work_in_cluster(client, tasks, job.judges, canvas, tiles, device=device, tile_size=tile_size, done=count)
        else:
            where = resolve_device(device)
            for task, cells in _work_here(tasks, job.judges.on(where), where, tile_size):
                canvas.put(task.number, tiles[task.number], cells)
                count(task.number)
                release_unused()  # each thread of the nets keeps what it has used
    for model in models:
        model.foreground.cpu()
    with stage("refine", timings, progress=progress, unit="tile") as update:
        return refine_canvas(canvas, sample.nuclei.labels, len(sample.nuclei.ids), update)


def _work_here(
    tasks: Iterator[TileTask], judges: Judges, device: torch.device, tile_size: int
) -> Iterator[tuple[TileTask, TileCells]]:
    """Work on tiles one after the other; on a GPU, the CPU's part of one beside the net's part of the next."""

    def ask(task: TileTask) -> Density:
        return ask_nets(task, judges, device=device, tile_size=tile_size)

    if device.type == "cpu":
        for task in tasks:
            yield task, decide(ask(task), judges)
        return
    with ThreadPoolExecutor(1) as ahead:
        before = None
        for task in tasks:
            after = ahead.submit(ask, task)
            if before is not None:
                density = before.result()
                yield density.task, decide(density, judges)
            before = after
        if before is not None:
            density = before.result()
            yield density.task, decide(density, judges)


@dataclass(frozen=True)
class _Job:
    """A sample and the models that judge it, ready to be cut into tiles."""

    overviews: tuple[Overview, ...]
    judge: NDArray[np.int64]
    judges: Judges
    membership: NDArray[np.float32]

    @classmethod
    def prepare(
        cls,
        sample: Sample,
        models: Sequence[UCSModel],
        judge: NDArray[np.int64],
        *,
        ownership: str,
        update: Callable[[int, int], None],
    ) -> _Job:
        """Look over the sample with the eyes of each model."""
        groups = judge + 1 if len(models) > 1 else None
        overviews: dict[tuple[str, ...], Overview] = {}
        for model in models:
            if model.genes not in overviews:
                model.check_overlap(sample.transcripts.genes + sample.transcripts.controls)
                tissue = sample.transcripts, sample.nuclei.labels
                overviews[model.genes] = overview_of(
                    *tissue, model.genes, model.params, sample.overviews, groups, update
                )
        at_work = []
        for number, model in enumerate(models):
            overview = overviews[model.genes]
            mine = judge == number
            mine[0] = False
            levels = overview.levels(None if groups is None else number + 1)
            _log(levels)
            at_work.append(Judge(model.density_nets()[0], overview.selection, levels, overview.mean_count(mine)))
        kinds = models[0].density_nets()[1]
        profiles = kinds.profiles if ownership == "expression" else None
        if profiles is None:
            judges = Judges(tuple(at_work), None, 0.0, models[0].params.threshold)
            membership = np.zeros((len(judge), 0), dtype=np.float32)
        else:
            judges = Judges(tuple(at_work), profiles.log_ratio, float(kinds.trust_um), models[0].params.threshold)
            n, um_per_px = len(sample.nuclei.ids), sample.transcripts.grid.um_per_px
            counts = count_in_cores(sample.transcripts.map, sample.nuclei.labels, n, um_per_px=um_per_px)
            membership = _memberships(kinds, overviews[models[0].genes].selection, counts)
        sample.overviews.clear()  # with the distances of all pixels, which have told what they had to tell
        lean = {genes: overview.without_bins() for genes, overview in overviews.items()}
        return cls(tuple(lean[model.genes] for model in models), judge, judges, membership)

    def task(self, number: int, core: Window) -> TileTask:
        """Cut out one tile."""
        extract = self.overviews[0].extract(core)
        ids = extract.ids
        richness = np.stack([overview.richness[ids] for overview in self.overviews])
        return TileTask(number, extract, self.judge[ids], richness, self.membership[ids])


def _memberships(kinds: KindNet, selection: Selection, counts: csr_matrix) -> NDArray[np.float32]:
    """Return ``(n + 1, kinds)`` of counts ``(n, all features)``, part by part: a copy of all of them would be large."""
    n = counts.shape[0]
    out = np.zeros((n + 1, len(kinds.log_share)), dtype=np.float32)
    for first in range(0, n, _NUCLEI_AT_ONCE):
        stop = min(first + _NUCLEI_AT_ONCE, n)
        out[first + 1 : stop + 1] = kinds.membership(selection.of_columns(counts[first:stop]))[1:]
    return out


def _log(levels: Levels) -> None:
    logger.info(
        "Transcripts per um2: %.3g in nuclei, %.3g in cytoplasm, %.3g in background; cells reach %.1f um from "
        "nuclei%s.",
        levels.nucleus,
        levels.cytoplasm,
        levels.background,
        levels.reach_um,
        "" if levels.calibrated else " (taken as usual: density does not tell)",
    )
