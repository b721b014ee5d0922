"""The command line: its entry, ``ucs check``, ``ucs segment`` and ``ucs demo``.

Only what ``ucs --help`` needs is imported here; torch and spatialdata come in with the commands that use them.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ucs.cli.options import number_or_word, parameters, with_groups
from ucs.cli.terminal import in_options, reporting, show, tell

WOULD_FAIL = 1  # exit code of ``ucs check``

app = typer.Typer(
    name="ucs",
    help="Cells from the transcripts and nuclei of subcellular spatial transcriptomics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Store = Annotated[
    Path,
    typer.Argument(
        help="SpatialData Zarr store with transcripts and nuclei, or the folder of a Xenium, MERSCOPE or CosMx run.",
        metavar="STORE",
    ),
]
Method = Annotated[
    str | None, typer.Option(help="pretrained, density or paper; that of a --model.", show_default="pretrained")
]
Platform = Annotated[str, typer.Option(help="auto, or one of those that ucs.platforms() lists.")]
PointsKey = Annotated[
    list[str] | None, typer.Option(help="The transcripts; detected automatically. Several: give it repeatedly.")
]
NucleiKey = Annotated[str | None, typer.Option(help="The nuclei, labels or shapes; detected automatically.")]
Resolution = Annotated[
    float | None,
    typer.Option(help="Side of a pixel in um; the platform's, at most 0.5 um with the pretrained method."),
]
Regions = Annotated[
    str | None,
    typer.Option(help="One model each: side of blocks in pixels, fov, a column of the points, the key of shapes."),
]
Model = Annotated[Path | None, typer.Option(help="A saved model; without it one is trained.")]
Markers = Annotated[
    Path | None, typer.Option(help="Marker genes of cell types: a CSV file with the columns type and gene.")
]
CellTypeKey = Annotated[str | None, typer.Option(help="Column with the cell type of each nucleus.")]
FindMissing = Annotated[bool, typer.Option("--find-missing", help="Look for cells whose nucleus is not there, too.")]
MissingRule = Annotated[str, typer.Option(help="How --find-missing looks: evidence or paper.")]
Threshold = Annotated[
    float | None,
    typer.Option(help="Probability of lying in a cell above which a pixel does: lower values give larger cells."),
]
Param = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of the method; repeatedly for several.")
]
Device = Annotated[str, typer.Option(help="auto (CUDA, MPS or CPU), cpu, cuda, cuda:1, mps.")]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="Of weights and patches: the same seed gives the same cells.", show_default="0"),
]
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
@with_groups("read", "compute", "key_added")
def check(
    store: Store,
    *,
    method: Method = None,
    platform: Platform = "auto",
    points_key: PointsKey = None,
    nuclei_key: NucleiKey = None,
    resolution: Resolution = None,
    regions: Regions = None,
    model: Model = None,
    markers: Markers = None,
    cell_type_key: CellTypeKey = None,
    find_missing: FindMissing = False,
    missing_rule: MissingRule = "evidence",
    threshold: Threshold = None,
    param: Param = None,
    seed: Seed = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Earlier results are no problem.")] = False,
    no_estimate: Annotated[bool, typer.Option("--no-estimate", help="Do not time the nets.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    verbose: Verbose = False,
    **groups: Any,
) -> None:
    """Tell what segment would use of a store and why, and how long it would take; nothing is written.

    The exit code is 0 if segment would get as far as training, 1 if not, 2 if an option is wrong.
    """
    with reporting(_OPTIONS, quiet=True, verbose=verbose):
        from ucs._files.new_store import read_store

        sdata = read_store(store)
        from ucs.pp import check as check_input

        found = check_input(
            sdata,
            _one_or_several(points_key),
            nuclei_key,
            method=method,
            platform=platform,
            resolution=resolution,
            regions=None if regions is None else number_or_word(regions),
            model=model,
            markers=_read_markers(markers),
            cell_type_key=cell_type_key,
            find_missing=_missing(missing_rule, find=find_missing),
            threshold=threshold,
            params=parameters(param),
            seed=seed,
            overwrite=overwrite,
            estimate=not no_estimate,
            **groups,
        )
    for problem in found["problems"]:
        problem["message"] = in_options(problem["message"], _OPTIONS)
    if as_json:
        tell(json.dumps(found, indent=1))
    else:
        show(found)
    if not found.ok:
        raise typer.Exit(WOULD_FAIL)


@app.command()
@with_groups("read", "compute", "key_added")
def segment(
    store: Store,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New store for the whole object; without it, STORE receives the cells."),
    ] = None,
    method: Method = None,
    platform: Platform = "auto",
    points_key: PointsKey = None,
    nuclei_key: NucleiKey = None,
    resolution: Resolution = None,
    regions: Regions = None,
    model: Model = None,
    markers: Markers = None,
    cell_type_key: CellTypeKey = None,
    find_missing: FindMissing = False,
    missing_rule: MissingRule = "evidence",
    threshold: Threshold = None,
    param: Param = None,
    seed: Seed = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier results and an OUTPUT.")] = False,
    keep_points: Annotated[
        bool, typer.Option("--keep-points", help="Leave the transcripts in STORE as they are, without the column.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write a report: one HTML file, which needs nothing else.", metavar="PATH")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    **groups: Any,
) -> None:
    """Segment the cells of a store: predict, refine, and write the cells into it.

    STORE receives labels ucs_cells, shapes ucs_boundaries, the table ucs_table and the column ucs_cell_id of the
    transcripts; nothing else in it is changed. With --output the whole object goes to a new store: the way for the
    folder of an instrument, in which nothing is written.
    """
    with reporting(_OPTIONS, quiet=quiet, verbose=verbose, unchanged=store if output is None else None):
        from ucs._files.disk import check_writable
        from ucs._files.new_store import check_new_store, read_store, write_new_store
        from ucs._report.target import check_target

        if report is not None:
            check_target(report, overwrite=overwrite)
        if output is None:
            sdata = read_store(store, to_be_changed=True)
            check_writable(store)
        else:
            check_new_store(output, source=store, overwrite=overwrite)
            sdata = read_store(store)
        from ucs.options import OutputKeys
        from ucs.tl import segment as segment_cells  # after the store: a bad one should not have to wait for torch

        start = time.perf_counter()
        segment_cells(
            sdata,
            _one_or_several(points_key),
            nuclei_key,
            method=method,
            platform=platform,
            resolution=resolution,
            regions=None if regions is None else number_or_word(regions),
            model=model,
            markers=_read_markers(markers),
            cell_type_key=cell_type_key,
            find_missing=_missing(missing_rule, find=find_missing),
            threshold=threshold,
            params=parameters(param),
            seed=seed,
            overwrite=overwrite,
            write=False if output is not None else True if keep_points else "points",
            progress=not quiet,
            **groups,
        )
        if output is not None:
            write_new_store(sdata, output)
        elapsed = time.perf_counter() - start
        keys = OutputKeys.resolve(groups["key_added"])
        if report is not None:
            from ucs import report as write_report

            write_report(sdata, report, table_key=keys.table, overwrite=overwrite)
    if not quiet:
        from ucs.cli.report import run_table

        table = sdata.tables[keys.table]
        show(run_table(table, title="Cells", write_seconds=elapsed - table.uns["ucs"]["timings"]["total"]))
        tell(f"Written to {store if output is None else output}: {keys.labels}, {keys.shapes}, {keys.table}.")
        if report is not None:
            tell(f"Report: {report}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the store and the picture.")] = Path(
        "ucs-demo"
    ),
    device: Device = "auto",
    seed: Seed = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier demo made there.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Segment simulated and real tissue, nothing to download; compare the cells with the truth and the vendor's."""
    with reporting(_OPTIONS, quiet=quiet, verbose=verbose):
        from ucs.cli import demo as _demo
        from ucs.cli.report import run_table

        made = _demo.run(output, seed=seed or 0, device=device, overwrite=overwrite, progress=not quiet)
    if not quiet:
        show(run_table(made.sdata.tables["ucs_table"], title="Cells in simulated tissue"))
        show(_demo.score_table(made.scores))
        tell(f"SpatialData: {made.store}  (spatialdata.read_zarr reads it)")
        tell(f"Picture:     {made.picture}")
        show(run_table(made.real.tables["ucs_table"], title="Cells in real tissue (10x Genomics, CC BY 4.0)"))
        tell(f"SpatialData: {made.real_store}")
        tell(f"Picture:     {made.real_picture}")


_OPTIONS = ("method", "platform", "points_key", "nuclei_key", "resolution", "regions", "model", "markers",
            "cell_type_key", "threshold", "seed", "output", "find_missing")  # fmt: skip
"""Arguments of the library that are options of the commands, beside those of the groups."""


def _one_or_several(keys: list[str] | None) -> str | list[str] | None:
    return keys[0] if keys is not None and len(keys) == 1 else keys or None


def _missing(rule: str, *, find: bool) -> bool | str:
    if rule not in ("evidence", "paper"):
        msg = f"--missing-rule {rule} is unknown; valid are evidence, paper."
        raise ValueError(msg)
    if rule == "paper" and not find:
        msg = "--missing-rule has no effect without --find-missing. Leave it out."
        raise ValueError(msg)
    return "paper" if rule == "paper" else find


def _read_markers(path: Path | None) -> object:
    if path is None:
        return None
    import pandas as pd

    return pd.read_csv(path)
