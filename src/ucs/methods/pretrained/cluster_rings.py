"""How far the cells of each expression cluster go: density and expression at each distance from their nuclei.

A nucleus alone has too few transcripts around it to say where its cell ends; the nuclei of its cluster together have
enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from ucs._kernels.labels.ids import renumber
from ucs._kernels.lattice import BLOCK, bounding_boxes, tiles_of
from ucs.methods.pretrained.candidates import find_candidates
from ucs.methods.pretrained.survey import pooled, squares_of, window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import Window
    from ucs.methods.pretrained.survey import TissueSurvey

RINGS_UM = (0.01, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0)
"""Upper edges of the distances from nuclei; the first ring is the nucleus itself."""

CENTRES_UM = np.array([0.0, 0.5, 1.5, 2.5, 3.75, 5.25, 7.0, 9.5, 13.0], dtype=np.float32)
N_RINGS = len(RINGS_UM)

_MOST_TILES = 24  # about 7 mm2 of net pixels: thousands of nuclei, and a few seconds of a slide
_PRIOR_COUNT = 30.0  # transcripts of the average nucleus that each ring of a cluster begins with
_LEAST = 0.01  # of the density in nuclei


def cluster_rings(
    survey: TissueSurvey, membership: NDArray[np.float32], log_ratio: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return density and expression at each distance from the nuclei of each cluster, ``(2, clusters, N_RINGS)``.

    The first is the log of the density over that in the nuclei; the second is the mean log likelihood ratio of a
    transcript, its cluster against ambient RNA, over that in the nuclei: 1 where RNA is as in the nuclei, 0 or less
    where it is not. Places count for their nearest nucleus. Large samples are measured in part.

    Parameters
    ----------
    survey
        Of the sample.
    membership
        ``(n + 1, clusters)``, zeros for id 0.
    log_ratio
        ``(clusters + 1, genes)`` of :class:`ucs.methods.pretrained.clusters.Clusters`.
    """
    n_clusters = membership.shape[1]
    against = np.ascontiguousarray((log_ratio[:-1] - log_ratio[-1]).T)
    fit, count, expected = (np.zeros((n_clusters, N_RINGS)) for _ in range(3))
    n, factor, um_per_px = len(survey.boxes) - 1, survey.factor, survey.um_per_px
    net_um2, level = (factor * um_per_px) ** 2, np.exp(survey.level)
    for core in _tiles_with_nuclei(survey):
        window = window_of(core, survey.nuclei, survey.boxes, survey.axes, um_per_px)
        ids, local = renumber(survey.nuclei[window.slices], n)
        found = find_candidates(
            local, bounding_boxes(local, len(ids) - 1), survey.axes[ids], factor=factor, um_per_px=um_per_px
        )
        coarse = squares_of(core.seen_from(window), factor)
        ring = np.searchsorted(RINGS_UM, found.distance[0][coarse], side="right").astype(np.int64)
        owner = ids[found.owner[0][coarse]]
        ring[owner == 0] = N_RINGS
        of_genes = survey.selection.of(survey.transcripts.crop(core))
        area = pooled(np.ones(core.shape, dtype=np.uint8), factor) / factor**2 * net_um2
        _add(
            of_genes.row_start, of_genes.column, of_genes.feature, of_genes.count, factor, ring, owner, area,
            membership, level, against, fit, count, expected,
        )  # fmt: skip
    return _shrunk(fit, count, expected)


def _tiles_with_nuclei(survey: TissueSurvey) -> list[Window]:
    """Return tiles that hold nuclei, at most ``_MOST_TILES``: those of nuclei at even steps through the tiles."""
    side = 11 * BLOCK
    tiles = list(tiles_of(survey.shape, side))
    columns = -(-survey.shape[1] // side)
    boxes = survey.boxes[1:]
    boxes = boxes[boxes[:, 2] > boxes[:, 0]]
    at = np.sort((boxes[:, 0] + boxes[:, 2]) // 2 // side * columns + (boxes[:, 1] + boxes[:, 3]) // 2 // side)
    if not len(at):
        return []
    steps = (np.arange(_MOST_TILES) + 0.5) / _MOST_TILES * len(at)
    chosen = np.unique(at) if len(np.unique(at)) <= _MOST_TILES else np.unique(at[steps.astype(int)])
    return [tiles[k] for k in chosen]


def _shrunk(fit: NDArray, count: NDArray, expected: NDArray) -> NDArray[np.float32]:
    """Return both figures; each cluster is drawn towards the mean of all, each ring towards the one before."""
    density, purity = np.zeros_like(fit), np.ones_like(fit)
    in_nuclei = np.maximum((fit[:, 0] + _PRIOR_COUNT * 0.5) / (count[:, 0] + _PRIOR_COUNT), 0.05)
    mean_density, mean_purity = 1.0, 1.0
    for ring in range(fit.shape[1]):
        mean_density = (count[:, ring].sum() + _PRIOR_COUNT * mean_density) / (expected[:, ring].sum() + _PRIOR_COUNT)
        own = fit[:, ring] / in_nuclei
        mean_purity = (own.sum() + _PRIOR_COUNT * mean_purity) / (count[:, ring].sum() + _PRIOR_COUNT)
        density[:, ring] = np.log(
            (count[:, ring] + _PRIOR_COUNT * mean_density) / (expected[:, ring] + _PRIOR_COUNT) + _LEAST
        )
        purity[:, ring] = (own + _PRIOR_COUNT * mean_purity) / (count[:, ring] + _PRIOR_COUNT)
    return np.stack([density, np.clip(purity, -2, 2)]).astype(np.float32)


@njit(cache=True, nogil=True)
def _add(
    row_start: NDArray,
    column: NDArray,
    feature: NDArray,
    n: NDArray,
    factor: int,
    ring: NDArray,
    owner: NDArray,
    area: NDArray,
    membership: NDArray,
    level: NDArray,
    against: NDArray,
    fit: NDArray,
    count: NDArray,
    expected: NDArray,
) -> None:
    """Add the transcripts of a tile, and how many there would be if all places were like nuclei."""
    n_clusters, n_rings = fit.shape
    for y in range(ring.shape[0]):
        for x in range(ring.shape[1]):
            if ring[y, x] < n_rings:
                c = owner[y, x]
                for k in range(n_clusters):
                    expected[k, ring[y, x]] += membership[c, k] * level[c] * area[y, x]
    for i in range(len(row_start) - 1):
        for e in range(row_start[i], row_start[i + 1]):
            y, x = i // factor, column[e] // factor
            if ring[y, x] < n_rings:
                c = owner[y, x]
                for k in range(n_clusters):
                    share = membership[c, k] * n[e]
                    count[k, ring[y, x]] += share
                    fit[k, ring[y, x]] += share * against[feature[e], k]
