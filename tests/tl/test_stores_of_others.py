"""Layouts that users of other tools have: units, several regions of interest, empty masks, column types."""

from __future__ import annotations

import re

import dask.dataframe as dd
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from calls import check
from invariants import assert_same_cells
from scenes import IMAGE_UM, X0, Y0, affine, boxes, make_sdata, scaling, scene, segmented, stain, translation
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, ShapesModel
from spatialdata.transformations import Identity

import ucs
from ucs._read.platforms import GENERIC


class TestSeveralRegionsOfInterest:
    @pytest.fixture
    def sdata(self):
        elements = {}
        for roi in ("Roi1", "Roi2"):
            points = scene().points.drop(columns="qv").rename(columns={"feature_name": "name"})
            elements[f"{roi}_list"] = PointsModel.parse(
                points.reset_index(drop=True), feature_key="name", transformations={roi: Identity()}
            )
            to_roi = {roi: affine(scene().to_um)}
            elements[f"{roi}_nuclei"] = Labels2DModel.parse(scene().nuclei, dims=("y", "x"), transformations=to_roi)
        return SpatialData.init_from_elements(elements)

    @pytest.mark.parametrize("roi", ["Roi1", "Roi2"])
    def test_only_what_shares_a_coordinate_system_is_a_candidate(self, sdata, roi):
        found = check(sdata, f"{roi}_list")
        assert found.ok
        assert found["nuclei"]["element"] == f"{roi}_nuclei"
        made = segmented(sdata, f"{roi}_list")
        assert made["ucs_table"].uns["ucs"]["parameters"]["nuclei_key"] == f"{roi}_nuclei"

    @pytest.mark.parametrize("roi", ["Roi1", "Roi2"])
    def test_images_too(self, sdata, roi):
        for each in ("Roi1", "Roi2"):
            del sdata.labels[f"{each}_nuclei"]
            to = {each: affine(translation(X0, Y0) @ scaling(IMAGE_UM))}
            sdata[f"{each}_DAPI"] = Image2DModel.parse(stain()[None], dims=("c", "y", "x"), transformations=to)
        found = check(sdata, f"{roi}_list")
        assert found.ok
        assert found["nuclei"]["images"] == [f"{roi}_DAPI"]

    def test_which_is_meant_is_asked_for_with_an_argument_that_exists(self, sdata):
        message = check(sdata)["problems"][0]["message"]
        assert "points_key=" in message
        assert "segment one after the other, each with a key_added of its own" in message


class TestEmptyNuclei:
    def empty(self, **more):
        sdata = scene().sdata()
        blank = Labels2DModel.parse(np.zeros_like(scene().nuclei), dims=("y", "x"))
        del sdata.labels["nucleus_labels"]
        elements = {name: element for _, name, element in sdata.gen_elements()}
        return SpatialData.init_from_elements({**elements, "nucleus_labels": blank, **more})

    def test_polygons_beside_them_are_used(self):
        outlines = ucs.tl.outlines(scene().sdata(), "nucleus_labels", inplace=False)["nucleus_labels_boundaries"]
        found = check(self.empty(nucleus_boundaries=outlines))
        assert found.ok
        assert found["nuclei"]["element"] == "nucleus_boundaries"
        assert any("labels['nucleus_labels'] hold background only" in text for text in found["warnings"])

    def test_a_stain_beside_them_is_used(self):
        to = {"global": affine(translation(X0, Y0) @ scaling(IMAGE_UM))}
        image = Image2DModel.parse(stain()[None], dims=("c", "y", "x"), c_coords=["DAPI"], transformations=to)
        found = check(self.empty(stain=image))
        assert found.ok
        assert found["nuclei"]["images"] == ["stain"]
        assert any("hold background only" in text for text in found["warnings"])

    def test_with_nothing_beside_them_it_is_said(self):
        assert "hold background only" in check(self.empty())["problems"][0]["message"]

    def test_if_they_are_named_it_is_said(self):
        message = check(self.empty(), nuclei_key="nucleus_labels")["problems"][0]["message"]
        assert "labels['nucleus_labels'] hold background only" in message


