"""UCS cell segmentation for subcellular spatial transcriptomics, on SpatialData.

The one call is :func:`ucs.tl.segment`. The submodules are loaded when they are first used, so that ``import ucs``
costs next to nothing; torch, numba and spatialdata come in with the first function that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ucs._utils.compiled import provide_cache
from ucs._utils.version import VERSION

if TYPE_CHECKING:
    import pandas as pd

    from ucs import datasets, io, methods, metrics, options, pl, pp, tl
    from ucs._read.platforms import Platform
    from ucs._report.report import report

provide_cache()  # before any module asks Numba to keep what it compiles

__version__ = VERSION

_SUBMODULES = ("datasets", "io", "methods", "metrics", "options", "pl", "pp", "tl")

__all__ = [
    "Platform", "__version__", "datasets", "io", "methods", "metrics", "options", "pl", "platforms", "pp", "report",
    "tl",
]  # fmt: skip


def platforms() -> pd.DataFrame:
    """List the platforms that are recognised and what is assumed of each: a row per platform."""
    from ucs._read.platforms import platforms as known

    return known()


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "Platform":
        from ucs._read.platforms import Platform

        return Platform
    if name == "report":
        from ucs._report.report import report

        return report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
