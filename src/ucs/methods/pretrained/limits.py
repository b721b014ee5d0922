"""Tissue that the net has not seen in its training is named, with what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._utils.log import logger
from ucs.methods.pretrained.survey import N_RINGS

if TYPE_CHECKING:
    from ucs.methods.pretrained.survey import TissueSurvey

# Of the fields of benchmarks/pretraining: 1 % of their nuclei lie beyond these areas, 1 % of the fields beyond these
# depths in nuclei.
_AREAS_UM2 = (4.0, 500.0)
_DEPTHS = (0.02, 10.0)
_SOME = 0.1  # of the nuclei
_FLAT = 0.9  # density in the rings beyond 9 um over that in nuclei, from which it does not fall


def warn_of_unknown(survey: TissueSurvey) -> None:
    """Log at WARNING level in what the sample differs from all tissue that the net was trained on."""
    area, depth = survey.area[1:], np.exp(survey.level[1:])
    area, depth = area[area > 0], depth[area > 0]
    if len(area) == 0:
        return
    strange = ((area < _AREAS_UM2[0]) | (area > _AREAS_UM2[1])).mean()
    if strange > _SOME:
        logger.warning(
            "%.0f %% of the nuclei are smaller than %g or larger than %g um2 (median %.3g): the net was trained on "
            "none of these. Check the unit of the nuclei (read={'um_per_unit': ...}) or compare with method='density'.",
            100 * strange, *_AREAS_UM2, np.median(area),
        )  # fmt: skip
    strange = ((depth < _DEPTHS[0]) | (depth > _DEPTHS[1])).mean()
    if strange > _SOME:
        logger.warning(
            "%.0f %% of the nuclei hold fewer than %g or more than %g transcripts per um2 (median %.3g): the net was "
            "trained on none of these, and distance decides. Compare with method='density'.",
            100 * strange, *_DEPTHS, np.median(depth),
        )  # fmt: skip
    where = survey.maps[2 * N_RINGS + 1] > np.log(_DEPTHS[0])
    far = survey.maps[4:N_RINGS] - survey.maps[2 * N_RINGS]  # log density beyond 9 um over that in nuclei
    seen = survey.maps[N_RINGS + 4 : 2 * N_RINGS]
    flat = ((far > np.log(_FLAT)) * seen).sum(axis=0) > 0.5 * np.maximum(seen.sum(axis=0), 0.2)
    share = flat[where].mean() if where.any() else 0.0
    if share > _SOME:
        logger.warning(
            "In %.0f %% of the tissue transcripts are as dense far from nuclei as in them: cells fill the space, many "
            "nuclei are not seen, or RNA lies outside of cells. Where cells end cannot be told there; a lower "
            "threshold= gives larger cells, and low values of the confidence mark what is doubtful.",
            100 * share,
        )
