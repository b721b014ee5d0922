"""What the net sees: everything relative to the nuclei near by, lengths in um, several scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter1d

from ucs.methods.pretrained.survey import BIN, N_MAPS, N_RINGS, pooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap
    from ucs.methods.pretrained.candidates import Candidates

SCALES_UM = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations over which transcripts are counted."""

EXPRESSION_UM = (1.0, 2.5)
"""Standard deviations over which the fit to expression clusters is summed."""

TRUNCATE = 3.0
CONTEXT_UM = TRUNCATE * max(SCALES_UM)
"""How far from a place transcripts count, beyond the convolutions."""

_CENTRES_UM = (0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0, 20.0)
_BUMP_UM = 1.2
_FAR_UM = 30.0
_GAP_UM = 12.0

N_FEATURES = len(SCALES_UM) + N_MAPS + len(_CENTRES_UM) + 9 + 9 + 6 * len(EXPRESSION_UM) + 2


@dataclass(frozen=True)
class NucleusTable:
    """Figures of nuclei by id, first that of no nucleus.

    Attributes
    ----------
    level, area, rings
        As in :class:`ucs.methods.pretrained.survey.TissueSurvey`.
    membership
        ``(m + 1, clusters)`` float32, how likely each nucleus is of each expression cluster.
    """

    level: NDArray[np.float32]
    area: NDArray[np.float32]
    rings: NDArray[np.float32]
    membership: NDArray[np.float32]

    def of(self, ids: NDArray[np.int32]) -> NucleusTable:
        """Return the rows of some ids."""
        return NucleusTable(self.level[ids], self.area[ids], self.rings[ids], self.membership[ids])


def net_features(
    transcripts: TranscriptMap,
    nuclei: NDArray[np.int32],
    candidates: Candidates,
    table: NucleusTable,
    maps: NDArray[np.float32],
    log_ratio: NDArray[np.float32],
    *,
    factor: int,
    um_per_px: float,
) -> NDArray[np.float32]:
    """Describe each net pixel, ``(N_FEATURES, h, w)`` float32.

    Parameters
    ----------
    transcripts
        Of the genes of ``log_ratio``, on a window of the raster.
    nuclei
        ``(h, w)`` ids on the window.
    candidates
        Of the window.
    table
        Of the nuclei of the window.
    maps
        ``(N_MAPS, h, w)`` of the survey, read by :func:`read_maps`.
    log_ratio
        ``(clusters + 1, genes)``: log of a gene's share in a cluster over its share in all nuclei; the last row is the
        ambient RNA.
    factor
        Side of a net pixel in pixels.
    um_per_px
        Side of a pixel of the raster in um.
    """
    net_um = factor * um_per_px
    shape = candidates.owner.shape[1:]
    count = pooled(transcripts.totals(), factor).astype(np.float32)
    # Less than 1 at the raster's end.
    full = (pooled(np.ones(nuclei.shape, dtype=np.uint8), factor) / factor**2).astype(np.float32)
    nuclear = (pooled(nuclei > 0, factor) / factor**2).astype(np.float32)
    first, second = candidates.owner
    level, other = table.level[first], table.level[second]
    has, has_other = (first > 0).astype(np.float32), (second > 0).astype(np.float32)
    out = np.empty((N_FEATURES, *shape), dtype=np.float32)
    rows = iter(out)

    def add(values: NDArray) -> None:
        next(rows)[:] = values

    scale = np.exp(level)
    for sigma in SCALES_UM:
        area = np.maximum(smoothed(full, sigma / net_um), 1e-3) * net_um**2
        density = smoothed(count, sigma / net_um) / area
        add(np.log((density + 0.03 * scale + 0.002) / scale))
    for number in range(N_RINGS):
        add(np.maximum(maps[number] - level, -6))
    for number in range(N_RINGS, 2 * N_RINGS):
        add(maps[number])
    add(maps[-2] - level)
    add(np.maximum(maps[-1] - level, -6))
    nearest = np.minimum(candidates.distance[0], _FAR_UM)
    next_nearest = np.minimum(candidates.distance[1], _FAR_UM)
    for centre in _CENTRES_UM:
        add(np.exp(-0.5 * ((nearest - centre) / _BUMP_UM) ** 2))
    add(nearest / 10)
    add(np.minimum(next_nearest - nearest, _GAP_UM) / 5)
    add(next_nearest / 10)
    add(has)
    add(has_other)
    add(nuclear)
    add(level)
    add(np.minimum(count / np.maximum(scale * net_um**2, 0.2), 8) * 0.25)
    add(np.log(np.maximum(smoothed(nuclear, 8 / net_um), 1e-3)) / 3)
    for ring in table.rings.T:
        add(ring[first])
    for ring in table.rings.T:
        add(ring[second] * has_other)
    add(_log_area(table.area[first]) * has)
    add(_log_area(table.area[second]) * has_other)
    add((other - level) * has_other)
    _add_expression(add, transcripts, candidates, count, table.membership, log_ratio, factor, net_um)
    return out


