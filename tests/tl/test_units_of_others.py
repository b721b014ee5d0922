"""The unit of transcripts, nuclei and images in stores that others wrote."""

from __future__ import annotations

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from calls import check
from scenes import IMAGE_UM, X0, Y0, make_sdata, scaled, scaling, scene, segmented, stain, translation
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, PointsModel
from spatialdata.transformations import Identity, Scale, get_transformation

import ucs
from ucs._read.source import find_source


def in_units(um, *, more=None, image_to=None):
    """The scene with points in units of some um and an image of its nuclei; no labels or shapes."""
    points = scene().points.rename(columns={"feature_name": "gene"}).drop(columns="qv")
    points = points.assign(x=(points["x"] - X0) / um, y=(points["y"] - Y0) / um)
    systems = {"global": Scale([um, um], axes=("x", "y")), **(more or {})}
    image = Image2DModel.parse(
        stain()[None], dims=("c", "y", "x"), c_coords=["DAPI"],
        transformations=image_to or {"global": Scale([IMAGE_UM, IMAGE_UM], axes=("x", "y"))},
    )  # fmt: skip
    made = PointsModel.parse(dd.from_pandas(points, npartitions=2), feature_key="gene", transformations=systems)
    return SpatialData(points={"spots": made}, images={"stain": image})


