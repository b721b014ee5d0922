from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import shapely
from geopandas import GeoDataFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import AFFINES, affine, boxes, make_sdata, rotation, scaling, scene, shear, translation
from spatialdata.models import Labels2DModel, Labels3DModel, ShapesModel
from spatialdata.transformations import Identity, set_transformation
from xarray import DataTree

from ucs._read.grid import Grid
from ucs._read.nuclei import onto_grid as _nuclei
from ucs._read.nuclei.onto_grid import read_nuclei
from ucs._utils.elements import downsampling
from ucs._utils.transformations import transformation_matrix

POINTS = pd.DataFrame({"x": [0.5, 1.5], "y": [0.5, 2.5], "feature_name": pd.Categorical(["A", "B"])})
SQUARES = np.zeros((12, 16), dtype=np.int32)
SQUARES[2:5, 3:7] = 1
SQUARES[6:11, 8:15] = 2
SQUARES[0:2, 0:2] = 3
GRID = Grid(0, 0, SQUARES.shape, 1.0)


def sdata_of(nuclei, labels_to_um=None, **options):
    return make_sdata(nuclei, POINTS, labels_to_um=labels_to_um, **options)


def read(sdata, grid=GRID, **options):
    key = "nucleus_labels" if "nucleus_labels" in sdata else "nucleus_boundaries"
    to_points = transformation_matrix(sdata, key, "transcripts", **options)
    return read_nuclei(sdata, key, to_points, grid, points_key="transcripts")


class TestCentres:
    """Which pixel a shift by about half a pixel hits: worked out by hand, from centres at +0.5."""

    @pytest.mark.parametrize(("shift", "moved"), [(-0.51, -1), (-0.49, 0), (0.0, 0), (0.49, 0), (0.51, 1)])
    @pytest.mark.parametrize("axis", [0, 1])
    def test_labels(self, axis, shift, moved):
        by = (0.0, shift) if axis == 0 else (shift, 0.0)
        nuclei = read(sdata_of(SQUARES[:, :], translation(*by)))
        expected = np.zeros_like(SQUARES)
        expected[1:-1, 1:-1] = np.roll(SQUARES, moved, axis=axis)[1:-1, 1:-1]
        np.testing.assert_array_equal(nuclei.labels[1:-1, 1:-1], expected[1:-1, 1:-1])

    @pytest.mark.parametrize(("shift", "moved"), [(-0.51, -1), (-0.49, 0), (0.0, 0), (0.49, 0), (0.51, 1)])
    @pytest.mark.parametrize("axis", [0, 1])
    def test_polygons(self, axis, shift, moved):
        by = (0.0, shift) if axis == 0 else (shift, 0.0)
        nuclei = read(sdata_of(boxes((3, 2, 7, 5), (8, 6, 15, 11), index=[1, 2]), translation(*by)))
        expected = np.roll(np.where(SQUARES == 3, 0, SQUARES), moved, axis=axis)
        np.testing.assert_array_equal(nuclei.labels, expected)

    def test_exactly_half_a_pixel_goes_to_the_pixel_that_begins_there(self):
        later = read(sdata_of(SQUARES, translation(0.5, 0.5))).labels
        np.testing.assert_array_equal(later, SQUARES)
        earlier = read(sdata_of(SQUARES, translation(-0.5, -0.5))).labels
        np.testing.assert_array_equal(earlier[:-1, :-1], SQUARES[1:, 1:])


@pytest.mark.parametrize("name", AFFINES)
def test_polygons_and_labels_agree_through_any_affine(name):
    to_um = AFFINES[name] @ translation(3, -2)
    of_labels = read(sdata_of(SQUARES, np.eye(3), um_to_global=AFFINES[name])).labels
    np.testing.assert_array_equal(of_labels, SQUARES)
    # The same squares in a frame of their own, which lies in um as `to_um` says.
    back = np.linalg.inv(to_um)
    squares = boxes((3, 2, 7, 5), (8, 6, 15, 11), (0, 0, 2, 2), index=[1, 2, 3])
    squares["geometry"] = shapely.transform(squares.geometry.to_numpy(), lambda xy: xy @ back[:2, :2].T + back[:2, 2])
    np.testing.assert_array_equal(read(sdata_of(squares, to_um)).labels, SQUARES)


