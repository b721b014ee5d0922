"""Segmentation with marker genes: default nets and published ones, types by markers or given."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from helpers import cheap_copy
from invariants import assert_invariants
from scenes import PAPER_SHORT, SHORT, labels_of

import ucs
from ucs.methods import UCSModel

QUIET = {"progress": False, "device": "cpu", "inplace": False}
FAST = {**QUIET, "train": {"max_steps": 20}}
PUBLISHED = {**QUIET, "train": SHORT}


@pytest.fixture(scope="module")
def tissue():
    return ucs.datasets.simulate(width_um=120, height_um=120, seed=6)


@pytest.fixture(scope="module")
def markers(tissue):
    var = tissue["true_table"].var
    return {name: group.index.tolist() for name, group in var.groupby("marker_of", observed=True)}


@pytest.fixture(scope="module")
def plain(tissue):
    return ucs.tl.segment(tissue, **FAST)


@pytest.fixture(scope="module")
def typed(tissue):
    """The tissue with the true types as a column of its nuclei's shapes."""
    sdata = cheap_copy(tissue)
    shapes = sdata["nucleus_boundaries"]
    true = tissue["true_table"].obs.set_index("cell_id")["cell_type"].astype(str)
    del sdata["nucleus_boundaries"]
    sdata["nucleus_boundaries"] = shapes.assign(kind=true.reindex(shapes.index).to_numpy())
    return sdata


def owner_accuracy(tissue, result):
    """Share of the transcripts in cells that come from the cell they are counted in."""
    points, obs = result["transcripts"].compute(), result["ucs_table"].obs.set_index("cell_id")
    points = points[points["ucs_cell_id"] > 0]
    return (obs["nucleus_id"].loc[points["ucs_cell_id"]].to_numpy() == points["true_cell_id"].to_numpy()).mean()


class TestDefaultNets:
    def test_types_are_the_kinds(self, tissue, markers, plain, caplog):
        caplog.set_level(logging.INFO, logger="ucs")
        result = ucs.tl.segment(tissue, markers=markers, **FAST)
        assert f"Kinds of cells: {len(markers) + 1};" in caplog.text
        assert_invariants(result)
        assert (labels_of(result) != labels_of(plain)).any()
        assert owner_accuracy(tissue, result) > owner_accuracy(tissue, plain) - 0.005
        assert result["ucs_table"].uns["ucs"]["model"]["trust_um"] > 0

    def test_by_distance_markers_have_no_say(self, tissue, markers):
        one, other = (
            ucs.tl.segment(tissue, markers=given, params={"ownership": "distance"}, **FAST) for given in (None, markers)
        )
        np.testing.assert_array_equal(labels_of(one), labels_of(other))

    def test_given_types_need_no_markers(self, tissue, typed, plain):
        result = ucs.tl.segment(typed, None, "nucleus_boundaries", cell_type_key="kind", **FAST)
        assert owner_accuracy(tissue, result) > owner_accuracy(tissue, plain) - 0.005

    def test_types_of_the_table_that_annotates_nuclei(self, tissue, markers):
        sdata = cheap_copy(tissue)
        ucs.tl.annotate_nuclei(sdata, markers=markers)
        model = ucs.tl.train(sdata, cell_type_key="cell_type", progress=False, device="cpu", params={"max_steps": 2})
        assert len(model.cell.log_share) == sdata["ucs_nuclei_types"].obs["cell_type"].nunique()


class TestPublishedNets:
    @pytest.fixture(scope="class")
    def model(self, tissue, markers):
        return ucs.tl.train(
            tissue,
            markers=markers,
            progress=False,
            device="cpu",
            method="paper",
            params={**PAPER_SHORT},
        )

    def test_segment_is_train_and_predict(self, tissue, markers, model, tmp_path):
        whole = ucs.tl.segment(tissue, markers=markers, **PUBLISHED)
        model.save(tmp_path / "model")
        again = UCSModel.load(tmp_path / "model")
        assert again.markers == markers
        assert float(again.cell.mark_weight()) == float(model.cell.mark_weight()) != 0
        steps = ucs.tl.predict(tissue, again, **QUIET)
        np.testing.assert_array_equal(labels_of(steps), labels_of(whole))
        assert_invariants(steps)

    def test_they_differ_from_those_without(self, tissue, model):
        without = ucs.tl.segment(tissue, **PUBLISHED)
        assert (labels_of(without) != labels_of(ucs.tl.predict(tissue, model, **QUIET))).any()

    def test_regions(self, tissue, markers):
        options = {**PUBLISHED, "train": {**SHORT, "min_nuclei": 1}}
        result = ucs.tl.segment(tissue, markers=markers, regions=64, **options)
        assert_invariants(result)

    def test_given_types(self, typed, markers):
        result = ucs.tl.segment(typed, None, "nucleus_boundaries", markers=markers, cell_type_key="kind", **PUBLISHED)
        assert_invariants(result)


class TestBadInput:
    def fails(self, sdata, error, match, **options):
        with pytest.raises(error, match=match):
            ucs.tl.segment(sdata, **{**FAST, **options})

    def test_forms(self, tissue):
        self.fails(tissue, TypeError, "markers is a list", markers=["A"])
        self.fails(tissue, TypeError, r"markers\['a'\] is the text 'B'", markers={"a": "B"})
        self.fails(tissue, ValueError, "a long table needs one of", markers=pd.DataFrame({"x": [0.5]}))

    @pytest.mark.parametrize("background", ["auto", 5.0])
    def test_unknown_genes(self, tissue, background):
        markers = {"a": ["CD3D"], "b": ["EPCAM", "KRT8"]}
        match = "0 of 2 types have a marker .*Unknown are 3 of 3 markers: 'CD3D', 'EPCAM', 'KRT8'"
        self.fails(tissue, ValueError, match, markers=markers, background=background)

    def test_columns(self, tissue, typed, markers):
        self.fails(tissue, KeyError, "cell_type_key='kind' is no column of shapes", cell_type_key="kind")
        self.fails(tissue, ValueError, "needs markers= with background=5.0", cell_type_key="kind", background=5.0)
        given = {"nuclei_key": "nucleus_boundaries", "cell_type_key": "kind"}
        others = {"a": markers["type_1"], "b": markers["type_2"]}
        match = r"None of the types in 'kind' .* has markers: 'a', 'b' have"
        self.fails(typed, ValueError, match, markers=others, **given)
