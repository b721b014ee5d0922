"""Cells of several fields of view: those of the whole tissue, whichever way it is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fields import cut_fields, same_up_to_ids
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from invariants import assert_outlines, assert_same_ids, assert_spatialdata_agrees, assert_types, matrix_between
from scenes import cells, labels_of, rotation, scene, segmented, translation
from spatialdata import SpatialData, read_zarr
from spatialdata.transformations import get_transformation

import ucs
from ucs._read.sample import find_source, prepare

COSMX = {"platform": "cosmx", "um_per_unit": 1.0, "resolution": 1.0}
WINDOWS = {
    "halves": [(0, 0, 48, 72), (48, 0, 96, 72)],
    "quarters": [(0, 0, 41, 30), (41, 0, 96, 30), (0, 30, 41, 72), (41, 30, 96, 72)],
    "overlapping": [(0, 0, 45, 34), (39, 0, 96, 34), (0, 26, 45, 72), (39, 26, 96, 72)],
}


def whole(sdata: SpatialData) -> SpatialData:
    """The uncut tissue with its nuclei numbered as in the fields: of two equally near ones the lower number wins."""
    sample = prepare(sdata, find_source(sdata, **COSMX), check_alignment=False)
    return segmented(replace(scene(), nuclei=sample.nuclei.labels).sdata())


@pytest.mark.parametrize(
    ("name", "flip"), [("halves", False), ("quarters", True), ("overlapping", False), ("overlapping", True)]
)
def test_cells_are_those_of_the_whole_tissue(name, flip):
    sdata = cut_fields(scene(), WINDOWS[name], flip=flip)
    of_fields, of_whole = segmented(sdata, **COSMX), whole(sdata)
    np.testing.assert_array_equal(labels_of(of_fields), labels_of(of_whole))
    a, b = of_fields["ucs_table"], of_whole["ucs_table"]
    np.testing.assert_array_equal(a.X.toarray(), b.X.toarray())
    np.testing.assert_allclose(a.obsm["spatial"], b.obsm["spatial"], atol=1e-9)
    pd.testing.assert_frame_equal(a.obs.drop(columns=["fov", "nucleus_id"]), b.obs.drop(columns=["nucleus_id"]))
    # Without that, nothing but the pixels at equal distances from two nuclei may differ.
    assert same_up_to_ids(labels_of(of_fields), labels_of(cells())) > 0.997


@settings(max_examples=6)
@given(
    x=st.integers(25, 70),
    y=st.integers(25, 50),
    overlap=st.integers(0, 20),
    flip=st.booleans(),
    turns=st.integers(0, 1),
)
def test_nuclei_and_transcripts_are_those_of_the_whole_tissue_wherever_it_is_cut(x, y, overlap, flip, turns):
    windows = [(0, 0, x + overlap, y + overlap), (x, 0, 96, y + overlap), (0, y, x + overlap, 72), (x, y, 96, 72)]
    alone = np.s_[:y, :x], np.s_[:y, x + overlap :], np.s_[y + overlap :, :x]
    assume(all(scene().nuclei[part].any() for part in alone))
    # Off the borders of pixels, on which a turn moves positions to the other side.
    off = replace(scene(), points=scene().points.assign(x=lambda p: p["x"] + 2**-12, y=lambda p: p["y"] + 2**-12))
    sdata = cut_fields(off, windows, flip=flip, to_global=translation(311, -52) @ rotation(180 * turns))
    sample = prepare(sdata, find_source(sdata, **COSMX), check_alignment=False)
    assert same_up_to_ids(np.rot90(sample.nuclei.labels, 2 * turns), scene().nuclei) == 1
    totals = prepare(off.sdata(), find_source(off.sdata()), check_alignment=False).transcripts.map.totals()
    np.testing.assert_array_equal(np.rot90(sample.transcripts.map.totals(), 2 * turns), totals)


@pytest.fixture(scope="module")
def result() -> SpatialData:
    return segmented(cut_fields(scene(), WINDOWS["overlapping"]), **COSMX)


class TestResult:
    def test_elements_lie_in_the_common_coordinate_system(self, result):
        for key in ("ucs_cells", "ucs_boundaries"):
            assert list(get_transformation(result[key], get_all=True)) == ["global"]
        to_global = get_transformation(result["ucs_cells"], "global").to_affine_matrix(("x", "y"), ("x", "y"))
        points = pd.concat([result[f"{k}_points"].compute() for k in (2, 3, 4, 5)])
        assert_types(result, points)
        assert_same_ids(labels_of(result), result["ucs_table"], result["ucs_boundaries"], points)
        assert_outlines(labels_of(result), result["ucs_boundaries"], to_global)
        assert_spatialdata_agrees(result)

    def test_points_carry_the_cell_beneath_them_in_the_field_that_owns_the_place(self, result):
        labels, counted, seen = labels_of(result), 0, 0
        for fov in (2, 3, 4, 5):
            points = result[f"{fov}_points"].compute()
            to_pixels = np.linalg.inv(matrix_between(result, "ucs_cells", f"{fov}_points"))
            position = to_pixels[:2, :2] @ points[["x", "y"]].to_numpy().T + to_pixels[:2, 2:]
            column, row = np.floor(position + 1e-9).astype(int)
            beneath = labels[np.clip(row, 0, 71), np.clip(column, 0, 95)]
            assert np.isin(points["ucs_cell_id"] - beneath, [0]).mean() > 0.6
            assert ((points["ucs_cell_id"] == beneath) | (points["ucs_cell_id"] == 0)).all()
            counted += (points["ucs_cell_id"] > 0).sum()
            seen += (beneath > 0).sum()
        table = result["ucs_table"]
        assert counted == table.X.sum() + table.obsm["controls"].sum() < seen

    def test_the_field_of_each_cell_is_that_of_its_nucleus(self, result):
        table = result["ucs_table"]
        assert list(table.obs["fov"].cat.categories) == ["2", "3", "4", "5"]
        for nucleus, fov in zip(table.obs["nucleus_id"], table.obs["fov"], strict=True):
            assert nucleus.split("_")[0] in {"2", "3", "4", "5"}
            assert isinstance(fov, str)
        x, y = table.obsm["spatial"].T
        inside = table[(x > scene().to_um[0, 2] + 60) & (y > scene().to_um[1, 2] + 45)]
        assert len(inside) > 2
        assert set(inside.obs["fov"]) == {"5"}

    def test_what_the_record_says(self, result):
        quality = result["ucs_table"].uns["ucs"]["qc"]
        assert quality["n_rows"] - quality["n_seen_twice"] == quality["n_kept"] == len(scene().points)
        assert list(result["ucs_table"].uns["ucs"]["parameters"]["fields_of_view"]) == ["2", "3", "4", "5"]

    def test_it_can_be_written_and_read(self, result, tmp_path):
        result.write(tmp_path / "fields.zarr")
        again = read_zarr(tmp_path / "fields.zarr")
        np.testing.assert_array_equal(labels_of(again), labels_of(result))
        assert again["ucs_table"].obs["fov"].tolist() == result["ucs_table"].obs["fov"].tolist()

    def test_nothing_of_the_users_is_changed(self):
        sdata = cut_fields(scene(), WINDOWS["halves"])
        before = {key: sdata[key] for key in ("2_points", "3_points", "2_nuclei", "3_nuclei")}
        segmented(sdata, **COSMX)
        assert all(sdata[key] is element for key, element in before.items())
        assert "ucs_cell_id" not in sdata["2_points"].columns


def test_a_turned_coordinate_system_turns_the_cells(result):
    sdata = cut_fields(scene(), WINDOWS["overlapping"], to_global=translation(5, -3) @ rotation(90))
    turned = segmented(sdata, **COSMX)
    assert turned["ucs_table"].n_obs == result["ucs_table"].n_obs
    np.testing.assert_allclose(turned["ucs_table"].obs["nucleus_area_um2"].sum(), (scene().nuclei > 0).sum())


def test_aggregate_counts_what_segment_counts(result):
    counted = ucs.tl.aggregate(result, "ucs_cells", platform="cosmx", read={"um_per_unit": 1.0}, inplace=False)
    table = counted["ucs_cells_table"]
    cells = result["ucs_table"]
    np.testing.assert_array_equal(table.X.toarray(), cells.X.toarray())
    np.testing.assert_allclose(table.obsm["spatial"], cells.obsm["spatial"], atol=1e-9)
    np.testing.assert_allclose(table.obs["area_um2"], cells.obs["area_um2"])


def test_aggregate_marks_the_points_of_all_fields(result):
    sdata = result.subset([*result.points, "ucs_cells"])
    ucs.tl.aggregate(sdata, "ucs_cells", platform="cosmx", read={"um_per_unit": 1.0}, points_column_added="again")
    for key in sdata.points:
        points = sdata[key].compute()
        np.testing.assert_array_equal(points["again"], points["ucs_cell_id"])


def test_the_transcript_map_lies_in_the_common_coordinate_system(result):
    image = ucs.pp.rasterize(result, platform="cosmx", read={"um_per_unit": 1.0}, resolution=1.0)
    assert int(image.sum()) <= len(scene().points)
    np.testing.assert_allclose(
        get_transformation(image).to_affine_matrix(("x", "y"), ("x", "y")), scene().to_um, atol=1e-9
    )


def test_a_column_that_is_there_in_one_field_is_an_error():
    sdata = cut_fields(scene(), WINDOWS["halves"])
    sdata["3_points"] = segmented(sdata, ["3_points"], **COSMX)["3_points"]
    with pytest.raises(ValueError, match=r"points\['3_points'\] has a column 'ucs_cell_id'; pass overwrite=True"):
        segmented(sdata, **COSMX)
    assert set(segmented(sdata, overwrite=True, **COSMX)["3_points"].columns) >= {"ucs_cell_id"}


def test_fields_of_any_platform_are_taken_if_they_are_named():
    """Two points elements of one tissue, neither of them a reader's, and one element of nuclei."""
    sdata = cut_fields(scene(), WINDOWS["halves"], flip=False)
    elements = {f"part_{k}": sdata[f"{k}_points"] for k in (2, 3)} | {"nuclei": scene().sdata()["nucleus_labels"]}
    named = SpatialData.init_from_elements(elements)
    out = segmented(named, ["part_2", "part_3"], platform="generic")
    np.testing.assert_array_equal(labels_of(out), labels_of(segmented(scene().sdata())))
    assert list(out["ucs_table"].obs["fov"].cat.categories) == ["part_2", "part_3"]