class TestUnit:
    @pytest.mark.parametrize("um", [1.0, 0.138, 0.325, 2.0])
    def test_what_the_user_says_is_heard_where_nuclei_come_from_an_image(self, um):
        found = check(in_units(um), um_per_unit=um)
        assert found.ok
        assert found["nuclei"]["um_per_px"] == pytest.approx(IMAGE_UM)
        made = segmented(in_units(um), um_per_unit=um)
        expected = segmented(in_units(1.0), um_per_unit=1.0)
        areas = [sdata["ucs_table"].obs["nucleus_area_um2"].median() for sdata in (made, expected)]
        assert areas[0] == pytest.approx(areas[1], rel=0.05)
        assert made["ucs_table"].n_obs == expected["ucs_table"].n_obs

    def test_other_points_do_not_matter_if_the_transcripts_are_named(self):
        sdata = in_units(1.0)
        landmarks = pd.DataFrame({"x": [10.0, 50, 90], "y": [10.0, 60, 20]})
        in_px = {"global": Scale([IMAGE_UM, IMAGE_UM], axes=("x", "y"))}
        sdata["landmarks"] = PointsModel.parse(landmarks, transformations=in_px)
        found = check(sdata, "spots")
        assert found.ok
        assert found["nuclei"]["um_per_px"] == pytest.approx(IMAGE_UM)

    @pytest.mark.parametrize(("system", "length"), [("micron", 1.0), ("microns", 1.0), ("um", 1.0), ("mm", 1e-3)])
    def test_a_coordinate_system_that_is_a_unit_of_length(self, system, length):
        scale = Scale([0.138 * length] * 2, axes=("x", "y"))
        more = {"global": Identity(), system: scale}
        sdata = in_units(0.138, more=more, image_to={"global": scaled(IMAGE_UM / 0.138)})
        source = find_source(sdata)
        assert source.um_per_unit == pytest.approx(0.138)
        assert system in source.unit_because
        found = check(sdata)
        assert found.ok
        assert found["nuclei"]["um_per_px"] == pytest.approx(IMAGE_UM)
        assert system in found["source"]["um_per_unit_because"]

    def test_two_statements_that_differ_are_an_error_with_both_numbers(self):
        more = {"micron": Scale([0.138] * 2, axes=("x", "y")), "mm": Scale([0.001] * 2, axes=("x", "y"))}
        with pytest.raises(ValueError, match=r"0.138 um by .*'micron'; 1 um by .*'mm'"):
            find_source(in_units(1.0, more=more))
        assert find_source(in_units(1.0, more=more), um_per_unit=1.0).um_per_unit == 1.0

    def test_a_platform_and_the_object_that_differ(self):
        sdata = scene().sdata(points_systems={"global": np.eye(3), "microns": scaling(0.2125)})
        with pytest.raises(ValueError, match="is 0.2125 um by .*'microns', but 1 um in data of xenium"):
            find_source(sdata)

    @pytest.mark.parametrize("given", [0.2, 1.0])
    def test_what_the_user_says_against_the_object_is_an_error_with_both_numbers(self, given):
        sdata = in_units(0.138, more={"micron": scaled(0.138)})
        with pytest.raises(ValueError, match=f"{given:g} um as given, but 0.138 um by its transformation.*'micron'"):
            find_source(sdata, um_per_unit=given)
        problem = check(sdata, um_per_unit=given)["problems"][0]
        assert problem["error"] == "ValueError"
        assert "Leave um_per_unit out" in problem["message"]
        assert find_source(sdata, um_per_unit=0.138).um_per_unit == 0.138

    def test_what_the_user_says_decides_between_statements_that_differ(self, caplog):
        sdata = scene().sdata(points_systems={"global": np.eye(3), "microns": scaling(0.2125)})
        assert find_source(sdata, um_per_unit=1.0).um_per_unit == 1.0
        assert "1 um as given, but 0.2125 um by its transformation" in caplog.text
        assert find_source(sdata, um_per_unit=0.2125).um_per_unit == 0.2125
        with pytest.raises(ValueError, match="0.5 um as given, but 0.2125 um"):
            find_source(sdata, um_per_unit=0.5)

    @pytest.mark.parametrize("smaller", [1, 2, 4])
    def test_images_of_the_instrument_say_what_the_unit_is(self, smaller):
        px = 0.2125 * smaller
        sdata = scene().sdata(points_systems={"global": scaling(1 / px)}, labels_to_um=scaling(1 / px) @ scene().to_um)
        sdata["morphology_focus"] = Image2DModel.parse(stain()[None], dims=("c", "y", "x"))
        sdata.attrs["spatialdata_io_reader"] = "xenium"
        assert find_source(sdata).um_per_unit == 1.0
        assert "whose pixels have 0.2125 um" in find_source(sdata).unit_because
        moved = sdata.transform_to_coordinate_system("global")
        moved.attrs.update(sdata.attrs)
        if smaller > 1:  # then the pixels are those of no instrument, but a unit of 1 um is refuted all the same
            with pytest.raises(ValueError, match=r"'morphology_focus'.*but 1 um in data of xenium"):
                find_source(moved)
            return
        with pytest.raises(ValueError, match=r"0.2125 um by .*'morphology_focus'.*but 1 um in data of xenium"):
            find_source(moved)
        found = find_source(moved, um_per_unit=0.2125)
        assert found.um_per_unit == 0.2125
        with pytest.raises(ValueError, match="0.4 um as given, but 0.2125 um"):
            find_source(moved, um_per_unit=0.4)

    @pytest.mark.parametrize("px", [0.12028, 0.18, 0.2125])
    @pytest.mark.parametrize("column", ["x_local_px", "x_global_px"])
    def test_a_field_of_cosmx_in_um_beside_its_pixels(self, px, column):
        points = scene().points
        frame = pd.DataFrame({
            "x": points["x"] - X0, "y": points["y"] - Y0, "target": points["feature_name"].astype(str), "fov": 12,
            column: ((points["x"] - X0) / px).round().astype(int),
        })  # fmt: skip
        element = PointsModel.parse(frame, feature_key="target", transformations={"global": scaled(1 / px)})
        assert find_source(SpatialData(points={"F00012_points": element})).um_per_unit == 1.0
        frame["x"], frame["y"] = frame["x"] / px, frame["y"] / px
        element = PointsModel.parse(frame, feature_key="target")
        assert find_source(SpatialData(points={"F00012_points": element})).um_per_unit == pytest.approx(0.12028)

    def test_a_field_of_cosmx_in_um_with_an_image_in_pixels(self):
        points = scene().points
        frame = pd.DataFrame({
            "x": points["x"] - X0, "y": points["y"] - Y0, "target": points["feature_name"].astype(str), "fov": 12,
            "x_local_px": ((points["x"] - X0) / IMAGE_UM).round().astype(int), "global_cell_id": 0,
        })  # fmt: skip
        element = PointsModel.parse(frame, feature_key="target", transformations={"global": scaled(1 / IMAGE_UM)})
        both = np.stack([np.zeros_like(stain()), stain()])
        image = Image2DModel.parse(both, dims=("c", "y", "x"), c_coords=["Membrane", "DNA"])
        sdata = SpatialData(points={"F00012_points": element}, images={"F00012_image": image})
        found = check(sdata)
        assert found.ok
        assert found["source"]["um_per_unit"] == 1.0
        assert found["nuclei"]["um_per_px"] == pytest.approx(IMAGE_UM)

    @pytest.mark.parametrize("given", [{}, {"um_per_unit": 0.138}])
    def test_whole_pixels_of_molecular_cartography(self, given):
        sdata = in_units(0.138, more={"global": Identity(), "micron": scaled(0.138)}, image_to={
            "global": scaled(IMAGE_UM / 0.138), "micron": scaled(IMAGE_UM)
        })  # fmt: skip
        frame = sdata["spots"].compute().rename(columns={"gene": "target_name"}).assign(z=12)
        frame[["x", "y"]] = frame[["x", "y"]].round().astype(int)
        systems = get_transformation(sdata["spots"], get_all=True)
        del sdata.points["spots"]
        sdata["A2-1_points"] = PointsModel.parse(frame, feature_key="target_name", transformations=systems)
        made = segmented(sdata, **given)
        obs, expected = made["ucs_table"].obs, segmented(in_units(1.0))["ucs_table"].obs
        assert len(obs) == len(expected)
        assert obs["nucleus_area_um2"].median() == pytest.approx(expected["nucleus_area_um2"].median(), rel=0.1)

    def test_points_moved_into_the_pixels_of_an_image(self):
        px = 0.2125
        sdata = scene().sdata(points_systems={"global": scaling(1 / px)}, labels_to_um=scaling(1 / px) @ scene().to_um)
        outlines = ucs.tl.outlines(sdata, "nucleus_labels", inplace=False)["nucleus_labels_boundaries"]
        sdata["nucleus_boundaries"] = outlines
        del sdata.labels["nucleus_labels"]
        moved = sdata.transform_to_coordinate_system("global")
        found = check(moved, check_alignment=True)
        said = [*found["warnings"], *(one["message"] for one in found["problems"])]
        assert any("um_per_unit" in text and "0.2125" in text for text in said)
        assert check(moved, check_alignment=True, um_per_unit=px).ok

    def test_nuclei_beyond_the_usual_are_a_warning_with_the_unit_that_explains_them(self, caplog):
        px = 0.3  # the median nucleus of the scene is then taken for one of some 400 um2
        points = scene().points.assign(x=scene().points["x"] / px, y=scene().points["y"] / px)
        sdata = make_sdata(scene().nuclei, points, labels_to_um=scaling(1 / px) @ translation(X0, Y0))
        found = check(sdata, check_alignment=True)
        assert any("12 to 250 in most tissues" in text and "um_per_unit=" in text for text in found["warnings"])
        assert not any("most tissues" in text for text in check(sdata, um_per_unit=px)["warnings"])