class TestIds:
    def polygons(self, index, **columns):
        made = boxes((-30, -10, -24, -4), (-10, 0, -4, 6), (10, 20, 16, 26), index=index)
        return make_sdata(made.assign(**columns), scene().points)

    def test_several_planes(self):
        sdata = self.polygons(["a", "a", "b"], ZIndex=[0, 1, 0])
        message = check(sdata, "transcripts", platform="merscope")["problems"][0]["message"]
        assert "'ZIndex'" in message
        assert "gdf.dissolve(by=gdf.index)" in message
        assert "reset_index" not in message

    def test_repeated_without_planes(self):
        message = check(self.polygons([1, 1, 2]), "transcripts", platform="merscope")["problems"][0]["message"]
        assert "gdf.dissolve(by=gdf.index)" in message
        assert "reset_index" not in message

    def test_of_mixed_types(self):
        found = check(self.polygons([1, "cell", 3]))
        assert found["problems"][0]["error"] == "ValueError"
        assert "ids of several types (number, str)" in found["problems"][0]["message"]

    def test_missing(self):
        message = check(self.polygons([1.0, np.nan, 3.0]))["problems"][0]["message"]
        assert "1 rows without an id" in message

    def test_the_first_id_is_not_that_of_no_nucleus(self, tmp_path):
        outlines = ucs.tl.outlines(scene().sdata(), "nucleus_labels", inplace=False)["nucleus_labels_boundaries"]
        some = gpd.GeoDataFrame(geometry=outlines.geometry.to_numpy()[:15], index=range(15))
        sdata = segmented(make_sdata(some, scene().points, labels_to_um=scene().to_um), find_missing=True)
        obs = sdata["ucs_table"].obs
        assert obs["is_missing_cell"].any()
        assert obs["nucleus_id"].isna().equals(obs["is_missing_cell"])
        assert obs["nucleus_id"].dropna().tolist() == list(range(15))
        sdata.write(tmp_path / "cells.zarr")
        read = SpatialData.read(tmp_path / "cells.zarr")["ucs_table"].obs
        assert read["nucleus_id"].isna().equals(obs["nucleus_id"].isna())

    def test_files_of_polygons_keep_the_ids(self, cells, tmp_path):
        shapes = cells["ucs_boundaries"]
        shapes.to_file(tmp_path / "cells.geojson", driver="GeoJSON")
        assert gpd.read_file(tmp_path / "cells.geojson")["cell_id"].tolist() == shapes.index.tolist()

    def test_parts_are_counted(self):
        made = boxes((-30, -10, -24, -4), (0, 20, 6, 26), (30, 30, 36, 36), index=["a1", "a2", "b"])
        sdata = segmented(make_sdata(made.assign(cell_id=["a", "a", "b"]), scene().points), fuse_nuclei=True)
        obs, shapes = sdata["ucs_table"].obs, sdata["ucs_boundaries"]
        assert obs["n_parts"].tolist() == [len(getattr(one, "geoms", [one])) for one in shapes.geometry]
        assert obs["n_parts"].max() == 2
        ShapesModel.validate(shapes)


class TestColumnTypes:
    @pytest.mark.parametrize(
        ("column", "values", "message"),
        [
            ("qv", "20", r"column 'qv' must hold numbers"),
            ("x", "1.5", r"column 'x' must hold numbers"),
            ("is_gene", "perhaps", r"values of 'is_gene' are neither true nor false, e.g. 'perhaps'"),
        ],
    )
    def test_one_clear_error_from_check_and_from_the_verbs(self, column, values, message):
        sdata = scene().sdata()
        frame = scene().points.assign(**{column: values})
        points = dd.from_pandas(frame, npartitions=2, sort=False)
        points.attrs.update(sdata["transcripts"].attrs)
        sdata = sdata_with(sdata, points)
        problem = check(sdata)["problems"][0]
        assert problem["error"] == "ValueError"
        assert re.search(message, problem["message"])
        with pytest.raises(ValueError, match=message):
            ucs.tl.aggregate(sdata, "nucleus_labels")

    @pytest.mark.parametrize("true", [True, "True", "true", 1])
    def test_flags_with_gaps(self, true):
        false = {"True": "False", "true": "false"}.get(true, type(true)(0))
        control = scene().points["feature_name"] == "GENE0002"
        flags = np.where(control, false, true).astype(object)
        flags[::2] = None
        sdata = scene().sdata()
        points = dd.from_pandas(scene().points.assign(is_gene=flags), npartitions=2, sort=False)
        points.attrs.update(sdata["transcripts"].attrs)
        sdata = sdata_with(sdata, points)
        ucs.tl.aggregate(sdata, "nucleus_labels")
        assert "GENE0002" in sdata["nucleus_labels_table"].uns["ucs"]["controls"]
        assert "GENE0001" in sdata["nucleus_labels_table"].var_names


def sdata_with(sdata, points):
    """The object with other points, also if SpatialData would refuse their types."""
    made = SpatialData(labels=dict(sdata.labels))
    dict.__setitem__(made.points.data, "transcripts", points)
    return made


