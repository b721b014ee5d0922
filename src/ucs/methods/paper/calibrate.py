"""How far from nuclei the background begins, read from the data itself.

The density of transcripts falls with the distance d to the nearest nucleus from that of cytoplasm to that of
background: ``rho(d) = c(d) rho_cell + (1 - c(d)) rho_background``, where c(d) is the share of cell among the pixels
at that distance. With the two levels taken from the profile's ends this gives c(d), and with it the purity of the
training negatives (pixels beyond D with fewer transcripts than their mean, paper, equations 7 and 8) for every D. The
smallest D that is pure enough is chosen: nearer negatives teach the net that cytoplasm is background, farther ones
leave the boundary to chance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs.methods.paper.background import squared_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

PURITY = 0.95
"""Estimated share of true background among the negatives at which the distance is chosen."""

FALLBACK_UM = 6.0
"""Distance in um if the profile does not tell."""

_FARTHEST_UM = 30.0
_CYTOPLASM_UM = 1.0  # so far from nuclei everything is taken for cytoplasm
_ROWS_AT_ONCE = 1024
_NEAREST_UM, _LARGEST_UM = 2.0, 20.0
_TAIL_SHARE = 0.1  # of the area outside nuclei, the farthest part: what lies there is taken for background
_CONTRAST = 1.5  # cytoplasm over background: below that the two cannot be told apart by density


def radial_profile(
    totals: NDArray, nuclei: NDArray, *, limit: int, inside: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pixels and transcripts by distance to the nearest nucleus, ``(limit + 2,)`` each; 0 = in a nucleus.

    Bin ``k`` holds distances in ``(k - 1, k]`` pixels, the last one all beyond ``limit``. Pixels that are not
    ``inside`` are not counted.
    """
    squared = squared_distance(nuclei, limit)
    bins = np.ceil(np.sqrt(np.arange(limit * limit + 2))).astype(np.int64)
    bins[-1] = limit + 1
    pixels, transcripts = np.zeros(limit + 2, dtype=np.int64), np.zeros(limit + 2, dtype=np.int64)
    for first in range(0, len(squared), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        counted = slice(None) if inside is None else inside[rows].ravel()
        index = bins[squared[rows]].ravel()[counted]
        pixels += np.bincount(index, minlength=limit + 2)
        of_each = totals[rows].ravel()[counted]
        transcripts += np.bincount(index, weights=of_each, minlength=limit + 2).astype(np.int64)
    return pixels, transcripts


def calibrate_background(
    totals: NDArray, nuclei: NDArray, *, um_per_px: float, inside: NDArray[np.bool_] | None = None
) -> tuple[float, dict[str, Any]]:
    """Choose the distance from nuclei beyond which pixels with few transcripts serve as background.

    Parameters
    ----------
    totals
        ``(h, w)`` transcripts per pixel.
    nuclei
        ``(h, w)`` ids, 0 elsewhere.
    um_per_px
        Side of a pixel in um.
    inside
        ``(h, w)``, the pixels to learn from; all if None.

    Returns
    -------
    ``(distance, report)``: the distance in um, and plain values: whether the profile was usable (``"calibrated"``), the
    levels per um2, the profile per bin of one pixel, and the estimated share of cell and purity.
    """
    limit = max(3, min(255, math.ceil(_FARTHEST_UM / um_per_px)))
    pixels, counts = radial_profile(totals, nuclei, limit=limit, inside=inside)
    density = counts / np.maximum(pixels, 1)
    tail_pixels, tail_counts = np.cumsum(pixels[::-1])[::-1], np.cumsum(counts[::-1])[::-1]
    tail = int(np.flatnonzero(tail_pixels >= _TAIL_SHARE * tail_pixels[1])[-1])
    report: dict[str, Any] = {
        "calibrated": False,
        "density_per_um2": (density / um_per_px**2).tolist(),
        "pixels": pixels.tolist(),
    }
    if tail <= 1 or pixels[1] == 0:
        return FALLBACK_UM, report
    background = float(tail_counts[tail] / tail_pixels[tail])
    rings = slice(1, 1 + max(1, round(_CYTOPLASM_UM / um_per_px)))
    cytoplasm = float(counts[rings].sum() / pixels[rings].sum())
    report["cytoplasm_per_um2"] = cytoplasm / um_per_px**2
    report["background_per_um2"] = background / um_per_px**2
    if cytoplasm <= _CONTRAST * background:
        return FALLBACK_UM, report
    share = np.clip((density - background) / (cytoplasm - background), 0, 1)
    share[0] = 1  # nuclei are cell, even where fewer transcripts lie in them than in cytoplasm
    share[pixels == 0] = 0
    share = np.minimum.accumulate(share)  # a cell does not begin again farther out: neighbours' noise is not let in
    purity = _purity(pixels, share, tail_counts / np.maximum(tail_pixels, 1), cytoplasm, background)
    report |= {"calibrated": True, "cell_share": share.tolist(), "purity": purity.tolist()}
    distance = _first_reaching(purity[:tail], PURITY) * um_per_px
    return float(np.clip(distance, _NEAREST_UM, _LARGEST_UM)), report


def _purity(
    pixels: NDArray, share: NDArray, tail_mean: NDArray, cytoplasm: float, background: float
) -> NDArray[np.float64]:
    """Return for each D (in pixels) the share of background among the low-count pixels beyond D."""
    n = len(pixels) - 1
    purity = np.ones(n)
    for distance in range(n):
        beyond = slice(distance + 1, None)
        below_mean = tail_mean[distance + 1]
        kept_background = pixels[beyond] * (1 - share[beyond]) * _poisson_below(below_mean, background)
        kept_cell = pixels[beyond] * share[beyond] * _poisson_below(below_mean, cytoplasm)
        total = kept_background.sum() + kept_cell.sum()
        purity[distance] = kept_background.sum() / total if total > 0 else 1.0
    return purity


def _poisson_below(limit: float, mean: float) -> float:
    """Return the probability that a Poisson count lies below a limit."""
    k = np.arange(math.ceil(limit))
    if len(k) == 0 or mean == 0:
        return float(len(k) > 0)
    # In logarithms, since powers and factorials of large counts overflow.
    log_terms = k * math.log(mean) - mean - np.cumsum(np.log(np.maximum(k, 1)))
    return min(1.0, float(np.exp(log_terms).sum()))


def _first_reaching(values: NDArray[np.float64], level: float) -> float:
    """Return the index, interpolated, at which values first reach a level; the last index if they never do."""
    reached = np.flatnonzero(values >= level)
    if len(reached) == 0:
        return len(values) - 1.0
    k = int(reached[0])
    if k == 0:
        return 0.0
    return k - 1 + (level - values[k - 1]) / (values[k] - values[k - 1])
