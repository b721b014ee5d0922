from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ucs._kernels.labels.fill import fill_polygons
from ucs._kernels.labels.outline import outlines_to_polygons, trace_window, windows_of_boxes
from ucs._kernels.labels.windows import Window
from ucs._kernels.lattice import bounding_boxes

# Few labels on few pixels: diagonal contacts, rings, nested labels and contacts with the border are everywhere.
label_images = st.integers(1, 3).flatmap(
    lambda n: hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, n))
)


def trace(labels):
    """The outlines of all labels, as from one window."""
    n = int(labels.max(initial=0))
    return trace_window(labels, np.arange(1, n + 1), bounding_boxes(labels, n), Window(0, 0, *labels.shape))


def rings_of(outlines, cell):
    coordinates, ring_offsets, cell_ring_offsets, _ = outlines
    return [
        coordinates[ring_offsets[r] : ring_offsets[r + 1]]
        for r in range(cell_ring_offsets[cell], cell_ring_offsets[cell + 1])
    ]


def shoelace(ring):
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def pixels_dissolved(mask):
    """Union of the pixels as squares, by shapely: the same point set as the outline."""
    i, j = np.nonzero(mask)
    return shapely.union_all(shapely.box(j, i, j + 1, i + 1))


@settings(max_examples=300)
@given(label_images)
def test_outlines_are_the_labels(labels):
    coordinates, ring_offsets, cell_ring_offsets, ids = outlines = trace(labels)
    polygons = outlines_to_polygons(coordinates, ring_offsets, cell_ring_offsets)
    np.testing.assert_array_equal(ids, np.setdiff1d(labels, 0))
    assert ids.dtype == np.int32
    assert shapely.is_valid(polygons).all()
    np.testing.assert_array_equal(shapely.area(polygons), [np.count_nonzero(labels == k) for k in ids])
    np.testing.assert_array_equal(
        fill_polygons(coordinates, ring_offsets, cell_ring_offsets, ids, labels.shape), labels
    )
    for cell, (label, polygon) in enumerate(zip(ids, polygons, strict=True)):
        mask = labels == label
        assert shapely.equals(polygon, pixels_dissolved(mask))
        rings = rings_of(outlines, cell)
        exteriors = [ring for ring in rings if shoelace(ring) > 0]
        assert shoelace(rings[0]) > 0
        assert len(exteriors) == ndimage.label(mask)[1] == shapely.get_num_geometries(polygon)
        for ring in rings:
            np.testing.assert_array_equal(ring[0], ring[-1])
            assert len(np.unique(ring[:-1], axis=0)) == len(ring) - 1  # no corner twice
            steps = np.diff(ring, axis=0)
            assert (np.count_nonzero(steps, axis=1) == 1).all()  # along pixel edges
            horizontal = steps[:, 0] != 0
            assert (horizontal != np.roll(horizontal, 1)).all()  # each vertex is a corner


