"""Candidates for missing nuclei: where they are, how plausible each is, and which of several go.

Candidates are the peaks of the mean excess over a disc of the size of a cell, with what the nuclear transcripts say;
those found already explain their surroundings to those that follow. Then each gets its cell as any nucleus would, and
its plausibility by it (:func:`plausibility`); the others gain the pixels of those that go (:func:`to_drop`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs.methods.missing.clues import Clues

_LARGEST_SIGNATURE = 10.0  # log likelihood of a nucleus beyond which rich ones say no more
_CELL_SHARE = 0.75  # of the area of a typical cell, over which excess is averaged
_SIGNATURE_WEIGHT = 1 / 80  # of excess for a unit of log likelihood; low, as nuclear transcripts spill over
_LEAST_EXCESS = 0.05  # of a candidate: low, as the plausible ones are chosen later
_SEPARATION = 1.1  # radii of a typical cell between two candidates
_MOST_ROUNDS = 10
_HOPELESS = -4.0  # log odds
_NEIGHBOURHOOD = 2.0  # radii of a typical cell within which the least plausible candidate goes first
_ONE_CELL = 1.8  # radii of a typical cell between two candidates, below which they may lie in one
_TWO_KINDS = 10.0  # log likelihood by which two kinds of cells explain two candidates better than one
_IMPLAUSIBLE = -3.0  # log odds at most of candidates poorer than these
_FARTHEST = 2.0  # radii of a typical cell beyond which remoteness says no more
_COEFFICIENTS = (4.7, 2.5, 0.24)
_INTERCEPT = -7.0


def propose(clues: Clues) -> NDArray[np.int32]:
    """Return candidates: discs of the size of a nucleus, ``(h, w)`` ids 1..m, never on a nucleus."""
    from scipy.signal import oaconvolve
    from skimage.feature import peak_local_max

    radius, separation = clues.typical.nucleus_radius, max(1, round(_SEPARATION * clues.typical.cell_radius))
    signature = oaconvolve(clues.signature, _disc(radius, mean=False), mode="same")
    cell = _disc(np.sqrt(_CELL_SHARE) * clues.typical.cell_radius, mean=True)
    excess, found = clues.excess.copy(), np.zeros_like(clues.nuclei)
    bonus = _SIGNATURE_WEIGHT * np.clip(signature, -_LARGEST_SIGNATURE, _LARGEST_SIGNATURE).astype(np.float32)
    n = 0
    for _ in range(_MOST_ROUNDS):
        score = oaconvolve(excess, cell, mode="same") + bonus
        score[(clues.nuclei > 0) | (found > 0)] = -1
        peaks = peak_local_max(score, min_distance=separation, threshold_abs=_LEAST_EXCESS, exclude_border=False)
        if len(peaks) == 0:
            break
        _explain(excess, clues, peaks)
        _draw(found, clues.nuclei, peaks, radius, n)
        n += len(peaks)
    return found


def _disc(radius: float, *, mean: bool) -> NDArray[np.float32]:
    side = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
    disc = (np.hypot(*np.meshgrid(side, side)) <= radius).astype(np.float32)
    return disc / disc.sum() if mean else disc


def _around(
    peaks: NDArray[np.int64], radius: float, shape: tuple[int, ...]
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return rows, columns, distance and number of the peak of all pixels within a radius of the peaks."""
    side = np.arange(-int(radius), int(radius) + 1)
    offsets = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    length = np.hypot(*offsets.T)
    offsets, length = offsets[length <= radius], length[length <= radius]
    at = peaks[:, None] + offsets
    inside = ((at >= 0) & (at < shape)).all(axis=-1)
    number, which = np.nonzero(inside)
    return at[..., 0][inside], at[..., 1][inside], length[which], number


def _explain(excess: NDArray[np.float32], clues: Clues, peaks: NDArray[np.int64]) -> None:
    """Take from the excess what cells of new nuclei would reach, in place."""
    levels = clues.typical.levels
    farthest = clues.typical.nucleus_radius + (levels.reach_um + 4 * levels.softness_um) / clues.typical.um_per_px
    row, column, distance, _ = _around(peaks, farthest, excess.shape)
    beyond = np.maximum(distance - clues.typical.nucleus_radius, 0) * clues.typical.um_per_px
    own = np.full(excess.shape, 0, dtype=np.float32)
    np.maximum.at(own, (row, column), levels.reached(beyond))
    was = levels.reached(clues.remoteness)
    np.minimum(excess, excess + was - np.maximum(was, own), out=excess)


def _draw(found: NDArray[np.int32], nuclei: NDArray[np.int32], peaks: NDArray[np.int64], radius: float, n: int) -> None:
    row, column, _, number = _around(peaks, radius, found.shape)
    free = (nuclei[row, column] == 0) & (found[row, column] == 0)
    found[row[free], column[free]] = n + 1 + number[free]


