"""Tables list the whole panel, so that those of several samples are alike and can be put together."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from anndata import AnnData
from scenes import make_sdata, scene, segmented

import ucs
from ucs._results.table import control_counts_of


def sample(genes: slice):
    """The scene with some of its features only; its categories list all."""
    points = scene().points
    some = points["feature_name"].isin(points["feature_name"].cat.categories[genes])
    return make_sdata(scene().nuclei, points[some].reset_index(drop=True), labels_to_um=scene().to_um)


def features():
    names = scene().points["feature_name"].cat.categories
    genes = [name for name in names if name.startswith("GENE")]
    return genes, [name for name in names if name not in genes]


@pytest.mark.parametrize("verb", ["segment", "aggregate"])
def test_two_samples_of_a_panel_have_the_same_columns_and_lose_no_count(verb, tmp_path):
    objects = {"a": sample(np.s_[:-9]), "b": sample(np.s_[4:])}
    key = "ucs_table" if verb == "segment" else "nucleus_labels_table"
    for name, sdata in objects.items():
        if verb == "segment":
            segmented(sdata, inplace=True)
        else:
            ucs.tl.aggregate(sdata, "nucleus_labels")
        genes, controls = features()
        assert list(sdata[key].var_names) == sorted(genes)
        assert list(sdata[key].uns["ucs"]["controls"]) == sorted(controls)
        sdata.write(tmp_path / f"{name}.zarr")
    stored = {name: sd.read_zarr(tmp_path / f"{name}.zarr") for name in objects}
    apart = sd.concatenate(stored)
    together = ad.concat([apart[f"{key}-{name}"] for name in objects])
    assert together.X.sum() == sum(sdata[key].X.sum() for sdata in objects.values()) > 0
    of_controls = sum(sdata[key].obsm["controls"].sum() for sdata in objects.values())
    assert together.obsm["controls"].sum() == together.obs["n_controls"].sum() == of_controls
    merged = sd.concatenate(stored, concatenate_tables=True)[key]
    assert merged.X.sum() == together.X.sum()
    assert merged.n_vars == len(genes)
    for name, sdata in objects.items():
        frame = control_counts_of(stored[name][key])
        pd.testing.assert_frame_equal(frame, control_counts_of(sdata[key]), check_column_type=False)


def test_names_of_the_table_of_the_vendor():
    some = sample(np.s_[:-9])
    points = some["transcripts"].compute()
    points["feature_name"] = points["feature_name"].cat.remove_unused_categories()
    genes, _ = features()
    for with_vendor_table in (False, True):
        sdata = make_sdata(scene().nuclei, points, labels_to_um=scene().to_um)
        if with_vendor_table:
            sdata["vendor"] = AnnData(np.zeros((1, len(genes))), var=pd.DataFrame(index=genes))
        ucs.tl.aggregate(sdata, "nucleus_labels")
        occurring = set(points["feature_name"]) & set(genes)
        assert set(sdata["nucleus_labels_table"].var_names) == (set(genes) if with_vendor_table else occurring)


def test_a_table_of_other_features_says_nothing():
    sdata = scene().sdata()
    sdata["other"] = AnnData(np.zeros((1, 50)), var=pd.DataFrame(index=[f"protein_{k}" for k in range(50)]))
    ucs.tl.aggregate(sdata, "nucleus_labels")
    assert not sdata["nucleus_labels_table"].var_names.str.startswith("protein").any()
