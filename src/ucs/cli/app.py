"""The command line: ``ucs check``, ``ucs segment`` and ``ucs demo``.

Only what ``ucs --help`` needs is imported here; torch and spatialdata come in with the commands that use them.
"""

from __future__ import annotations

import inspect
import json
import time
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ucs.cli.terminal import in_options, reporting, show, shows_progress, tell

T = TypeVar("T", int, float)

WOULD_FAIL = 1  # exit code of ``ucs check``

app = typer.Typer(
    name="ucs",
    help="Cells from the transcripts and nuclei of subcellular spatial transcriptomics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Store = Annotated[
    Path, typer.Argument(help="SpatialData Zarr store with transcripts and nuclei.", metavar="STORE")
]
Platform = Annotated[str, typer.Option(help="auto, or one of those that ucs.platforms() lists.")]
PointsKey = Annotated[
    list[str] | None, typer.Option(help="The transcripts; found by itself if not given. Several: give it repeatedly.")
]
NucleiKey = Annotated[str | None, typer.Option(help="The nuclei, labels or shapes; found by itself.")]
CoordinateSystem = Annotated[str | None, typer.Option(help="Where transcripts and nuclei meet.")]
Resolution = Annotated[float | None, typer.Option(help="Side of a pixel in um; the platform's (1 um).")]
UmPerUnit = Annotated[float | None, typer.Option(help="Unit of the points in um; the platform's.")]
GeneKey = Annotated[str | None, typer.Option(help="Column of the points with the gene.")]
Genes = Annotated[str, typer.Option(help="Those that the nets see: all, hvg, how many of these, or a pattern.")]
ZPlanes = Annotated[list[float] | None, typer.Option(help="Plane in z to use; repeatedly for several; all.")]
FuseNuclei = Annotated[bool, typer.Option("--fuse-nuclei", help="Nuclei of one vendor's cell make one cell.")]
Regions = Annotated[
    str | None,
    typer.Option(help="One model each: side of blocks in pixels, fov, a column of the points, the key of shapes."),
]
Model = Annotated[Path | None, typer.Option(help="A saved model; without it one is trained.")]
TileSize = Annotated[int, typer.Option(min=1, help="Side in pixels of what is held in memory at once.")]
FindMissing = Annotated[bool, typer.Option("--find-missing", help="Look for cells whose nucleus is not there, too.")]
NoAlignmentCheck = Annotated[
    bool, typer.Option("--no-alignment-check", help="Do not check that nuclei lie where the transcripts are.")
]
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
def check(
    store: Store,
    platform: Platform = "auto",
    points_key: PointsKey = None,
    nuclei_key: NucleiKey = None,
    coordinate_system: CoordinateSystem = None,
    resolution: Resolution = None,
    um_per_unit: UmPerUnit = None,
    gene_key: GeneKey = None,
    genes: Genes = "all",
    z_planes: ZPlanes = None,
    fuse_nuclei: FuseNuclei = False,
    regions: Regions = None,
    model: Model = None,
    find_missing: FindMissing = False,
    tile_size: TileSize = 1024,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Earlier results are no problem.")] = False,
    no_alignment_check: NoAlignmentCheck = False,
    no_estimate: Annotated[bool, typer.Option("--no-estimate", help="Do not time the nets.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    verbose: Verbose = False,
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
            platform=platform,
            coordinate_system=coordinate_system,
            resolution=resolution,
            um_per_unit=um_per_unit,
            gene_key=gene_key,
            genes=_number_or_word(genes, int),
            z_planes=z_planes or None,
            fuse_nuclei=fuse_nuclei,
            regions=None if regions is None else _number_or_word(regions, int),
            model=model,
            check_alignment=not no_alignment_check,
            find_missing=find_missing,
            tile_size=tile_size,
            device=device,
            overwrite=overwrite,
            estimate=not no_estimate,
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
def segment(
    store: Store,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New store for the whole object; without it, STORE receives the cells."),
    ] = None,
    platform: Platform = "auto",
    points_key: PointsKey = None,
    nuclei_key: NucleiKey = None,
    coordinate_system: CoordinateSystem = None,
    resolution: Resolution = None,
    um_per_unit: UmPerUnit = None,
    gene_key: GeneKey = None,
    genes: Genes = "all",
    z_planes: ZPlanes = None,
    fuse_nuclei: FuseNuclei = False,
    regions: Regions = None,
    model: Model = None,
    background: Annotated[
        str, typer.Option(help="Distance in um from nuclei that counts as background in training, auto or paper.")
    ] = "auto",
    min_transcripts: Annotated[int, typer.Option(min=0, help="Cells with fewer transcripts are left out.")] = 0,
    find_missing: FindMissing = False,
    tile_size: TileSize = 1024,
    device: Device = "auto",
    seed: Seed = 0,
    memory_limit: Annotated[
        str, typer.Option(help="What may be held in memory, such as 6GiB; the rest goes to the scratch folder.")
    ] = "auto",
    scratch: Annotated[Path | None, typer.Option(help="Folder for temporary files.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is done, so that the same command continues after a crash.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier results and an OUTPUT.")] = False,
    no_alignment_check: NoAlignmentCheck = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Segment the cells of a store: train on it, predict, refine, and write the cells into it.

    STORE receives labels ucs_cells, shapes ucs_boundaries and the table ucs_table; nothing else in it is touched. With
    --output the whole object goes to a new store, in which the transcripts have the column ucs_cell_id too.
    """
    with reporting(_OPTIONS, quiet=quiet, verbose=verbose, unchanged=store if output is None else None):
        from ucs._files.new_store import check_new_store, check_writable_folder, read_store, write_new_store

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
            _one_or_several(points_key),
            nuclei_key,
            platform=platform,
            coordinate_system=coordinate_system,
            resolution=resolution,
            um_per_unit=um_per_unit,
            gene_key=gene_key,
            genes=_number_or_word(genes, int),
            z_planes=z_planes or None,
            fuse_nuclei=fuse_nuclei,
            regions=None if regions is None else _number_or_word(regions, int),
            model=model,
            background=_number_or_word(background, float),
            min_transcripts=min_transcripts,
            check_alignment=not no_alignment_check,
            find_missing=find_missing,
            tile_size=tile_size,
            device=device,
            seed=seed,
            memory_limit=memory_limit,
            scratch=scratch,
            resume=resume,
            overwrite=overwrite,
            write=output is None,
            progress=shows_progress(quiet=quiet),
        )
        if output is not None:
            write_new_store(sdata, output)
        elapsed = time.perf_counter() - start
    if not quiet:
        from ucs.cli.report import run_table

        table = sdata.tables["ucs_table"]
        show(run_table(table, title="Cells", write_seconds=elapsed - table.uns["ucs"]["timings"]["total"]))
        tell(f"Written to {store if output is None else output}: ucs_cells, ucs_boundaries, ucs_table.")


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
    with reporting(_OPTIONS, quiet=quiet, verbose=verbose):
        from ucs.cli import demo as _demo
        from ucs.cli.report import run_table

        made = _demo.run(output, seed=seed, device=device, overwrite=overwrite, progress=shows_progress(quiet=quiet))
    if not quiet:
        show(run_table(made.sdata.tables["ucs_table"], title="Cells in simulated tissue"))
        show(_demo.score_table(made.scores))
        tell(f"SpatialData: {made.store}  (spatialdata.read_zarr reads it)")
        tell(f"Picture:     {made.picture}")


_OPTIONS = tuple(inspect.signature(segment).parameters)


def _one_or_several(keys: list[str] | None) -> str | list[str] | None:
    return keys[0] if keys is not None and len(keys) == 1 else keys or None


def _number_or_word(text: str, number: type[T]) -> T | str:
    try:
        return number(text)
    except ValueError:
        return text
