"""Check that the nuclei lie where the transcripts are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ucs._core import alignment
from ucs._logging import logger

if TYPE_CHECKING:
    from ucs.pp._nuclei import Nuclei
    from ucs.pp._transcripts import Transcripts


def check_placement(transcripts: Transcripts, nuclei: Nuclei, *, nuclei_key: str, points_key: str) -> str:
    """Compare the density of transcripts in the nuclei with that in flipped, swapped and shifted nuclei.

    Returns
    -------
    ``"aligned"`` or ``"undecided"`` (with a warning).

    Raises
    ------
    ValueError
        If another placement is clearly better; it is named.
    """
    result = alignment.check_alignment(
        transcripts.map.totals(), nuclei.labels > 0, um_per_px=transcripts.grid.um_per_px
    )
    if result.verdict == "misaligned":
        msg = (
            f"The nuclei {nuclei_key!r} do not lie where the transcripts {points_key!r} are: {result.best} they would "
            f"fit much better (score {result.best_score:.3g} against {result.score:.3g}). Correct the transformation "
            "of one of the two, or pass check_alignment=False to go on all the same."
        )
        raise ValueError(msg)
    if result.verdict == "undecided":
        logger.warning(
            "It is undecided whether the nuclei %r lie where the transcripts %r are (density in nuclei %.2f times that "
            "elsewhere; best fit: %s): look at both before you trust the cells.",
            nuclei_key,
            points_key,
            result.enrichment,
            result.best,
        )
    return result.verdict
