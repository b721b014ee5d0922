"""What the engine needs of one SpatialData object, found, checked and brought onto one grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
from ucs.pp._nuclei_image import nuclei as nuclei_from_image
from ucs.pp._nuclei_stain import find_stain
from ucs.pp._transcripts import TranscriptColumns, Transcripts, read_transcripts

if TYPE_CHECKING:
    from spatialdata import SpatialData


NUCLEI_KEY = "ucs_nuclei"
"""Labels of nuclei that :func:`ucs.pp.nuclei` finds."""


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
    found: dict[str, Any] = field(default_factory=dict)
    """Labels of nuclei that were not there but found in an image, by their key."""


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


def find_nuclei_key(sdata: SpatialData, platform: Platform, nuclei_key: str | None) -> str:
    """Return the key of the nuclei; if there are none, but an image of a nuclear stain, the key of those to be made.

    Raises what :func:`ucs._platforms.resolve_nuclei_key` raises.
    """
    try:
        return resolve_nuclei_key(sdata, platform, nuclei_key)
    except KeyError as no_nuclei:
        if nuclei_key is not None:
            raise
        try:
            find_stain(sdata, None, None)
        except (KeyError, ValueError) as no_stain:
            msg = f"{no_nuclei.args[0]} Nor can nuclei be found in an image: {no_stain.args[0]}"
            raise KeyError(msg) from no_stain
        return NUCLEI_KEY


def prepare(
    sdata: SpatialData,
    source: Source,
    nuclei_key: str | None = None,
    *,
    coordinate_system: str | None = None,
    check_alignment: bool = True,
    progress: bool = False,
) -> Sample:
    """Read and check transcripts and nuclei; nothing in ``sdata`` is changed.

    ``nuclei_key`` is that of :func:`find_nuclei_key`, which is called if it is None; see :func:`ucs.tl.segment` for the
    other parameters and the errors.
    """
    nuclei_key = nuclei_key or find_nuclei_key(sdata, source.platform, None)
    found = {}
    if nuclei_key not in sdata:
        sdata = nuclei_from_image(sdata, labels_key_added=nuclei_key, inplace=False, progress=progress)
        found[nuclei_key] = sdata[nuclei_key]
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
    return Sample(source, nuclei_key, transcripts, nuclei, alignment, found)
