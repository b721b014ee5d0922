"""Where training looks for background, by any of the ways that can be chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucs._utils.checks import check_positive
from ucs._utils.log import logger
from ucs.methods.paper.background import beyond_distance, beyond_paper_dilation
from ucs.methods.paper.calibrate import calibrate_background

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_background(background: str | float) -> None:
    """Raise ``ValueError`` unless it is ``"auto"``, ``"paper"`` or a positive distance."""
    if background in ("auto", "paper"):
        return
    if isinstance(background, str):
        msg = f"background={background!r} is unknown; pass 'auto', 'paper' or a distance in um."
        raise ValueError(msg)
    check_positive(background, "background")


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

    Raises
    ------
    ValueError
        If ``background`` is none of these.
    """
    check_background(background)
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
