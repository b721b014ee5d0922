"""The commands for cells of any program: ``ucs export`` and ``ucs compare``."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ucs.cli.app import Platform, Quiet, Store, Verbose, app
from ucs.cli.terminal import reporting, show, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from spatialdata import SpatialData

UmPerUnit = Annotated[float | None, typer.Option(help="Length of a unit of the transcripts in um; detected.")]
PointsKey = Annotated[str | None, typer.Option(help="The transcripts; detected automatically.")]

_OF_EXPORT = ("shapes_key", "table_key", "image_key", "type_key", "measurements", "points_column", "layer", "legacy",
              "max_vertices", "points_key", "platform", "um_per_unit")  # fmt: skip
_OF_COMPARE = ("nuclei_key", "truth", "markers", "reference", "type_key", "scale", "expansions_um", "thresholds",
               "depth", "points_key", "platform", "gene_key", "um_per_unit", "coordinate_system", "resolution",
               "image_key")  # fmt: skip


@app.command()
def export(
    store: Store,
    *,
    to: Annotated[str, typer.Option("--to", help="geojson (QuPath), xenium-ranger or xenium-explorer.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file, or the folder for the files.")],
    shapes_key: Annotated[str | None, typer.Option(help="Outlines.", show_default="ucs_boundaries")] = None,
    table_key: Annotated[str | None, typer.Option(help="Table of the cells; that of the outlines.")] = None,
    image_key: Annotated[str | None, typer.Option(help="Image whose pixels are the unit, or that is shown.")] = None,
    type_key: Annotated[str | None, typer.Option(help="Column with the types of the cells (geojson).")] = None,
    measurements: Annotated[
        list[str] | None, typer.Option(help="Column of the table; repeatedly for several; all numbers (geojson).")
    ] = None,
    points_column: Annotated[
        str | None,
        typer.Option(help="Column with the cell of a transcript (xenium-ranger).", show_default="ucs_cell_id"),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the table with counts (xenium-explorer).")] = None,
    legacy: Annotated[bool, typer.Option("--legacy", help="For Xenium Ranger up to 3.1.")] = False,
    max_vertices: Annotated[int | None, typer.Option(help="Of an outline (xenium-explorer).")] = None,
    points_key: PointsKey = None,
    platform: Platform = "auto",
    um_per_unit: UmPerUnit = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the cells of a store for another program; nothing in the store is changed."""
    options = {
        "shapes_key": shapes_key, "table_key": table_key, "image_key": image_key, "type_key": type_key,
        "measurements": measurements, "points_column": points_column, "layer": layer, "legacy": legacy or None,
        "max_vertices": max_vertices, "points_key": points_key, "um_per_unit": um_per_unit,
    }  # fmt: skip
    with reporting(_OF_EXPORT, quiet=quiet, verbose=verbose):
        from ucs import io
        from ucs._files.new_store import read_store

        targets: dict[str, Callable[..., None]] = {
            "geojson": io.to_geojson, "xenium-ranger": io.to_xenium_ranger, "xenium-explorer": io.to_xenium_explorer,
        }  # fmt: skip
        if to not in targets:
            msg = f"--to {to} is unknown; valid are {', '.join(targets)}."
            raise ValueError(msg)
        given = {name: value for name, value in options.items() if value is not None}
        useless = sorted(set(given) - set(inspect.signature(targets[to]).parameters))
        if useless:
            msg = f"--{useless[0]} has no effect with --to {to}. Leave it out."
            raise ValueError(msg)
        targets[to](read_store(store), output, platform=platform, overwrite=overwrite, **given)


@app.command()
def compare(
    store: Store,
    segmentations: Annotated[
        list[str] | None, typer.Argument(help="Name and key of labels, shapes or a table.", metavar="[NAME=KEY]...")
    ] = None,
    *,
    read: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=PATH", help="Another program's results: baysor, proseg, xenium, cellpose, ..."),
    ] = None,
    image_key: Annotated[str | None, typer.Option(help="The image that masks of --read were made of.")] = None,
    nuclei_key: Annotated[str | None, typer.Option(help="The nuclei; detected automatically.")] = None,
    truth: Annotated[str | None, typer.Option(help="Name or key of what is taken for true.")] = None,
    markers: Annotated[Path | None, typer.Option(help="CSV file with the columns type and gene.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Single cells (h5ad), or types x genes (CSV).")] = None,
    type_key: Annotated[str | None, typer.Option(help="Column of the reference with the types.")] = None,
    scale: Annotated[str | None, typer.Option(help="log1p if the reference has logarithms.")] = None,
    expansions_um: Annotated[list[float] | None, typer.Option(help="Nuclei expanded by this, too.")] = None,
    thresholds: Annotated[list[float] | None, typer.Option(help="IoU of agreement.", show_default="0.5, 0.7")] = None,
    depth: Annotated[float | None, typer.Option(help="Transcripts per cell for metrics at one depth.")] = None,
    points_key: PointsKey = None,
    platform: Platform = "auto",
    gene_key: Annotated[str | None, typer.Option(help="Column with the gene; detected automatically.")] = None,
    um_per_unit: UmPerUnit = None,
    coordinate_system: Annotated[str | None, typer.Option(help="That points and cells share.")] = None,
    resolution: Annotated[float | None, typer.Option(help="Side of a pixel in um.", show_default="0.5")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV file for the table.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare segmentations of one tissue by their metrics; nothing in the store is changed."""
    options = {
        "nuclei_key": nuclei_key, "truth": truth, "type_key": type_key, "scale": scale,
        "expansions_um": expansions_um or None, "thresholds": thresholds or None, "depth": depth,
        "points_key": points_key, "gene_key": gene_key, "um_per_unit": um_per_unit,
        "coordinate_system": coordinate_system, "resolution": resolution,
    }  # fmt: skip
    with reporting(_OF_COMPARE, quiet=quiet, verbose=verbose):
        import pandas as pd

        from ucs._files.new_store import read_store
        from ucs.tl import compare as compare_cells

        named = dict(_pair(one, "NAME=KEY") for one in segmentations or [])
        sdata = read_store(store)
        for one in read or []:
            kind, path = _pair(one, "KIND=PATH")
            named[kind] = _read(sdata, kind, Path(path), image_key=image_key, points_key=points_key, platform=platform)
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        if markers is not None:
            given["markers"] = pd.read_csv(markers)
        if reference is not None:
            given["reference"] = _read_reference(reference)
        table = compare_cells(sdata, named, platform=platform, **given)
        if output is not None:
            table.to_csv(output)
    from ucs.cli.report import comparison_table

    show(comparison_table(table))
    if output is not None and not quiet:
        tell(f"Written to {output}.")


def _pair(text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        msg = f"{text} must be {form}, such as {'ucs=ucs_table' if form == 'NAME=KEY' else 'proseg=results/proseg'}."
        raise ValueError(msg)
    return name, value


def _read(sdata: SpatialData, kind: str, path: Path, *, image_key: str | None, **reading: Any) -> str:
    """Add another program's cells to the object in memory; return their key."""
    from ucs.io import read_segmentation

    before = set(sdata.labels) | set(sdata.shapes)
    is_mask = kind in ("mask", "cellpose", "bidcell")
    read_segmentation(path, kind, sdata=sdata, image_key=image_key if is_mask else None, **reading)
    (key,) = (set(sdata.labels) | set(sdata.shapes)) - before
    return key


def _read_reference(path: Path) -> object:
    import anndata
    import pandas as pd

    return anndata.read_h5ad(path) if path.suffix == ".h5ad" else pd.read_csv(path, index_col=0)
