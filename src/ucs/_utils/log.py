"""The package's logger.

All messages go through ``logging.getLogger("ucs")``: one INFO line per stage, a WARNING for doubtful data. The level is
set by ``logging.getLogger("ucs").setLevel("WARNING")``, before or after the package is imported. An application that
configures logging (the root logger has a handler) receives them like those of any library. Where nobody has, they are
written to standard error: a script or a notebook must not miss a warning.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["collected", "hidden", "logger", "noted", "to_terminal"]


class _ProgressAwareHandler(logging.Handler):
    """Write to the current standard error, above progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except (OSError, TypeError, ValueError):
            # A closed stream or a message that does not fit its arguments must not end the run.
            self.handleError(record)


class _LastResort(_ProgressAwareHandler):
    """Write only where nobody has configured logging, as Python's own handler of last resort does."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, unless it goes to the handlers of the root logger."""
        if not (logging.getLogger().handlers and logger.propagate):
            super().emit(record)


def _set_up_logger() -> logging.Logger:
    ucs_logger = logging.getLogger("ucs")
    if ucs_logger.level == logging.NOTSET:
        ucs_logger.setLevel(logging.INFO)
    if not ucs_logger.handlers:
        ucs_logger.addHandler(_formatted(_LastResort()))
    return ucs_logger


class _Formatter(logging.Formatter):
    """Put the level before the message, which may be put into other words."""

    def __init__(self, in_words: Callable[[str], str] = str) -> None:
        super().__init__("%(levelname)-8s %(message)s")
        self.in_words = in_words

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.message = self.in_words(record.message)
        return super().formatMessage(record)


def _formatted(handler: logging.Handler, in_words: Callable[[str], str] = str) -> logging.Handler:
    handler.setFormatter(_Formatter(in_words))
    return handler


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
    level = logger.level
    with _instead(handler):
        logger.setLevel(logging.INFO)
        try:
            yield handler.records
        finally:
            logger.setLevel(level)


def to_terminal(in_words: Callable[[str], str] = str) -> contextlib.AbstractContextManager[None]:
    """Write the package's log records to standard error, whatever is configured: for the command line, in its words."""
    return _instead(_formatted(_ProgressAwareHandler(), in_words))


@contextlib.contextmanager
def _instead(handler: logging.Handler) -> Iterator[None]:
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before


@contextlib.contextmanager
def hidden(name: str, *texts: str) -> Iterator[None]:
    """Hide messages of another package's logger that have one of the texts in them."""

    def is_shown(record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in texts)

    theirs = logging.getLogger(name)
    theirs.addFilter(is_shown)
    try:
        yield
    finally:
        theirs.removeFilter(is_shown)
