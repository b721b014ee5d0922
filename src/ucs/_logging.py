"""The package's logger.

Everything the package has to say goes through ``logging.getLogger("ucs")``: one INFO line for what a stage added, a
WARNING for doubtful data. The level is set in one place: ``logging.getLogger("ucs").setLevel("WARNING")``, before or
after the package is imported.
"""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm

__all__ = ["logger"]


class _ProgressAwareHandler(logging.Handler):
    """Write to the standard error of the moment, above the progress bars instead of through them."""

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
    # Notebooks and other packages put handlers on the root logger: without this every line would appear twice.
    ucs_logger.propagate = False
    return ucs_logger


logger = _set_up_logger()
