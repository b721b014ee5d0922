"""The engine on arrays: what :func:`ucs.tl.segment` does between reading and writing, timed by stage."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._run.tiles import run_tiles
from ucs.methods.base import resolve_method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from numpy.typing import NDArray

    from ucs.methods.base import RasterSample
    from ucs.methods.model import UCSModel


class OutOfTime(BaseException):  # nobody who handles errors handles it
    """The time of a part is over, or, with the name of a stage, that of this stage."""


class Clock:
    """Times stages, as :class:`ucs._utils.progress.Stages`; stops tiles when time is over.

    Parameters
    ----------
    stop_at
        ``time.perf_counter()`` after which no further tile is begun; never if None.
    """

    def __init__(self, stop_at: float | None = None) -> None:
        self.stop_at = stop_at
        self.seconds: dict[str, float] = {}
        self.done: dict[str, tuple[int, int]] = {}

    @contextlib.contextmanager
    def stage(self, name: str, **_options: Any) -> Iterator[Callable[[int, int], None]]:
        """Time a stage; yield what is to be called with ``(done, total)``."""
        start = time.perf_counter()

        def update(done: int, total: int) -> None:
            self.done[name] = done, total
            if self.stop_at is not None and 0 < done < total and time.perf_counter() > self.stop_at:
                raise OutOfTime(name)

        try:
            yield update
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class PlainRasters:
    """In the place of :class:`ucs._files.workspace.Workspace`: all rasters are plain arrays."""

    on_disk = False

    @staticmethod
    def raster(_name: str, shape: tuple[int, ...], dtype: Any, _chunk: int) -> NDArray:
        """Return an array of zeros."""
        return np.zeros(shape, dtype=dtype)


@dataclass(frozen=True)
class Learned:
    """A model, the survey of what it was learned from, and how long that took."""

    model: UCSModel
    survey: Any
    seconds: dict[str, float]


def learn(
    raster: RasterSample,
    method: str,
    device: torch.device,
    params: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    clock: Clock | None = None,
) -> Learned:
    """Train a method on a raster."""
    chosen, clock = resolve_method(method), clock or Clock()
    of_method = chosen.params.resolve(params)
    genes = raster.features[: raster.n_genes]
    with clock.stage("shared"):
        shared = chosen.learn_shared([raster], genes, of_method, seed=seed)
    with clock.stage("survey") as update:
        survey = chosen.survey(raster, genes, of_method, progress=update)
    with clock.stage("train") as update:
        training_set = chosen.prepare([raster], [survey], genes, of_method, shared, of="")
        model = training_set.fit(of_method, device=device, seed=seed, start=None, progress=update)
    return Learned(model, survey, clock.seconds)


def find_cells(
    raster: RasterSample,
    learned: Learned,
    device: torch.device,
    *,
    tile_size: int = 1024,
    clock: Clock | None = None,
    watch: Callable[[Any], Any] = lambda predictor: predictor,
) -> tuple[NDArray[np.int32], dict[str, float]]:
    """Return the labels of the cells, ``(h, w)``, and the seconds of each stage.

    Parameters
    ----------
    raster, learned
        A sample, and what was learned of it.
    device, tile_size
        As in :class:`ucs.options.ComputeOptions`.
    clock
        Times the stages.
    watch
        Called with the predictor; returns the one that is used in its place.
    """
    clock = clock or Clock()
    method = resolve_method(learned.model.method)
    with clock.stage("plan"):
        nobody = np.zeros(raster.n + 1, dtype=np.int64)
        plan = method.plan([learned.model], raster, nobody, learned.survey, threshold=method.threshold)
    object.__setattr__(plan, "predictor", watch(plan.predictor))
    rasters = run_tiles(
        plan, raster.nuclei, raster.n, len(raster.features), tile_size=tile_size, device=str(device),
        workspace=PlainRasters(), foreground=False, stages=clock,
    )  # fmt: skip
    return rasters["labels"], clock.seconds
