"""Cell types of nuclei: against the known types of simulated tissue, and on real data."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from helpers import cheap_copy, require_data

import ucs


@pytest.fixture(scope="module")
def tissue():
    return ucs.datasets.simulate(width_um=200, height_um=200, seed=5)


@pytest.fixture(scope="module")
def markers(tissue):
    var = tissue["true_table"].var
    var = var[var.index.isin(tissue["transcripts"]["feature_name"].compute().unique())]
    return {name: group.index.tolist() for name, group in var.groupby("marker_of", observed=True)}


@pytest.fixture(scope="module")
def profiles(tissue):
    table = tissue["true_table"]
    types = table.obs["cell_type"].cat.categories
    return pd.DataFrame(table.varm["profiles"].T, columns=table.var_names, index=types)


def truth_of(tissue, table):
    true = tissue["true_table"].obs.set_index("cell_id")["cell_type"].astype(str)
    return true.loc[table.obs["cell_id"]].to_numpy()


def check(tissue, table, accuracy):
    types, confidence = table.obs["cell_type"].astype(str).to_numpy(), table.obs["cell_type_confidence"].to_numpy()
    right = types == truth_of(tissue, table)
    known = types != "unknown"
    assert right[known].mean() > accuracy
    assert known.mean() > 0.8
    assert confidence[known].mean() == pytest.approx(right[known].mean(), abs=0.06)
    assert (confidence[known] >= 0.5).all()


@pytest.mark.parametrize("form", ["mapping", "long", "wide", "wide as read"])
def test_markers(tissue, markers, form):
    given = markers
    if form == "long":
        pairs = [(name, gene) for name, genes in markers.items() for gene in genes]
        given = pd.DataFrame(pairs, columns=["type", "gene"])
    elif form.startswith("wide"):
        columns = sorted({gene for genes in markers.values() for gene in genes})
        rows = [[float(gene in genes) for gene in columns] for genes in markers.values()]
        given = pd.DataFrame(rows, list(markers), columns)
        if form == "wide as read":
            given = given.reset_index(names="Unnamed: 0")
    table = ucs.tl.annotate_nuclei(tissue, markers=given, inplace=False)["ucs_nuclei_types"]
    check(tissue, table, 0.9)


def test_table_annotates_the_nuclei(tissue, markers):
    sdata = cheap_copy(tissue)
    assert ucs.tl.annotate_nuclei(sdata, markers=markers) is None
    table = sdata["ucs_nuclei_types"]
    assert table.uns["spatialdata_attrs"] == {
        "region": "nucleus_labels", "region_key": "region", "instance_key": "cell_id"
    }  # fmt: skip
    assert list(table.obs["cell_type"].cat.categories) == [*markers, "unknown"]
    probability = table.obsm["cell_type_probability"]
    assert list(probability.columns) == list(markers)
    np.testing.assert_allclose(probability.max(axis=1), table.obs["cell_type_confidence"])
    assert (probability.sum(axis=1) <= 1 + 1e-9).all()
    inside = tissue["transcripts"].compute()
    assert table.X.sum() == pytest.approx((inside["overlaps_nucleus"] * (inside["qv"] >= 20)).sum(), rel=0.05)
    with pytest.raises(ValueError, match=r"tables\['ucs_nuclei_types'\] exists; pass overwrite=True"):
        ucs.tl.annotate_nuclei(sdata, markers=markers)
    ucs.tl.annotate_nuclei(sdata, markers=markers, overwrite=True)


def test_it_can_be_written(tissue, markers, tmp_path):
    sdata = cheap_copy(tissue)
    ucs.tl.annotate_nuclei(sdata, markers=markers)
    sdata.write(tmp_path / "a.zarr")
    again = sd.read_zarr(tmp_path / "a.zarr")["ucs_nuclei_types"]
    pd.testing.assert_series_equal(again.obs["cell_type"], sdata["ucs_nuclei_types"].obs["cell_type"])


def test_reference(tissue, profiles):
    check(tissue, ucs.tl.annotate_nuclei(tissue, reference=profiles, inplace=False)["ucs_nuclei_types"], 0.93)


def test_single_cells_as_reference(tissue):
    reference = {"reference": tissue["true_table"], "type_key": "cell_type"}
    check(tissue, ucs.tl.annotate_nuclei(tissue, **reference, inplace=False)["ucs_nuclei_types"], 0.93)


def test_types_that_nobody_named_are_unknown(tissue, markers):
    some = {name: markers[name] for name in list(markers)[:4]}
    table = ucs.tl.annotate_nuclei(tissue, markers=some, inplace=False)["ucs_nuclei_types"]
    of_others = ~np.isin(truth_of(tissue, table), list(some))
    assert (table.obs["cell_type"][of_others] == "unknown").mean() > 0.6


def test_nuclei_without_evidence(tissue, markers):
    sdata = cheap_copy(tissue)
    points = sdata["transcripts"]
    del sdata["transcripts"]
    sdata["transcripts"] = points[(points["x"] > 100) | (points["x"] < 2)]
    sdata["transcripts"].attrs.update(points.attrs)
    for given in ({"markers": markers}, {"reference": tissue["true_table"], "type_key": "cell_type"}):
        found = ucs.tl.annotate_nuclei(sdata, **given, inplace=False, read={"check_alignment": False})
        table = found["ucs_nuclei_types"]
        empty = np.asarray(table.X.sum(axis=1)).ravel() == 0
        assert empty.any()
        assert (table.obs["cell_type"][empty] == "unknown").all()
        assert table.obs["cell_type_confidence"][empty].isna().all()


class TestBadInput:
    def fails(self, tissue, error, match, **options):
        with pytest.raises(error, match=match):
            ucs.tl.annotate_nuclei(tissue, **options)

    def test_both_or_none(self, tissue, markers, profiles):
        self.fails(tissue, ValueError, "either markers= or reference=")
        self.fails(tissue, ValueError, "either markers= or reference=", markers=markers, reference=profiles)

    def test_unknown_genes_are_listed(self, tissue, markers, caplog):
        first = next(iter(markers))
        more = markers | {first: [*markers[first], "CD3E"], "T": ["CD3D"]}
        ucs.tl.annotate_nuclei(tissue, markers=more, inplace=False)
        assert re.search(r"\d of \d+ markers are not in the table: 'CD3D', 'CD3E'", caplog.text)
        assert "1 of 9 types have no marker in the table: 'T'" in caplog.text

    def test_too_few_left(self, tissue, markers):
        match = r"1 of 2 types have a marker .*Unknown are \d of \d+ markers: 'CD3D'"
        self.fails(tissue, ValueError, match, markers={"a": markers["type_1"], "T": ["CD3D"]})

    def test_scale_of_a_reference(self, tissue, profiles):
        self.fails(tissue, ValueError, "negative values", reference=profiles - 0.001)
        self.fails(tissue, ValueError, "look like logarithms", reference=np.log1p(1e4 * profiles))
        logs = ucs.tl.annotate_nuclei(tissue, reference=np.log1p(1e4 * profiles), scale="log1p", inplace=False)[
            "ucs_nuclei_types"
        ]
        linear = ucs.tl.annotate_nuclei(tissue, reference=profiles, inplace=False)["ucs_nuclei_types"]
        assert (logs.obs["cell_type"] == linear.obs["cell_type"]).all()

    def test_genes_of_a_reference(self, tissue, profiles):
        self.fails(tissue, ValueError, "shares 4 genes", reference=profiles.iloc[:, :4])
        self.fails(tissue, ValueError, "shares 0 genes", reference=profiles.T)

    def test_confidence(self, tissue, markers):
        self.fails(tissue, ValueError, "min_confidence=2", markers=markers, min_confidence=2)


def test_breast():
    crop = require_data("xenium_breast_rep1_crop.zarr")
    folder = require_data("xenium_breast_rep1_slide") / "sc_references"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        breast = sd.read_zarr(crop)
    markers = pd.read_csv(folder / "sc_breast_markers_pos.csv")
    by_markers = ucs.tl.annotate_nuclei(breast, markers=markers, inplace=False)["ucs_nuclei_types"]
    reference = pd.read_csv(folder / "sc_breast.csv", index_col=0).drop(columns=["ct_idx", "atlas"])
    by_profiles = ucs.tl.annotate_nuclei(
        breast, reference=reference, type_key="cell_type", scale="log1p", inplace=False
    )["ucs_nuclei_types"]
    a, b = by_markers.obs["cell_type"].astype(str), by_profiles.obs["cell_type"].astype(str)
    both = (a != "unknown") & (b != "unknown")
    assert both.mean() > 0.5
    assert (a == b)[both].mean() > 0.6
