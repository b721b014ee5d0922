"""Tools: segment, its steps, and what serves anybody's labels.

Each function is loaded when it is first used: one that measures should not make :func:`segment` wait.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ucs.tl._aggregate import aggregate
    from ucs.tl._annotate import annotate_nuclei
    from ucs.tl._compare import compare
    from ucs.tl._localization import localization
    from ucs.tl._morphology import morphology
    from ucs.tl._outlines import outlines
    from ucs.tl._predict import find_missing, predict
    from ucs.tl._segment import segment
    from ucs.tl._train import train

_MODULES = {
    "aggregate": "_aggregate", "annotate_nuclei": "_annotate", "compare": "_compare", "find_missing": "_predict",
    "localization": "_localization", "morphology": "_morphology", "outlines": "_outlines", "predict": "_predict",
    "segment": "_segment", "train": "_train",
}  # fmt: skip

__all__ = [
    "aggregate", "annotate_nuclei", "compare", "find_missing", "localization", "morphology", "outlines", "predict",
    "segment", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