@settings(max_examples=25)
@given(
    angle=st.floats(0, 360),
    k=st.floats(-0.5, 0.5),
    scale=st.floats(0.3, 3),
    dx=st.floats(-5, 5),
    dy=st.floats(-5, 5),
    flip=st.booleans(),
)
def test_labels_are_looked_up_at_the_centres_of_the_grid(angle, k, scale, dx, dy, flip):
    to_um = translation(dx, dy) @ rotation(angle) @ shear(k) @ scaling(scale, -scale if flip else scale)
    grid = Grid(-3, 2, (7, 9), 1.5)
    i, j = np.mgrid[:7, :9]
    centres = np.stack([(j + 0.5 - 3) * 1.5, (i + 0.5 + 2) * 1.5, np.ones((7, 9))]).reshape(3, -1)
    x, y, _ = np.linalg.inv(to_um) @ centres
    column, row = np.floor(x + 1e-6).astype(int), np.floor(y + 1e-6).astype(int)
    inside = (row >= 0) & (row < SQUARES.shape[0]) & (column >= 0) & (column < SQUARES.shape[1])
    expected = np.zeros(63, dtype=int)
    expected[inside] = SQUARES[row[inside], column[inside]]
    if not expected.any():
        with pytest.raises(ValueError, match="No nucleus"):
            read(sdata_of(SQUARES, to_um), grid)
        return
    nuclei = read(sdata_of(SQUARES, to_um), grid)
    np.testing.assert_array_equal(np.concatenate([[0], nuclei.ids])[nuclei.labels].ravel(), expected)


class TestIds:
    @pytest.mark.parametrize(
        ("dtype", "ids"),
        [
            (np.uint8, [7, 200, 255]),
            (np.int16, [7, 300, 32767]),
            (np.uint32, [3, 2**31 + 5, 2**32 - 1]),
            (np.int64, [1, 2**31, 2**62]),
            (np.uint64, [1, 2**63, 2**64 - 1]),
        ],
    )
    def test_labels_keep_theirs(self, dtype, ids):
        nuclei = read(sdata_of(np.array([0, *ids], dtype=dtype)[SQUARES]))
        np.testing.assert_array_equal(nuclei.labels, SQUARES)
        assert nuclei.labels.dtype == np.int32
        assert nuclei.ids.dtype == dtype
        assert nuclei.ids.tolist() == ids

    @given(st.lists(st.integers(1, 2**64 - 1), min_size=3, max_size=3, unique=True))
    def test_of_labels_may_be_anything_above_zero(self, ids):
        nuclei = read(sdata_of(np.array([0, *ids], dtype=np.uint64)[SQUARES]))
        assert nuclei.ids.tolist() == sorted(ids)
        back = np.array([0, *nuclei.ids.tolist()], dtype=np.uint64)[nuclei.labels]
        np.testing.assert_array_equal(back, np.array([0, *ids], dtype=np.uint64)[SQUARES])

    @pytest.mark.parametrize("index", [["b-1", "c-1", "a-1"], [5, 2**40, 0], np.array([5, 2**63, 1], dtype=np.uint64)])
    def test_shapes_keep_theirs_in_ascending_order(self, index):
        nuclei = read(sdata_of(boxes((3, 2, 7, 5), (8, 6, 15, 11), (0, 0, 2, 2), index=index)))
        assert nuclei.ids.tolist() == sorted(np.asarray(index).tolist())
        rank = np.argsort(np.argsort(index)) + 1
        np.testing.assert_array_equal(nuclei.labels, np.concatenate([[0], rank])[SQUARES])

    def test_the_order_of_shapes_has_no_say(self):
        squares = boxes((1, 1, 9, 9), (4, 4, 12, 12), (2, 8, 6, 11), index=["c", "a", "b"])  # they overlap
        expected = read(sdata_of(squares))
        for order in ([2, 1, 0], [1, 2, 0]):
            squares.attrs = {}
            nuclei = read(sdata_of(squares.iloc[order]))
            np.testing.assert_array_equal(nuclei.labels, expected.labels)
            assert nuclei.ids.tolist() == expected.ids.tolist()

    def test_repeated_ids_are_an_error(self):
        with pytest.raises(ValueError, match=r"nucleus_boundaries'\] has 1 ids that occur more than once \(4\)"):
            read(sdata_of(boxes((3, 2, 7, 5), (8, 6, 15, 11), index=[4, 4])))

    def test_negative_ids_are_an_error(self):
        with pytest.raises(ValueError, match=r"negative ids \(-4\)"):
            read(sdata_of(boxes((3, 2, 7, 5), (8, 6, 15, 11), index=[4, -4])))
        with pytest.raises(ValueError, match=r"The labels have negative ids \(lowest -2\)"):
            read(sdata_of(np.where(SQUARES == 2, -2, SQUARES)))