def _log_area(area: NDArray[np.float32]) -> NDArray[np.float32]:
    return (np.log(np.maximum(area, np.float32(2))) / 2 - np.float32(1.7)).astype(np.float32)  # 0 at 30 um2


def _add_expression(
    add: Callable[[NDArray], None],
    transcripts: TranscriptMap,
    candidates: Candidates,
    count: NDArray[np.float32],
    membership: NDArray[np.float32],
    log_ratio: NDArray[np.float32],
    factor: int,
    net_um: float,
) -> None:
    """Add how the transcripts around fit the clusters of either candidate, against ambient RNA and each other."""
    first, second = candidates.owner
    has, has_other = (first > 0).astype(np.float32), (second > 0).astype(np.float32)
    h, w = first.shape
    n_clusters = len(log_ratio) - 1
    fit = np.zeros((n_clusters, h, w), dtype=np.float32)
    if n_clusters:
        against = np.ascontiguousarray((log_ratio[:-1] - log_ratio[-1]).T)  # (genes, clusters)
        entries = transcripts.row_start, transcripts.column, transcripts.feature, transcripts.count
        _sum_fit(*entries, against, factor, fit)
    of_first, of_second = membership[first], membership[second]
    for sigma in EXPRESSION_UM:
        weight = np.float32(4 * np.pi * (sigma / net_um) ** 2)
        around = smoothed(count, sigma / net_um) * weight
        a, b = np.zeros((h, w), dtype=np.float32), np.zeros((h, w), dtype=np.float32)
        for k in range(n_clusters):
            one = smoothed(fit[k], sigma / net_um) * weight
            a += of_first[..., k] * one
            b += of_second[..., k] * one
        a *= has
        b *= has_other
        add(_signed_log(a))
        add(_signed_log(b))
        add(_signed_log(a - b) * has_other)
        add(np.log1p(around))
        add(a / (around + 2))
        add((a - b) / (around + 2) * has_other)
    add((of_first**2).sum(axis=-1))
    add(np.where(second > 0, (of_first * of_second).sum(axis=-1), 1))


def _signed_log(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sign(values) * np.log1p(np.abs(values))


def smoothed(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return a Gaussian mean with zeros outside; each pixel is summed in one order, whatever the window."""
    values = np.asarray(values, dtype=np.float32)
    for axis in (0, 1):
        values = gaussian_filter1d(values, sigma, axis=axis, mode="constant", truncate=TRUNCATE)
    return values


@njit(cache=True, nogil=True)
def _sum_fit(
    row_start: NDArray, column: NDArray, feature: NDArray, count: NDArray, log_ratio: NDArray, factor: int, out: NDArray
) -> None:
    """Add the log ratios of the transcripts of each net pixel, ``(clusters, h, w)``."""
    for i in range(len(row_start) - 1):
        for e in range(row_start[i], row_start[i + 1]):
            y, x = i // factor, column[e] // factor
            for k in range(out.shape[0]):
                out[k, y, x] += count[e] * log_ratio[feature[e], k]


def read_maps(maps: NDArray[np.float32], row0: int, column0: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read maps at net pixels, between bins linearly: ``(n, h, w)``.

    Parameters
    ----------
    maps
        ``(n, rows, columns)`` of bins of 8 net pixels.
    row0, column0
        Net pixel at which to begin.
    shape
        ``(h, w)`` net pixels.
    """
    out = maps
    for axis, (start, size) in enumerate(((row0, shape[0]), (column0, shape[1])), start=1):
        at = (np.arange(start, start + size) + 0.5) / BIN - 0.5
        low = np.floor(at).astype(np.int64)
        share = (at - low).astype(np.float32).reshape(-1, *[1] * (2 - axis))
        last = maps.shape[axis] - 1
        below, above = np.take(out, low.clip(0, last), axis=axis), np.take(out, (low + 1).clip(0, last), axis=axis)
        out = below * (1 - share) + above * share
    return out
