"""Checks that the nuclei are aligned with the transcripts and have the size of nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._kernels import alignment
from ucs._kernels.labels.ids import pixels_of_ids
from ucs._kernels.labels.windows import Window
from ucs._nuclei.find import NUCLEUS_AREA_UM2
from ucs._utils.checks import reading_option
from ucs._utils.log import logger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._kernels.transcripts import TranscriptMap
    from ucs._read.nuclei.onto_grid import Nuclei
    from ucs._read.transcripts import Transcripts


_USUAL_AREA_UM2 = (12.0, 250.0)  # of median nuclei in tissues; units that differ by a factor of 4 leave this range
_ROWS_AT_ONCE = 1024  # bounds the memory of counts as int32


def check_size(
    nuclei: Nuclei,
    *,
    um_per_px: float,
    um_per_unit: float,
    nuclei_key: str,
    points_key: str,
    strict: bool,
    image_um: float | None = None,
) -> None:
    """Check that the median nucleus has a plausible area; a wrong unit or transformation changes it.

    Beyond the usual areas a warning is logged, with the unit that would explain it: the side of the platform's pixels,
    ``image_um``, if it does, as points may have been moved into the pixels of an image.

    Raises
    ------
    ValueError
        If it is beyond the possible areas and ``strict``; otherwise a warning is logged.
    """
    areas = pixels_of_ids(nuclei.labels, len(nuclei.ids))[1:] * um_per_px**2
    median = float(np.median(areas[areas > 0]))
    low, high = NUCLEUS_AREA_UM2
    usual_low, usual_high = _USUAL_AREA_UM2
    if usual_low <= median <= usual_high:
        return
    units = [um_per_unit * np.sqrt(bound / median) for bound in (low, high)]
    likely = [um_per_unit * np.sqrt(bound / median) for bound in _USUAL_AREA_UM2]
    of_platform = image_um is not None and likely[0] <= image_um <= likely[1]
    unit = image_um if of_platform else float(f"{np.sqrt(units[0] * units[1]):.2g}")
    example = reading_option("um_per_unit", unit)
    if low <= median <= high:
        logger.warning(
            "The median area of the nuclei %r is %.3g um^2, and it is %g to %g in most tissues. If the unit of the "
            "transcripts %r is not %g um, give it: from %.2g to %.2g um would explain the area%s, as in %s.",
            nuclei_key,
            median,
            usual_low,
            usual_high,
            points_key,
            um_per_unit,
            *likely,
            f"; positions in the pixels of the platform's images, of {image_um:g} um, would" if of_platform else "",
            example,
        )
        return
    msg = (
        f"The median area of the nuclei {nuclei_key!r} is {median:.3g} um^2, and nuclei have {low:g} to {high:g}: the "
        f"unit of the transcripts {points_key!r} cannot be {um_per_unit:g} um, or the transformation between the two "
        f"is wrong. If it is the unit, give its length (nuclei are of a possible size from {units[0]:.2g} to "
        f"{units[1]:.2g} um), such as {example}; otherwise correct the transformation of one of the two."
    )
    if strict:
        raise ValueError(f"{msg} {reading_option('check_alignment', example=False)} makes this a warning.")
    logger.warning("%s", msg)


def check_placement(transcripts: Transcripts, nuclei: Nuclei, *, nuclei_key: str, points_key: str) -> str:
    """Compare the density of transcripts in the nuclei with that in flipped, transposed and shifted nuclei.

    Returns
    -------
    ``"aligned"`` or ``"undecided"`` (with a warning).

    Raises
    ------
    ValueError
        If another placement is clearly better; the message names it.
    """
    totals, um_per_px = _small_totals(transcripts.map), transcripts.grid.um_per_px
    result = alignment.check_alignment(totals, nuclei.labels > 0, um_per_px=um_per_px)
    if result.verdict == "misaligned":
        msg = (
            f"The nuclei {nuclei_key!r} do not lie where the transcripts {points_key!r} are: {result.best} they would "
            f"fit much better (score {result.best_score:.3g} against {result.score:.3g}). Correct the transformation "
            f"of one of the two, or pass {reading_option('check_alignment', example=False)} to go on all the same."
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


def _small_totals(transcripts: TranscriptMap) -> NDArray[np.uint16]:
    """Return the transcripts per pixel, ``(h, w)`` uint16 to save memory; counts are clipped at 65,535."""
    out = np.empty(transcripts.shape, dtype=np.uint16)
    for row0 in range(0, len(out), _ROWS_AT_ONCE):
        rows = out[row0 : row0 + _ROWS_AT_ONCE]
        window = Window(row0, 0, row0 + len(rows), transcripts.shape[1])
        np.minimum(transcripts.totals(window), np.iinfo(np.uint16).max, out=rows, casting="unsafe")
    return out
