"""The package's logger.

All messages go through ``logging.getLogger("ucs")``: one INFO line per stage, a WARNING for doubtful data. The level is
set by ``logging.getLogger("ucs").setLevel("WARNING")``, before or after the package is imported.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["collected", "logger"]


class _ProgressAwareHandler(logging.Handler):
    """Write to the current standard error, above progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except (OSError, TypeError, ValueError):
            # A closed stream or a message that does not fit its arguments must not end the run.
            self.handleError(record)


def _set_up_logger() -> logging.Logger:
    ucs_logger = logging.getLogger("ucs")
    if ucs_logger.level == logging.NOTSET:
        ucs_logger.setLevel(logging.INFO)
    if not ucs_logger.handlers:
        handler = _ProgressAwareHandler()
        handler.setFormatter(logging.Formatter("%(levelname)-8s %(message)s"))
        ucs_logger.addHandler(handler)
    # Notebooks and other packages add handlers to the root logger: every line would appear twice.
    ucs_logger.propagate = False
    return ucs_logger


logger = _set_up_logger()


class _Collector(logging.Handler):
    """Keep log records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.records.append(record)


@contextlib.contextmanager
def noted() -> Iterator[list[logging.LogRecord]]:
    """Collect the package's warnings, which are written as well."""
    handler = _Collector()
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def collected() -> Iterator[list[logging.LogRecord]]:
    """Collect the package's log records, from INFO on, instead of writing them."""
    handler = _Collector()
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield handler.records
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
