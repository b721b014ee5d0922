"""What a segmentation would use, and whether it would get as far as training, before anything heavy runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ucs._read.columns import checked_planes
from ucs._read.platforms import resolve_platform
from ucs._utils.checks import check_at_least, check_option, check_positive

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from spatialdata import SpatialData

    from ucs._read.markers import Markers
    from ucs._read.platforms import Platform
    from ucs._read.regions import RegionsOption
    from ucs._results.keys import OutputKeys
    from ucs._run.check_report import Check
    from ucs._run.predict import Model
    from ucs._run.training import Learning
    from ucs.methods.model import UCSModel
    from ucs.methods.params import TrainParams


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What :func:`ucs.pp.check` was called with, arguments that are wrong in themselves excluded."""

    points_key: str | Sequence[str] | None
    nuclei_key: str | None
    platform: str | Platform
    coordinate_system: str | None
    resolution: float | None
    um_per_unit: float | None
    gene_key: str | None
    z_planes: Sequence[float] | float | None
    fuse_nuclei: bool
    regions: RegionsOption
    model: Model | None
    learning: Learning
    check_alignment: bool
    keys: OutputKeys
    overwrite: bool
    tile_size: int
    estimate: bool


def check(
    sdata: SpatialData,
    points_key: str | Sequence[str] | None = None,
    nuclei_key: str | None = None,
    *,
    platform: str | Platform = "auto",
    coordinate_system: str | None = None,
    resolution: float | None = None,
    um_per_unit: float | None = None,
    gene_key: str | None = None,
    genes: str | int | Sequence[str] = "all",
    z_planes: Sequence[float] | float | None = None,
    fuse_nuclei: bool = False,
    regions: RegionsOption = None,
    genes_per_region: bool = False,
    warm_start: bool = False,
    model: UCSModel | str | Path | Mapping[str, UCSModel | str | Path] | None = None,
    train: TrainParams | Mapping[str, Any] | None = None,
    background: str | float = "auto",
    ownership: str = "expression",
    softmask: str = "scaled",
    check_alignment: bool = True,
    labels_key_added: str = "ucs_cells",
    shapes_key_added: str = "ucs_boundaries",
    table_key_added: str = "ucs_table",
    points_column_added: str = "ucs_cell_id",
    points_confidence_added: str | None = None,
    missing_nuclei_key_added: str = "ucs_missing_nuclei",
    find_missing: bool = False,
    markers: Markers | None = None,
    cell_type_key: str | None = None,
    tile_size: int = 1024,
    device: str = "auto",
    overwrite: bool = False,
    estimate: bool = True,
) -> Check:
    """Tell what :func:`ucs.tl.segment` would use and why, and whether it would get as far as training.

    Transcripts and nuclei are read and compared as ``segment`` does it; nothing is trained, no nuclei are looked for in
    images, and ``sdata`` is not changed. It takes about as long as the first stage of ``segment``, and some seconds.

    Parameters
    ----------
    sdata, points_key, nuclei_key, platform, coordinate_system, resolution, um_per_unit, gene_key, genes, z_planes
        As in :func:`ucs.tl.segment`. Highly variable genes are counted, not chosen.
    fuse_nuclei, regions, genes_per_region, warm_start, model, train, background, ownership, softmask, check_alignment
        As in :func:`ucs.tl.segment`.
    tile_size, device
        As in :func:`ucs.tl.segment`.
    labels_key_added, shapes_key_added, table_key_added, points_column_added, points_confidence_added, \
missing_nuclei_key_added, overwrite
        As in :func:`ucs.tl.segment`: it is a problem if they are taken.
    find_missing, markers, cell_type_key
        As in :func:`ucs.tl.segment`; the time that is told does not hold the search for missing cells.
    estimate
        Whether to time the nets for a few steps, so that the time can be told.

    Returns
    -------
    A dictionary of plain values, shown as a table by ``print``, by rich and in notebooks; ``.ok`` tells whether it has
    no problems. Its keys, as far as they could be found out:

    - ``problems``: what ``segment`` would raise, as ``{"error": type, "message": text}``, the first first;
    - ``warnings``, ``notes``: what it would log;
    - ``platform``, ``source``, ``grid``: the conventions; elements, columns and unit, with ``because``; the raster;
    - ``transcripts``: how many rows there are, how many were left out for which reason, genes and controls;
    - ``nuclei``: how many there are and how large, or in which image they would be found;
    - ``alignment``, ``regions``: what came of them;
    - ``estimate``: the peak of memory in GiB and the time in seconds, both approximate.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong in itself, whatever the data.
    FileNotFoundError
        If there is no model at the path given.
    """
    from ucs._results.keys import OutputKeys
    from ucs._run.cell_types import read_markers
    from ucs._run.check import Examination
    from ucs._run.predict import as_model
    from ucs._run.training import Learning, resolve_params
    from ucs.methods.device import resolve_device
    from ucs.methods.paper.find_background import check_background

    check_at_least(tile_size, 1, "tile_size")
    for value, name in ((resolution, "resolution"), (um_per_unit, "um_per_unit")):
        if value is not None:
            check_positive(value, name)
    checked_planes(z_planes)
    check_background(background)
    check_option(ownership, "ownership", ("expression", "distance"))
    check_option(softmask, "softmask", ("scaled", "plain"))
    learning = Learning(
        resolve_params(train, resolve_platform(sdata, platform, points_key), softmask),
        genes,
        background,
        str(resolve_device(device)),
        warm_start=warm_start,
        genes_per_region=genes_per_region,
        ownership=ownership,
        markers=read_markers(markers, cell_type_key, background),
    )
    asked = Asked(
        points_key=points_key,
        nuclei_key=nuclei_key,
        platform=platform,
        coordinate_system=coordinate_system,
        resolution=resolution,
        um_per_unit=um_per_unit,
        gene_key=gene_key,
        z_planes=z_planes,
        fuse_nuclei=fuse_nuclei,
        regions=regions,
        model=None if model is None else as_model(model),
        learning=learning,
        check_alignment=check_alignment,
        keys=OutputKeys(
            labels_key_added, shapes_key_added, table_key_added, points_column_added, points_confidence_added,
            missing_nuclei_key_added if find_missing else None,
        ),  # fmt: skip
        overwrite=overwrite,
        tile_size=int(tile_size),
        estimate=estimate,
    )
    return Examination(sdata, asked).run()