@given(label_images, st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_traced_in_windows_they_are_the_same(labels, side):
    coordinates, ring_offsets, cell_ring_offsets, ids = trace(labels)
    boxes = bounding_boxes(labels, int(labels.max()) + 1)
    seen = []
    for asked, window in windows_of_boxes(boxes, side):
        corners = boxes[asked, :2] // side
        assert (corners == corners[0]).all()
        made = trace_window(window.read(labels), asked, boxes, window)
        np.testing.assert_array_equal(made[3], asked)
        for k, label in enumerate(asked):
            expected = rings_of((coordinates, ring_offsets, cell_ring_offsets, ids), ids.tolist().index(label))
            for a, b in zip(rings_of(made, k), expected, strict=True):
                np.testing.assert_array_equal(a, b)
        seen.extend(asked)
    assert sorted(seen) == ids.tolist()


def test_one_pixel():
    labels = np.zeros((3, 4), dtype=np.int32)
    labels[1, 2] = 7
    coordinates, ring_offsets, cell_ring_offsets, ids = trace(labels)
    np.testing.assert_array_equal(coordinates, [[3, 1], [3, 2], [2, 2], [2, 1], [3, 1]])
    assert (ring_offsets.tolist(), cell_ring_offsets.tolist(), ids.tolist()) == ([0, 5], [0, 1], [7])


@pytest.mark.parametrize(
    ("rows", "n_parts", "n_holes"),
    [
        (["10", "01"], 2, 0),
        (["110", "101", "011"], 2, 0),  # the hole is open at the corners where the two parts meet
        (["111", "101", "111"], 1, 1),
        (["1111", "1011", "1101", "1111"], 1, 2),  # two holes that meet at a corner
        (["1110", "1011", "1111"], 1, 1),
        (["0111", "1011", "1111"], 1, 1),
        (["011", "101", "111"], 1, 1),  # a hole that meets the outside at a corner
        (["11111", "10001", "10101", "10001", "11111"], 2, 1),  # an island in a hole
        (["11111", "10001", "10111", "10001", "11111"], 1, 1),
        (["1111", "1001", "1011", "1111"], 1, 1),
        (["11110", "10010", "10100", "11011", "00011"], 3, 0),  # an island at the corner of a hole
    ],
)
def test_contacts_at_corners(rows, n_parts, n_holes):
    labels = np.array([[int(v) for v in row] for row in rows], dtype=np.int32)
    coordinates, ring_offsets, cell_ring_offsets, _ = trace(labels)
    (polygon,) = outlines_to_polygons(coordinates, ring_offsets, cell_ring_offsets)
    parts = shapely.get_parts(polygon)
    assert shapely.is_valid(polygon)
    assert (len(parts), int(shapely.get_num_interior_rings(parts).sum())) == (n_parts, n_holes)
    assert polygon.geom_type == ("Polygon" if n_parts == 1 else "MultiPolygon")


def test_affine_that_flips_keeps_holes():
    labels = np.ones((5, 5), dtype=np.int32)
    labels[1:4, 1:4] = 0
    labels[2, 2] = 1
    coordinates, ring_offsets, cell_ring_offsets, _ = trace(labels)
    (polygon,) = outlines_to_polygons(coordinates * [2.0, -0.5] + [1e6, -1e6], ring_offsets, cell_ring_offsets)
    assert shapely.is_valid(polygon)
    assert polygon.area == 17
    assert len(polygon.geoms) == 2


def test_random_large_image_against_shapely():
    rng = np.random.default_rng(1)
    noise = ndimage.gaussian_filter(rng.normal(size=(120, 150)), 1)
    labels = np.digitize(noise, np.quantile(noise, [0.4, 0.6, 0.9])).astype(np.int32)
    coordinates, ring_offsets, cell_ring_offsets, ids = trace(labels)
    polygons = outlines_to_polygons(coordinates, ring_offsets, cell_ring_offsets)
    assert shapely.is_valid(polygons).all()
    for label, polygon in zip(ids, polygons, strict=True):
        assert shapely.equals(polygon, pixels_dissolved(labels == label))


def test_boxes_restrict_the_trace():
    labels = np.ones((4, 4), dtype=np.int32)
    boxes = np.array([[0, 0, 0, 0], [1, 1, 3, 4]])
    coordinates, *_ = trace_window(labels, np.array([1]), boxes, Window(0, 0, 4, 4))
    np.testing.assert_array_equal([coordinates.min(axis=0), coordinates.max(axis=0)], [[1, 1], [4, 3]])


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (4, 5)])
def test_no_labels(shape):
    labels = np.zeros(shape, dtype=np.int32)
    coordinates, ring_offsets, cell_ring_offsets, ids = trace(labels)
    assert (coordinates.shape, ring_offsets.tolist(), cell_ring_offsets.tolist(), ids.tolist()) == (
        (0, 2),
        [0],
        [0],
        [],
    )
    assert len(outlines_to_polygons(coordinates, ring_offsets, cell_ring_offsets)) == 0
