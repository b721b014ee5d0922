"""Segmentation with marker genes by both methods, with types by markers or given."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from calls import predict, segment, train
from helpers import cheap_copy
from invariants import assert_invariants
from scenes import PAPER_SHORT, PAPER_TINY, labels_of

import ucs
from ucs.methods import UCSModel

FAST = {"params": {"max_steps": 20}}
PAPER = {"method": "paper", "params": PAPER_SHORT}


@pytest.fixture(scope="module")
def tissue():
    return ucs.datasets.simulate(width_um=120, height_um=120, seed=6)


@pytest.fixture(scope="module")
def markers(tissue):
    var = tissue["true_table"].var
    return {name: group.index.tolist() for name, group in var.groupby("marker_of", observed=True)}


@pytest.fixture(scope="module")
def plain(tissue):
    return segment(tissue, **FAST)


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


class TestDensityMethod:
    def test_types_are_the_expression_clusters(self, tissue, markers, plain, caplog):
        caplog.set_level(logging.INFO, logger="ucs")
        result = segment(tissue, markers=markers, **FAST)
        assert f"{len(markers) + 1} expression clusters; expression weight" in caplog.text
        assert_invariants(result)
        assert (labels_of(result) != labels_of(plain)).any()
        assert owner_accuracy(tissue, result) > owner_accuracy(tissue, plain) - 0.005
        assert result["ucs_table"].uns["ucs"]["model"]["expression_weight_um"] > 0

    def test_given_types_need_no_markers(self, tissue, typed, plain):
        result = segment(typed, None, "nucleus_boundaries", cell_type_key="kind", **FAST)
        assert owner_accuracy(tissue, result) > owner_accuracy(tissue, plain) - 0.005

    def test_types_of_the_table_that_annotates_nuclei(self, tissue, markers):
        sdata = cheap_copy(tissue)
        ucs.tl.annotate_nuclei(sdata, markers=markers)
        model = train(sdata, cell_type_key="cell_type", params={"max_steps": 2})
        assert len(model.clusters.log_share) == sdata["ucs_nuclei_types"].obs["cell_type"].nunique()


class TestPaperMethod:
    @pytest.fixture(scope="class")
    def model(self, tissue, markers):
        return train(tissue, markers=markers, **PAPER)

    def test_segment_is_train_and_predict(self, tissue, markers, model, tmp_path):
        whole = segment(tissue, markers=markers, **PAPER)
        model.save(tmp_path / "model")
        again = UCSModel.load(tmp_path / "model")
        assert again.markers == markers
        assert float(again.cell.mark_weight()) == float(model.cell.mark_weight()) != 0
        steps = predict(tissue, again)
        np.testing.assert_array_equal(labels_of(steps), labels_of(whole))
        assert_invariants(steps)

    @pytest.mark.slow  # test_golden.py compares such digests
    def test_they_differ_from_those_without(self, tissue, model):
        without = segment(tissue, **PAPER)
        assert (labels_of(without) != labels_of(predict(tissue, model))).any()

    def test_regions(self, tissue, markers):
        params = {**PAPER_TINY, "min_nuclei": 1}
        assert_invariants(segment(tissue, markers=markers, regions=64, method="paper", params=params))

    def test_given_types(self, typed, markers):
        given = {"markers": markers, "cell_type_key": "kind"}
        model = train(typed, None, "nucleus_boundaries", **given, **PAPER)
        result = predict(typed, model, None, "nucleus_boundaries", cell_type_key="kind")
        assert_invariants(result)
        by_markers = predict(typed, model, None, "nucleus_boundaries")
        assert (labels_of(result) != labels_of(by_markers)).any()


class TestBadInput:
    def fails(self, sdata, error, match, **options):
        with pytest.raises(error, match=match):
            segment(sdata, **{**FAST, **options})

    def test_forms(self, tissue):
        self.fails(tissue, TypeError, "markers is a list", markers=["A"])
        self.fails(tissue, TypeError, r"markers\['a'\] is the text 'B'", markers={"a": "B"})
        self.fails(tissue, ValueError, "a long table needs one of", markers=pd.DataFrame({"x": [0.5]}))

    @pytest.mark.parametrize("options", [FAST, PAPER], ids=["density", "paper"])
    def test_unknown_genes(self, tissue, options):
        markers = {"a": ["CD3D"], "b": ["EPCAM", "KRT8"]}
        match = "0 of 2 types have a marker .*Unknown are 3 of 3 markers: 'CD3D', 'EPCAM', 'KRT8'"
        self.fails(tissue, ValueError, match, markers=markers, **options)

    def test_columns(self, tissue, typed, markers):
        self.fails(tissue, KeyError, "cell_type_key='kind' is no column of shapes", cell_type_key="kind")
        given = {"nuclei_key": "nucleus_boundaries", "cell_type_key": "kind"}
        others = {"a": markers["type_1"], "b": markers["type_2"]}
        match = r"None of the types in 'kind' .* has markers: 'a', 'b' have"
        self.fails(typed, ValueError, match, markers=others, **given)
