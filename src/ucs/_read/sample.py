"""Transcripts and nuclei of one SpatialData object, checked and on one grid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._kernels.transcripts import TranscriptMap
from ucs._read.alignment import check_placement, check_size
from ucs._read.extent import box_without_outliers, warn_of_outliers
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

    from ucs._kernels.stains import Stains
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
    """Labels of nuclei that were found in images, by their keys; empty if the object has nuclei."""
    fields: Fields | None = None
    """Areas of several fields of view; None for a single element."""
    fov: NDArray[np.int32] | None = None
    """``(h, w)``: ``k + 1`` for pixels of field of view ``k``, 0 for none; None for a single element."""
    cell_types: NDArray[np.object_] | None = None
    """``(n,)`` cell type of each nucleus, ``""`` where unknown; None if there are none."""
    stains: Stains | None = None
    """Images of stains on the grid; None if none were asked for."""

    def without_transcripts(self) -> Sample:
        """Return the sample without transcripts, which take memory, but with its grid and feature names."""
        of, none = self.transcripts.map, np.zeros(0, dtype=np.int32)
        empty = TranscriptMap(of.shape, of.n_features, np.zeros(of.shape[0] + 1, dtype=np.int64), none, none, none)
        return replace(self, transcripts=replace(self.transcripts, map=empty))

    @property
    def fov_names(self) -> tuple[str, ...]:
        """Names of the fields of view, in the order of ``fov``."""
        return tuple(element.name for element in self.source.elements)

    def summary(self) -> dict[str, Any]:
        """Return sizes, counts and sources as plain values, for the log and :func:`ucs.pp.check`."""
        return {
            "platform": {"name": self.source.platform.name},
            "source": describe_source(self.source),
            "transcripts": describe_transcripts(self.transcripts),
            "grid": describe_grid(self.transcripts.grid),
            "nuclei": {"element": self.nuclei_key, **describe_nuclei(self.nuclei, self.transcripts.grid)},
            "alignment": {"verdict": self.alignment},
        }

    def fov_of_nuclei(self) -> NDArray[np.int32]:
        """Return the field of view of most pixels of each nucleus, ``(n,)``: ``k + 1``, or 0 for none."""
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
    """Read the transcripts; return them, the areas of the fields of view, and the field of each pixel."""
    fields = find_fields(sdata, source)
    transcripts = read_transcripts(
        sdata,
        source.elements,
        source.platform,
        resolution=source.resolution,
        um_per_unit=source.um_per_unit,
        fields=fields,
        box=box_without_outliers(sdata, source, fields),
        scratch=scratch,
        memory_limit=memory_limit,
        update=update,
    )
    warn_of_outliers(transcripts, source.points_key)
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

    ``nuclei_key`` is the result of :func:`find_nuclei_key`, which is called if it is None. See
    :func:`ucs._read.transcripts.read_transcripts` for ``scratch``, ``memory_limit`` and ``update``, and
    :func:`ucs.tl.segment` for the other parameters and the errors.
    """
    nuclei_key = nuclei_key or find_nuclei_key(sdata, source, None)
    if any(element.key in sdata.shapes for element in source.elements):
        logger.warning("Input in square bins (%s) is experimental: look at the cells.", source.points_key)
    transcripts, fields, fov = read_source(  # before nuclei are found in an image, which takes much longer
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
    release_unused()  # memory of images and labels that were read
    check_size(
        nuclei,
        um_per_px=transcripts.grid.um_per_px,
        um_per_unit=source.um_per_unit,
        nuclei_key=nuclei_key,
        points_key=source.points_key,
        strict=check_alignment,
        image_um=source.platform.image_um,
    )
    alignment = "unchecked"
    if check_alignment:
        alignment = check_placement(transcripts, nuclei, nuclei_key=nuclei_key, points_key=source.points_key)
    sample = Sample(source, nuclei_key, transcripts, nuclei, alignment, found, fields, fov)
    for line in short_form(sample.summary()):
        logger.info("%s", line)
    return sample
