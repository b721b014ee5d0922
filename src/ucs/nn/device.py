"""Choice of device and arithmetic."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


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
