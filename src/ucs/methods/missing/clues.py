"""Cells whose nucleus is not among the nuclei: where there must be one, and how likely each is.

Three clues, all measured on the sample's own nuclei and cells:

- *Unexplained density.* Where transcripts are as dense as in cytoplasm, but farther from every nucleus than its cell
  reaches, there is a cell without one. ``excess = c - reached(d)``: the share of cell that the density implies, less
  the share of cells that reach this far (:class:`ucs.methods.density.levels.Levels`). It averages to about 0 over cells
  whose nucleus is seen, whatever the share of missing nuclei.
- *Other transcripts.* Those of another kind of cell than the near nucleus are farther from it than they seem: the
  distance that evidence outweighs (:mod:`ucs.methods.density.ownership`) is added.
- *Nuclear transcripts.* Genes differ in how nuclear their transcripts are; the log likelihood of nucleus against
  cytoplasm, summed over an area of a nucleus, tells the middle of a missing cell from the far end of a seen one.

Candidates are the peaks of the mean excess over a disc of the size of a cell, with what the nuclear transcripts say;
those found already explain their surroundings to those that follow. Then each gets its cell as any nucleus would, and
is judged by it (:func:`plausibility`); the others gain the pixels of those that go (:func:`to_drop`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels.bands import bands
from ucs._kernels.count import count_in_labels, row_sums
from ucs._kernels.labels.ids import pixels_of_ids
from ucs.methods.missing.nuclear import NuclearSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.bands import Raster
    from ucs._kernels.transcripts import TranscriptMap
    from ucs.methods.density.levels import Levels
    from ucs.methods.density.ownership import Evidence

_DENSITY_SIGMA_UM = (2.0, 4.0)  # least and largest of the Gaussian by which the density of transcripts is measured
_COUNT_IN_GAUSSIAN = 30.0  # transcripts of cytoplasm that it is to see, over its effective area of 4 pi sigma^2

_PIXEL_SIGMA_UM = 1.5  # as in ucs.methods.density.ownership
_KIND_SIGMA_UM = 3.0  # the kind of cell is decided on more transcripts than fit a pixel
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

_POOREST = 0.1  # share of the sample's own nuclei that a candidate need not equal
_IMPLAUSIBLE = -3.0  # log odds at most of candidates poorer than these
_FARTHEST = 2.0  # radii of a typical cell beyond which remoteness says no more

_COEFFICIENTS = (4.7, 2.5, 0.24)
_INTERCEPT = -7.0


@dataclass(frozen=True)
class TypicalCells:
    """What is measured once on all of a sample's nuclei and cells.

    Attributes
    ----------
    nucleus_area, cell_area
        Medians, in pixels.
    poorest
        What all but a tenth of the sample's own nuclei have at least: the signature summed over the nucleus, its
        transcripts per pixel, the transcripts of its cell, the signature per transcript.
    signature
        How nuclear each gene is.
    levels
        Densities and lengths.
    um_per_px
        Side of a pixel in um.
    """

    nucleus_area: float
    cell_area: float
    poorest: tuple[float, float, float, float]
    signature: NuclearSignature
    levels: Levels
    um_per_px: float

    @classmethod
    def measure(
        cls,
        transcripts: TranscriptMap,
        nuclei: NDArray[np.int32],
        cells: Raster,
        n: int,
        levels: Levels,
        um_per_px: float,
    ) -> TypicalCells:
        """Measure them.

        Parameters
        ----------
        transcripts
            Of the genes that the model knows.
        nuclei, cells, n
            ``(h, w)`` ids of nuclei and of the cells that they were given, and the highest of them.
        levels
            Densities and lengths of the sample.
        um_per_px
            Side of a pixel in um.
        """
        of_nuclei = pixels_of_ids(nuclei, n)[1:]
        of_cells = np.sum([pixels_of_ids(band, n) for _, band in bands(cells)], axis=0)[1:]
        in_nuclei, in_cells = count_in_labels(transcripts, nuclei, n), count_in_labels(transcripts, cells, n)
        n_nucleus, n_cell = int(of_nuclei.sum()), int(of_cells.sum())
        signature = NuclearSignature.measure(in_nuclei, in_cells, n_nucleus, n_cell - n_nucleus)
        there, counts = of_nuclei > 0, row_sums(in_nuclei)
        nuclear = signature.of_labels(in_nuclei, of_nuclei)
        values = (nuclear, counts / np.maximum(of_nuclei, 1), row_sums(in_cells), nuclear / np.maximum(counts, 1))
        total, dense, rich, each = (float(np.quantile(value[there], _POOREST)) for value in values)
        return cls(
            float(np.median(of_nuclei[there])),
            float(np.median(of_cells[of_cells > 0])),
            (total, dense, rich, each),
            signature,
            levels,
            um_per_px,
        )

    @property
    def nucleus_radius(self) -> float:
        """Of a disc as large as a typical nucleus, in pixels."""
        return float(np.sqrt(self.nucleus_area / np.pi))

    @property
    def cell_radius(self) -> float:
        """Of a disc as large as a typical cell, in pixels."""
        return float(np.sqrt(self.cell_area / np.pi))


@dataclass(frozen=True)
class Clues:
    """What is known of each pixel of a window, ``(h, w)`` each.

    Attributes
    ----------
    totals
        int32 transcripts per pixel.
    nuclei
        int32 ids.
    density
        float32, transcripts per um2, smoothed.
    remoteness
        float32, um to the nearest nucleus (stretched), more if the transcripts fit another kind of cell; 0 in nuclei.
    signature
        float32, log likelihood of the pixel's transcripts in nucleus against cytoplasm.
    excess
        float32, see the module; -1 in nuclei.
    typical
        Cells of the sample.
    """

    totals: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    density: NDArray[np.float32]
    remoteness: NDArray[np.float32]
    signature: NDArray[np.float32]
    excess: NDArray[np.float32]
    typical: TypicalCells


def gather_clues(
    transcripts: TranscriptMap,
    nuclei: NDArray[np.int32],
    nearest: NDArray[np.int32],
    distance: NDArray[np.float32],
    typical: TypicalCells,
    evidence: Evidence | None,
) -> Clues:
    """Measure the clues of a window.

    Parameters
    ----------
    transcripts
        Of the genes that the model knows.
    nuclei
        ``(h, w)`` ids.
    nearest, distance
        ``(h, w)`` nearest nucleus and stretched distance to it in pixels, ``inf`` beyond reach.
    typical
        Cells of the sample.
    evidence
        Expression clusters and the nuclei's memberships; None if expression tells nothing.
    """
    totals, levels, um_per_px = transcripts.totals(), typical.levels, typical.um_per_px
    density = smoothed_density(totals, levels.cytoplasm, um_per_px=um_per_px)
    remoteness = np.minimum(distance * np.float32(um_per_px), np.float32(50))
    if evidence is not None and evidence.expression_weight_um > 0:
        remoteness += _distance_of_other_kinds(evidence, nearest, um_per_px)
    np.maximum(remoteness, 0, out=remoteness)
    remoteness[nuclei > 0] = 0
    contrast = max(levels.cytoplasm - levels.background, 1e-9)
    excess = np.clip((density - levels.background) / np.float32(contrast), 0, 1) - reached(levels, remoteness)
    excess[nuclei > 0] = -1
    signature = typical.signature.of_pixels(transcripts)
    return Clues(totals, nuclei, density, remoteness, signature, excess.astype(np.float32), typical)


def smoothed_density(totals: NDArray[np.int32], cytoplasm: float, *, um_per_px: float) -> NDArray[np.float32]:
    """Return transcripts per um2 around each pixel, ``(h, w)``; over a wider area if ``cytoplasm`` has few."""
    from scipy.ndimage import gaussian_filter

    sigma = np.clip(np.sqrt(_COUNT_IN_GAUSSIAN / (4 * np.pi * max(cytoplasm, 1e-9))), *_DENSITY_SIGMA_UM)
    return gaussian_filter(totals.astype(np.float32), sigma / um_per_px) / np.float32(um_per_px**2)


def reached(levels: Levels, distance_um: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the share of seen cells that reach a distance."""
    beyond = np.minimum(distance_um, 50) - np.float32(levels.reach_um)
    return 1 / (1 + np.exp(beyond / np.float32(levels.softness_um)))


