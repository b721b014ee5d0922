"""Seconds of each stage on slides of several sizes, and what the GPU does in that time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from benchmarks._machine import peak_gib
from benchmarks.gpu.checks import UM_PER_PX
from benchmarks.gpu.engine import Clock, OutOfTime, find_cells, learn
from benchmarks.gpu.scene import make_slide
from ucs.methods.base import TileCells, TilePredictor
from ucs.methods.device import precision
from ucs.methods.paper.predict import PaperPredictor
from ucs.methods.pretrained.predict import OwnerPredictor

if TYPE_CHECKING:
    from torch import nn

# Method, Mpx of 1 um, sides in um of the tissue that is drawn, how often it is repeated, and the share of the time that
# is left which it may take.
CASES: list[tuple[str, float, tuple[float, float], tuple[int, int], float]] = [
    ("pretrained", 1, (1000, 1000), (1, 1), 0.9),
    ("density", 1, (1000, 1000), (1, 1), 0.9),
    ("paper", 1, (1000, 1000), (1, 1), 0.9),
    ("pretrained", 4, (1000, 1000), (2, 2), 0.9),
    ("pretrained", 41, (1600, 1600), (4, 4), 0.7),
    ("density", 4, (1000, 1000), (2, 2), 0.9),
    ("density", 41, (1600, 1600), (4, 4), 0.95),
]
REDUCED_CASES = [("pretrained", 0.003, (50.0, 60.0), (1, 1), 0.9)]


@dataclass
class Tally:
    """What a predictor did: seconds on the CPU, blocks through nets, and the seconds or events of these."""

    seconds: dict[str, float] = field(default_factory=lambda: {"forward": 0.0, "decide": 0.0})
    blocks: int = 0
    events: list[tuple[Any, Any]] = field(default_factory=list)
    hooks: list[Any] = field(default_factory=list)

    def watch(self, first: nn.Module, last: nn.Module, device: torch.device) -> None:
        """Note when data enter the first module of a net and leave the last."""
        begun: list[Any] = []

        def mark() -> Any:
            if device.type != "cuda":
                return time.perf_counter()
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(device))
            return event

        def enter(_module: nn.Module, _given: Any) -> None:
            begun.append(mark())

        def leave(_module: nn.Module, _given: Any, made: Any) -> None:
            self.events.append((begun.pop(), mark()))
            self.blocks += len(made)

        self.hooks += [first.register_forward_pre_hook(enter), last.register_forward_hook(leave)]

    def net_seconds(self) -> float:
        """Return the seconds from entering nets to leaving them."""
        if self.events and not isinstance(self.events[0][0], float):
            self.events[-1][1].synchronize()
            return sum(before.elapsed_time(after) for before, after in self.events) / 1000
        return sum(after - before for before, after in self.events)


@dataclass(frozen=True)
class Watched(TilePredictor):
    """A predictor that keeps a tally."""

    inner: Any
    tally: Tally

    def on(self, device: torch.device) -> Watched:
        """Send the predictor there and watch its nets."""
        inner = self.inner.on(device)
        if isinstance(inner, OwnerPredictor):
            ends = [(inner.net, inner.net)]
        elif isinstance(inner, PaperPredictor):
            ends = [(one.foreground.embedding, one.cell.scalar_net) for one in inner.nets]
        else:
            ends = [(one.net, one.net) for one in inner.nets]
        for first, last in ends:
            self.tally.watch(first, last, device)
        return Watched(inner, self.tally)

    def forward(self, task: Any, *, device: torch.device, tile_size: int) -> Any:
        """Time the predictor's."""
        return self._timed("forward", lambda: self.inner.forward(task, device=device, tile_size=tile_size))

    def decide(self, scores: Any) -> TileCells:
        """Time the predictor's."""
        return self._timed("decide", lambda: self.inner.decide(scores))

    def _timed(self, name: str, work: Any) -> Any:
        start = time.perf_counter()
        try:
            return work()
        finally:
            self.tally.seconds[name] += time.perf_counter() - start


def time_stages(
    found: dict[str, Any], end: float, device: torch.device, flops: dict[str, int], peak: float, *, reduced: bool
) -> None:
    """Fill in each case: seconds by stage, use of the GPU, peak memory."""
    for method, mpx, sides, repeats, share in REDUCED_CASES if reduced else CASES:
        now = time.perf_counter()
        of_case: dict[str, Any] = {}
        found[f"{method}_{mpx:g}_mpx"] = of_case
        if now > end:
            of_case["skipped"] = "no time left"
            continue
        tally = Tally()
        try:
            _time_case(of_case, tally, method, sides, repeats, device, now + share * (end - now))
        finally:
            _use(of_case, tally, flops.get(method, float("nan")), peak)


def _time_case(
    found: dict[str, Any],
    tally: Tally,
    method: str,
    sides: tuple[float, float],
    repeats: tuple[int, int],
    device: torch.device,
    stop_at: float,
) -> None:
    clock = Clock(stop_at)
    found["seconds"] = clock.seconds
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with clock.stage("make"):
        raster = make_slide(sides, UM_PER_PX[method], repeats=repeats)
    found.update(shape=raster.shape, nuclei=raster.n, transcripts=int(raster.transcripts.n_transcripts))
    try:
        learned = learn(raster, method, device, clock=clock)
        find_cells(raster, learned, device, clock=clock, watch=lambda predictor: Watched(predictor, tally))
    except OutOfTime as stopped:
        if not stopped.args:
            raise
        (stage,) = stopped.args
        found["stopped_in"] = stage
        done, total = clock.done.get(stage, (0, 0))
        if done:
            found["done"], found["of"] = done, total
            found["seconds_of_stage_estimated"] = clock.seconds[stage] * total / done
    finally:
        for hook in tally.hooks:
            hook.remove()
    found["precision"] = precision(device)
    found["peak_gib"] = peak_gib()
    if device.type == "cuda":
        found["gpu_allocated_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        found["gpu_reserved_gib"] = torch.cuda.max_memory_reserved(device) / 2**30


def _use(found: dict[str, Any], tally: Tally, flops_of_block: int, peak: float) -> None:
    """Add what share of the cells' time nets were at work, and of the chip's peak they reached in it."""
    cells, nets = found["seconds"].get("cells"), tally.net_seconds()
    found["seconds_in_cells"] = {**tally.seconds, "nets": nets}
    found["blocks"] = tally.blocks
    if cells and nets:
        found["idle_share"] = 1 - nets / cells
        found["share_of_peak"] = tally.blocks * flops_of_block / nets / peak
