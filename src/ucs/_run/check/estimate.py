"""How much memory and time a run will take, roughly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._read.nuclei.onto_grid import Nuclei
from ucs._read.sample import Sample
from ucs._run.check.runtime import rehearse
from ucs._utils.memory import (
    BYTES_PER_PIXEL_OF_NUCLEI,
    BYTES_PER_TRANSCRIPT,
    BYTES_PER_TRANSCRIPT_HELD,
    DISK_BYTES_PER_PIXEL,
    bytes_of_rasters,
    machine_memory,
    parse_limit,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._read.source import Source
    from ucs._read.transcripts import Transcripts
    from ucs._run.training import TrainingOptions
    from ucs.methods.model import UCSModel
    from ucs.options import ComputeOptions

# Measured on two cores of a server processor (AMD EPYC).
_SECONDS_PER_MPX = 1.0  # to outline and count, per million pixels of the grid
_SECONDS_PER_IMAGE_MPX = 0.2  # to find nuclei, per million pixels of the image at the level that is worked on
_WORKING_BYTES = 0.3 * 2**30  # the nets at work on one patch or block, compiled kernels
_STAND_IN = 16, 6  # px between, and side of, stand-ins for nuclei that are not yet found


@dataclass(frozen=True)
class Workload:
    """What a run would have to do.

    Attributes
    ----------
    source, transcripts
        What is read.
    nuclei
        None if they are to be found first.
    training
        How models would be trained.
    compute
        Where, and with how much memory.
    model
        One that is given.
    n_trained
        Number of models to train; one that begins as another counts for as much less as it takes fewer steps.
    image_pixels
        Of the images in which nuclei are to be found, at the level that is worked on.
    read_seconds
        How long the transcripts and nuclei took to read.
    """

    source: Source
    transcripts: Transcripts
    nuclei: Nuclei | None
    training: TrainingOptions
    compute: ComputeOptions
    model: UCSModel | None
    n_trained: float
    image_pixels: int
    read_seconds: float


def estimate(work: Workload, *, before: int, timed: bool) -> dict[str, Any]:
    """Return the peak of memory and of temporary files in GiB and the time in seconds that a run will take.

    Training and prediction are timed on a part of the data itself; the remainder is reckoned from its size.

    Parameters
    ----------
    work
        What would be done.
    before
        Bytes that the process held before it read anything; see :func:`ucs._utils.memory.resident_memory`.
    timed
        Whether to time anything; without it no time is told.
    """
    there = machine_memory()
    stages, because = {}, "not timed"
    if timed:
        try:
            stages = _stages(work)
            because = "from a few steps on a part of the data"
            if work.training.method.trains and work.n_trained:
                because += "; less if training stops early"
        except (MemoryError, RuntimeError, ValueError) as error:  # a part may be too poor where the whole is not
            because = f"not timed: {error}"
    needed, limit = before + memory_needed(work), parse_limit(work.compute.memory_limit)
    return {
        "memory_gib": needed / 2**30,
        "disk_gib": disk_needed(work, limit, needed) / 2**30,
        "memory_there_gib": None if there is None else there / 2**30,
        "seconds": sum(stages.values()) if stages else None,
        "stages": stages,
        "device": work.training.device,
        "because": because,
    }


def _stages(work: Workload) -> dict[str, float]:
    """Return the seconds that each stage takes."""
    shape = work.transcripts.grid.shape
    nuclei = stand_ins(shape) if work.nuclei is None else work.nuclei
    sample = Sample(work.source, "", work.transcripts, nuclei, "unchecked")
    pace = rehearse(sample, work.training, work.model, tile_size=work.compute.tile_size)
    stages = {
        "read": work.read_seconds,
        "nuclei": work.image_pixels / 1e6 * _SECONDS_PER_IMAGE_MPX,
        "train": work.n_trained * pace.train if work.training.method.trains else 0.0,
        "predict": pace.predict,
        "cells": pace.decide + shape[0] * shape[1] / 1e6 * _SECONDS_PER_MPX,
    }
    return {name: float(seconds) for name, seconds in stages.items() if seconds > 0}


def memory_needed(work: Workload) -> float:
    """Return the bytes that a run needs beyond what the process holds before."""
    n_pixels, n = work.transcripts.grid.n_pixels, work.transcripts.map.n_transcripts
    rasters = n_pixels * BYTES_PER_PIXEL_OF_NUCLEI + bytes_of_rasters(n_pixels)
    rasters += work.training.method.bytes_of_tile(work.compute.tile_size, n_pixels)
    # Reading is over when rasters are made.
    return _WORKING_BYTES + max(n * BYTES_PER_TRANSCRIPT, n * BYTES_PER_TRANSCRIPT_HELD + rasters)


def disk_needed(work: Workload, limit: int | None, needed: float) -> float:
    """Return the bytes of temporary files of a run that needs more memory than it may hold."""
    if limit is None or needed <= limit:
        return 0
    return (
        work.transcripts.grid.n_pixels * DISK_BYTES_PER_PIXEL
        + work.transcripts.map.n_transcripts * BYTES_PER_TRANSCRIPT_HELD
    )


def stand_ins(shape: tuple[int, int]) -> Nuclei:
    """Return squares all over a raster, about as many and as large as nuclei may be."""
    pitch, side = _STAND_IN
    rows, columns = -(-shape[0] // pitch), -(-shape[1] // pitch)
    ids = np.arange(1, rows * columns + 1, dtype=np.int32).reshape(rows, columns)
    labels: NDArray[np.int32] = np.repeat(np.repeat(ids, pitch, axis=0), pitch, axis=1)[: shape[0], : shape[1]]
    inside = (np.arange(shape[0]) % pitch < side)[:, None] & (np.arange(shape[1]) % pitch < side)
    return Nuclei(np.where(inside, labels, 0).astype(np.int32), ids.ravel(), 0)
