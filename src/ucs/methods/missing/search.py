"""Finds the nuclei that are missing in a sample, window by window; arrays in, arrays out.

Windows lie on the raster alike for any tile size. Each is searched with a margin around it; a candidate belongs to the
window that holds its centre.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.count import count_in_labels
from ucs._kernels.labels.ids import renumber
from ucs._kernels.labels.refine import refine_cells
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs._utils.log import logger
from ucs.methods.clusters.cores import count_in_cores
from ucs.methods.density.levels import measure_levels
from ucs.methods.density.ownership import Evidence, choose_owners
from ucs.methods.density.statistics import look_over
from ucs.methods.density.surroundings import cell_probability, survey
from ucs.methods.missing.candidates import keep_candidates, plausibility, propose, to_drop
from ucs.methods.missing.clues import Clues, TypicalCells, gather_clues
from ucs.methods.model import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ucs._kernels.bands import Raster
    from ucs.methods.base import RasterSample
    from ucs.methods.model import UCSModel
    from ucs.methods.params import MethodParams

LEAST_LOG_ODDS = 0.0
"""Log odds above which a candidate is taken for a missing nucleus: more likely than not."""

# Probability above which candidates' pixels are of their cells: the density method's default threshold.
_THRESHOLD = 0.35
_MOST_ROUNDS = 10  # candidates go one after the other; after so many rounds next to none is left to go
_SIDE = 1536  # px of a window: large enough for its levels of density to be measured
_MARGIN = 128  # px around a window: several cells, so that its candidates have the neighbours that they have


def find_missing_nuclei(
    raster: RasterSample,
    model: UCSModel,
    cells: Raster,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the nuclei of cells whose nucleus is not in the sample, ``(h, w)`` ids 1..m, and how likely each is one.

    Parameters
    ----------
    raster
        The sample.
    model
        Its genes and its expression clusters are used; without clusters, transcripts of another kind of cell are no
        clue.
    cells
        ``(h, w)`` the cells that the model found, in memory or on disk.
    progress
        Called with ``(windows done, windows)``.
    """
    params = model.params
    found = np.zeros(raster.shape, dtype=np.int32)
    selection = Selection.of_genes(model.genes, raster.features)
    levels = look_over(
        raster.transcripts,
        selection,
        raster.nuclei,
        reach=params.reach_px(raster.um_per_px),
        strength=params.shape_exponent,
        um_per_px=raster.um_per_px,
    ).levels()
    if not levels.calibrated:
        logger.warning("No missing cells are looked for: transcripts are no denser in cells than far from them.")
        return found, np.zeros(0, dtype=np.float32)
    transcripts = selection.of(raster.transcripts)
    typical = TypicalCells.measure(transcripts, raster.nuclei, cells, raster.n, levels, raster.um_per_px)
    probability, windows = [np.zeros(0, dtype=np.float32)], list(_windows(raster.shape))
    for done, core in enumerate(windows, start=1):
        window = core.grown(_MARGIN).clipped(raster.shape)
        nuclei = renumber(raster.nuclei[window.slices], raster.n)[1]
        candidates, log_odds = _search(transcripts.crop(window), nuclei, typical, model)
        first = sum(map(len, probability))
        kept = _enter(candidates, core.seen_from(window), found[window.slices], first)
        probability.append((1 / (1 + np.exp(-log_odds[kept]))).astype(np.float32))
        progress(done, len(windows))
    return found, np.concatenate(probability)


def _windows(shape: tuple[int, int]) -> Iterator[Window]:
    """Yield windows of equal size that cover a raster."""
    edges = [
        [round(k * side / n) for k in range(n + 1)]
        for side, n in ((side, max(1, math.ceil(side / _SIDE))) for side in shape)
    ]
    for row0, row1 in zip(edges[0][:-1], edges[0][1:], strict=True):
        for column0, column1 in zip(edges[1][:-1], edges[1][1:], strict=True):
            yield Window(row0, column0, row1, column1)


