"""Finds the nuclei that are missing in a sample; arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.count import count_in_labels
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.refine import refine_cells
from ucs._utils.log import logger
from ucs.methods.density.cores import count_in_cores
from ucs.methods.density.levels import measure_levels
from ucs.methods.density.ownership import Evidence, choose_owners
from ucs.methods.density.surroundings import cell_probability, survey
from ucs.methods.missing.clues import Clues, gather_clues, keep_candidates, plausibility, propose, to_drop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap
    from ucs.methods.base import MethodParams, RasterSample
    from ucs.methods.model import UCSModel

LEAST_LOG_ODDS = 0.0
"""Log odds above which a candidate is taken for a missing nucleus: more likely than not."""

_THRESHOLD = 0.35  # of the cells that candidates are judged by: the density method's default

_MOST_ROUNDS = 10


def find_missing_nuclei(
    raster: RasterSample, model: UCSModel, cells: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return the nuclei of cells whose nucleus is not in the sample, ``(h, w)`` ids 1..m.

    Parameters
    ----------
    raster
        The sample.
    model
        Its genes and its expression clusters are used; without clusters, transcripts of another kind of cell are no
        clue.
    cells
        ``(h, w)`` the cells that the model found.
    """
    params, nuclei, um_per_px, n = model.params, raster.nuclei, raster.um_per_px, raster.n
    transcripts = model.select_genes(raster.transcripts, raster.features)
    boxes = bounding_boxes(nuclei, n)
    around = survey(
        transcripts.totals(), nuclei, boxes, reach=params.reach, strength=params.shape_exponent, um_per_px=um_per_px
    )
    levels = measure_levels(around.totals, nuclei, around.nearest.distance, um_per_px=um_per_px)
    if not levels.calibrated:
        logger.warning("No missing cells are looked for: transcripts are no denser in cells than far from them.")
        return np.zeros_like(nuclei)
    expression = model.expression is not None
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
    kinds = model.expression
    if kinds is None or kinds.profiles is None:
        return None
    membership = kinds.membership(count_in_cores(transcripts, nuclei, n, um_per_px=um_per_px))
    return Evidence(transcripts, kinds.profiles.log_ratio, membership, float(kinds.expression_weight_um))


def _cells_of_candidates(
    clues: Clues, nuclei: NDArray[np.int32], n: int, m: int, evidence: Evidence | None, params: MethodParams
) -> NDArray[np.int32]:
    """Return the cells that candidates have if they are nuclei like the others, ``(h, w)`` ids 1..m.

    As :class:`ucs.methods.density.predict.DensityPredictor`, with the smoothed density: that of the net takes a pixel
    far from the nuclei that it was shown for what it would be if there were no others.
    """
    um_per_px, boxes = clues.um_per_px, bounding_boxes(nuclei, n + m)
    around = survey(
        clues.totals, nuclei, boxes, reach=params.reach, strength=params.shape_exponent, um_per_px=um_per_px
    )
    owner, _ = choose_owners(
        nuclei, boxes, around.axes, reach=params.reach, um_per_px=um_per_px, evidence=evidence
    )
    levels = measure_levels(around.totals, nuclei, around.nearest.distance, um_per_px=um_per_px)
    in_cell = cell_probability(around, clues.density, levels) > _THRESHOLD
    labels = np.where(in_cell | (nuclei > 0), owner, 0).astype(np.int32)
    labels = refine_cells(labels, nuclei, bounding_boxes(labels, n + m))
    return np.maximum(labels - n, 0)
