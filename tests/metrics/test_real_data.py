"""Vendor's cells, expansions and references of real samples: the metrics run, and say what is known of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from helpers import require_data
from real_samples import ISS_PART, ISS_UM_PER_PX, iss_sdata

import ucs
from ucs.metrics import Tissue

pytestmark = [
    pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format"),
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
]
REFERENCES = "xenium_breast_rep1_slide/sc_references"


@pytest.fixture(scope="module")
def breast_object():
    return sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr"))


@pytest.fixture(scope="module")
def markers():
    return pd.read_csv(require_data(REFERENCES) / "sc_breast_markers_pos.csv", index_col=0)


@pytest.fixture(scope="module")
def profiles():
    return pd.read_csv(require_data(REFERENCES) / "sc_breast.csv", index_col=0).drop(columns=["ct_idx", "atlas"])


@pytest.fixture(scope="module")
def compared(breast_object, markers, profiles):
    return ucs.tl.compare(
        breast_object,
        {"vendor": "cell_labels", "polygons": "cell_boundaries", "listed": "table"},
        truth="vendor",
        markers=markers,
        reference=profiles,
        type_key="cell_type",
        scale="log1p",
        expansions_um=(0, 2, 4, 8),
    )


def test_capture_of_the_vendors_cells_is_what_the_vendor_assigned(breast_object):
    points = breast_object["transcripts"].compute()
    good = points[(points["qv"] >= 20) & ~points["feature_name"].astype(str).str.match("NegControl|BLANK|antisense")]
    found = ucs.metrics.capture("cell_labels", sdata=Tissue(breast_object, resolution=0.2125))
    assert found.n_transcripts == len(good)
    assert found.share == pytest.approx((good["cell_id"] > 0).mean(), abs=0.005)


def test_labels_and_polygons_of_the_vendor_are_the_same_cells(compared):
    assert compared.loc["polygons", "f1_0.5"] > 0.98
    assert compared.loc["vendor", "f1_0.7"] == 1
    # The table lists those that lie within the crop, and the nuclei of the vendor lie in its cells.
    assert compared.loc["listed", "n_cells"] < compared.loc["vendor", "n_cells"]
    assert compared.loc["vendor", "nuclei_in_cells"] == 1


def test_along_the_expansions_capture_rises_and_purity_falls(compared):
    curve = compared.iloc[3:]
    assert curve["capture"].is_monotonic_increasing
    for rate in ("mecr", "spurious_coexpression"):
        assert curve[rate].is_monotonic_increasing
    for purity in ("negative_marker_purity", "reference_correlation"):
        assert curve[purity].is_monotonic_decreasing
    # The vendor's cells are nuclei expanded by up to 15 um, as far as others let them.
    assert curve["f1_0.5"].iloc[-1] > 0.85


def test_a_logarithmic_reference_is_recognised(breast_object, profiles):
    with pytest.raises(ValueError, match="look like logarithms"):
        ucs.metrics.transfer_types("cell_labels", profiles, type_key="cell_type", sdata=breast_object)


def test_markers_of_the_reference_are_those_one_expects(profiles):
    found = ucs.metrics.markers_from_reference(profiles, type_key="cell_type", scale="log1p")
    assert {"CLDN5", "VWF"} <= set(found["Endothelial"])
    assert {"MS4A1"} <= set(found["B"])


def test_nuclei_of_the_breast_are_rounder_than_cells_and_solid(breast_object):
    table = ucs.metrics.morphology("cell_labels", "nucleus_labels", sdata=breast_object)
    with_nucleus = table.dropna(subset="nucleus_id")
    assert len(with_nucleus) > 100
    assert (with_nucleus["area_um2"] >= with_nucleus["nucleus_area_um2"] - 1).all()
    assert with_nucleus["nucleus_solidity"].median() > 0.97
    assert with_nucleus["nucleus_area_um2"].median() == pytest.approx(27, abs=8)


def test_cells_of_ca1_resemble_the_classes_they_are_given():
    """ISS: some 20 spots a cell, 92 genes; classes merged by their first name."""
    classes = pd.read_csv(require_data("iss_mouse_ca1") / "scRNA_class_means_92x71.csv", index_col=0).T
    broad = classes.groupby([name.split(".")[0] for name in classes.index]).mean()
    tissue = Tissue(iss_sdata(ISS_PART), um_per_unit=ISS_UM_PER_PX, resolution=0.5)
    nuclei = tissue.cells("nuclei")
    grown = ucs.metrics.expand_nuclei(nuclei.labels, 3.0, um_per_px=0.5)
    table = tissue.table_of(nuclei._replace(labels=grown))
    found = ucs.metrics.reference_correlation(table, broad)
    assert found.per_type.loc["PC", "n_cells"] > 0.4 * table.n_obs  # pyramidal cells
    assert found.per_type.loc["PC", "pcc"] > 0.65
    assert 0.45 < found.mean < 1
    shuffled = broad.sample(frac=1, axis=1, random_state=0).set_axis(broad.columns, axis=1)
    types = ucs.metrics.transfer_types(table, broad)["type"]
    assert ucs.metrics.reference_correlation(table, shuffled, types).mean < found.mean - 0.2
    assert np.isfinite(found.per_type["pcc"]).all()