def _enter(candidates: NDArray[np.int32], inner: Window, found: NDArray[np.int32], first: int) -> NDArray[np.bool_]:
    """Enter the candidates whose centre lies in the inner part, in place; return which they are, ``(m,)``.

    One that meets a candidate of a window before gives way to it.
    """
    from scipy.ndimage import center_of_mass

    m = int(candidates.max(initial=0))
    if m == 0:
        return np.zeros(0, dtype=bool)
    number = np.arange(1, m + 1)
    row, column = np.array(center_of_mass(candidates > 0, candidates, number)).reshape(m, 2).T
    kept = (row >= inner.row0) & (row < inner.row1) & (column >= inner.column0) & (column < inner.column1)
    kept[np.unique(candidates[(found > 0) & (candidates > 0)]) - 1] = False
    own = keep_candidates(candidates, kept)
    np.copyto(found, own + np.int32(first), where=own > 0)
    return kept


def _search(
    transcripts: TranscriptMap, nuclei: NDArray[np.int32], typical: TypicalCells, model: UCSModel
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the missing nuclei of one window, ``(h, w)`` ids 1..m, and their log odds, ``(m,)``."""
    n, params, um_per_px = int(nuclei.max(initial=0)), model.params, typical.um_per_px
    around = survey(
        transcripts.totals(),
        nuclei,
        bounding_boxes(nuclei, n),
        reach=params.reach_px(um_per_px),
        strength=params.shape_exponent,
        um_per_px=um_per_px,
    )
    clues = gather_clues(
        transcripts,
        nuclei,
        around.nearest.owner,
        around.nearest.distance,
        typical,
        _evidence(model, transcripts, nuclei, n, um_per_px),
    )
    candidates, log_odds = propose(clues), np.zeros(0)
    for _ in range(_MOST_ROUNDS):
        m = int(candidates.max(initial=0))
        if m == 0:
            break
        with_them = np.where(candidates > 0, candidates + n, nuclei).astype(np.int32)
        evidence = _evidence(model, transcripts, with_them, n + m, um_per_px)
        of_candidates = _cells_of_candidates(clues, with_them, n, m, evidence, params)
        fit = np.zeros((m, 0))
        if evidence is not None:
            fit = np.asarray(count_in_labels(transcripts, of_candidates, m) @ evidence.log_ratio.T)
        log_odds = plausibility(clues, candidates, of_candidates, m)
        dropped = to_drop(
            candidates,
            log_odds,
            fit,
            cell_radius=typical.cell_radius,
            least=LEAST_LOG_ODDS,
        )
        if not dropped.any():
            break
        candidates, log_odds = keep_candidates(candidates, ~dropped), log_odds[~dropped]
    return candidates, log_odds


def _evidence(
    model: UCSModel, transcripts: TranscriptMap, nuclei: NDArray[np.int32], n: int, um_per_px: float
) -> Evidence | None:
    clusters = model.expression
    if clusters is None or clusters.profiles is None:
        return None
    membership = clusters.membership(count_in_cores(transcripts, nuclei, n, um_per_px=um_per_px))
    return Evidence(transcripts, clusters.profiles.log_ratio, membership, float(clusters.expression_weight_um))


def _cells_of_candidates(
    clues: Clues, nuclei: NDArray[np.int32], n: int, m: int, evidence: Evidence | None, params: MethodParams
) -> NDArray[np.int32]:
    """Return the cells that candidates have if they are nuclei like the others, ``(h, w)`` ids 1..m.

    As :class:`ucs.methods.density.predict.DensityPredictor`, with the smoothed density: that of the net takes a pixel
    far from the nuclei that it was shown for what it would be if there were no others.
    """
    um_per_px, boxes = clues.typical.um_per_px, bounding_boxes(nuclei, n + m)
    reach = params.reach_px(um_per_px)
    around = survey(clues.totals, nuclei, boxes, reach=reach, strength=params.shape_exponent, um_per_px=um_per_px)
    owner, _ = choose_owners(nuclei, boxes, around.axes, reach=reach, um_per_px=um_per_px, evidence=evidence)
    levels = measure_levels(around.totals, nuclei, around.nearest.distance, um_per_px=um_per_px)
    in_cell = cell_probability(around, clues.density, levels) > _THRESHOLD
    labels = np.where(in_cell | (nuclei > 0), owner, 0).astype(np.int32)
    labels = refine_cells(labels, nuclei, bounding_boxes(labels, n + m))
    return np.maximum(labels - n, 0)
