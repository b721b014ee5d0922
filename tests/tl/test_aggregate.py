"""Counts per label for anybody's labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import cheap_copy
from invariants import matrix_between
from scenes import AFFINES, labels_of, make_sdata, scaling, scene, translation
from scipy import sparse
from spatialdata import join_spatialelement_table
from spatialdata.models import Labels2DModel, TableModel, get_table_keys

import ucs
from ucs._read.platforms import XENIUM
from ucs._results.table import control_counts_of

pytestmark = pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format")


def count_by_hand(sdata, labels_key, labels, *, tolerance=1e-6):
    """Transcripts of each feature in each label, one at a time: (label x feature), and the label of each row."""
    points = sdata["transcripts"].compute()
    m = matrix_between(sdata, "transcripts", labels_key)
    of_points = np.zeros(len(points), dtype=labels.dtype)
    quality = points["qv"] if "qv" in points else np.full(len(points), 40)
    for k, (x, y, qv) in enumerate(zip(points["x"].astype(float), points["y"].astype(float), quality, strict=True)):
        column = int(np.floor(m[0, 0] * x + m[0, 1] * y + m[0, 2] + tolerance))
        row = int(np.floor(m[1, 0] * x + m[1, 1] * y + m[1, 2] + tolerance))
        if qv >= 20 and 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]:
            of_points[k] = labels[row, column]
    counted = pd.DataFrame({"label": of_points, "feature": points["feature_name"].astype(str).to_numpy()})
    counted = counted[counted["label"] > 0]
    return pd.crosstab(counted["label"], counted["feature"]), of_points


def counts_of(table):
    frame = pd.DataFrame(table.X.toarray(), index=table.obs["cell_id"].to_numpy(), columns=table.var_names)
    if "controls" in table.obsm:
        frame = frame.join(control_counts_of(table).set_axis(frame.index, axis=0))
    return frame


def assert_counts(table, by_hand):
    counts = counts_of(table)
    assert set(by_hand.columns) <= set(counts.columns)
    assert set(by_hand.index) <= set(counts.index)
    by_hand = by_hand.reindex(index=counts.index, columns=counts.columns, fill_value=0)
    np.testing.assert_array_equal(counts, by_hand)


class TestVendorsCells:
    @pytest.fixture
    def labels(self, breast):
        return np.asarray(breast["cell_labels"]["scale0"]["image"])

    def test_counts_are_those_by_hand(self, breast, labels):
        assert ucs.tl.aggregate(breast, "cell_labels", points_column_added="vendor") is None
        table = breast["cell_labels_table"]
        by_hand, of_points = count_by_hand(breast, "cell_labels", labels)
        assert by_hand.to_numpy().sum() > 10_000
        assert_counts(table, by_hand)
        np.testing.assert_array_equal(breast["transcripts"]["vendor"].compute(), of_points)
        assert table.obs["cell_id"].tolist() == np.unique(labels[labels > 0]).tolist()

    def test_the_table_annotates_the_labels(self, breast, labels):
        ucs.tl.aggregate(breast, "cell_labels")
        table = breast["cell_labels_table"]
        TableModel().validate(table)
        assert get_table_keys(table) == ("cell_labels", "region", "cell_id")
        breast.validate_table_in_spatialdata(table)
        _, joined = join_spatialelement_table(
            sdata=breast, spatial_element_names="cell_labels", table_name="cell_labels_table", how="left"
        )
        assert joined.n_obs == table.n_obs
        assert isinstance(table.X, sparse.csr_matrix)
        assert table.X.dtype == np.int32
        genes = [name for name in counts_of(table).columns if not XENIUM.is_control(name)]
        assert table.var_names.tolist() == sorted(genes)

    def test_measures_are_in_um(self, breast, labels):
        table = ucs.tl.aggregate(breast, "cell_labels", inplace=False)["cell_labels_table"]
        assert "cell_labels_table" not in breast
        pixels = np.bincount(labels.ravel())[table.obs["cell_id"]]
        np.testing.assert_allclose(table.obs["area_um2"], pixels * 0.2125**2)
        np.testing.assert_allclose(table.obs["density"], table.obs["n_transcripts"] / table.obs["area_um2"])
        assert table.obs["eccentricity"].between(0, 1).all()
        to_um = matrix_between(breast, "cell_labels", "transcripts")
        k = int(np.argmax(pixels))
        i, j = np.nonzero(labels == table.obs["cell_id"].iloc[k])
        by_hand = to_um @ [j.mean() + 0.5, i.mean() + 0.5, 1]
        np.testing.assert_allclose(table.obsm["spatial"][k], by_hand[:2])

    def test_it_agrees_with_the_vendors_own_table(self, breast):
        """Areas exactly, where the crop has not cut cells off; counts nearly, as the vendor counts within polygons."""
        ours = ucs.tl.aggregate(breast, "cell_labels", inplace=False)["cell_labels_table"].obs.set_index("cell_id")
        vendors = breast["table"].obs.set_index("cell_id")
        ours = ours.loc[vendors.index]
        whole = np.isclose(ours["area_um2"], vendors["cell_area"], rtol=1e-5)
        assert whole.mean() > 0.75
        difference = (ours["n_transcripts"] - vendors["transcript_counts"])[whole]
        assert (difference.abs() <= 0.02 * vendors["transcript_counts"][whole] + 3).mean() > 0.95

    def test_centroids_are_those_of_the_vendor(self, breast):
        table = ucs.tl.aggregate(breast, "cell_labels", inplace=False)["cell_labels_table"]
        vendors = breast["cell_circles"].geometry
        of = table.obs["cell_id"].isin(vendors.index).to_numpy()
        by_vendor = vendors[table.obs["cell_id"][of]]
        distance = np.hypot(*(table.obsm["spatial"][of] - np.stack([by_vendor.x, by_vendor.y], axis=1)).T)
        # The rasters of this crop lie one of their pixels (0.2125 um) further down than they should.
        assert np.median(distance) < 0.25


class TestOurCells:
    def test_it_equals_the_table_of_the_segmentation(self, cells):
        again = ucs.tl.aggregate(cells, "ucs_cells", inplace=False)["ucs_cells_table"]
        table = cells["ucs_table"]
        np.testing.assert_array_equal(again.X.toarray(), table.X.toarray())
        assert again.var_names.tolist() == table.var_names.tolist()
        for column in ("cell_id", "n_transcripts", "n_genes"):
            np.testing.assert_array_equal(again.obs[column], table.obs[column])
        for column in ("area_um2", "density", "eccentricity"):
            np.testing.assert_allclose(again.obs[column], table.obs[column])
        np.testing.assert_allclose(again.obsm["spatial"], table.obsm["spatial"])
        pd.testing.assert_frame_equal(control_counts_of(again), control_counts_of(table))

    def test_it_makes_the_column_of_the_points_anew(self, cells):
        sdata = cheap_copy(cells)
        ucs.tl.aggregate(sdata, "ucs_cells", points_column_added="again")
        points = sdata["transcripts"].compute()
        np.testing.assert_array_equal(points["again"], points["ucs_cell_id"])
        assert points["again"].dtype == np.int32


@pytest.mark.parametrize("name", AFFINES)
def test_labels_in_any_frame(name):
    """The frame of the labels is the one that is moved here; the points stay where they are."""
    world = scene()
    fine = np.kron(world.nuclei, np.ones((2, 2), dtype=np.int32))
    matrix = AFFINES[name]
    sdata = make_sdata(fine, world.points, labels_to_um=world.to_um @ scaling(0.5), um_to_global=matrix)
    table = ucs.tl.aggregate(sdata, "nucleus_labels", inplace=False)["nucleus_labels_table"]
    by_hand, _ = count_by_hand(world.sdata(), "nucleus_labels", world.nuclei)
    assert_counts(table, by_hand)
    np.testing.assert_allclose(table.obs["area_um2"], np.bincount(world.nuclei.ravel())[1:])


def test_half_a_pixel_off():
    """Labels half a pixel to the right: a transcript at 0.25 of a pixel is in the one before."""
    labels = np.array([[1, 2]], dtype=np.int32)
    points = pd.DataFrame({"x": [0.25, 0.75, 1.25, 1.75, 2.25], "y": 0.5, "feature_name": pd.Categorical(["A"] * 5)})
    sdata = make_sdata(labels, points, labels_to_um=translation(0.5, 0))
    ucs.tl.aggregate(sdata, "nucleus_labels", points_column_added="label")
    assert sdata["transcripts"]["label"].compute().tolist() == [0, 1, 1, 2, 2]
    assert sdata["nucleus_labels_table"].obsm["spatial"].tolist() == [[1.0, 0.5], [2.0, 0.5]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int64, np.uint64])
def test_ids_of_any_type_and_with_gaps(dtype):
    ids = np.array([0, 3, 100, 7], dtype=dtype)
    labels = ids[np.array([[1, 1, 0], [0, 2, 3]])]
    points = pd.DataFrame({"x": [0.5, 1.5, 1.5], "y": [0.5, 1.5, 0.5], "feature_name": pd.Categorical(["A", "B", "A"])})
    sdata = make_sdata(labels, points)
    ucs.tl.aggregate(sdata, "nucleus_labels", points_column_added="label")
    table = sdata["nucleus_labels_table"]
    assert table.obs["cell_id"].tolist() == [3, 7, 100]
    assert table.X.toarray().tolist() == [[2, 0], [0, 0], [0, 1]]
    assert sdata["transcripts"]["label"].compute().tolist() == [3, 100, 3]
    assert sdata["transcripts"]["label"].compute().dtype == dtype


def test_ids_beyond_32_bits():
    labels = np.array([[2**40, 0], [0, 2**63]], dtype=np.uint64)
    points = pd.DataFrame({"x": [0.5, 1.5], "y": [0.5, 1.5], "feature_name": pd.Categorical(["A", "B"])})
    table = ucs.tl.aggregate(make_sdata(labels, points), "nucleus_labels", inplace=False)["nucleus_labels_table"]
    assert table.obs["cell_id"].tolist() == [2**40, 2**63]


def test_counts_are_honoured():
    labels = np.array([[1, 2]], dtype=np.int32)
    points = pd.DataFrame(
        {"x": [0.5, 0.6, 1.5], "y": 0.5, "feature_name": pd.Categorical(["A", "A", "B"]), "counts": [2, 3, 0]}
    )
    table = ucs.tl.aggregate(make_sdata(labels, points), "nucleus_labels", inplace=False)["nucleus_labels_table"]
    assert table.var_names.tolist() == ["A", "B"]
    assert table.X.toarray().tolist() == [[5, 0], [0, 0]]


def test_points_in_other_units():
    labels = np.array([[1, 2]], dtype=np.int32)
    points = pd.DataFrame({"x": [1.0, 3.0], "y": [1.0, 1.0], "feature_name": pd.Categorical(["A", "B"])})
    sdata = make_sdata(labels, points, points_to_um=scaling(0.5))
    table = ucs.tl.aggregate(sdata, "nucleus_labels", read={"um_per_unit": 0.5}, inplace=False)["nucleus_labels_table"]
    assert table.obs["area_um2"].tolist() == [1.0, 1.0]
    assert table.X.toarray().tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(table.obsm["spatial"], [[0.5, 0.5], [1.5, 0.5]])


class TestKeys:
    def test_results_go_where_they_are_sent(self):
        sdata = scene().sdata()
        ucs.tl.aggregate(sdata, "nucleus_labels", table_key_added="counts")
        record = {name: sdata["counts"].uns["ucs"][name] for name in ("labels_key", "points_key")}
        assert record == {"labels_key": "nucleus_labels", "points_key": "transcripts"}
        with pytest.raises(ValueError, match=r"tables\['counts'\] exists; pass overwrite=True"):
            ucs.tl.aggregate(sdata, "nucleus_labels", table_key_added="counts")
        ucs.tl.aggregate(sdata, "nucleus_labels", table_key_added="counts", overwrite=True)

    def test_columns(self):
        sdata = scene().sdata()
        ucs.tl.aggregate(sdata, "nucleus_labels", points_column_added="nucleus")
        before = sdata["transcripts"]
        with pytest.raises(ValueError, match=r"has a column 'nucleus'; pass overwrite=True"):
            ucs.tl.aggregate(sdata, "nucleus_labels", table_key_added="a", points_column_added="nucleus")
        for column in ("x", "feature_name", "qv"):
            with pytest.raises(ValueError, match=rf"points_column_added='{column}' is a column of the data itself"):
                ucs.tl.aggregate(
                    sdata, "nucleus_labels", table_key_added="a", points_column_added=column, overwrite=True
                )
        assert sdata["transcripts"] is before
        assert "a" not in sdata

    def test_labels_that_are_not_there(self):
        with pytest.raises(KeyError, match=r"labels_key='cells' is not in .*; there are: 'nucleus_labels'"):
            ucs.tl.aggregate(scene().sdata(), "cells")

    def test_labels_without_any(self):
        sdata = scene().sdata()
        sdata["none"] = Labels2DModel.parse(np.zeros((4, 4), dtype=int), dims=("y", "x"))
        with pytest.raises(ValueError, match=r"labels\['none'\] holds background only"):
            ucs.tl.aggregate(sdata, "none")

    def test_labels_elsewhere_give_zeros(self):
        sdata = scene().sdata(labels_to_um=translation(1e4, 0))
        table = ucs.tl.aggregate(sdata, "nucleus_labels", inplace=False)["nucleus_labels_table"]
        assert table.n_obs == 31
        assert table.X.sum() == 0

    def test_a_failure_leaves_everything_as_it_was(self, monkeypatch):
        sdata = scene().sdata()
        before = {name: element for _, name, element in sdata.gen_elements()}
        original = type(sdata).__setitem__

        def fail(self, key, value):
            if key == "transcripts" and value is not before[key]:
                raise RuntimeError
            original(self, key, value)

        monkeypatch.setattr(type(sdata), "__setitem__", fail)
        with pytest.raises(RuntimeError):
            ucs.tl.aggregate(sdata, "nucleus_labels", points_column_added="label")
        assert {name: element for _, name, element in sdata.gen_elements()} == before

    def test_negative_labels(self):
        nuclei = np.where(scene().nuclei == 3, -1, scene().nuclei)
        with pytest.raises(ValueError, match=r"negative ids \(lowest -1\)"):
            ucs.tl.aggregate(make_sdata(nuclei, scene().points), "nucleus_labels")


def test_labels_of_several_levels_are_read_at_the_finest(cells):
    fine = np.kron(labels_of(cells), np.ones((4, 4), dtype=np.int32))
    sdata = scene().sdata()
    sdata["tree"] = make_sdata(
        fine,
        scene().points,
        labels_to_um=scene().to_um @ scaling(0.25),
        labels_options={"scale_factors": [2, 2]},
    )["nucleus_labels"]
    table = ucs.tl.aggregate(sdata, "tree", inplace=False)["tree_table"]
    np.testing.assert_array_equal(table.X.toarray(), cells["ucs_table"].X.toarray())
