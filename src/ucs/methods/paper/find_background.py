"""Where training looks for background, by any of the ways that can be chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._utils.log import logger
from ucs.methods.paper.background import beyond_distance, beyond_paper_dilation
from ucs.methods.paper.calibrate import calibrate_background

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