class TestControls:
    @pytest.mark.parametrize(
        "name",
        ["NegControlProbe_1", "negcontrolprobe_1", "neg_control_probe_1", "Neg-Control-Probe-1", "NEGCONTROL",
         "NegPrb3",
         "negative1", "Negative Control 3", "BLANK_0001", "Blank-12", "blank_5", "blank-3", "blank7", "SystemControl4",
         "system_control_1", "FalseCode3", "false-code-2", "UnassignedCodeword_1", "unassigned_codeword_1",
         "DeprecatedCodeword_7", "Intergenic_Region_1", "intergenic_1", "antisense_ACTB", "Antisense-ACTB",
         "Genomic Control 3", "neg_ctrl_2"],
    )  # fmt: skip
    def test_spellings(self, name):
        assert GENERIC.is_control(name)

    @pytest.mark.parametrize(
        "words",
        ["neg control probe", "neg control codeword", "negative control", "neg prb", "system control", "false code",
         "unassigned codeword", "deprecated codeword", "genomic control", "intergenic region", "blank"],
    )  # fmt: skip
    @pytest.mark.parametrize("number", ["1", "_0042", "-7", " 3"])
    def test_each_with_any_case_and_separator(self, words, number):
        parts = words.split()
        cased = [parts, [part.title() for part in parts], [part.upper() for part in parts]]
        spelt = [separator.join(some) + number for some in cased for separator in ("", "_", "-", " ")]
        assert [name for name in spelt if not GENERIC.is_control(name)] == []

    @pytest.mark.parametrize("name", ["NEGR1", "blanks", "SYS1", "FALS", "ANTXR1", "INTS1", "GENE1", "Nega"])
    def test_genes(self, name):
        assert not GENERIC.is_control(name)


class TestOneFarAway:
    def test_it_is_said_and_nothing_is_left_out(self):
        far = pd.concat([scene().points, scene().points.iloc[:1].assign(x=2000.0, y=900.0)], ignore_index=True)
        far["feature_name"] = far["feature_name"].astype("category")
        sdata = make_sdata(scene().nuclei, far, labels_to_um=scene().to_um)
        found = check(sdata)
        assert any(f"At least 1 of {len(far)} transcripts" in text for text in found["warnings"])
        assert found["transcripts"]["kept"] == len(far)

    def test_a_tissue_is_not_warned_of(self):
        assert not any("far from all others" in text for text in check(scene().sdata())["warnings"])

    @pytest.mark.parametrize("n_far", [1, 5])
    @pytest.mark.parametrize("npartitions", [1, 3])
    def test_they_are_left_out_if_that_is_asked_for(self, n_far, npartitions, caplog):
        alone = segmented(scene().sdata())
        points = scene().points
        rng = np.random.default_rng(0)
        # Some far away, and one beside the tissue's rows, whose place in the grid would be that of an edge.
        far = points.iloc[:n_far].assign(x=rng.uniform(3e5, 4e5, n_far), y=rng.uniform(-9e5, 9e5, n_far))
        beside = points.iloc[:1].assign(x=X0 + 95.9, y=9e5)
        every = pd.concat([far, points, beside], ignore_index=True).astype({"feature_name": points.feature_name.dtype})
        sdata = make_sdata(scene().nuclei, every, labels_to_um=scene().to_um, npartitions=npartitions)
        found = check(sdata, outlier_um=50)
        assert found.ok
        assert found["grid"]["shape"] == [72, 96]
        assert found["transcripts"]["dropped"]["far from all others"] == n_far + 1
        assert found["transcripts"]["kept"] == len(points)
        made = segmented(sdata, outlier_um=50)
        assert_same_cells(made, alone)
        assert made["ucs_table"].uns["ucs"]["parameters"]["outlier_um"] == 50
        assert made["ucs_table"].uns["ucs"]["qc"]["n_outlying"] == n_far + 1
        column = made["transcripts"]["ucs_cell_id"].compute().to_numpy()
        np.testing.assert_array_equal(column[n_far:-1], alone["transcripts"]["ucs_cell_id"].compute())
        assert not column[[*range(n_far), -1]].any()
        assert f"{n_far + 1} far from all others" in caplog.text

    def test_pieces_of_tissue_apart_are_none(self):
        points = scene().points
        apart = points.iloc[: len(points) // 20].assign(x=lambda frame: frame["x"] + 300)
        every = pd.concat([points, apart], ignore_index=True).astype({"feature_name": points.feature_name.dtype})
        found = check(make_sdata(scene().nuclei, every, labels_to_um=scene().to_um), outlier_um=20)
        assert found["transcripts"]["dropped"]["far from all others"] == 0

    def test_too_far_for_the_memory_is_said_with_the_way_out(self):
        points = scene().points
        far = pd.concat([points, points.iloc[:1].assign(x=1e9, y=1e9)], ignore_index=True)
        sdata = make_sdata(scene().nuclei, far.astype({"feature_name": points.feature_name.dtype}))
        problem = check(sdata)["problems"][0]
        assert problem["error"] == "MemoryError"
        assert "outlier_um" in problem["message"]
        assert not any(one["error"] == "MemoryError" for one in check(sdata, outlier_um=50)["problems"])

    @pytest.mark.parametrize("value", [0, -1.0, float("nan"), "far"])
    def test_a_side_that_is_none(self, value):
        with pytest.raises((TypeError, ValueError), match="outlier_um"):
            check(scene().sdata(), outlier_um=value)
