"""The nets alone: eager, compiled and as CUDA graphs, and by the number of blocks at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.nets import NetAtWork, all_nets, seconds_of
from ucs.methods.device import autocast, sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

BATCHES = (1, 2, 4, 9, 16, 36, 64, 121, 256)
SMALL_SIDE = 8
"""Of blocks, where figures mean nothing."""
_BLOCKS = {"pretrained": 9, "density": 121, "paper": 121}  # of a tile


def peak_flops(device: torch.device, *, side: int) -> float:
    """Return FLOP/s of a product of random square matrices in the arithmetic of the nets."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device)


def compare_graphs(found: dict[str, Any], end: float, device: torch.device, *, reduced: bool) -> None:
    """Fill in the ways to run each net: seconds of a pass, of the first one, and how far values are from eager ones."""
    for name, at_work in all_nets(side=SMALL_SIDE if reduced else None).items():
        found[name] = {}
        n = 1 if reduced else _BLOCKS[name]
        net, inputs = at_work.net.to(device), at_work.inputs(n, device)

        def run(module: Any, given: list[Tensor] = inputs) -> Any:
            with torch.no_grad(), autocast(device):
                return module(*given)

        expected = _first(run(net))
        found[name]["blocks"] = n
        found[name]["eager"] = {"seconds": seconds_of(lambda run=run, net=net: run(net), device, once=reduced)}
        for way, make in _ways(net, inputs, device, reduced=reduced).items():
            if time.perf_counter() > end:
                found[name][way] = {"skipped": "no time left"}
                continue
            try:
                found[name][way] = _time_way(make, run, expected, device)
            except Exception as error:  # noqa: BLE001 - a compiler that fails says nothing of the engine
                found[name][way] = {"failed": repr(error)[:2000]}


def _ways(net: Any, inputs: list[Tensor], device: torch.device, *, reduced: bool) -> dict[str, Callable[[], Any]]:
    if reduced:  # compiling takes a minute
        return {}
    torch._dynamo.reset()
    ways: dict[str, Callable[[], Any]] = {"compiled": lambda: torch.compile(net)}
    if device.type == "cuda":
        ways["compiled_reduce_overhead"] = lambda: torch.compile(net, mode="reduce-overhead")
        ways["cuda_graph"] = lambda: _graph(net, inputs, device)
    return ways


def _time_way(
    make: Callable[[], Any], run: Callable[[Any], Any], expected: Tensor, device: torch.device
) -> dict[str, Any]:
    start = time.perf_counter()
    module = make()
    made = _first(run(module))
    away = float((made - expected).abs().max() / expected.abs().max())
    run(module)  # the first replays of a graph record it
    found = {"first_seconds": time.perf_counter() - start, "away": away}
    return found | {"seconds": seconds_of(lambda: run(module), device)}


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values


def _first(made: Any) -> Tensor:
    return (made[0] if isinstance(made, tuple) else made).float().clone()


def _graph(net: Any, inputs: list[Tensor], device: torch.device) -> Callable[..., Any]:
    """Record a pass as a CUDA graph; what it returns replays it on the same inputs."""

    def work() -> Any:
        # The cache of weights in bfloat16 is freed when the context ends, and the graph would read what is freed.
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False):
            return net(*inputs)

    beside = torch.cuda.Stream(device)
    beside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(beside):
        for _ in range(3):
            work()
    torch.cuda.current_stream(device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = work()

    def replay(*_given: Tensor) -> Any:
        graph.replay()
        return made

    return replay


def sweep_batches(found: dict[str, Any], end: float, device: torch.device, *, reduced: bool) -> None:
    """Fill in Mpx per second of each net by blocks at once: of the net alone, and with copies there and back."""
    for name, at_work in all_nets(side=SMALL_SIDE if reduced else None).items():
        found[name] = {}
        net = at_work.net.to(device)
        for n in BATCHES[:2] if reduced else BATCHES:
            if time.perf_counter() > end:
                found[name][n] = {"skipped": "no time left"}
                continue
            try:
                found[name][n] = _time_batch(net, at_work, n, device, once=reduced)
            except torch.cuda.OutOfMemoryError:
                found[name][n] = {"skipped": "does not fit into the device's memory"}
                break
        rates = {n: one["mpx_per_s"] for n, one in found[name].items() if "mpx_per_s" in one}
        found[name]["best"] = max(rates, key=rates.__getitem__)


def _time_batch(net: Any, at_work: NetAtWork, n: int, device: torch.device, *, once: bool) -> dict[str, Any]:
    inputs = at_work.inputs(n, device)
    here = [one.cpu().contiguous().numpy() for one in inputs]
    mpx = n * at_work.side**2 / 1e6

    def alone() -> Any:
        with torch.inference_mode(), autocast(device):
            return net(*inputs)

    def with_copies() -> Any:
        with torch.inference_mode(), autocast(device):
            made = net(*(_channels_last(sent(one, device)) for one in here))
        return _first(made).cpu().numpy()

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    out = {
        "mpx_per_s": mpx / seconds_of(alone, device, once=once),
        "mpx_per_s_with_copies": mpx / seconds_of(with_copies, device, once=once),
    }
    if device.type == "cuda":
        out["gpu_allocated_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return out
