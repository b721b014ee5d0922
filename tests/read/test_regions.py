"""Regions of the tissue: what they are made of, where they lie, which nucleus belongs to which."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import scenes
import shapely
from geopandas import GeoDataFrame
from scenes import AFFINES, affine, boxes, make_sdata, scene
from spatialdata.models import ShapesModel
from spatialdata.transformations import Identity

from ucs._read.regions import find_regions, majority, read_regions, split_into_blocks
from ucs._read.sample import find_source, prepare

X0, Y0 = scenes.X0, scenes.Y0


def regions_of(sdata, regions, **options):
    source = find_source(sdata)
    rule = find_regions(sdata, source, regions)
    return read_regions(sdata, prepare(sdata, source, check_alignment=False), rule, **options)


def with_column(name="part", **values):
    """The scene whose points have a column more."""
    return scene().with_points(scene().points.assign(**{name: values["values"]})).sdata()


def with_shapes(frame, matrix=None, name="areas"):
    sdata = scene().sdata()
    transformation = Identity() if matrix is None else affine(matrix)
    sdata[name] = ShapesModel.parse(frame, transformations={"global": transformation})
    return sdata


def nuclei_by(mask):
    """The nuclei of the scene with most of their pixels in a mask (h, w)."""
    nuclei = scene().nuclei
    n = int(nuclei.max())
    inside, total = np.bincount(nuclei[mask], minlength=n + 1), np.bincount(nuclei.ravel(), minlength=n + 1)
    return 2 * inside[1:] > total[1:]


class TestBlocks:
    @pytest.mark.parametrize(
        ("shape", "side", "rows", "columns"),
        [
            ((100, 100), 100, [100], [100]),
            ((200, 300), 100, [100, 100], [100, 100, 100]),
            ((149, 150), 100, [149], [100, 50]),  # less than half a side joins the last
            ((30, 260), 100, [30], [100, 100, 60]),
            ((1, 1), 1200, [1], [1]),
        ],
    )
    def test_from_the_origin_on(self, shape, side, rows, columns):
        names, labels = split_into_blocks(shape, side)
        expected = np.arange(1, len(rows) * len(columns) + 1).reshape(len(rows), -1)
        np.testing.assert_array_equal(labels, expected.repeat(rows, axis=0).repeat(columns, axis=1))
        assert names == [f"r{i}c{j}" for i in range(len(rows)) for j in range(len(columns))]
        assert labels.dtype == np.int32

    def test_of_a_sample(self):
        regions = regions_of(scene().sdata(), 48)
        assert regions.names == ("r0c0", "r0c1", "r1c0", "r1c1")
        assert (len(regions.of_nucleus), regions.of_nucleus[0], regions.n_outside) == (32, 0, 0)
        assert regions.n_nuclei.sum() == 31
        right = nuclei_by(np.arange(96)[None, :] >= np.full((72, 1), 48))
        decided = right | nuclei_by(np.arange(96)[None, :] < np.full((72, 1), 48))
        np.testing.assert_array_equal(regions.of_nucleus[1:][decided] % 2 == 0, right[decided])

    @pytest.mark.parametrize("side", [47, 1, 0, -3])
    def test_too_small(self, side):
        sdata = scene().sdata()
        with pytest.raises(ValueError, match=rf"regions={side} is the side of blocks .* must be 48 or above"):
            find_regions(sdata, find_source(sdata), side)


class TestColumn:
    def test_transcripts_vote_in_bins(self):
        points = scene().points
        left = points["x"] < X0 + 40  # four bins of 10 um
        regions = regions_of(with_column(values=np.where(left, "a", "b")), "part")
        assert regions.names == ("a", "b")
        np.testing.assert_array_equal(regions.labels, np.broadcast_to(np.arange(96) >= 40, (72, 96)) + 1)
        assert str(regions.rule) == "points column 'part'"

    def test_the_majority_decides_and_empty_bins_follow_the_nearest(self):
        points = scene().points
        values = np.where(points["x"] < X0 + 40, "a", "b")
        values[(points.index % 9 == 0) & (points["x"] < X0 + 9)] = "c"  # a minority in the first bins
        kept = (points["x"] < X0 + 12) | (points["x"] > X0 + 61)
        kept |= points.index >= len(points) - 2
        sdata = scene().with_points(points.assign(part=values)[kept]).sdata()
        regions = regions_of(sdata, "part")
        assert regions.names == ("a", "b")  # nobody belongs to c
        assert (regions.labels[:, :20] == 1).all()
        assert (regions.labels[:, 60:] == 2).all()
        column = np.flatnonzero((regions.labels == 2).any(axis=0))[0]
        assert column in (30, 40)

    @pytest.mark.parametrize(
        "values",
        [
            lambda left: pd.Categorical(np.where(left, "2", "10"), categories=["x", "10", "2"]),
            lambda left: np.where(left, 2, 10),
            lambda left: np.where(left, 2, 10).astype(np.int8),
            lambda left: pd.array(np.where(left, "2", "10"), dtype="string"),
        ],
        ids=["categories", "integers", "small integers", "strings"],
    )
    def test_of_any_type(self, values):
        regions = regions_of(with_column(values=values(scene().points["x"] < X0 + 40)), "part")
        assert regions.names == ("2", "10")  # in the order of numbers
        np.testing.assert_array_equal(regions.labels[0], np.repeat([1, 2], [40, 56]))

    def test_transcripts_without_a_value_belong_nowhere(self):
        left = scene().points["x"] < X0 + 40
        regions = regions_of(with_column(values=np.where(left, "a", None)), "part")
        np.testing.assert_array_equal(regions.labels[0], np.repeat([1, 0], [40, 56]))
        assert regions.n_outside == 31 - regions.n_nuclei[0] > 0
        column = regions.column()
        assert column.isna().sum() == regions.n_outside
        assert list(column.categories) == ["a"]

    def test_one_value_is_everything(self):
        regions = regions_of(with_column("fov", values="only"), "fov")
        assert (regions.labels == 1).all()
        assert (regions.of_nucleus[1:] == 1).all()

    def test_partitions_and_order_have_no_say(self):
        points = scene().points.assign(part=scene().points.index // 7 % 3)
        one = regions_of(scene().with_points(points).sdata(npartitions=1), "part")
        shuffled = points.sample(frac=1, random_state=0)
        other = regions_of(scene().with_points(shuffled).sdata(npartitions=5), "part")
        assert one.names == other.names
        np.testing.assert_array_equal(one.labels, other.labels)

    def test_far_too_many_values(self):
        points = scene().points
        sdata = with_column(values=np.arange(len(points)) * 1.0)
        source = find_source(sdata)
        many = pd.concat([points.assign(part=np.arange(len(points)) + k * 10**6) for k in range(3)])
        sdata = scene().with_points(many.reset_index(drop=True)).sdata()
        with pytest.raises(ValueError, match=r"'part' has 10000 different values or more .*no column of regions"):
            read_regions(sdata, prepare(sdata, source, check_alignment=False), find_regions(sdata, source, "part"))


class TestShapes:
    def test_each_polygon_is_a_region(self):
        frame = boxes((X0, Y0, X0 + 30, Y0 + 72), (X0 + 30, Y0, X0 + 96, Y0 + 36), index=["tumour", "stroma"])
        regions = regions_of(with_shapes(frame), "areas")
        expected = np.zeros((72, 96), dtype=int)
        expected[:, :30], expected[:36, 30:] = 2, 1
        assert regions.names == ("stroma", "tumour")
        np.testing.assert_array_equal(regions.labels, expected)
        outside = nuclei_by(expected == 0)
        assert outside.any()
        assert (regions.of_nucleus[1:][outside] == 0).all()
        assert (regions.of_nucleus[1:][nuclei_by(expected == 2)] == 2).all()
        assert str(regions.rule) == "shapes 'areas'"

    def test_those_with_one_value_are_one_region(self):
        frame = boxes((X0, Y0, X0 + 30, Y0 + 72), (X0 + 30, Y0, X0 + 60, Y0 + 72), (X0 + 60, Y0, X0 + 96, Y0 + 72))
        frame["kind"] = ["t", "s", "t"]
        regions = regions_of(with_shapes(frame), ("areas", "kind"))
        assert regions.names == ("s", "t")
        np.testing.assert_array_equal(regions.labels[5], np.repeat([2, 1, 2], [30, 30, 36]))
        assert str(regions.rule) == "shapes 'areas', column 'kind'"

    def test_the_first_of_overlapping_ones_wins(self):
        frame = boxes((X0 + 20, Y0, X0 + 60, Y0 + 72), (X0, Y0, X0 + 96, Y0 + 72), index=["b", "a"])
        regions = regions_of(with_shapes(frame), "areas")
        np.testing.assert_array_equal(regions.labels[5], np.repeat([1, 2, 1], [20, 40, 36]))

    @pytest.mark.parametrize("name", ["scale", "flip", "all"])
    def test_in_coordinates_of_their_own(self, name):
        frame = boxes((X0, Y0, X0 + 30, Y0 + 72), (X0 + 30, Y0, X0 + 96, Y0 + 72))
        matrix = AFFINES[name]
        parameters = [*matrix[0, :2], *matrix[1, :2], *matrix[:2, 2]]
        moved = frame.set_geometry(frame.geometry.affine_transform(parameters))
        regions = regions_of(with_shapes(moved, np.linalg.inv(matrix)), "areas")
        np.testing.assert_array_equal(regions.labels[5], np.repeat([1, 2], [30, 66]))

    def test_circles(self):
        centres = shapely.points([[X0 + 20, Y0 + 30], [X0 + 70, Y0 + 40]])
        frame = GeoDataFrame({"geometry": centres, "radius": [15.0, 20.0]})
        regions = regions_of(with_shapes(frame), "areas")
        rows, columns = np.mgrid[:72, :96] + 0.5
        distance = np.hypot(rows - 30, columns - 20)
        assert (regions.labels[distance < 14.5] == 1).all()
        assert (regions.labels[(distance > 15.5) & (columns < 45)] == 0).all()

    def test_without_nuclei_are_left_out_with_a_warning(self, caplog):
        frame = boxes((X0, Y0, X0 + 96, Y0 + 72), (X0 + 500, Y0, X0 + 600, Y0 + 72), index=["here", "elsewhere"])
        with caplog.at_level(logging.WARNING):
            regions = regions_of(with_shapes(frame), "areas")
        assert regions.names == ("here",)
        assert (regions.labels == 1).all()
        assert "1 of 2 regions (shapes 'areas') have no nucleus and are dropped: 'elsewhere'." in caplog.text

    def test_elsewhere_altogether(self):
        sdata = with_shapes(boxes((X0 + 500, Y0, X0 + 600, Y0 + 72), index=["elsewhere"]))
        with pytest.raises(ValueError, match=r"No nucleus lies in any region \(shapes 'areas'\): 'elsewhere'"):
            regions_of(sdata, "areas")

    def test_that_are_no_polygons(self):
        frame = GeoDataFrame({"geometry": [shapely.box(0, 0, 5, 5), shapely.Polygon()]})
        sdata = with_shapes(boxes((0, 0, 5, 5), (5, 5, 9, 9)))
        sdata.shapes["areas"].geometry = frame.geometry
        with pytest.raises(ValueError, match=r"1 of 2 geometries of shapes\['areas'\] are no polygons or empty: 1"):
            regions_of(sdata, "areas")

    def test_without_a_value(self):
        frame = boxes((X0, Y0, X0 + 30, Y0 + 72), (X0 + 30, Y0, X0 + 96, Y0 + 72)).assign(kind=["t", None])
        with pytest.raises(ValueError, match=r"shapes\['areas'\] have no value in 'kind' for 1\. Fill or drop them"):
            regions_of(with_shapes(frame), ("areas", "kind"))


class TestMajority:
    def test_most_pixels_decide(self):
        nuclei = np.array([[1, 1, 1, 2, 2, 0, 3, 3, 4, 4]], dtype=np.int32)
        labels = np.array([[1, 2, 2, 2, 1, 1, 0, 2, 0, 0]], dtype=np.int32)
        # Of equals the lower region (2), and any before none (3).
        np.testing.assert_array_equal(majority(nuclei, labels, 5, 2), [0, 2, 1, 2, 0, 0])

    def test_equals_the_oracle(self):
        rng = np.random.default_rng(0)
        nuclei = rng.integers(0, 40, (2100, 7)).astype(np.int32)  # more rows than are read at once
        labels = rng.integers(0, 4, nuclei.shape).astype(np.int32)
        expected = [0]
        for c in range(1, 40):
            counts = np.bincount(labels[nuclei == c], minlength=4)
            expected.append(max(range(4), key=lambda r: (counts[r], r > 0, -r)))  # noqa: B023
        np.testing.assert_array_equal(majority(nuclei, labels, 39, 3), expected)


class TestWhatIsAsked:
    """Errors come before any data is read."""

    def ask(self, sdata, regions):
        return find_regions(sdata, find_source(sdata), regions)

    @pytest.fixture
    def sdata(self):
        sdata = with_shapes(boxes((X0, Y0, X0 + 30, Y0 + 72)).assign(kind="t"))
        points = scene().points.assign(kind="a", areas="b")
        sdata["transcripts"] = scenes.make_points(points)
        return sdata

    def test_nothing(self, sdata):
        assert self.ask(sdata, None) is None

    def test_a_name_that_is_not_there(self, sdata):
        message = r"regions='area' is not there. 'transcripts' has the columns 'x', .*; shapes are: 'areas'"
        with pytest.raises(KeyError, match=message):
            self.ask(sdata, "area")

    def test_fields_of_view_that_are_not_there(self, sdata):
        with pytest.raises(KeyError, match=r"regions='fov' is not there.*one field of view"):
            self.ask(sdata, "fov")

    def test_a_column_and_an_element(self, sdata):
        with pytest.raises(ValueError, match=r"\('transcripts', 'areas'\) for the column, \('areas', 'index'\)"):
            self.ask(sdata, "areas")
        assert str(self.ask(sdata, ("transcripts", "areas"))) == "points column 'areas'"
        assert str(self.ask(sdata, ("areas", "index"))) == "shapes 'areas'"

    def test_a_pair(self, sdata):
        assert self.ask(sdata, ("areas", "kind")) == self.ask(sdata, ["areas", "kind"])
        assert str(self.ask(sdata, ("transcripts", "kind"))) == "points column 'kind'"
        with pytest.raises(KeyError, match="'nuclei' is neither the transcripts .* nor among the shapes"):
            self.ask(sdata, ("nuclei", "kind"))
        with pytest.raises(KeyError, match="'areas' has no column 'sort', but 'geometry', 'kind'"):
            self.ask(sdata, ("areas", "sort"))

    @pytest.mark.parametrize("column", ["x", "y", "feature_name"])
    def test_a_column_that_says_something_else(self, sdata, column):
        with pytest.raises(ValueError, match=f"regions='{column}' is a column of positions or genes"):
            self.ask(sdata, column)

    @pytest.mark.parametrize("regions", [True, 1200.0, ["a"], ("a", 3), {"a": 1}])
    def test_something_else(self, sdata, regions):
        with pytest.raises(TypeError, match="must be None, the side of blocks in pixels, 'fov', a column"):
            self.ask(sdata, regions)


def test_pairs_of_nuclei_and_polygons_far_apart_need_a_shared_system():
    sdata = make_sdata(scene().nuclei, scene().points, labels_to_um=scene().to_um)
    frame = boxes((X0, Y0, X0 + 30, Y0 + 72))
    sdata["areas"] = ShapesModel.parse(frame, transformations={"elsewhere": Identity()})
    with pytest.raises(ValueError, match="share no coordinate system"):
        regions_of(sdata, "areas")
