"""Outlines of anybody's labels."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import spatialdata as sd
import zarr
from calls import segment
from helpers import cheap_copy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasters import random_nuclei
from scenes import AFFINES, TINY, affine, make_sdata, rotation, scaling, scene, translation
from spatialdata.models import Labels2DModel, ShapesModel
from spatialdata.transformations import get_transformation, set_transformation

import ucs
from ucs._kernels.labels.measure import measure
from ucs._results.outlines import polygon_frame

pytestmark = pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format")


def outlines_of(labels, **options):
    return ucs.tl.outlines(make_sdata(labels, scene().points), "nucleus_labels", inplace=False, **options)[
        "nucleus_labels_boundaries"
    ]


def filled(shapes, shape):
    """Labels whose pixel centres the polygons hold, one pixel at a time."""
    i, j = np.mgrid[: shape[0], : shape[1]]
    out = np.zeros(shape, dtype=shapes.index.dtype)
    for k, polygon in shapes.geometry.items():
        inside = shapely.contains_xy(polygon, j + 0.5, i + 0.5)
        assert (out[inside] == 0).all()
        out[inside] = k
    return out


@given(arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)))
def test_any_labels_come_back_when_their_outlines_are_filled(labels):
    if not labels.any():
        with pytest.raises(ValueError, match="background only"):
            outlines_of(labels)
        return
    shapes = outlines_of(labels)
    ShapesModel.validate(shapes)
    assert shapely.is_valid(shapes.geometry.to_numpy()).all()
    np.testing.assert_array_equal(shapes.index, np.unique(labels[labels > 0]))
    np.testing.assert_array_equal(filled(shapes, labels.shape), labels)
    np.testing.assert_allclose(shapes.area, np.bincount(labels.ravel())[shapes.index])


def test_vendors_cells(breast):
    labels = np.asarray(breast["cell_labels"]["scale0"]["image"])
    assert ucs.tl.outlines(breast, "cell_labels") is None
    shapes = breast["cell_labels_boundaries"]
    ShapesModel.validate(shapes)
    assert shapely.is_valid(shapes.geometry.to_numpy()).all()
    np.testing.assert_array_equal(shapes.index, np.unique(labels[labels > 0]))
    np.testing.assert_allclose(shapes.area, np.bincount(labels.ravel())[shapes.index])
    assert shapely.union_all(shapes.geometry.to_numpy()).area == pytest.approx((labels > 0).sum())
    # The vendor's polygons, which are in um, lie on them, where the crop has not cut them off.
    ours, vendors = (
        sd.transform(breast[key], to_coordinate_system="global").geometry
        for key in ("cell_labels_boundaries", "cell_boundaries")
    )
    both = vendors[vendors.within(shapely.box(*ours.total_bounds))]
    assert len(both) > 100
    overlap = both.intersection(ours[both.index]).area / both.union(ours[both.index]).area
    assert overlap.median() > 0.92


def test_ours_are_those_of_the_segmentation(cells):
    again = ucs.tl.outlines(cells, "ucs_cells", inplace=False)["ucs_cells_boundaries"]
    ours = cells["ucs_boundaries"]
    np.testing.assert_array_equal(again.index, ours.index)
    moved = shapely.transform(again.geometry.to_numpy(), lambda xy: xy + [-37, -13])
    assert shapely.equals_identical(moved, ours.geometry.to_numpy()).all()


@pytest.mark.parametrize("name", AFFINES)
def test_they_carry_the_transformations_of_the_labels(name):
    sdata = scene().sdata(nuclei_systems={"global": AFFINES[name], "other": np.eye(3)})
    shapes = ucs.tl.outlines(sdata, "nucleus_labels", inplace=False)["nucleus_labels_boundaries"]
    transformations = get_transformation(shapes, get_all=True)
    assert set(transformations) == {"global", "other"}
    np.testing.assert_allclose(transformations["global"].to_affine_matrix(("x", "y"), ("x", "y")), AFFINES[name])
    whole = sd.transform(shapes, to_coordinate_system="global")
    det = abs(np.linalg.det(AFFINES[name][:2, :2]))
    np.testing.assert_allclose(whole.area, shapes.area * det)


@pytest.mark.parametrize("ids", [[2**40, 5, 7], [300, 5, 7]])
def test_the_index_is_the_id(ids):
    labels = np.array([0, *ids])[np.array([[1, 1, 0], [0, 2, 3]])]
    assert outlines_of(labels).index.tolist() == sorted(ids)


def test_parts_and_holes():
    labels = np.zeros((7, 7), dtype=np.int32)
    labels[:5, :5] = 1
    labels[2, 2] = 2
    labels[6, 6] = labels[6, 0] = 3
    shapes = outlines_of(labels)
    assert shapes.geom_type.tolist() == ["Polygon", "Polygon", "MultiPolygon"]
    assert len(shapes.geometry.loc[1].interiors) == 1
    assert shapes.geometry.loc[3].area == 2


def test_smooth_ones_are_those_of_a_segmentation_that_asks_for_them(cells):
    exact, made = (ucs.tl.outlines(cells, "ucs_cells", smooth=smooth, inplace=False) for smooth in (False, True))
    exact, made = exact["ucs_cells_boundaries"].geometry, made["ucs_cells_boundaries"].geometry
    assert made.is_valid.all()
    assert made.area.sum() == pytest.approx(made.union_all().area)
    assert (made.area / exact.area - 1).abs().median() < 0.02
    assert made.length.median() < 0.9 * exact.length.median()
    sdata = segment(scene().sdata(), outlines="smooth", params=TINY)
    assert sdata["ucs_table"].uns["ucs"]["parameters"]["key_added"]["outlines"] == "smooth"
    again = ucs.tl.outlines(sdata, "ucs_cells", smooth=True, inplace=False)["ucs_cells_boundaries"]
    moved = shapely.transform(again.geometry.to_numpy(), lambda xy: xy + [-37, -13])
    assert shapely.equals_exact(moved, sdata["ucs_boundaries"].geometry.to_numpy(), 1e-9).all()


class TestSimplify:
    def test_fewer_vertices_within_the_tolerance(self, cells):
        exact = ucs.tl.outlines(cells, "ucs_cells", inplace=False)["ucs_cells_boundaries"]
        simple = ucs.tl.outlines(cells, "ucs_cells", simplify=1.0, inplace=False)["ucs_cells_boundaries"]
        ShapesModel.validate_shapes_not_mixed_types(simple)
        assert shapely.is_valid(simple.geometry.to_numpy()).all()
        assert (
            shapely.get_num_coordinates(simple.geometry.to_numpy()).sum()
            < 0.7 * shapely.get_num_coordinates(exact.geometry.to_numpy()).sum()
        )
        # Vertices are left out within the tolerance; where a ring begins it may be somewhat more.
        distance = shapely.hausdorff_distance(exact.boundary.to_numpy(), simple.boundary.to_numpy())
        assert (distance <= 2.0).all()

    @given(arrays(np.int32, (8, 8), elements=st.integers(0, 2)), st.sampled_from([0.5, 1.0, 3.0]))
    def test_they_stay_valid_polygons(self, labels, tolerance):
        labels[0, 0] = 1
        simple = outlines_of(labels, simplify=tolerance)
        assert shapely.is_valid(simple.geometry.to_numpy()).all()
        ShapesModel.validate_shapes_not_mixed_types(simple)

    @pytest.mark.parametrize("value", [-1, np.nan, "1"])
    def test_a_tolerance_that_is_none(self, cells, value):
        with pytest.raises(ValueError, match=r"simplify=.* must be a positive number"):
            ucs.tl.outlines(cells, "ucs_cells", simplify=value, inplace=False)


class TestKeys:
    def test_results_go_where_they_are_sent(self):
        sdata = scene().sdata()
        before = sdata["nucleus_labels"]
        ucs.tl.outlines(sdata, "nucleus_labels", shapes_key_added="rings")
        assert "rings" in sdata.shapes
        assert sdata["nucleus_labels"] is before
        with pytest.raises(ValueError, match=r"shapes\['rings'\] exists; pass overwrite=True"):
            ucs.tl.outlines(sdata, "nucleus_labels", shapes_key_added="rings")
        first = sdata["rings"]
        ucs.tl.outlines(sdata, "nucleus_labels", shapes_key_added="rings", overwrite=True)
        assert sdata["rings"] is not first

    def test_a_new_object_has_the_elements_and_the_shapes(self, cells):
        sdata = cheap_copy(cells)
        before = {name for _, name, _ in sdata.gen_elements()}
        made = ucs.tl.outlines(sdata, "ucs_cells", inplace=False)
        assert {name for _, name, _ in sdata.gen_elements()} == before
        assert {name for _, name, _ in made.gen_elements()} == before | {"ucs_cells_boundaries"}
        with pytest.raises(ValueError, match="overwrite=True"):
            ucs.tl.outlines(made, "ucs_cells", inplace=False)

    def test_labels_that_are_not_there(self):
        with pytest.raises(KeyError, match=r"labels_key='cells' is not in .*; there are: 'nucleus_labels'"):
            ucs.tl.outlines(scene().sdata(), "cells")

    def test_negative_labels(self):
        with pytest.raises(ValueError, match=r"negative ids \(lowest -1\)"):
            outlines_of(np.where(scene().nuclei == 3, -1, scene().nuclei))


def test_it_is_written_and_read_back(tmp_path):
    sdata = scene().sdata()
    ucs.tl.outlines(sdata, "nucleus_labels")
    sdata.write(tmp_path / "store.zarr")
    read = sd.read_zarr(tmp_path / "store.zarr")["nucleus_labels_boundaries"]
    written = sdata["nucleus_labels_boundaries"]
    assert shapely.equals_identical(read.geometry.to_numpy(), written.geometry.to_numpy()).all()
    np.testing.assert_array_equal(read.index, written.index)


def test_transformations_are_its_own():
    sdata = scene().sdata()
    ucs.tl.outlines(sdata, "nucleus_labels")
    set_transformation(sdata["nucleus_labels_boundaries"], affine(np.eye(3)), "elsewhere")
    assert set(get_transformation(sdata["nucleus_labels"], get_all=True)) == {"global"}


def test_labels_without_any():
    sdata = scene().sdata()
    sdata["none"] = Labels2DModel.parse(np.zeros((4, 4), dtype=int), dims=("y", "x"))
    with pytest.raises(ValueError, match=r"labels\['none'\] holds background only"):
        ucs.tl.outlines(sdata, "none")


@pytest.mark.parametrize("simplify", [0.0, 1.0])
def test_of_a_raster_on_disk_they_are_the_same(simplify, monkeypatch):
    """Each label is traced whole and once, wherever chunks end, and to the last digit in the same place."""
    labels = random_nuclei(2, (150, 130), 60, radius=(2, 25))
    matrix = translation(1e5, -3) @ rotation(33) @ scaling(0.2125)
    whole = polygon_frame(labels, matrix, simplify=simplify)
    assert shapely.is_valid(whole.geometry.to_numpy()).all()
    np.testing.assert_array_equal(whole.index, np.unique(labels[labels > 0]))
    for chunk in [(7, 11), (64, 64), (500, 500)]:
        made = polygon_frame(zarr.create_array({}, data=labels, chunks=chunk), matrix, simplify=simplify)
        assert shapely.equals_identical(made.geometry.to_numpy(), whole.geometry.to_numpy()).all()
        np.testing.assert_array_equal(made.index, whole.index)
        assert made.index.dtype == whole.index.dtype == np.int32
    monkeypatch.setattr("ucs._kernels.bands._SIDE", 13)
    made = polygon_frame(labels, matrix, simplify=simplify)
    assert shapely.equals_identical(made.geometry.to_numpy(), whole.geometry.to_numpy()).all()


def test_their_area_is_that_of_the_pixels():
    labels = random_nuclei(5, (90, 100), 40, radius=(1, 12))
    shapes = polygon_frame(labels, np.eye(3))
    np.testing.assert_array_equal(shapes.area, np.bincount(labels.ravel())[shapes.index])
    np.testing.assert_array_equal(filled(shapes, labels.shape), labels)


def test_labels_without_a_box_are_left_out():
    labels = random_nuclei(2, (50, 40), 12)
    n = int(labels.max())
    boxes = measure(labels, n).boxes
    boxes[[2, 5]] = 0
    made = polygon_frame(labels, np.eye(3), boxes=boxes, ids=np.arange(100, 100 + n))
    assert made.index.tolist() == [99 + k for k in range(1, n + 1) if k not in (2, 5)]


def test_an_error_in_a_thread_is_not_lost(monkeypatch):
    def fail(*_arguments, **_):
        raise RuntimeError("lost")

    monkeypatch.setattr("ucs._results.outlines.trace_window", fail)
    with pytest.raises(RuntimeError, match="lost"):
        polygon_frame(np.ones((3, 3), dtype=np.int32), np.eye(3))


@pytest.mark.parametrize("factor", [1, 10**6, 10**12])
def test_ids_of_any_size(factor):
    """Low ids are renumbered by a table, high ones by a search."""
    labels = random_nuclei(1, (30, 40), 9).astype(np.int64)
    low, shapes = polygon_frame(labels.astype(np.int32), np.eye(3)), outlines_of(labels * factor)
    assert shapes.index.tolist() == [k * factor for k in low.index]
    assert shapely.equals_identical(low.geometry.to_numpy(), shapes.geometry.to_numpy()).all()
