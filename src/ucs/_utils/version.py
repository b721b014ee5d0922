"""The version of this package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("spatialdata-ucs")
except PackageNotFoundError:  # a source tree that is not installed
    VERSION = "0+unknown"
