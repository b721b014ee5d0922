"""Choice of device, arithmetic and threads.

Within one operation of torch the order in which numbers are added up, and so the last digits, depends on the number of
threads. On a CPU every operation therefore runs in one thread, and several threads take different blocks.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_BLOCKS_PER_THREAD = 8  # that wait for a thread, and for being looked at


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    device
        ``"auto"`` (CUDA, then MPS, then CPU), or anything :class:`torch.device` takes.

    Raises
    ------
    ValueError
        If the device does not exist here.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    available = ["cpu"]
    available += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    available += ["mps"] if torch.backends.mps.is_available() else []
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        msg = f"device={device!r} is not a device; available here: {', '.join(available)} (or 'auto')."
        raise ValueError(msg) from error
    name = "cuda:0" if str(resolved) == "cuda" else str(resolved)
    if name not in available:
        msg = f"device={device!r} is not there; available here: {', '.join(available)} (or 'auto')."
        raise ValueError(msg)
    return resolved


def autocast(device: torch.device) -> AbstractContextManager:
    """Return a context for mixed precision: bfloat16 where the device computes in it, float32 elsewhere."""
    if _has_bfloat16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[int]:
    """Let each operation on a CPU run in one thread; yields how many there were, and gives them back."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield threads
        return
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def each_in_one_thread(
    compute: Callable[[_Item], _Result],
    items: Sequence[_Item],
    take: Callable[[_Item, _Result], None],
    device: torch.device,
) -> None:
    """Call ``take(item, compute(item))`` in the order of the items; on a CPU, compute as many as torch has threads.

    Modes of torch that hold for one thread (``inference_mode``, ``autocast``) must be set within ``compute``.
    """
    with one_thread(device) as threads:
        if device.type != "cpu" or threads == 1 or len(items) < 2:
            for item in items:
                take(item, compute(item))
            return
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for first in range(0, len(items), threads * _BLOCKS_PER_THREAD):
                some = items[first : first + threads * _BLOCKS_PER_THREAD]
                for item, result in zip(some, pool.map(compute, some), strict=True):
                    take(item, result)


def precision(device: torch.device) -> str:
    """Name the arithmetic that :func:`autocast` gives on a device."""
    return "bfloat16" if _has_bfloat16(device) else "float32"


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
