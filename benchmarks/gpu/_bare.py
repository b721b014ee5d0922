"""Imports the engine on a machine where neither this package nor all that it requires is installed.

The engine needs torch, numba, numpy and scipy. Of the rest it imports ``safetensors`` to read the weights of the
pretrained net, ``tqdm`` to write its log above progress bars, and ``psutil`` for memory limits, which no part of the
check asks for: where they are missing, what is needed of them is put in their place.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_SOURCE = Path(__file__).parents[2] / "src"


def make_importable() -> list[str]:
    """Make ``ucs`` importable from the source tree; return the modules that were replaced."""
    if importlib.util.find_spec("ucs") is None:
        sys.path.insert(0, str(_SOURCE))
    stand_ins = {"psutil": _psutil, "safetensors": _safetensors, "tqdm": _tqdm}
    missing = [name for name in stand_ins if not _is_installed(name)]
    for name in missing:
        for module in stand_ins[name]():
            sys.modules[module.__name__] = module
    return missing


def _is_installed(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def _module(name: str, **content: object) -> ModuleType:
    module = ModuleType(name, "In the place of a package that is not installed.")
    vars(module).update(content, __spec__=ModuleSpec(name, None))  # torch asks where modules come from
    return module


def _psutil() -> list[ModuleType]:
    return [_module("psutil")]


def _tqdm() -> list[ModuleType]:
    class Bars:
        @staticmethod
        def write(text: str, *, file: object) -> None:
            print(text, file=file)  # type: ignore[call-overload]

    return [_module("tqdm", tqdm=Bars)]


def _safetensors() -> list[ModuleType]:
    return [
        _module("safetensors", SafetensorError=ValueError),
        _module("safetensors.torch", load=load_tensors, save=_refuse_to_save),
    ]


def load_tensors(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file of the safetensors format: length of the header, header as JSON, values."""
    import torch

    dtypes = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "I32": torch.int32}
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    out = {}
    for name, of in header.items():
        begin, end = (start + offset for offset in of["data_offsets"])
        out[name] = torch.frombuffer(bytearray(content[begin:end]), dtype=dtypes[of["dtype"]]).reshape(of["shape"])
    return out


def _refuse_to_save(_tensors: object) -> bytes:
    msg = "Models are saved with safetensors, which is not installed here."
    raise ImportError(msg)