class TestMultiscale:
    @pytest.fixture
    def fine(self):
        """Eight pixels per um."""
        return np.kron(SQUARES, np.ones((8, 8), dtype=np.int32))

    def test_the_same_as_the_finest_level(self, fine):
        tree = sdata_of(fine, scaling(1 / 8), labels_options={"scale_factors": [2, 2, 2]})
        assert isinstance(tree["nucleus_labels"], DataTree)
        np.testing.assert_array_equal(read(tree).labels, SQUARES)

    @pytest.mark.parametrize(("um_per_px", "level"), [(0.1, 0), (0.25, 0), (0.5, 1), (0.9, 1), (1.0, 2), (4.0, 3)])
    def test_the_coarsest_level_with_two_pixels_per_pixel_of_the_grid_is_read(self, fine, um_per_px, level):
        sdata = sdata_of(fine, scaling(1 / 8), labels_options={"scale_factors": [2, 2, 2]})
        element = sdata["nucleus_labels"]
        to_labels = scaling(8) @ scaling(um_per_px)
        chosen, matrix = _nuclei.choose_level(element, to_labels, "labels")
        assert chosen.shape == next(iter(element[f"scale{level}"].values())).shape
        np.testing.assert_allclose(matrix, scaling(8 * um_per_px / 2**level))

    def test_an_incomplete_last_pixel_does_not_stretch_a_level(self, fine):
        """Its pixels are two of the finest, although the ratio of the sizes is a little more than that."""
        tree = Labels2DModel.parse(fine[:-3, :-1], dims=("y", "x"), scale_factors=[2])
        chosen, matrix = _nuclei.choose_level(tree, scaling(5), "labels")
        np.testing.assert_array_equal(matrix, scaling(5 / 2))
        row, column = np.indices(chosen.shape)
        np.testing.assert_array_equal(chosen, fine[2 * row + 1, 2 * column + 1])

    @pytest.mark.parametrize(("full", "size", "factor"), [(175, 87, 2), (175, 88, 2), (174, 87, 2), (100, 40, 2.5)])
    def test_factor_of_a_level(self, full, size, factor):
        assert downsampling(full, size) == factor


