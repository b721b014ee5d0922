"""The search for cells whose nucleus is missing, as a step of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ucs._run.predict import as_model
from ucs.tl._segment import segment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from spatialdata import SpatialData

    from ucs._read.platforms import Platform
    from ucs._read.regions import RegionsOption
    from ucs.methods.model import UCSModel


def find_missing(
    sdata: SpatialData,
    model: UCSModel | str | Path | Mapping[str, UCSModel | str | Path],
    points_key: str | Sequence[str] | None = None,
    nuclei_key: str | None = None,
    *,
    platform: str | Platform = "auto",
    coordinate_system: str | None = None,
    resolution: float | None = None,
    um_per_unit: float | None = None,
    gene_key: str | None = None,
    z_planes: Sequence[float] | float | None = None,
    fuse_nuclei: bool = False,
    regions: RegionsOption = None,
    ownership: str = "expression",
    min_transcripts: int = 0,
    check_alignment: bool = True,
    labels_key_added: str = "ucs_cells",
    shapes_key_added: str = "ucs_boundaries",
    table_key_added: str = "ucs_table",
    points_column_added: str = "ucs_cell_id",
    points_confidence_added: str | None = None,
    missing_nuclei_key_added: str = "ucs_missing_nuclei",
    tile_size: int = 1024,
    device: str = "auto",
    overwrite: bool = False,
    inplace: bool = True,
    write: bool = False,
    progress: bool = True,
) -> SpatialData | None:
    """Apply a trained model to a sample, look for cells without a nucleus, and write all cells back.

    A nucleus may be missing: it lies above or below the section, its stain is weak, or its segmentation failed. Its
    cell's transcripts are still there: as dense as in cytoplasm, but farther from all nuclei than their cells reach,
    often of another kind of cell than the nearest, with more of the nuclear transcripts in its middle. All of this is
    measured on the sample's own nuclei; a candidate is taken if it is more likely than not to lie in a missing cell, by
    a rule fitted once on simulated tissue (see ``docs/concepts.md``, with figures). The paper's rule (foreground
    probability above 0.95 outside the cells, opened, closed, large enough) is the first of these clues.

    Cells are then made of all nuclei at once, old and new. In the table those found have ``is_missing_cell``, ids that
    follow those of the others, and no ``nucleus_id``: 0, or empty if ids are text. Their nuclei are discs as large as
    the median nucleus, in which ``layers["nucleus"]`` counts: they say where a cell is, not how its nucleus looks.

    Parameters
    ----------
    sdata
        Object with transcripts and nuclei, of the model's panel of genes (matched by name).
    model
        A model from :func:`train`, or the path of a saved one; with ``regions``, a mapping of their names to either.
    points_key, nuclei_key, platform, coordinate_system, resolution, um_per_unit, gene_key, z_planes, fuse_nuclei
        As in :func:`segment`.
    regions
        As in :func:`segment`; their names are those of the model.
    ownership
        As in :func:`segment`; expression has a say only if the model has learned kinds of cells.
    min_transcripts, check_alignment, labels_key_added, shapes_key_added, table_key_added, points_column_added, \
points_confidence_added, missing_nuclei_key_added, tile_size, device, overwrite, inplace, write, progress
        As in :func:`segment`.

    Returns
    -------
    As :func:`segment` with ``find_missing=True``, labels of the nuclei that were found among it (all 0 if none were).

    Raises
    ------
    TypeError
        If ``model`` is neither a model nor a path.
    ValueError
        If the data has too few of the model's genes, a region has no model, and as :func:`segment`.
    """
    return segment(
        sdata,
        points_key,
        nuclei_key,
        platform=platform,
        coordinate_system=coordinate_system,
        resolution=resolution,
        um_per_unit=um_per_unit,
        gene_key=gene_key,
        z_planes=z_planes,
        fuse_nuclei=fuse_nuclei,
        regions=regions,
        model=as_model(model),
        ownership=ownership,
        find_missing=True,
        min_transcripts=min_transcripts,
        check_alignment=check_alignment,
        labels_key_added=labels_key_added,
        shapes_key_added=shapes_key_added,
        table_key_added=table_key_added,
        points_column_added=points_column_added,
        points_confidence_added=points_confidence_added,
        missing_nuclei_key_added=missing_nuclei_key_added,
        tile_size=tile_size,
        device=device,
        overwrite=overwrite,
        inplace=inplace,
        write=write,
        progress=progress,
    )
