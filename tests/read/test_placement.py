"""That misplaced nuclei are noticed in a SpatialData; the statistics themselves are tested with the engine."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import cheap_copy
from scenes import affine, make_points, scaling, translation
from spatialdata.transformations import get_transformation, set_transformation

import ucs
from ucs._read.sample import find_source, prepare


def moved(sdata, matrix):
    """The nuclei moved by a matrix over um."""
    sdata = cheap_copy(sdata)
    to_global = get_transformation(sdata["transcripts"], "global").to_affine_matrix(("x", "y"), ("x", "y"))
    of_nuclei = get_transformation(sdata["nucleus_labels"], "global").to_affine_matrix(("x", "y"), ("x", "y"))
    placed = to_global @ matrix @ np.linalg.inv(to_global) @ of_nuclei
    set_transformation(sdata["nucleus_labels"], affine(placed), "global")
    return sdata


def test_nuclei_where_they_belong_are_aligned(simulated, caplog):
    sample = prepare(simulated, find_source(simulated))
    assert sample.alignment == "aligned"
    assert "undecided" not in caplog.text


@pytest.mark.parametrize(
    ("matrix", "remedy"),
    [
        (translation(0, 200) @ scaling(1, -1), "flipped along y"),
        (translation(200, 0) @ scaling(-1, 1), "flipped along x"),
        (np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]), "x and y swapped"),
        (translation(20, -10), r"shifted by \(-20, 10\) um"),
    ],
    ids=["flip y", "flip x", "swap", "shift"],
)
def test_misplaced_nuclei_are_an_error_that_names_the_remedy(simulated, matrix, remedy):
    sdata = moved(simulated, matrix)
    message = (
        rf"nuclei 'nucleus_labels' do not lie where .* 'transcripts' are: {remedy}.*\{{'check_alignment': False\}}"
    )
    with pytest.raises(ValueError, match=message):
        prepare(sdata, find_source(sdata))
    assert prepare(sdata, find_source(sdata), check_alignment=False).alignment == "unchecked"


def test_a_shift_within_a_nucleus_is_none(simulated):
    sdata = moved(simulated, translation(1.0, -1.0))
    assert prepare(sdata, find_source(sdata)).alignment == "aligned"


def test_what_cannot_be_decided_is_a_warning(simulated, caplog):
    sdata = cheap_copy(simulated)
    points = sdata["transcripts"].compute()
    rng = np.random.default_rng(0)
    points["x"], points["y"] = (rng.uniform(0, 200, len(points)).astype(np.float32) for _ in range(2))
    element = make_points(points, get_transformation(sdata["transcripts"], get_all=True))
    del sdata["transcripts"]
    sdata["transcripts"] = element
    assert prepare(sdata, find_source(sdata)).alignment == "undecided"
    assert "undecided whether the nuclei 'nucleus_labels' lie where the transcripts 'transcripts' are" in caplog.text


def test_the_one_call_checks_and_leaves_the_object_as_it_was(simulated):
    sdata = moved(simulated, translation(20, -10))
    with pytest.raises(ValueError, match="check_alignment=False"):
        ucs.tl.segment(sdata, progress=False)
    assert "ucs_cells" not in sdata
    with pytest.raises(ValueError, match="check_alignment=False"):
        ucs.tl.train(sdata, progress=False)
