"""What fields of view cover, which of them a place belongs to, and their nuclei on one grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fields import cut_fields, same_up_to_ids
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import affine, boxes, rotation, scene, translation
from spatialdata.models import ShapesModel
from spatialdata.transformations import Identity, get_transformation, set_transformation

from ucs._read.fields import Field, Fields, most_frequent
from ucs._read.grid import Grid
from ucs._read.sample import find_source, prepare

COSMX = {"platform": "cosmx", "um_per_unit": 1.0, "resolution": 1.0}
HALVES = [(0, 0, 48, 72), (48, 0, 96, 72)]
QUARTERS = [(0, 0, 41, 30), (41, 0, 96, 30), (0, 30, 41, 72), (41, 30, 96, 72)]
OVERLAPPING = [(0, 0, 45, 34), (39, 0, 96, 34), (0, 26, 45, 72), (39, 26, 96, 72)]


def of(*boxes, matrix=None):
    return Fields(tuple(Field(box, np.eye(3) if matrix is None else np.linalg.inv(matrix)) for box in boxes))


def sample_of(sdata, **options):
    return prepare(sdata, find_source(sdata, **COSMX), check_alignment=False, **options)


class TestOwner:
    def test_an_overlap_is_shared_in_halves(self):
        fields = of((0, 0, 10, 8), (6, 0, 16, 8))
        x, y = np.array([1.0, 6.5, 7.9, 8.0, 8.1, 9.5, 15]), np.full(7, 3.0)
        assert fields.owner(0).owns(x, y)[:6].tolist() == [True, True, True, True, False, False]
        assert fields.owner(1).owns(x, y)[1:].tolist() == [False, False, False, True, True, True]

    def test_what_lies_on_a_common_border_stays_with_the_field_that_saw_it(self):
        fields = of((0, 0, 10, 8), (10, 0, 20, 8))
        assert all(fields.owner(k).owns(np.array([10.0]), np.array([3.0])).all() for k in (0, 1))

    def test_what_a_field_saw_beyond_its_border_goes_to_the_field_it_lies_in(self):
        fields = of((0, 0, 10, 8), (10, 0, 20, 8))
        x, y = np.array([10.5, -0.5, 5.0]), np.array([3.0, 3.0, 8.5])
        assert fields.owner(0).owns(x, y).tolist() == [False, True, True]

    @settings(max_examples=30)
    @given(
        x0=st.integers(0, 30),
        y0=st.integers(0, 30),
        w=st.integers(5, 20),
        h=st.integers(5, 20),
        degrees=st.floats(0, 360),
    )
    def test_every_place_in_an_overlap_has_exactly_one_owner(self, x0, y0, w, h, degrees):
        matrix = rotation(degrees)
        fields = of((0, 0, 20, 20), (x0, y0, x0 + w, y0 + h), (5, 12, 30, 28), matrix=matrix)
        rng = np.random.default_rng(x0 + 31 * y0)
        inside = rng.uniform(0, 40, (2, 500))
        x, y = matrix[:2, :2] @ inside
        seen = np.stack([field.depth(x, y) > 0 for field in fields.fields])
        owned = np.stack([fields.owner(k).owns(x, y) & seen[k] for k in range(3)])
        np.testing.assert_array_equal(owned.sum(axis=0), seen.any(axis=0))


class TestRaster:
    def test_pixels_belong_to_the_field_of_their_centre_or_the_nearest_within_a_pixel(self):
        grid = Grid(-2, -1, (6, 14), 1.0)
        fov = of((0, 0, 4.2, 3), (4.7, 0, 9, 3)).raster(grid)
        assert fov[2].tolist() == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0, 0]
        assert fov[:, 3].tolist() == [1, 1, 1, 1, 1, 0]

    def test_it_agrees_with_the_owner_of_the_centres(self):
        grid = Grid(0, 0, (40, 50), 1.0)
        fields = of((3, 2, 30, 25), (20, 0, 48, 21), (11, 15, 40, 38))
        fov = fields.raster(grid)
        y, x = np.indices(grid.shape) + 0.5
        for k, field in enumerate(fields.fields):
            inside = field.depth(x.ravel(), y.ravel()).reshape(grid.shape) > 0
            owned = fields.owner(k).owns(x.ravel(), y.ravel()).reshape(grid.shape)
            np.testing.assert_array_equal((fov == k + 1)[inside], owned[inside])


def test_the_most_frequent_value_of_each_label():
    labels = np.array([[1, 1, 1, 2, 2, 0], [3, 3, 4, 4, 5, 0]])
    values = np.array([[2, 2, 1, 2, 1, 1], [0, 0, 0, 3, 0, 1]])
    assert most_frequent(labels, values, 6).tolist() == [2, 1, 0, 3, 0, 0]


class TestNuclei:
    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("windows", [HALVES, QUARTERS, OVERLAPPING], ids=["halves", "quarters", "overlapping"])
    def test_they_are_those_of_the_whole_tissue(self, windows, flip):
        sample = sample_of(cut_fields(scene(), windows, flip=flip))
        np.testing.assert_array_equal(sample.nuclei.labels > 0, scene().nuclei > 0)
        assert same_up_to_ids(sample.nuclei.labels, scene().nuclei) == 1
        assert sample.fov.shape == sample.nuclei.labels.shape
        assert sample.fov_names == tuple(str(k + 2) for k in range(len(windows)))
        for k, fov in enumerate(sample.fov_of_nuclei(), start=1):
            most = np.bincount(sample.fov[sample.nuclei.labels == k]).argmax()
            assert fov == most
            assert sample.nuclei.ids[k - 1].startswith(f"{sample.fov_names[fov - 1]}_")

    def test_a_gap_thinner_than_a_pixel_is_closed(self):
        """The right half lies 0.7 um farther on, so that the centres of a column of pixels are in no field."""
        sdata = cut_fields(scene(), HALVES, flip=False)
        moved = cut_fields(scene(), HALVES, flip=False, to_global=translation(0.7, 0))
        together = sdata.subset(["2_points", "2_nuclei"])
        for key in ("3_points", "3_nuclei"):
            together[key] = moved[key]
        sample = sample_of(together)
        whole = sample_of(sdata)
        assert len(sample.nuclei.ids) == len(whole.nuclei.ids) == len(np.unique(scene().nuclei)) - 1

    def test_polygons_will_do_too(self):
        sdata = cut_fields(scene(), HALVES, flip=False)
        for fov, polygons in (
            ("2", boxes((10, 4, 18, 12), (42, 30, 48, 40))),
            ("3", boxes((20, 4, 28, 12), (0, 30, 5, 40))),
        ):
            transformations = get_transformation(sdata[f"{fov}_points"], get_all=True)
            del sdata[f"{fov}_nuclei"]
            sdata[f"{fov}_nuclei"] = ShapesModel.parse(polygons, transformations=transformations)
        sample = sample_of(sdata)
        assert len(sample.nuclei.ids) == 3
        assert len(np.unique(sample.nuclei.labels[31:39, 42:53])) == 1  # the two halves that meet at 48

    def test_fields_without_nuclei_are_named(self):
        empty = scene().nuclei.copy()
        empty[:, 48:] = 0
        sdata = cut_fields(replace(scene(), nuclei=empty), HALVES)
        with pytest.raises(ValueError, match=r"1 of 2 fields of view have no nuclei .*: '3'.*points_key=\[\.\.\.\]"):
            sample_of(sdata)
        assert len(sample_of(sdata.subset(["2_points", "2_nuclei"])).nuclei.ids) > 3

    def test_fields_without_an_element_of_nuclei_are_named(self):
        sdata = cut_fields(scene(), QUARTERS)
        del sdata["4_nuclei"]
        with pytest.raises(KeyError, match=r"for 3 of 4 fields of view, not for '4'.*points_key=\['2_points', '3_poi"):
            sample_of(sdata)

    def test_one_element_may_hold_the_nuclei_of_all_fields(self):
        sdata = cut_fields(scene(), QUARTERS)
        whole = scene().sdata()["nucleus_labels"]
        sdata = sdata.subset([f"{k}_points" for k in (2, 3, 4, 5)])
        sdata["nuclei"] = whole
        sample = sample_of(sdata)
        assert same_up_to_ids(sample.nuclei.labels, scene().nuclei) == 1
        assert set(sample.fov_of_nuclei()) == {1, 2, 3, 4}


class TestTranscripts:
    @pytest.mark.parametrize("windows", [HALVES, QUARTERS, OVERLAPPING], ids=["halves", "quarters", "overlapping"])
    def test_each_is_counted_once(self, windows):
        sample, whole = (
            sample_of(cut_fields(scene(), windows)),
            prepare(scene().sdata(), find_source(scene().sdata()), check_alignment=False),
        )
        for name in ("row_start", "column", "feature", "count"):
            np.testing.assert_array_equal(getattr(sample.transcripts.map, name), getattr(whole.transcripts.map, name))
        assert sample.transcripts.grid == whole.transcripts.grid
        twice = sample.transcripts.n_rows - len(scene().points)
        assert sample.transcripts.n_seen_twice == twice
        assert (twice > 0) == (windows is OVERLAPPING)

    def test_a_field_of_its_own_keeps_its_own_coordinates(self):
        sdata = cut_fields(scene(), HALVES, flip=True)
        sample = prepare(sdata, find_source(sdata, ["3_points"], **COSMX), check_alignment=False)
        assert (sample.fov, sample.fields, sample.source.system) == (None, None, None)
        assert sample.transcripts.grid.origin == (0, 0)
        assert sample.fov_names == ("3",)


class TestBadInput:
    def test_fields_of_different_units(self):
        sdata = cut_fields(scene(), QUARTERS)
        other = cut_fields(scene(), QUARTERS, to_global=np.diag([1.5, 1.5, 1]))
        sdata["4_points"] = other["4_points"]
        with pytest.raises(ValueError, match=r"do not have the same unit in 'global'.*'4_points': 1\.5 x 1\.5"):
            find_source(sdata, **COSMX)

    def test_fields_that_share_no_coordinate_system(self):
        sdata = cut_fields(scene(), HALVES)
        set_transformation(sdata["3_points"], {"elsewhere": Identity()}, set_all=True)
        with pytest.raises(ValueError, match=r"'2_points', '3_points' share no coordinate system"):
            find_source(sdata, **COSMX)
        with pytest.raises(ValueError, match=r"coordinate_system='here' is not one of all the elements"):
            find_source(cut_fields(scene(), HALVES), coordinate_system="here", **COSMX)

    def test_a_field_whose_transformation_is_broken(self):
        sdata = cut_fields(scene(), HALVES)
        set_transformation(sdata["3_points"], affine(np.diag([0.0, 0.0, 1.0])), "global")
        with pytest.raises(ValueError, match=r"'3_points' to 'global' cannot be inverted"):
            find_source(sdata, **COSMX)

    @pytest.mark.parametrize(
        ("points_key", "error", "message"),
        [
            (["2_points", "7_points"], KeyError, r"points_key='7_points' is not in this SpatialData"),
            (["2_points", "2_points"], ValueError, r"must name at least one element, and none twice"),
            ([], ValueError, r"must name at least one element"),
            ("{fov}_spots", KeyError, r"points_key='{fov}_spots' fits no points element"),
        ],
    )
    def test_keys(self, points_key, error, message):
        with pytest.raises(error, match=message):
            find_source(cut_fields(scene(), HALVES), points_key, **COSMX)

    def test_a_template_names_them_all(self):
        source = find_source(cut_fields(scene(), QUARTERS), "{fov}_points", **COSMX)
        assert [part.name for part in source.elements] == ["2", "3", "4", "5"]