class TestPlaces:
    def test_global_is_taken_before_other_shared_systems(self):
        systems = {"aligned": np.eye(3), "global": np.eye(3)}
        sdata = sdata_of(SQUARES, points_systems=systems, nuclei_systems={**systems, "aligned": translation(4, 0)})
        np.testing.assert_array_equal(read(sdata).labels, SQUARES)
        moved = read(sdata, coordinate_system="aligned").labels
        np.testing.assert_array_equal(moved[:, 4:], SQUARES[:, :-4])

    def test_any_shared_system_does(self):
        sdata = sdata_of(
            SQUARES,
            points_systems={"slide": scaling(3), "a": np.eye(3)},
            nuclei_systems={"slide": scaling(3), "b": scaling(2)},
        )
        np.testing.assert_array_equal(read(sdata).labels, SQUARES)

    def test_a_third_element_connects(self):
        sdata = sdata_of(SQUARES, points_systems={"a": scaling(2)}, nuclei_systems={"b": translation(2, 1)})
        sdata["image"] = Labels2DModel.parse(np.ones((4, 4), int), dims=("y", "x"))
        set_transformation(sdata["image"], {"a": affine(scaling(2)), "b": affine(translation(2, 1))}, set_all=True)
        np.testing.assert_array_equal(read(sdata).labels, SQUARES)

    def test_no_connection_is_an_error_that_lists_both(self):
        sdata = sdata_of(SQUARES, points_systems={"a": np.eye(3)}, nuclei_systems={"b": np.eye(3)})
        with pytest.raises(ValueError, match=r"no path .*: 'nucleus_labels' is in 'b', 'transcripts' in 'a'"):
            read(sdata)

    def test_a_system_that_one_of_them_is_not_in_is_an_error(self):
        sdata = sdata_of(SQUARES, points_systems={"a": np.eye(3), "c": np.eye(3)}, nuclei_systems={"a": np.eye(3)})
        with pytest.raises(ValueError, match=r"coordinate_system='c' is not one of both elements"):
            read(sdata, coordinate_system="c")

    def test_a_degenerate_transformation_is_an_error(self):
        sdata = sdata_of(SQUARES, points_systems={"global": scaling(1, 0)})
        with pytest.raises(ValueError, match=r"transformation of 'transcripts' to 'global' cannot be inverted"):
            transformation_matrix(sdata, "nucleus_labels", "transcripts")

    def test_the_matrix_leads_from_one_to_the_other(self):
        of_points, of_labels = AFFINES["all"], AFFINES["shear"] @ scaling(0.2)
        sdata = sdata_of(SQUARES, points_systems={"global": of_points}, nuclei_systems={"global": of_labels})
        matrix = transformation_matrix(sdata, "nucleus_labels", "transcripts")
        np.testing.assert_allclose(of_points @ matrix, of_labels, atol=1e-9)


class TestLeftOut:
    def test_nothing_on_the_grid_is_an_error_that_says_where_the_grid_is(self):
        with pytest.raises(ValueError, match=r"No nucleus of 'nucleus_labels' lies where .*\[0, 16\], \[0, 12\]"):
            read(sdata_of(SQUARES, translation(100, 0)))
        with pytest.raises(ValueError, match=r"No nucleus of 'nucleus_boundaries' lies where"):
            read(sdata_of(boxes((30, 20, 70, 50))))
        with pytest.raises(ValueError, match=r"No nucleus of 'nucleus_labels' lies where"):
            read(sdata_of(np.zeros_like(SQUARES)))

    def test_labels_without_a_pixel_are_named(self, caplog):
        fine = np.kron(SQUARES, np.ones((5, 5), dtype=np.int32))
        fine[30, 30], fine[40, 41] = 77, 88  # not at the centre of a pixel of the grid
        nuclei = read(sdata_of(fine, scaling(0.2)))
        np.testing.assert_array_equal(nuclei.ids, [1, 2, 3])
        assert "labels['nucleus_labels']: 2 nuclei have no pixel" in caplog.text
        assert "77, 88" in caplog.text

    def test_labels_beyond_a_rotated_grid_are_not_named(self, caplog):
        wide = np.zeros((60, 60), dtype=np.int32)
        wide[25:35, 25:35] = 1
        wide[0, 0] = wide[59, 59] = wide[0, 59] = 2
        nuclei = read(sdata_of(wide, translation(8, 6) @ rotation(45) @ translation(-30, -30)))
        assert nuclei.ids.tolist() == [1]
        assert "no pixel" not in caplog.text

    def test_polygons_without_a_pixel_are_named(self, caplog):
        squares = boxes((3, 2, 7, 5), (9.6, 9.6, 10.4, 10.4), (3.2, 2.2, 6, 4), (50, 50, 60, 60), index=list("abcd"))
        nuclei = read(sdata_of(squares))
        assert nuclei.ids.tolist() == ["a"]
        assert nuclei.n_outside == 1
        assert "shapes['nucleus_boundaries']: 2 nuclei have no pixel" in caplog.text
        assert "'b', 'c'" in caplog.text

    def test_other_geometries_are_named(self, caplog):
        frame = GeoDataFrame(
            {"geometry": [shapely.box(3, 2, 7, 5), shapely.LineString([(0, 0), (3, 3)]), shapely.Polygon()]},
            index=["a", "line", "empty"],
        )
        nuclei = read(sdata_of(frame))
        assert nuclei.ids.tolist() == ["a"]
        assert "2 geometries are not polygons and are dropped: 'empty', 'line'" in caplog.text


