from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from ucs._kernels.labels.fill import fill_polygons


def ragged(geometries):
    """Arrays of a list of shapely geometries, with the offsets of any mix of polygons and multi-polygons."""
    kind, coordinates, offsets = shapely.to_ragged_array(geometries)
    polygon_offsets = offsets[1] if kind == shapely.GeometryType.POLYGON else offsets[1][offsets[2]]
    return coordinates, offsets[0], polygon_offsets


def fill(geometries, shape, ids=None):
    ids = np.arange(1, len(geometries) + 1) if ids is None else ids
    return fill_polygons(*ragged(geometries), ids, shape)


def centres(shape):
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return x, y


def fill_slowly(geometries, shape):
    """Ask shapely for each pixel centre; the first polygon wins."""
    x, y = centres(shape)
    labels = np.zeros(shape, dtype=np.int32)
    for k, geometry in reversed(list(enumerate(geometries, start=1))):
        labels[shapely.contains_xy(geometry, x, y)] = k
    return labels


def away_from_edges(geometries, shape):
    """Pixels whose centre is not on an edge, up to rounding: there shapely and the half-open rule must agree."""
    points = shapely.points(*centres(shape))
    return np.all([shapely.distance(shapely.boundary(g), points) > 1e-9 for g in geometries], axis=0)


@st.composite
def simple_polygons(draw):
    """Star-shaped polygon of any size and place, maybe with a hole, maybe moved to a grid of quarter pixels."""
    n = draw(st.integers(3, 14))
    radius = draw(st.sampled_from([0.05, 0.7, 3.0, 9.0, 40.0]))
    # Gaps between the angles stay below pi, otherwise the centre is outside and edges may cross.
    angle = (np.arange(n) + [draw(st.floats(0, 0.45)) for _ in range(n)]) * 2 * np.pi / n
    r = radius * np.array([draw(st.floats(0.3, 1)) for _ in range(n)])
    centre = np.array([draw(st.floats(-10, 30)), draw(st.floats(-10, 30))])
    ring = np.column_stack([np.cos(angle), np.sin(angle)]) * r[:, None]
    holes = [centre + 0.4 * ring[::-1]] if draw(st.booleans()) else []
    polygon = shapely.Polygon(centre + ring, holes)
    if draw(st.booleans()):
        polygon = shapely.transform(polygon, lambda xy: np.round(xy * 4) / 4)
    return polygon


@settings(max_examples=150)
@given(
    st.lists(simple_polygons().filter(shapely.is_valid), min_size=1, max_size=4), st.sampled_from([(20, 20), (7, 31)])
)
def test_equals_shapely_at_pixel_centres(polygons, shape):
    agree = away_from_edges(polygons, shape)
    np.testing.assert_array_equal(fill(polygons, shape)[agree], fill_slowly(polygons, shape)[agree])


@settings(max_examples=100)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1.0, 0.25, 1 / 3]),
    st.permutations(range(32)),
    st.lists(st.booleans(), min_size=32, max_size=32),
)
def test_polygons_that_share_edges_share_the_pixels_out(seed, step, order, reverse):
    # 4 x 4 quadrilaterals, each cut into two triangles, with inner corners moved, partly onto pixel centres.
    rng = np.random.default_rng(seed)
    corner = np.stack(np.meshgrid(np.arange(5) * 4.0, np.arange(5) * 4.0), axis=-1)
    corner[1:-1, 1:-1] += np.round(rng.uniform(-1.2, 1.2, size=(3, 3, 2)) / step) * step + rng.choice([0, 0.5])
    triangles = []
    for i in range(4):
        for j in range(4):
            a, b, c, d = corner[i, j], corner[i, j + 1], corner[i + 1, j + 1], corner[i + 1, j]
            triangles += [[a, b, c], [a, c, d]]
    triangles = [triangles[k][:: -1 if reverse[k] else 1] for k in order]
    count = np.zeros((16, 16), dtype=int)
    for triangle in triangles:
        count += fill_polygons(np.array(triangle), np.array([0, 3]), np.array([0, 1]), np.array([1]), (16, 16))
    np.testing.assert_array_equal(count, 1)


def test_edges_through_pixel_centres_are_half_open():
    labels = fill([shapely.box(0.5, 0.5, 2.5, 3.5)], (5, 4))
    expected = np.zeros((5, 4), dtype=np.int32)
    expected[:3, :2] = 1  # the centre on the lower border belongs, the one on the upper does not
    np.testing.assert_array_equal(labels, expected)


