"""What the engine needs of one SpatialData object, found, checked and brought onto one grid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._kernels.transcripts import TranscriptMap
from ucs._read.alignment import check_placement, check_size
from ucs._read.fields import find_fields, most_frequent
from ucs._read.nuclei.of_sample import NUCLEI_KEY, find_nuclei_key, load_nuclei, make_missing
from ucs._read.source import Source, find_source
from ucs._read.summary import (
    describe_grid,
    describe_nuclei,
    describe_source,
    describe_transcripts,
    short_form,
)
from ucs._read.transcripts import Transcripts, read_transcripts
from ucs._utils.log import logger
from ucs._utils.memory import release_unused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._read.fields import Fields
    from ucs._read.nuclei.onto_grid import Nuclei

__all__ = ["NUCLEI_KEY", "Sample", "Source", "find_nuclei_key", "find_source", "prepare"]


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
    fields: Fields | None = None
    """What several fields of view cover; None for one part."""
    fov: NDArray[np.int32] | None = None
    """``(h, w)``, ``k + 1`` where a pixel belongs to field of view ``k``, 0 where to none; None for one part."""
    cell_types: NDArray[np.object_] | None = None
    """``(n,)`` cell type of each nucleus, ``""`` where unknown; None if the user gave none."""

    def without_transcripts(self) -> Sample:
        """Return the sample with its grid and the names of its features, but no transcripts: they take memory."""
        of, none = self.transcripts.map, np.zeros(0, dtype=np.int32)
        empty = TranscriptMap(of.shape, of.n_features, np.zeros(of.shape[0] + 1, dtype=np.int64), none, none, none)
        return replace(self, transcripts=replace(self.transcripts, map=empty))

    @property
    def fov_names(self) -> tuple[str, ...]:
        """Names of the fields of view, in the order of ``fov``."""
        return tuple(part.name for part in self.source.parts)

    def summary(self) -> dict[str, Any]:
        """Return what the sample is made of, as plain values."""
        return {
            "platform": {"name": self.source.platform.name},
            "source": describe_source(self.source),
            "transcripts": describe_transcripts(self.transcripts),
            "grid": describe_grid(self.transcripts.grid),
            "nuclei": {"element": self.nuclei_key, **describe_nuclei(self.nuclei, self.transcripts.grid)},
            "alignment": {"verdict": self.alignment},
        }

    def fov_of_nuclei(self) -> NDArray[np.int32]:
        """Return the field of view that most of each nucleus belongs to, ``(n,)``: ``k + 1``, or 0 for none."""
        n = len(self.nuclei.ids)
        return np.ones(n, dtype=np.int32) if self.fov is None else most_frequent(self.nuclei.labels, self.fov, n)


def read_source(
    sdata: SpatialData,
    source: Source,
    *,
    scratch: Path | None = None,
    memory_limit: int | None = None,
    update: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Transcripts, Fields | None, NDArray[np.int32] | None]:
    """Read the transcripts; return with them what fields of view cover and which of them each pixel belongs to."""
    fields = find_fields(sdata, source)
    transcripts = read_transcripts(
        sdata,
        source.parts,
        source.platform,
        resolution=source.resolution,
        um_per_unit=source.um_per_unit,
        fields=fields,
        scratch=scratch,
        memory_limit=memory_limit,
        update=update,
    )
    return transcripts, fields, None if fields is None else fields.raster(transcripts.grid)


def prepare(
    sdata: SpatialData,
    source: Source,
    nuclei_key: str | None = None,
    *,
    coordinate_system: str | None = None,
    check_alignment: bool = True,
    fuse_nuclei: bool = False,
    scratch: Path | None = None,
    memory_limit: int | None = None,
    progress: bool = False,
    update: Callable[[int, int], None] = lambda _done, _total: None,
) -> Sample:
    """Read and check transcripts and nuclei; nothing in ``sdata`` is changed.

    ``nuclei_key`` is that of :func:`find_nuclei_key`, which is called if it is None; ``scratch``, ``memory_limit`` and
    ``update`` are those of :func:`ucs._read.transcripts.read_transcripts`; see :func:`ucs.tl.segment` for the other
    parameters and the errors.
    """
    nuclei_key = nuclei_key or find_nuclei_key(sdata, source, None)
    if any(part.key in sdata.shapes for part in source.parts):
        logger.warning("Input in square bins (%s) is experimental: look at the cells.", source.points_key)
    transcripts, fields, fov = read_source(  # first: to find nuclei in an image takes much longer
        sdata, source, scratch=scratch, memory_limit=memory_limit, update=update
    )
    sdata, found = make_missing(sdata, source, nuclei_key, progress=progress)
    nuclei = load_nuclei(
        sdata,
        source,
        nuclei_key,
        transcripts.grid,
        fields=fields,
        fov=fov,
        coordinate_system=coordinate_system,
        fuse_nuclei=fuse_nuclei,
    )
    release_unused()  # of parts of images and labels that were read
    check_size(
        nuclei,
        um_per_px=transcripts.grid.um_per_px,
        um_per_unit=source.um_per_unit,
        nuclei_key=nuclei_key,
        points_key=source.points_key,
        strict=check_alignment,
    )
    alignment = "unchecked"
    if check_alignment:
        alignment = check_placement(transcripts, nuclei, nuclei_key=nuclei_key, points_key=source.points_key)
    sample = Sample(source, nuclei_key, transcripts, nuclei, alignment, found, fields, fov)
    for line in short_form(sample.summary()):
        logger.info("%s", line)
    return sample
