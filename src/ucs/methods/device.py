"""Choice of device, arithmetic and threads.

Within one operation of torch the order in which numbers are added up, and so the last digits, depends on the number of
threads. On a CPU every operation therefore runs in one thread, and several threads take different blocks.
"""

from __future__ import annotations

import contextlib
import copy
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Net = TypeVar("_Net", bound=nn.Module)

_FITTING: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # blocks at once that a net was halved to

_BLOCKS_PER_THREAD = 8  # that wait for a thread, and for being looked at


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on, with its number: which GPU "cuda" is may differ between threads.

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
            return _numbered(torch.device("cuda"))
        return _numbered(torch.device("mps" if torch.backends.mps.is_available() else "cpu"))
    available = ["cpu"]
    available += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    available += ["mps"] if torch.backends.mps.is_available() else []
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        msg = f"device={device!r} is not a device; available here: {', '.join(available)} (or 'auto')."
        raise ValueError(msg) from error
    name = {"cuda": "cuda:0", "mps:0": "mps"}.get(str(resolved), str(resolved))
    if name not in available:
        msg = f"device={device!r} is not there; available here: {', '.join(available)} (or 'auto')."
        raise ValueError(msg)
    return _numbered(resolved)


def _numbered(device: torch.device) -> torch.device:
    """Return the device as its tensors name it; ``torch.device("cuda") != torch.device("cuda:0")``."""
    if device.type == "cpu" or ":" in str(device):
        return device
    return torch.device(device.type, torch.cuda.current_device() if device.type == "cuda" else 0)


def net_on(net: _Net, device: torch.device) -> _Net:
    """Return a net on a device: itself if it is there, else a copy, so that a user's model stays where it is."""
    there = next(net.parameters()).device == device
    return net if there else copy.deepcopy(net).to(device)


def sent(values: NDArray, device: torch.device) -> Tensor:
    """Return an array as a tensor on a device; from pinned memory a copy to a GPU need not be waited for."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


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


def blocks_at_once(device: torch.device, tile_size: int, side: int) -> int:
    """Return how many blocks of a side go through a net at once: those of a tile; on a CPU, one by one."""
    return 1 if device.type == "cpu" else (-(-tile_size // side)) ** 2


def each_block(
    compute: Callable[[Sequence[_Item]], tuple[NDArray, ...]],
    blocks: Sequence[_Item],
    take: Callable[..., None],
    *,
    net: nn.Module,
    device: torch.device,
    at_once: int,
) -> None:
    """Send blocks through a net, as many at once as the device's memory takes, and take what comes out in their order.

    Parameters
    ----------
    compute
        Returns arrays ``(k, ...)`` for ``k`` blocks.
    blocks
        All blocks.
    take
        Called with a block and what each array holds of it.
    net
        Whose blocks these are: so many as do not fit are not tried again with it.
    device
        Where to compute.
    at_once
        Of :func:`blocks_at_once`; halved where memory does not suffice.
    """

    def together(some: Sequence[_Item]) -> list[tuple[NDArray, ...]]:
        made: list[tuple[NDArray, ...]] = []
        while len(made) < len(some):
            tried = some[len(made) : len(made) + min(at_once, _FITTING.get(net, at_once))]
            arrays = _unless_too_much(compute, tried)
            if arrays is not None:
                made += zip(*arrays, strict=True)
                continue
            _FITTING[net] = fewer = len(tried) // 2
            logger.warning("The device's memory does not take %d blocks at once: on with %d.", len(tried), fewer)
            if device.type == "cuda":
                torch.cuda.empty_cache()
        return made

    def enter(some: Sequence[_Item], made: list[tuple[NDArray, ...]]) -> None:
        for block, values in zip(some, made, strict=True):
            take(block, *values)

    some = [blocks[first : first + at_once] for first in range(0, len(blocks), at_once)]
    each_in_one_thread(together, some, enter, device)


def _unless_too_much(
    compute: Callable[[Sequence[_Item]], tuple[NDArray, ...]], blocks: Sequence[_Item]
) -> tuple[NDArray, ...] | None:
    """Return what is computed of several blocks; None if memory does not suffice.

    By then the error is gone, which holds all frames and so all tensors: only now can their memory be freed.
    """
    try:
        return compute(blocks)
    except RuntimeError as error:
        if len(blocks) == 1 or not _is_out_of_memory(error):
            raise
        return None


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Tell errors of a device's memory; those of cuDNN, cuBLAS, pinned memory and MPS have no class of their own."""
    text = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text or "ALLOC_FAILED" in text


def precision(device: torch.device) -> str:
    """Name the arithmetic that :func:`autocast` gives on a device."""
    return "bfloat16" if _has_bfloat16(device) else "float32"


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":  # before Ampere bfloat16 is emulated, and slower than float32
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
