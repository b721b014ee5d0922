from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasters import grid_of_discs
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel

from ucs.metrics import seams
from ucs.metrics._seams import CUT_RATIO


def slow_seams(labels, c):
    """Follow each line of the raster on either side, and look for the longest stretch; count all pixel edges."""
    longest, edges = 0, 0
    for image in (labels, labels.T):
        for k in range(1, len(image)):
            for here, there in ((image[k], image[k - 1]), (image[k - 1], image[k])):
                is_edge = (here == c) & (there != c)
                edges += is_edge.sum()
                run = 0
                for edge in is_edge:
                    run = run + 1 if edge else 0
                    longest = max(longest, run)
    return longest, edges


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.int64, (6, 7), elements=st.integers(0, 3)))
def test_stretches_equal_following_every_line(labels):
    table = seams(labels)
    assert table.index.tolist() == sorted(set(labels.ravel()) - {0})
    for c, row in table.iterrows():
        longest, edges = slow_seams(labels, c)
        assert row["straight_px"] == longest
        assert row["straight_ratio"] == pytest.approx(longest / np.sqrt(4 * (labels == c).sum() / np.pi))
        if edges:
            assert row["straight_share"] == pytest.approx(longest / edges)


def test_by_hand():
    labels = np.zeros((9, 9), int)
    labels[2:5, 1:7] = 4
    row = seams(labels).loc[4]
    assert (row["straight_px"], row["orientation"], row["position"]) == (6, "horizontal", 2)
    assert row["straight_share"] == pytest.approx(6 / 18)
    row = seams(labels.T).loc[4]
    assert (row["straight_px"], row["orientation"], row["position"]) == (6, "vertical", 2)


def test_the_border_of_the_raster_does_not_count():
    table = seams(np.ones((5, 5), int))
    assert table["straight_px"].tolist() == [0]
    assert np.isnan(table["straight_share"]).all()
    assert seams(np.zeros((3, 3), int)).empty


def cut_discs():
    """Discs of which those on two lines are cut, the parts beyond being other cells."""
    labels = grid_of_discs((120, 120), 17, 7)
    cut = labels.copy()
    for line in (40, 80):
        cut[line:] += (cut[line:] > 0) * 1000
    is_cut = {c for line in (40, 80) for c in np.unique(labels[line - 1][labels[line - 1] == labels[line]]) if c}
    return cut, {int(c) + k for c in is_cut for k in (0, 1000, 2000)}


def test_cells_that_a_tile_has_cut_stand_out_and_lie_on_its_line():
    labels, is_cut = cut_discs()
    table = seams(labels)
    by_table = table.index[table["straight_ratio"] >= CUT_RATIO]
    assert set(by_table) <= is_cut
    assert len(by_table) > 0.7 * len(is_cut & set(table.index))
    lines = table.loc[by_table].value_counts(["orientation", "position"])
    assert set(lines.index) == {("horizontal", 40), ("horizontal", 80)}


def test_squidpy_sees_the_same_cells():
    squidpy = pytest.importorskip("squidpy")
    if not hasattr(getattr(squidpy.experimental, "tl", None), "calculate_tiling_qc"):
        pytest.skip("this squidpy has no tiling QC")
    labels, _ = cut_discs()
    sdata = SpatialData(labels={"cells": Labels2DModel.parse(labels.astype(np.int32), dims=("y", "x"))})
    squidpy.experimental.tl.calculate_tiling_qc(sdata, "cells")
    qc = next(table for table in sdata.tables.values() if "cut_score" in table.obs).obs
    theirs = qc.set_index(next(column for column in qc if "id" in column.lower() or "label" in column.lower()))
    ours = seams(labels)
    scores = pd.Series(theirs["cut_score"].to_numpy(float), theirs.index.astype(int), name="cut_score")
    both = ours.join(scores).dropna()
    assert len(both) > 40
    assert both["straight_ratio"].corr(both["cut_score"], method="spearman") > 0.7
    # What we call cut has the highest scores of all there.
    is_cut = both["straight_ratio"] >= CUT_RATIO
    assert both.loc[is_cut, "cut_score"].median() > both.loc[~is_cut, "cut_score"].quantile(0.9)


def test_bad_input():
    with pytest.raises(ValueError, match=r"labels has shape \(3,\)"):
        seams(np.ones(3, int))
    with pytest.raises(ValueError, match="labels holds float64"):
        seams(np.ones((3, 3)))
