"""Finds the nuclei that are missing in a prepared sample, and the cells that they have."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._files.workspace import in_memory
from ucs._kernels.count import count_in_labels
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.refine import refine_cells
from ucs._read.fields import most_frequent
from ucs._results.elements import labels_element
from ucs._utils.log import logger
from ucs._utils.progress import stage
from ucs.methods.density.cores import count_in_cores
from ucs.methods.density.levels import measure_levels
from ucs.methods.density.ownership import Evidence, choose_owners
from ucs.methods.density.surroundings import cell_probability, survey
from ucs.methods.missing.clues import Clues, gather_clues, keep_candidates, plausibility, propose, to_drop

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from ucs._kernels.transcripts import TranscriptMap
    from ucs._read.regions import Regions
    from ucs._read.sample import Sample
    from ucs._run.predict import Prediction
    from ucs.methods.model import UCSModel
    from ucs.methods.params import TrainParams

LEAST_LOG_ODDS = 0.0
"""Log odds above which a candidate is taken for a missing nucleus: more likely than not."""

MISSING = "is_missing_cell"
"""Column of the table."""

_MOST_ROUNDS = 10


def find_missing_nuclei(
    sample: Sample, model: UCSModel, cells: NDArray[np.int32], *, ownership: str
) -> NDArray[np.int32]:
    """Return the nuclei of cells whose nucleus is not in the sample, ``(h, w)`` ids 1..m.

    Parameters
    ----------
    sample
        The sample.
    model
        Its genes and its kinds of cells are used; published nets have no kinds, and transcripts of another kind of cell
        are then no clue.
    cells
        ``(h, w)`` the cells that the model found.
    ownership
        ``"expression"`` or ``"distance"``.
    """
    params, nuclei, um_per_px = model.params, sample.nuclei.labels, sample.transcripts.grid.um_per_px
    n = len(sample.nuclei.ids)
    transcripts = model.select_genes(sample.transcripts.map, sample.transcripts.genes + sample.transcripts.controls)
    boxes = bounding_boxes(nuclei, n)
    around = survey(
        transcripts.totals(), nuclei, boxes, reach=params.reach, strength=params.stretch, um_per_px=um_per_px
    )
    levels = measure_levels(around.totals, nuclei, around.nearest.distance, um_per_px=um_per_px)
    if not levels.calibrated:
        logger.warning("No missing cells are looked for: transcripts are no denser in cells than far from them.")
        return np.zeros_like(nuclei)
    expression = ownership == "expression" and not model.is_published
    clues = gather_clues(
        transcripts, nuclei, cells, around.nearest.owner, around.nearest.distance, levels,
        _evidence(model, transcripts, nuclei, n, um_per_px) if expression else None, um_per_px=um_per_px,
    )  # fmt: skip
    candidates = propose(clues)
    for _ in range(_MOST_ROUNDS):
        m = int(candidates.max(initial=0))
        if m == 0:
            break
        with_them = np.where(candidates > 0, candidates + n, nuclei).astype(np.int32)
        evidence = _evidence(model, transcripts, with_them, n + m, um_per_px) if expression else None
        of_candidates = _cells_of_candidates(clues, with_them, n, m, evidence, params)
        fit = np.zeros((m, 0))
        if evidence is not None:
            fit = np.asarray(count_in_labels(transcripts, of_candidates, m) @ evidence.log_ratio.T)
        dropped = to_drop(
            candidates,
            plausibility(clues, candidates, of_candidates, m),
            fit,
            cell_radius=clues.cell_radius,
            least=LEAST_LOG_ODDS,
        )
        if not dropped.any():
            break
        candidates = keep_candidates(candidates, ~dropped)
    return candidates


def _evidence(
    model: UCSModel, transcripts: TranscriptMap, nuclei: NDArray[np.int32], n: int, um_per_px: float
) -> Evidence | None:
    kinds = model.density_nets()[1]
    if kinds.profiles is None:
        return None
    membership = kinds.membership(count_in_cores(transcripts, nuclei, n, um_per_px=um_per_px))
    return Evidence(transcripts, kinds.profiles.log_ratio, membership, float(kinds.trust_um))


def _cells_of_candidates(
    clues: Clues, nuclei: NDArray[np.int32], n: int, m: int, evidence: Evidence | None, params: TrainParams
) -> NDArray[np.int32]:
    """Return the cells that candidates have if they are nuclei like the others, ``(h, w)`` ids 1..m.

    As :func:`ucs.methods.density.engine.predict_by_density`, with the smoothed density: that of the net takes a pixel
    far from the nuclei that it was shown for what it would be if there were no others.
    """
    um_per_px, boxes = clues.um_per_px, bounding_boxes(nuclei, n + m)
    around = survey(
        clues.totals, nuclei, boxes, reach=params.reach, strength=params.stretch, um_per_px=um_per_px
    )
    owner, _ = choose_owners(
        nuclei, boxes, around.axes, reach=params.reach, um_per_px=um_per_px, evidence=evidence
    )
    levels = measure_levels(around.totals, nuclei, around.nearest.distance, um_per_px=um_per_px)
    in_cell = cell_probability(around, clues.density, levels) > params.threshold
    labels = np.where(in_cell | (nuclei > 0), owner, 0).astype(np.int32)
    labels = refine_cells(labels, nuclei, bounding_boxes(labels, n + m))
    return np.maximum(labels - n, 0)


def add_missing_cells(
    sample: Sample,
    regions: Regions | None,
    prediction: Prediction,
    model: UCSModel,
    predict: Callable[[Sample, Regions | None], Prediction],
    *,
    ownership: str,
    timings: dict[str, float],
) -> tuple[Sample, Prediction]:
    """Return the sample with the nuclei that are missing, and the cells that all nuclei have then.

    Parameters
    ----------
    sample, regions
        As they were.
    prediction
        Cells of the nuclei that are there.
    model
        As for :func:`find_missing_nuclei`.
    predict
        The cell step: from a sample and its regions to cells.
    ownership
        ``"expression"`` or ``"distance"``.
    timings
        Receives the seconds that the search took.
    """
    n = len(sample.nuclei.ids)
    with stage("find missing", timings, progress=False):
        added = find_missing_nuclei(sample, model, in_memory(prediction.labels), ownership=ownership)
    m = int(added.max(initial=0))
    logger.info("Found %d cells whose nucleus is not among the %d nuclei.", m, n)
    if m > 0:
        sample = with_nuclei(sample, added)
        prediction = predict(sample, with_nuclei_in_regions(regions, added))
    return sample, replace(prediction, obs={**prediction.obs, MISSING: np.arange(n + m) >= n})


def missing_nuclei_element(sdata: SpatialData, sample: Sample, missing: NDArray[np.bool_], *, tile_size: int) -> Any:
    """Make labels of the nuclei that were found, with the ids of their cells.

    ``missing`` tells which of the sample's nuclei they are, ``(n,)``.
    """
    to_home, transformations = sample.source.output_frame(sdata)
    return labels_element(
        sample.nuclei.labels,
        sample.transcripts.grid.transformations(transformations, to_home),
        kept=missing,
        tile_size=tile_size,
    )


def with_nuclei(sample: Sample, added: NDArray[np.int32]) -> Sample:
    """Return the sample with more nuclei: their ids follow those of the others, their original id is 0 or empty.

    Parameters
    ----------
    sample
        The sample; it stays as it is.
    added
        ``(h, w)`` ids 1..m, on no pixel of another nucleus.
    """
    nuclei = sample.nuclei
    m = int(added.max(initial=0))
    if m == 0:
        return sample
    none = np.zeros(m, dtype=nuclei.ids.dtype) if nuclei.ids.dtype.kind in "iu" else np.full(m, "", dtype=object)
    labels = np.where(added > 0, added + len(nuclei.ids), nuclei.labels).astype(np.int32)
    types = sample.cell_types
    if types is not None:
        types = np.concatenate([types, np.full(m, "", dtype=object)])
    ids = np.concatenate([nuclei.ids, none])
    return replace(sample, nuclei=replace(nuclei, labels=labels, ids=ids), cell_types=types, overviews={})


def with_nuclei_in_regions(regions: Regions | None, added: NDArray[np.int32]) -> Regions | None:
    """Return the regions with more nuclei, each in that which most of its pixels lie in."""
    m = int(added.max(initial=0))
    if regions is None or m == 0:
        return regions
    of_added = most_frequent(added, regions.labels, m)
    return replace(regions, of_nucleus=np.concatenate([regions.of_nucleus, of_added.astype(np.int64)]))