def test_pixel_is_decided_by_its_centre():
    # Covers most of pixel (0, 0) but not its centre, and little of (0, 1) but its centre.
    labels = fill([shapely.box(0.51, 0.0, 1.51, 1.0)], (1, 2))
    np.testing.assert_array_equal(labels, [[0, 1]])


def test_first_polygon_wins_and_ids_are_kept():
    labels = fill([shapely.box(0, 0, 2, 2), shapely.box(1, 1, 3, 3)], (3, 3), ids=[70_000, 2**31 - 1])
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [[70_000, 70_000, 0], [70_000, 70_000, 2**31 - 1], [0, 2**31 - 1, 2**31 - 1]])


def test_multipolygons_holes_and_islands():
    island = shapely.MultiPolygon(
        [shapely.box(0, 0, 7, 7).difference(shapely.box(1, 1, 6, 6)), shapely.box(3, 3, 4, 4), shapely.box(8, 0, 9, 2)]
    )
    geometries = [island, shapely.box(1, 1, 6, 6), shapely.MultiPolygon([])]
    np.testing.assert_array_equal(fill(geometries, (8, 10)), fill_slowly(geometries, (8, 10)))


def test_open_rings_equal_closed_rings():
    ring = np.array([[0.2, 0.3], [6.1, 1.0], [4.0, 6.2]])
    one = np.array([0, 1])
    closed = fill_polygons(np.vstack([ring, ring[:1]]), np.array([0, 4]), one, np.array([5]), (7, 7))
    np.testing.assert_array_equal(fill_polygons(ring, np.array([0, 3]), one, np.array([5]), (7, 7)), closed)


@pytest.mark.parametrize("far", [1e3, 1e12, 1e300])
def test_polygon_far_beyond_the_raster_is_clipped(far):
    np.testing.assert_array_equal(fill([shapely.box(-far, -far, far, 2)], (4, 3)), [[1] * 3] * 2 + [[0] * 3] * 2)
    assert not fill([shapely.box(far, 0, 2 * far, 4), shapely.box(-far, 0, -4, 4)], (4, 3)).any()


def test_many_crossings_in_a_row():
    # A comb of 500 teeth: a thousand crossings on each row, in the order of the ring and not of x.
    x = np.repeat(np.arange(501) * 2.0, 2)
    y = np.tile([0.0, 8.0, 8.0, 0.0], 251)[: len(x)]
    comb = shapely.Polygon(np.column_stack([np.append(x[1:], [1000, 0]), np.append(y[1:], [9, 9])]))
    assert comb.is_valid
    np.testing.assert_array_equal(fill([comb], (10, 1001)), fill_slowly([comb], (10, 1001)))


def test_nothing_to_fill():
    assert fill_polygons(np.empty((0, 2)), [0], [0], np.empty(0, int), (2, 3)).tolist() == [[0] * 3] * 2
    assert fill([shapely.box(0, 0, 1, 1)], (0, 5)).shape == (0, 5)


def test_inputs_are_untouched():
    coordinates, rings, polygons = ragged([shapely.box(0, 0, 2, 2)])
    copies = coordinates.copy(), rings.copy(), polygons.copy()
    fill_polygons(coordinates, rings, polygons, np.array([1]), (3, 3))
    for before, after in zip(copies, (coordinates, rings, polygons), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ids": [1, 2]}, "2 ids need 3 polygon_offsets"),
        ({"ids": [0]}, "ids must lie within 1"),
        ({"ids": [2**31]}, "ids must lie within 1"),
        ({"ring_offsets": [0, 6]}, "ring_offsets must"),
        ({"ring_offsets": [3, 0]}, "ring_offsets must"),
        ({"ring_offsets": []}, "ring_offsets must"),
        ({"polygon_offsets": [0, 2]}, "polygon_offsets must"),
        ({"polygon_offsets": [-1, 1]}, "polygon_offsets must"),
        ({"coordinates": [[0, 0], [np.nan, 1], [1, np.inf], [1, 1], [0, 0]]}, "2 vertices have coordinates"),
    ],
)
def test_bad_input(change, match):
    arguments = {
        "coordinates": np.array([[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]], float),
        "ring_offsets": [0, 5],
        "polygon_offsets": [0, 1],
        "ids": [1],
        "shape": (3, 3),
    }
    with pytest.raises(ValueError, match=match):
        fill_polygons(**{**arguments, **change})
