"""Prediction with the density net: where cells are, which nucleus owns each pixel, how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._core.confidence import confidence_in_owners, share_from_cells
from ucs._core.lattice import bounding_boxes
from ucs._core.levels import measure_levels
from ucs._core.ownership import Evidence, choose_owners
from ucs._core.refine import refine_cells
from ucs._core.surroundings import Surroundings, cell_probability, survey, with_totals
from ucs._core.trust import counts_in_cores
from ucs._logging import logger
from ucs._progress import stage
from ucs.nn.density_training import DensityData, predict_density, wanted_blocks
from ucs.nn.device import resolve_device

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ucs._core.levels import Levels
    from ucs._core.transcripts import TranscriptMap
    from ucs.nn.model import UCSModel
    from ucs.pp._sample import Sample

_ROWS_AT_ONCE = 1024


def predict_by_density(
    sample: Sample,
    models: Sequence[UCSModel],
    judge: NDArray[np.int64],
    *,
    ownership: str,
    tile_size: int,
    device: str,
    progress: bool,
    timings: dict[str, float],
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return labels and 255 times the confidence in them (:mod:`ucs._core.confidence`), ``(h, w)`` each.

    Parameters
    ----------
    sample
        The sample.
    models
        Density models; of several, each judges where the cells of its nuclei end. Which of two nuclei a pixel belongs
        to is a comparison, for which one measure must serve all: the kinds of the first model.
    judge
        ``(n + 1,)`` number of the model of each nucleus.
    ownership
        ``"expression"`` or ``"distance"``.
    tile_size, device, progress, timings
        As in :func:`ucs.tl.segment`.
    """
    params, nuclei = models[0].params, sample.nuclei.labels
    n = len(sample.nuclei.ids)
    boxes = bounding_boxes(nuclei, n)
    um_per_px = sample.transcripts.grid.um_per_px
    features = sample.transcripts.genes + sample.transcripts.controls
    transcripts = models[0].select_genes(sample.transcripts.map, features)
    with stage("survey", timings, progress=False):
        around = survey(
            transcripts.totals(), nuclei, boxes, reach=params.reach, strength=params.stretch, um_per_px=um_per_px
        )
    with stage("predict", timings, progress=progress, unit="block") as update:
        in_cell, from_cells = _in_cells(
            sample, models, judge, around, device=device, tile_size=tile_size, update=update
        )
    with stage("assign", timings, progress=False):
        labels, confidence = choose_owners(
            nuclei,
            boxes,
            around.axes,
            reach=params.reach,
            um_per_px=um_per_px,
            evidence=_evidence(models[0], transcripts, nuclei, boxes, um_per_px) if ownership == "expression" else None,
        )
        _decide(labels, in_cell, nuclei, threshold=params.threshold)
    del around, in_cell  # 20 bytes per pixel
    with stage("refine", timings, progress=False):
        labels = refine_cells(labels, nuclei, bounding_boxes(labels, n))
    confidence_in_owners(labels, confidence, from_cells)
    return labels, confidence


def _in_cells(
    sample: Sample,
    models: Sequence[UCSModel],
    judge: NDArray[np.int64],
    around: Surroundings,
    *,
    device: str,
    tile_size: int,
    update: Callable[[int, int], None],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return what the model of the nearest nucleus says of each pixel, ``(h, w)`` each.

    That is the probability that it lies in a cell, and 255 times the one that a transcript there comes from a cell.
    """
    where = resolve_device(device)
    features = sample.transcripts.genes + sample.transcripts.controls
    density = np.zeros(around.totals.shape, dtype=np.float32)
    probability = np.zeros(density.shape if len(models) > 1 else 0, dtype=np.float32)
    from_cells = np.zeros(probability.shape, dtype=np.uint8)
    blocks = [len(wanted_blocks(DensityData(around, judge == number, 0.0))[0]) for number in range(len(models))]
    for number, model in enumerate(models):
        seen = around
        if model.genes != models[0].genes:  # what it calls dense is measured in its own transcripts
            seen = with_totals(around, model.select_genes(sample.transcripts.map, features).totals())
        net, before = model.density_nets()[0], sum(blocks[:number])
        predict_density(
            DensityData.of(seen, judge == number),
            net.to(where),
            density,
            device=where,
            tile_size=tile_size,
            progress=lambda done, _, before=before: update(before + done, sum(blocks)),  # type: ignore[misc]
        )
        net.cpu()
        owner = around.nearest.owner
        inside = (judge == number)[owner] | (owner == 0) if len(models) > 1 else None
        levels = measure_levels(
            seen.totals, seen.nuclei, seen.nearest.distance, um_per_px=seen.um_per_px, inside=inside
        )
        _log(levels)
        of_model, share = cell_probability(seen, density, levels), share_from_cells(seen, density, levels)
        if inside is None:
            return of_model, share
        np.copyto(probability, of_model, where=inside)
        np.copyto(from_cells, share, where=inside)
    return probability, from_cells


def _evidence(
    model: UCSModel,
    transcripts: TranscriptMap,
    nuclei: NDArray[np.int32],
    boxes: NDArray[np.int64],
    um_per_px: float,
) -> Evidence | None:
    kinds = model.density_nets()[1]
    profiles = kinds.profiles
    if profiles is None:
        return None
    membership = kinds.membership(counts_in_cores(transcripts, nuclei, boxes, um_per_px=um_per_px))
    return Evidence(transcripts, profiles.log_ratio, membership, float(kinds.trust_um))


def _decide(
    owner: NDArray[np.int32],
    in_cell: NDArray[np.float32],
    nuclei: NDArray[np.int32],
    *,
    threshold: float,
) -> None:
    """Take pixels that lie in no cell from their owner."""
    for row0 in range(0, len(owner), _ROWS_AT_ONCE):
        rows = slice(row0, row0 + _ROWS_AT_ONCE)
        owner[rows][(in_cell[rows] <= threshold) & (nuclei[rows] == 0)] = 0


def _log(levels: Levels) -> None:
    logger.info(
        "Transcripts per um2: %.3g in nuclei, %.3g in cytoplasm, %.3g in background; cells reach %.1f um from "
        "nuclei%s.",
        levels.nucleus,
        levels.cytoplasm,
        levels.background,
        levels.reach_um,
        "" if levels.calibrated else " (taken as usual: density does not tell)",
    )
