"""The command line: ``ucs check``, ``ucs segment``, ``ucs export``, ``ucs compare`` and ``ucs demo``."""

from ucs.cli.app import app
from ucs.cli.cells import compare, export

__all__ = ["app", "compare", "export"]
