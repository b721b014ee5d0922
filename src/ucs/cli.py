"""The command line: ``ucs segment`` and ``ucs demo``.

Only what ``ucs --help`` needs is imported here; torch and spatialdata come in with the commands that use them.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes; 130 is what shells report of a program that Ctrl-C has ended

app = typer.Typer(
    name="ucs",
    help="Cells from the transcripts and nuclei of subcellular spatial transcriptomics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Device = Annotated[str, typer.Option(help="auto (CUDA, MPS or CPU), cpu, cuda, cuda:1, mps.")]
Seed = Annotated[int, typer.Option(min=0, help="Of weights and patches: the same seed gives the same cells.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show where an error comes from.")]


def _print_version(value: bool) -> None:
    if value:
        from ucs import __version__

        typer.echo(f"ucs {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Cells from the transcripts and nuclei of subcellular spatial transcriptomics."""


@app.command()
def segment(
    store: Annotated[Path, typer.Argument(help="SpatialData Zarr store with transcripts and nuclei.", metavar="STORE")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New store for the whole object; without it, STORE receives the cells."),
    ] = None,
    platform: Annotated[str, typer.Option(help="auto, xenium or generic.")] = "auto",
    points_key: Annotated[str | None, typer.Option(help="The transcripts; found by itself if not given.")] = None,
    nuclei_key: Annotated[str | None, typer.Option(help="The nuclei, labels or shapes; found by itself.")] = None,
    coordinate_system: Annotated[str | None, typer.Option(help="Where transcripts and nuclei meet.")] = None,
    resolution: Annotated[float | None, typer.Option(help="Side of a pixel in um; the platform's (1 um).")] = None,
    um_per_unit: Annotated[float | None, typer.Option(help="Unit of the points in um; the platform's.")] = None,
    gene_key: Annotated[str | None, typer.Option(help="Column of the points with the gene.")] = None,
    model: Annotated[Path | None, typer.Option(help="A saved model; without it one is trained.")] = None,
    background: Annotated[
        str, typer.Option(help="Distance in um from nuclei that counts as background in training, auto or paper.")
    ] = "auto",
    min_transcripts: Annotated[int, typer.Option(min=0, help="Cells with fewer transcripts are left out.")] = 0,
    tile_size: Annotated[int, typer.Option(min=1, help="Side in pixels of what is held in memory at once.")] = 1024,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier results and an OUTPUT.")] = False,
    no_alignment_check: Annotated[
        bool, typer.Option("--no-alignment-check", help="Do not check that nuclei lie where the transcripts are.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Segment the cells of a store: train on it, predict, refine, and write the cells into it.

    STORE receives labels ucs_cells, shapes ucs_boundaries and the table ucs_table; nothing else in it is touched. With
    --output the whole object goes to a new store, in which the transcripts have the column ucs_cell_id too.
    """
    with _reporting(quiet=quiet, verbose=verbose, unchanged=store if output is None else None):
        from ucs._new_store import check_new_store, check_writable_folder, read_store, write_new_store

        if output is None:
            sdata = read_store(store)
            check_writable_folder(store)
        else:
            check_new_store(output, source=store, overwrite=overwrite)
            sdata = read_store(store)
        from ucs.tl import segment as segment_cells  # after the store: a bad one should not have to wait for torch

        start = time.perf_counter()
        segment_cells(
            sdata,
            points_key,
            nuclei_key,
            platform=platform,
            coordinate_system=coordinate_system,
            resolution=resolution,
            um_per_unit=um_per_unit,
            gene_key=gene_key,
            model=model,
            background=_number_or_word(background),
            min_transcripts=min_transcripts,
            check_alignment=not no_alignment_check,
            tile_size=tile_size,
            device=device,
            seed=seed,
            overwrite=overwrite,
            write=output is None,
            progress=_shows_progress(quiet),
        )
        if output is not None:
            write_new_store(sdata, output)
        elapsed = time.perf_counter() - start
    if not quiet:
        from ucs._report import run_table

        table = sdata.tables["ucs_table"]
        _show(run_table(table, title="Cells", write_seconds=elapsed - table.uns["ucs"]["timings"]["total"]))
        _tell(f"Written to {store if output is None else output}: ucs_cells, ucs_boundaries, ucs_table.")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the store and the picture.")] = Path(
        "ucs-demo"
    ),
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier demo made there.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Segment simulated tissue, nothing to download, and compare the cells with the truth."""
    with _reporting(quiet=quiet, verbose=verbose):
        from ucs import _demo
        from ucs._report import run_table

        made = _demo.run(output, seed=seed, device=device, overwrite=overwrite, progress=_shows_progress(quiet))
    if not quiet:
        _show(run_table(made.sdata.tables["ucs_table"], title="Cells in simulated tissue"))
        _show(_demo.score_table(made.scores))
        _tell(f"SpatialData: {made.store}  (spatialdata.read_zarr reads it)")
        _tell(f"Picture:     {made.picture}")


@contextlib.contextmanager
def _reporting(*, quiet: bool, verbose: bool, unchanged: Path | None = None) -> Iterator[None]:
    """Set what is said, and end with an exit code and one line where input is bad or the user interrupts."""
    with _volume(quiet=quiet, verbose=verbose):
        try:
            yield
        except KeyboardInterrupt:
            _complain(f"interrupted; {unchanged} is as it was." if unchanged else "interrupted; nothing was written.")
            raise typer.Exit(INTERRUPTED) from None
        except (KeyError, MemoryError, OSError, TypeError, ValueError) as error:
            if verbose:
                traceback.print_exc()
            _complain(_one_line(error))
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
    logging.captureWarnings(not verbose)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _one_line(error: Exception) -> str:
    """Return the message of an error in one line; if it is not our own, with its kind and how to learn more."""
    # str() of a KeyError is the repr of its message.
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    message = _in_options(" ".join(message.split()))
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if raised_in.is_relative_to(Path(__file__).parent) and message:
        return message
    return f"{type(error).__name__}: {message} (--verbose shows where)"


def _in_options(message: str) -> str:
    """Say what to do in options of the command line where the library speaks of arguments."""
    message = re.sub(r" or another \w+_added=", "", message)  # the command line has no option for these
    message = message.replace("overwrite=True", "--overwrite").replace("check_alignment=False", "--no-alignment-check")
    names = "|".join(inspect.signature(segment).parameters)
    message = re.sub(rf"\b({names})=(?=[\s.,;:)]|$)", r"--\1", message)
    message = re.sub(rf"\b({names})=", r"--\1 ", message)
    return re.sub(r"--[a-z_]+", lambda option: option[0].replace("_", "-"), message)


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _shows_progress(quiet: bool) -> bool:
    """Bars are for eyes: a log file gets the lines of the stages only."""
    return not quiet and sys.stderr.isatty()


def _complain(message: str) -> None:
    typer.echo(f"ucs: {message}", err=True)


def _tell(message: str) -> None:
    typer.echo(message)


def _show(table: object) -> None:
    from rich.console import Console

    Console().print(table)
