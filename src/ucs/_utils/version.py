"""The version of this package, and of those that its results depend on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("spatialdata-ucs")
except PackageNotFoundError:  # a source tree that is not installed
    VERSION = "0+unknown"


def versions() -> dict[str, str]:
    """Return the versions that decide results to the last bit, by package."""
    return {"spatialdata-ucs": VERSION, **{name: version(name) for name in ("torch", "numpy", "numba")}}
