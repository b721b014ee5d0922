"""The command line: ``ucs check``, ``ucs segment`` and ``ucs demo``."""

from ucs.cli.app import app

__all__ = ["app"]