def _distance_of_other_kinds(evidence: Evidence, nearest: NDArray[np.int32], um_per_px: float) -> NDArray[np.float32]:
    """Return by how many um the transcripts around a pixel fit the likeliest kind better than the nearest nucleus."""
    from scipy.ndimage import gaussian_filter

    of = evidence.transcripts
    shape, pixel = of.shape, of.rows() * of.shape[1] + of.column
    narrow, wide = _PIXEL_SIGMA_UM / um_per_px, _KIND_SIGMA_UM / um_per_px
    likeliest = np.full(shape, -np.inf, dtype=np.float32)
    of_likeliest, of_nearest = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for k, log_ratio in enumerate(evidence.log_ratio):
        fit = np.bincount(pixel, weights=log_ratio[of.feature] * of.count, minlength=nearest.size)
        fit = fit.reshape(shape).astype(np.float32)
        around = gaussian_filter(fit, wide)
        fit = gaussian_filter(fit, narrow) * np.float32(4 * np.pi * narrow**2)  # the scale of ownership
        of_nearest += evidence.membership[:, k][nearest] * fit
        better = around > likeliest
        likeliest[better], of_likeliest[better] = around[better], fit[better]
    return np.float32(evidence.expression_weight_um) * np.where(nearest > 0, of_likeliest - of_nearest, 0)


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
    np.maximum.at(own, (row, column), reached(levels, beyond).astype(np.float32))
    was = reached(levels, clues.remoteness)
    np.minimum(excess, excess + was - np.maximum(was, own), out=excess)


def _draw(
    found: NDArray[np.int32], nuclei: NDArray[np.int32], peaks: NDArray[np.int64], radius: float, n: int
) -> None:
    row, column, _, number = _around(peaks, radius, found.shape)
    free = (nuclei[row, column] == 0) & (found[row, column] == 0)
    found[row[free], column[free]] = n + 1 + number[free]


def plausibility(
    clues: Clues, candidates: NDArray[np.int32], cells: NDArray[np.int32], m: int
) -> NDArray[np.float64]:
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
