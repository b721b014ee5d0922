"""What the commands say: progress, tables, and one line where something goes wrong."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes; 130 is what shells report of a program that Ctrl-C has ended


@contextlib.contextmanager
def reporting(
    options: Collection[str] = (), *, quiet: bool, verbose: bool, unchanged: Path | None = None
) -> Iterator[None]:
    """Set what is said, and end with an exit code and one line where input is bad or the user interrupts.

    Parameters
    ----------
    options
        Arguments of the library that are options of the command; see :func:`in_options`.
    quiet, verbose
        How much is said.
    unchanged
        A store that is as it was after an interruption.
    """
    with _volume(quiet=quiet, verbose=verbose):
        try:
            yield
        except KeyboardInterrupt:
            _complain(f"interrupted; {unchanged} is as it was." if unchanged else "interrupted; nothing was written.")
            raise typer.Exit(INTERRUPTED) from None
        except (KeyError, MemoryError, OSError, TypeError, ValueError) as error:
            if verbose:
                traceback.print_exc()
            _complain(_one_line(error, options))
            raise typer.Exit(BAD_INPUT) from None


@contextlib.contextmanager
def _volume(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Set how much is said, for the time of one command."""
    levels = {"ucs": logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO}
    if not verbose:
        levels["ome_zarr"] = logging.ERROR  # it finds fault with every labels element of a SpatialData
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    # Other packages' notes to developers (deprecations, defaults to come) would bury what matters: with --verbose only.
    logging.captureWarnings(capture=not verbose)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _one_line(error: Exception, options: Collection[str]) -> str:
    """Return the message of an error in one line; if it is not our own, with its kind and how to learn more."""
    # str() of a KeyError is the repr of its message.
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    message = in_options(" ".join(message.split()), options)
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if raised_in.is_relative_to(Path(__file__).parent) and message:
        return message
    return f"{type(error).__name__}: {message} (--verbose shows where)"


def in_options(message: str, options: Collection[str]) -> str:
    """Say what to do in options of the command line where the library speaks of arguments.

    Parameters
    ----------
    message
        Of the library.
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


def shows_progress(*, quiet: bool) -> bool:
    """Bars are for eyes: a log file gets the lines of the stages only."""
    return not quiet and sys.stderr.isatty()


def tell(message: str) -> None:
    """Say a line."""
    typer.echo(message)


def show(table: object) -> None:
    """Show a table."""
    from rich.console import Console

    Console().print(table)


def _complain(message: str) -> None:
    typer.echo(f"ucs: {message}", err=True)