class TestGeometries:
    def test_holes_and_parts(self):
        ring = shapely.box(2, 2, 9, 9).difference(shapely.box(4, 4, 6, 6))
        parts = shapely.MultiPolygon([shapely.box(10, 0, 12, 2), shapely.box(13, 8, 16, 12)])
        nuclei = read(sdata_of(GeoDataFrame({"geometry": [ring, parts]}, index=[1, 2])))
        expected = np.zeros_like(SQUARES)
        expected[2:9, 2:9] = 1
        expected[4:6, 4:6] = 0
        expected[0:2, 10:12] = expected[8:12, 13:16] = 2
        np.testing.assert_array_equal(nuclei.labels, expected)

    def test_circles(self):
        frame = GeoDataFrame({"geometry": [shapely.Point(8, 6)], "radius": [3.0]}, index=[9])
        nuclei = read(sdata_of(frame))
        i, j = np.mgrid[:12, :16]
        np.testing.assert_array_equal(nuclei.labels, (np.hypot(j + 0.5 - 8, i + 0.5 - 6) < 3).astype(int))

    def test_a_radius_of_polygons_is_not_added(self):
        squares = boxes((3, 2, 7, 5), (8, 6, 15, 11), (0, 0, 2, 2), index=[1, 2, 3]).assign(radius=2.5)
        np.testing.assert_array_equal(read(sdata_of(squares)).labels, SQUARES)

    def test_z_is_dropped(self):
        flat = boxes((3, 2, 7, 5), (8, 6, 15, 11), (0, 0, 2, 2), index=[1, 2, 3])
        sdata = sdata_of(flat)
        flat.attrs = {}
        raised = flat.assign(geometry=shapely.force_3d(flat.geometry.to_numpy(), 7.0))
        with pytest.warns(UserWarning, match="3 dimensions"):
            sdata["nucleus_boundaries"] = ShapesModel.parse(raised, transformations={"global": Identity()})
        np.testing.assert_array_equal(read(sdata).labels, SQUARES)

    def test_three_dimensional_labels_are_an_error(self):
        sdata = sdata_of(SQUARES)
        sdata["volume"] = Labels3DModel.parse(np.stack([SQUARES, SQUARES]), dims=("z", "y", "x"))
        with pytest.raises(ValueError, match=r"labels\['volume'\] must be a 2D raster of whole numbers, not 3D int32"):
            read_nuclei(sdata, "volume", np.eye(3), GRID, points_key="transcripts")


def test_labels_are_read_in_parts_and_only_where_the_grid_is(monkeypatch):
    """A mask of a slide, of which the grid covers a corner."""
    read_shapes = []

    def part(block_info=None):
        (rows, columns) = block_info[None]["array-location"]
        read_shapes.append((rows, columns))
        assert rows[0] < 64, "read what lies far below the grid"
        assert columns[0] < 64, "read what lies far to the right of the grid"
        out = np.zeros((64, 64), dtype=np.int32)
        out[: SQUARES.shape[0], : SQUARES.shape[1]] = SQUARES
        return out

    huge = da.map_blocks(part, chunks=((64,) * 200, (64,) * 200), dtype=np.int32, meta=np.empty((0, 0), np.int32))
    sdata = sdata_of(SQUARES)
    del sdata["nucleus_labels"]
    sdata["nucleus_labels"] = Labels2DModel.parse(huge, dims=("y", "x"))
    read_shapes.clear()
    np.testing.assert_array_equal(read(sdata).labels, SQUARES)
    assert len(read_shapes) == 1


def test_strips_have_no_say(monkeypatch):
    world = scene()
    grid = Grid(-37, -13, (72, 96), 1.0)
    whole = read(world.sdata(), grid)
    monkeypatch.setattr(_nuclei, "_READ_ROWS", 7)
    strips = read(world.sdata(), grid)
    np.testing.assert_array_equal(strips.labels, whole.labels)
    np.testing.assert_array_equal(strips.labels, world.nuclei)
