from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from ucs._kernels.transcripts import TranscriptMap
from ucs.methods.model import Selection
from ucs.methods.pretrained.limits import warn_of_unknown
from ucs.methods.pretrained.survey import measure_tissue


def survey_of(*, radius_um=3.0, depth=1.0, cell_um=6.0, background=0.05, um_per_px=1.0, seed=0):
    """Round nuclei 25 um apart; cells around them as dense as the nuclei."""
    random = np.random.default_rng(seed)
    middle = np.zeros((200, 200), dtype=bool)
    middle[12::25, 12::25] = True
    distance, (row, column) = distance_transform_edt(~middle, return_indices=True)
    ids = (row // 25) * 8 + column // 25 + 1
    nuclei = np.where(distance <= radius_um / um_per_px, ids, 0).astype(np.int32)
    rate = np.where(distance * um_per_px <= cell_um, 1.0, background) * depth * um_per_px**2
    row, column = np.nonzero(count := random.poisson(rate))
    transcripts = TranscriptMap.from_positions(
        row, column, np.zeros(len(row), dtype=int), count[row, column], shape=nuclei.shape, n_features=1
    )
    selection = Selection.of_genes(["g"], ["g"])
    n = int(nuclei.max())
    return measure_tissue(transcripts, selection, nuclei, n, shape_exponent=0.3, um_per_px=um_per_px)


def test_usual_tissue_is_passed_in_silence(caplog):
    warn_of_unknown(survey_of())
    assert not caplog.records


@pytest.mark.parametrize(
    ("strange", "message"),
    [
        ({"radius_um": 0.5}, "100 % of the nuclei are smaller than 4 or larger than 500 um2"),
        ({"um_per_px": 5.0, "radius_um": 25.0, "cell_um": 40.0}, "are smaller than 4 or larger than 500 um2"),
        ({"depth": 0.004}, "of the nuclei hold fewer than 0.02 or more than 10 transcripts per um2"),
        ({"depth": 20.0}, "of the nuclei hold fewer than 0.02 or more than 10 transcripts per um2"),
        ({"background": 1.0}, "transcripts are as dense far from nuclei as in them"),
    ],
)
def test_what_is_unknown_is_named(strange, message, caplog):
    warn_of_unknown(survey_of(**strange))
    assert message in caplog.text
    assert {record.levelname for record in caplog.records} == {"WARNING"}
