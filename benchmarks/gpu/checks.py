"""The engine on a device against the engine on the CPU."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch

from benchmarks.gpu.engine import Learned, find_cells, learn
from benchmarks.gpu.scene import make_slide
from ucs._utils.log import noted
from ucs.methods import device as arithmetic_of
from ucs.methods.paper.foreground import PixelTranscripts, TranscriptEmbedding
from ucs.methods.pretrained import predict as owner_prediction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ucs.methods.base import RasterSample

CPU = torch.device("cpu")
UM_PER_PX = {"pretrained": 0.5, "density": 1.0, "paper": 1.0}
SAME = 0.999
"""Share of the pixels whose labels must agree."""
SAME_TRAINED_ELSEWHERE = 0.97
"""The same for models that were trained in other arithmetic, whose steps drift apart."""

_STEPS = {
    "pretrained": {},
    "density": {"max_steps": 100},
    "paper": {"max_steps": 60, "cell_steps": 60, "cell_patches": 24},
}
_FEW_STEPS = {
    "pretrained": {},
    "density": {"max_steps": 3, "patch_size": 24, "width": 8},
    "paper": {"max_steps": 2, "cell_steps": 2, "cell_patches": 2, "patch_size": 24},
}
_SMALL_TILE, _SMALL_BLOCK = 96, 40
_MEMORY_SHARE = 3  # of what a run took, it is left one part


@contextlib.contextmanager
def arithmetic(name: str) -> Iterator[None]:
    """Compute in ``"bfloat16"``, or in ``"float32"`` without TensorFloat-32."""
    before = torch.backends.cudnn.allow_tf32
    with mock.patch.object(arithmetic_of, "_has_bfloat16", return_value=name == "bfloat16"):
        torch.backends.cudnn.allow_tf32 = name == "bfloat16" and before
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before


def run_checks(found: dict[str, Any], _end: float, device: torch.device, *, reduced: bool) -> None:
    """Fill in what was checked; each entry has ``ok``."""
    found["embedding_of_nothing"] = _embedding(device)
    for method, um_per_px in UM_PER_PX.items():
        side = (50.0, 60.0) if reduced else (400.0, 500.0)
        raster = make_slide(side, um_per_px, n_genes=30 if reduced else 313)
        found[method] = {}
        small = mock.patch.object(owner_prediction, "BLOCK", _SMALL_BLOCK) if reduced else contextlib.nullcontext()
        with small:
            _check(found[method], raster, method, device, reduced=reduced)


def _check(found: dict[str, Any], raster: RasterSample, method: str, device: torch.device, *, reduced: bool) -> None:
    steps = (_FEW_STEPS if reduced else _STEPS)[method]
    with arithmetic("float32"):
        learned = learn(raster, method, CPU, steps)
        expected, _ = find_cells(raster, learned, CPU)
    found["share_in_cells"] = float((expected > 0).mean())
    for name in _arithmetics(method, reduced=reduced):
        with arithmetic(name):
            labels, _ = find_cells(raster, learned, device)
        found[f"labels_{name}"] = _agreement(labels, expected, SAME)
    found["model_stays"] = {"ok": all(tensor.device == CPU for tensor in learned.model.tensors().values())}
    with arithmetic(name):  # the whole is one tile
        in_tiles, _ = find_cells(raster, learned, device, tile_size=_SMALL_TILE)
    found["tiles"] = _agreement(in_tiles, labels, SAME)
    if method == "density" or (method == "paper" and not reduced):  # the third is not trained
        for name in _arithmetics(method, reduced=reduced):
            with arithmetic(name):
                own = learn(raster, method, device, steps)
                labels, _ = find_cells(raster, own, device)
            found[f"training_{name}"] = _agreement(labels, expected, SAME_TRAINED_ELSEWHERE)
    found["memory"] = _memory(raster, learned, expected, device)


def _arithmetics(method: str, *, reduced: bool) -> tuple[str, ...]:
    """Return both; emulated on a CPU, bfloat16 of the larger nets takes too long."""
    return ("float32",) if reduced and method != "pretrained" else ("float32", "bfloat16")


def _agreement(labels: NDArray[np.int32], expected: NDArray[np.int32], least: float) -> dict[str, Any]:
    same = labels == expected
    in_cells = (labels > 0) | (expected > 0)
    return {
        "ok": bool(same.mean() >= least),
        "same": float(same.mean()),
        "same_in_cells": float(same[in_cells].mean()) if in_cells.any() else 1.0,
        "least": least,
    }


def _memory(
    raster: RasterSample, learned: Learned, expected: NDArray[np.int32], device: torch.device
) -> dict[str, Any]:
    """Leave the device a part of the memory that a run took: batches must be halved, and the labels stay."""
    if device.type != "cuda":
        return {"skipped": "needs CUDA; tests/methods/test_device.py has it with nets that refuse large batches"}
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_reserved(device)
    with arithmetic("bfloat16"):
        find_cells(raster, learned, device)
    taken = torch.cuda.max_memory_allocated(device) - held
    gc.collect()
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(device) + taken // _MEMORY_SHARE
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(device).total_memory, device)
    try:
        with arithmetic("bfloat16"), noted() as records:
            labels, _ = find_cells(raster, learned, device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    halved = [record.getMessage() for record in records if "on with" in record.getMessage()]
    found = _agreement(labels, expected, SAME)
    found["ok"] = found["ok"] and bool(halved)
    return found | {"bytes_of_a_run": taken, "bytes_allowed": allowed, "halved": halved}


def _embedding(device: torch.device) -> dict[str, Any]:
    """Embed windows with and without transcripts, there and back, as their sums are kernels of their own on a GPU."""
    torch.manual_seed(0)
    given = TranscriptEmbedding(5)
    out: dict[str, Any] = {"ok": True}
    for name, genes in (("some", [0, 3, 3, 4]), ("none", [])):
        start = torch.tensor([0] * 5 + [len(genes)] * 4)
        batch = PixelTranscripts(start, torch.tensor(genes, dtype=torch.int64), torch.ones(len(genes)), (2, 2, 2))
        made = []
        for where in (CPU, device):
            net = TranscriptEmbedding(5)
            net.load_state_dict(given.state_dict())
            net.to(where)
            embedded = net(batch.to(where))
            embedded.square().sum().backward()
            gradient = [p.grad.cpu() for p in net.parameters() if p.grad is not None]
            made.append([embedded.detach().cpu(), *gradient])
        error = max(float((a - b).abs().max()) for a, b in zip(*made, strict=True) if a.numel())
        scale = max(1.0, *(float(a.abs().max()) for a in made[0] if a.numel()))
        out[name] = error / scale
        out["ok"] = out["ok"] and error <= 1e-4 * scale
    return out
