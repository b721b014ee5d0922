"""Where training takes background from, and how far from nuclei it begins, read from the data itself.

The mean density of transcripts falls with the distance d to the nearest nucleus from that of cytoplasm to a plateau:
``rho(d) = c(d) rho_cytoplasm + (1 - c(d)) rho_plateau``, where c(d), a sigmoid of d, is the share of pixels at that
distance that belong to a cell whose nucleus is seen. The plateau is fitted near nuclei, not taken from what lies
farthest: it holds the cells of the section without a nucleus and transcripts between cells, of which empty tissue far
from all nuclei has fewer. Background begins where c(d) has fallen to 0.3: nearer negatives teach the net that cytoplasm
is background, farther ones leave the boundary to chance. (Those of the pixels beyond that have more transcripts than
their mean are no negatives anyway, paper, equations 7 and 8.)
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._utils.log import logger
from ucs.methods.paper.background import beyond_distance, beyond_paper_dilation, squared_distance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CELL_SHARE = 0.3
"""Share of pixels in cells at the distance at which background begins (chosen on simulated tissue, seeds 0)."""

FALLBACK_UM = 6.0
"""Distance in um if the profile does not tell."""

_FARTHEST_UM = 30.0
_CYTOPLASM_UM = 1.0  # so far from nuclei everything is taken for cytoplasm
_FITTED_UM = 10.0  # distances to which the profile is fitted: farther out tissue differs by more than its cells
_REACHES_UM = np.arange(0, 12.01, 0.25)
_SOFTNESSES_UM = (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3)
_ROWS_AT_ONCE = 1024
_NEAREST_UM, _LARGEST_UM = 2.0, 20.0
_CONTRAST = 1.5  # cytoplasm over plateau: below that the two cannot be told apart by density


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
    levels per um2 (of cytoplasm, and of the plateau as background), the profile per bin of one pixel, the fitted reach
    and softness, and the estimated share of cell.
    """
    limit = max(3, min(255, math.ceil(_FARTHEST_UM / um_per_px)))
    pixels, counts = radial_profile(totals, nuclei, limit=limit, inside=inside)
    density = counts / np.maximum(pixels, 1)
    report: dict[str, Any] = {
        "calibrated": False,
        "density_per_um2": (density / um_per_px**2).tolist(),
        "pixels": pixels.tolist(),
    }
    n_fitted = max(4, math.ceil(_FITTED_UM / um_per_px) + 1)
    if pixels[1] == 0 or (pixels[1:n_fitted] > 0).sum() < 3:
        return FALLBACK_UM, report
    rings = slice(1, 1 + max(1, round(_CYTOPLASM_UM / um_per_px)))
    cytoplasm = float(counts[rings].sum() / pixels[rings].sum())
    distance_um = (np.arange(limit + 2) - 0.5) * um_per_px
    fitted = slice(1, n_fitted)
    plateau, reach_um, softness_um = _fit(distance_um[fitted], density[fitted], pixels[fitted], cytoplasm)
    report["cytoplasm_per_um2"] = cytoplasm / um_per_px**2
    report["background_per_um2"] = plateau / um_per_px**2
    if cytoplasm <= _CONTRAST * plateau:
        return FALLBACK_UM, report
    share = np.ones(limit + 2)  # nuclei are cell, even where fewer transcripts lie in them than in cytoplasm
    share[1:] = _share(distance_um[1:], reach_um, softness_um)
    report |= {"calibrated": True, "reach_um": reach_um, "softness_um": softness_um, "cell_share": share.tolist()}
    # Where the sigmoid has fallen to so much of what it is in cytoplasm.
    level = CELL_SHARE * _sigmoid(_CYTOPLASM_UM / 2, reach_um, softness_um)
    distance = reach_um + softness_um * math.log(1 / level - 1)
    return float(np.clip(distance, _NEAREST_UM, _LARGEST_UM)), report


def _share(distance_um: NDArray, reach_um: float, softness_um: float) -> NDArray[np.float64]:
    """Return c(d), which is 1 in cytoplasm."""
    own = _sigmoid(distance_um, reach_um, softness_um) / _sigmoid(_CYTOPLASM_UM / 2, reach_um, softness_um)
    return np.minimum(own, 1)


def _sigmoid(distance_um: NDArray | float, reach_um: float, softness_um: float) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(np.clip((distance_um - reach_um) / softness_um, -50, 50)))


def _fit(distance_um: NDArray, density: NDArray, pixels: NDArray, cytoplasm: float) -> tuple[float, float, float]:
    """Return the plateau, reach and softness of least squares, weighted by pixels, by trying all of a grid."""
    best = (math.inf, 0.0, 0.0, 0.0)
    for reach_um, softness_um in itertools.product(_REACHES_UM, _SOFTNESSES_UM):
        share = _share(distance_um, reach_um, softness_um)
        other, beyond = 1 - share, density - cytoplasm * share
        plateau = max(0.0, float((pixels * beyond * other).sum() / max((pixels * other**2).sum(), 1e-12)))
        error = float((pixels * (beyond - plateau * other) ** 2).sum())
        best = min(best, (error, plateau, float(reach_um), float(softness_um)))
    return best[1:]


def find_background(
    totals: NDArray,
    nuclei: NDArray,
    background: str | float,
    *,
    um_per_px: float,
    inside: NDArray[np.bool_] | None = None,
    of: str = "",
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Return the pixels far enough from nuclei to be background, and what was chosen.

    Parameters
    ----------
    totals
        ``(h, w)`` transcripts per pixel.
    nuclei
        ``(h, w)`` ids, 0 elsewhere.
    background
        ``"auto"``, ``"paper"`` or a distance in um.
    um_per_px
        Side of a pixel in um.
    inside
        ``(h, w)``, the pixels to learn from; all if None.
    of
        What part of the data this is, for messages.
    """
    chosen: dict[str, Any]
    if background == "paper":
        far, chosen = beyond_paper_dilation(nuclei), {"method": "paper"}
    elif background == "auto":
        distance, profile = calibrate_background(totals, nuclei, um_per_px=um_per_px, inside=inside)
        far = beyond_distance(nuclei, distance / um_per_px)
        chosen = {"method": "auto", "distance_um": distance, "profile": profile}
    else:
        far = beyond_distance(nuclei, float(background) / um_per_px)
        chosen = {"method": "given", "distance_um": float(background)}
    if inside is not None:
        far &= inside
    chosen["share_of_area"] = float(far.sum() / (far.size if inside is None else inside.sum()))
    logger.info(
        "Background for training%s (%s): %s from nuclei, %.0f %% of the area.",
        f" of {of}" if of else "",
        chosen["method"],
        f"beyond {chosen['distance_um']:.1f} um" if "distance_um" in chosen else "outside the paper's dilation",
        100 * chosen["share_of_area"],
    )
    return far, chosen