def plausibility(clues: Clues, candidates: NDArray[np.int32], cells: NDArray[np.int32], m: int) -> NDArray[np.float64]:
    """Return for each candidate the log odds that it lies in a cell whose nucleus is missing, ``(m,)``.

    A logistic regression on three features: the area of its cell over that of a typical one, how remote the cell's
    pixels are on average (in radii of a typical cell), and how nuclear the transcripts on the candidate are. Its
    coefficients were fitted on simulated tissue, all regimes together, and held for each regime when it was left out.
    Whatever it says, a candidate is not plausible if it is less nuclear (in all, or per transcript) or less dense, or
    its cell has fewer transcripts, than all but a tenth of the sample's own: real tissue has more between its cells
    than simulated tissue.

    Parameters
    ----------
    clues
        Of the sample.
    candidates
        ``(h, w)`` ids 1..m.
    cells
        ``(h, w)``: the cell of each candidate, if all candidates were nuclei; 0 elsewhere.
    m
        Number of candidates.
    """
    features = candidate_features(clues, candidates, cells, m)
    log_odds = features @ np.array(_COEFFICIENTS) + _INTERCEPT

    def sums(labels: NDArray[np.int32], values: NDArray) -> NDArray[np.float64]:
        return np.bincount(labels.ravel(), weights=values.ravel(), minlength=m + 1)[1:].astype(np.float64)

    size = np.maximum(np.bincount(candidates.ravel(), minlength=m + 1)[1:], 1)
    nuclear, total = sums(candidates, clues.signature), sums(candidates, clues.totals)
    has = (nuclear, total / size, sums(cells, clues.totals), nuclear / np.maximum(total, 1))
    poor = np.any([value < least for value, least in zip(has, clues.typical.poorest, strict=True)], axis=0)
    return np.where(poor, np.minimum(log_odds, _IMPLAUSIBLE), log_odds)


def candidate_features(
    clues: Clues, candidates: NDArray[np.int32], cells: NDArray[np.int32], m: int
) -> NDArray[np.float64]:
    """Return the features of :func:`plausibility`, ``(m, 3)``."""
    area = np.bincount(cells.ravel(), minlength=m + 1)[1:]
    remote = np.bincount(cells.ravel(), weights=np.minimum(clues.remoteness, 25).ravel(), minlength=m + 1)[1:]
    nuclear = np.bincount(candidates.ravel(), weights=clues.signature.ravel(), minlength=m + 1)[1:]
    return np.stack(
        [
            area / clues.typical.cell_area,
            np.minimum(remote / np.maximum(area, 1) / (clues.typical.cell_radius * clues.typical.um_per_px), _FARTHEST),
            np.clip(nuclear, -_LARGEST_SIGNATURE, _LARGEST_SIGNATURE),
        ],
        axis=1,
    )


def to_drop(
    candidates: NDArray[np.int32],
    log_odds: NDArray[np.float64],
    fit: NDArray[np.floating],
    *,
    cell_radius: float,
    least: float,
) -> NDArray[np.bool_]:
    """Tell which candidates should go before the others are judged again, ``(m,)``; none if all may stay.

    One that is not plausible goes when it is the least plausible around, since its neighbours then gain its pixels; a
    hopeless one at once. Of two that lie in one cell the less plausible goes: they are nearer than 1.8 radii of a
    typical cell, and their transcripts are as likely of one kind as of two.

    Parameters
    ----------
    candidates
        ``(h, w)`` ids 1..m.
    log_odds
        ``(m,)`` of :func:`plausibility`.
    fit
        ``(m, kinds)`` log likelihood of the transcripts of each candidate's cell under each kind; no columns if kinds
        are not known.
    cell_radius
        Of a typical cell, in pixels.
    least
        Log odds of a candidate that may stay.
    """
    from scipy.ndimage import center_of_mass
    from scipy.spatial import cKDTree

    m = len(log_odds)
    centres = np.array(center_of_mass(candidates > 0, candidates, np.arange(1, m + 1))).reshape(m, 2)
    pairs = cKDTree(centres).query_pairs(_NEIGHBOURHOOD * cell_radius, output_type="ndarray")
    first_is_worse = log_odds[pairs[:, 0]] <= log_odds[pairs[:, 1]]
    worse, better = np.where(first_is_worse, pairs.T, pairs.T[::-1])
    worst = np.ones(m, dtype=bool)
    worst[better] = False
    apart = np.hypot(*(centres[worse] - centres[better]).T) >= _ONE_CELL * cell_radius
    if fit.shape[1] > 0:
        of_two = fit[worse].max(axis=1) + fit[better].max(axis=1)
        apart |= of_two - (fit[worse] + fit[better]).max(axis=1) > _TWO_KINDS
    has_better, has_worse = np.zeros(m, dtype=bool), np.zeros(m, dtype=bool)
    has_better[worse[~apart]], has_worse[better[~apart]] = True, True
    return (log_odds < _HOPELESS) | ((log_odds < least) & worst) | (has_better & ~has_worse)


def keep_candidates(candidates: NDArray[np.int32], kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the candidates that are kept (``(m,)``), numbered anew without gaps."""
    number = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
    number[1:][~kept] = 0
    return number[candidates]
