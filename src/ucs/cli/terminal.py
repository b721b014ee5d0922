"""Output of the commands: log level, tables, and errors in one line."""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes; shells report 130 for a program that was ended by Ctrl-C


@contextlib.contextmanager
def reporting(
    options: Collection[str] = (), *, quiet: bool, verbose: bool, unchanged: Path | None = None
) -> Iterator[None]:
    """Set the log level; end with one line and an exit code if input is bad or the user interrupts.

    Parameters
    ----------
    options
        Arguments of the library that are options of the command; see :func:`in_options`.
    quiet, verbose
        Log warnings only, or also debug messages and tracebacks.
    unchanged
        Store that is as it was after an interruption.
    """
    from ucs._utils.log import to_terminal  # not for --help

    with to_terminal(lambda message: in_options(message, options)), _log_level(quiet=quiet, verbose=verbose):
        try:
            yield
        except KeyboardInterrupt as interrupt:
            unwritten = f"{unchanged} is as it was." if unchanged else "nothing was written."
            _complain(str(interrupt) or f"interrupted; {unwritten}")
            raise typer.Exit(INTERRUPTED) from None
        except (ImportError, KeyError, MemoryError, OSError, TypeError, ValueError) as error:
            if verbose:
                traceback.print_exc()
            _complain(_one_line(error, options))
            raise typer.Exit(BAD_INPUT) from None


@contextlib.contextmanager
def _log_level(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Set the log level for one command."""
    levels = {"ucs": logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO}
    if not verbose:
        levels["ome_zarr"] = logging.ERROR  # it warns of every labels element of a SpatialData object
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    # Warnings of other packages are for developers (deprecations, future defaults): shown with --verbose only.
    logging.captureWarnings(capture=not verbose)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _one_line(error: Exception, options: Collection[str]) -> str:
    """Return the message of an error in one line; with type and a hint at --verbose if another package raised it."""
    # str() of a KeyError is the repr of its message.
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    message = in_options(" ".join(message.split()), options)
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if raised_in.is_relative_to(Path(__file__).parents[1]) and message:
        return message
    return f"{type(error).__name__}: {message} (--verbose shows where)"


def in_options(message: str, options: Collection[str]) -> str:
    """Return a message of the library with its arguments replaced by options of the command line.

    Parameters
    ----------
    message
        Message of the library.
    options
        Arguments of the library that are options of the command.
    """
    from ucs.cli.options import flags

    message = message.replace("overwrite=True", "--overwrite")
    message = re.sub(r"\w+=\S+ \(in ucs\.tl\.segment: (read=\{[^}]*\})\)", r"\1", message)
    message = re.sub(r"params=\{'(\w+)': ([^}]*)\}", r"--param \1=\2", message)
    message = re.sub(r"params\['(\w+)'\]", r"--param \1", message)
    message = re.sub(r"\bparams=(?=[\s.,;:)])", "--param", message)
    for name, flag in flags().items():
        argument, field = name[:-2].split("['")
        message = message.replace(f"{name}=", f"{flag} ").replace(name, flag)
        given = rf"{argument}=\{{'{field}': ([^}}]*)\}}"
        message = re.sub(given, flag if flag.startswith("--no-") else rf"{flag} \1", message)
        if flag == f"--{field.replace('_', '-')}":
            options = [*options, field]
    names = "|".join(options)
    message = re.sub(rf"\b({names})=(?=[\s.,;:)]|$)", r"--\1", message)
    message = re.sub(rf"\b({names})=", r"--\1 ", message)
    message = re.sub(r"(--\w+) True\b", r"\1", message)
    return re.sub(r"--[a-z_]+", lambda option: option[0].replace("_", "-"), message)


def tell(message: str) -> None:
    """Print a line."""
    typer.echo(message)


def show(table: object) -> None:
    """Print a table."""
    from rich.console import Console

    Console().print(table)


def _complain(message: str) -> None:
    typer.echo(f"ucs: {message}", err=True)
