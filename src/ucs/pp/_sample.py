"""What the engine needs of one SpatialData object, found, checked and brought onto one grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ucs._checks import check_positive
from ucs._logging import logger
from ucs._platforms import (
    Platform,
    resolve_gene_key,
    resolve_nuclei_key,
    resolve_platform,
    resolve_points_key,
    resolve_um_per_unit,
)
from ucs.pp._alignment import check_placement
from ucs.pp._nuclei import Nuclei, read_nuclei
from ucs.pp._transcripts import TranscriptColumns, Transcripts, read_transcripts

if TYPE_CHECKING:
    from spatialdata import SpatialData


@dataclass(frozen=True)
class Source:
    """Which elements and columns of a SpatialData are used, and how they are read."""

    points_key: str
    columns: TranscriptColumns
    platform: Platform
    um_per_unit: float
    resolution: float


@dataclass(frozen=True)
class Sample:
    """Transcripts and nuclei on one grid."""

    source: Source
    nuclei_key: str
    transcripts: Transcripts
    nuclei: Nuclei
    alignment: str


def find_source(
    sdata: SpatialData,
    points_key: str | None = None,
    *,
    platform: str | Platform = "auto",
    gene_key: str | None = None,
    resolution: float | None = None,
    um_per_unit: float | None = None,
) -> Source:
    """Find the transcripts and how to read them; raises what the resolvers of :mod:`ucs._platforms` raise."""
    found = resolve_platform(sdata, platform, points_key)
    key = resolve_points_key(sdata, found, points_key)
    points = sdata.points[key]
    columns = TranscriptColumns.of(points, resolve_gene_key(points, found, gene_key, key), found)
    resolution = found.resolution if resolution is None else resolution
    um_per_unit = resolve_um_per_unit(sdata, found, um_per_unit)
    check_positive(resolution, "resolution")
    check_positive(um_per_unit, "um_per_unit")
    return Source(key, columns, found, float(um_per_unit), float(resolution))


def prepare(
    sdata: SpatialData,
    source: Source,
    nuclei_key: str | None = None,
    *,
    coordinate_system: str | None = None,
    check_alignment: bool = True,
) -> Sample:
    """Read and check transcripts and nuclei; nothing in ``sdata`` is changed.

    See :func:`ucs.tl.segment` for the parameters and errors.
    """
    nuclei_key = resolve_nuclei_key(sdata, source.platform, nuclei_key)
    transcripts = read_transcripts(
        sdata.points[source.points_key],
        source.columns,
        source.platform,
        resolution=source.resolution,
        um_per_unit=source.um_per_unit,
        name=source.points_key,
    )
    nuclei = read_nuclei(
        sdata, nuclei_key, source.points_key, transcripts.grid, coordinate_system=coordinate_system
    )
    alignment = "unchecked"
    if check_alignment:
        alignment = check_placement(transcripts, nuclei, nuclei_key=nuclei_key, points_key=source.points_key)
    height, width = transcripts.grid.shape
    logger.info(
        "Input: %s, points %r (%d of %d transcripts, %d genes, %d controls), nuclei %r (%d), grid %d x %d at %g um.",
        source.platform.name,
        source.points_key,
        transcripts.map.n_transcripts,
        transcripts.n_rows,
        len(transcripts.genes),
        len(transcripts.controls),
        nuclei_key,
        len(nuclei.ids),
        height,
        width,
        transcripts.grid.um_per_px,
    )
    return Sample(source, nuclei_key, transcripts, nuclei, alignment)
