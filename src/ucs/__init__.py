"""UCS cell segmentation for subcellular spatial transcriptomics, on SpatialData.

The one call is :func:`ucs.tl.segment`. The submodules are loaded when they are first used, so that ``import ucs``
costs next to nothing; torch, numba and spatialdata come in with the first function that needs them.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    import pandas as pd

    from ucs import datasets, io, methods, metrics, pl, pp, tl

__version__ = version("spatialdata-ucs")

__all__ = ["__version__", "datasets", "io", "methods", "metrics", "pl", "platforms", "pp", "tl"]


def platforms() -> pd.DataFrame:
    """List the platforms that are recognised and what is assumed of each: a row per platform."""
    from ucs._read.platforms import platforms as known

    return known()


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
