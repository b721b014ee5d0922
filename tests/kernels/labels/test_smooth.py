"""Smooth outlines: valid, shared, without overlaps or gaps, and the same from any window."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ucs._kernels.labels.smooth import HALO
from ucs._results.outlines import polygon_frame

# Few labels on few pixels: thin parts, holes, contacts at corners and at the ends of the raster are everywhere.
label_images = st.integers(1, 3).flatmap(
    lambda n: hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, n))
)


def blobs(shape, n, sigma, seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return np.digitize(noise, np.quantile(noise, np.linspace(0, 1, n + 2)[1:-1])).astype(np.int32)


def smooth(labels, **options):
    return polygon_frame(labels, np.eye(3), smooth=True, **options).geometry


def border_edges(labels):
    """Pixel corner -> corners that an edge between unlike pixels leads to."""
    padded = np.pad(labels, 1)
    to = {}
    for i, j in np.ndindex(labels.shape[0] + 1, labels.shape[1] + 1):
        a, b, c, d = padded[i, j], padded[i, j + 1], padded[i + 1, j], padded[i + 1, j + 1]
        ends = [(j, i - 1, a != b), (j - 1, i, a != c), (j + 1, i, b != d), (j, i + 1, c != d)]
        found = [(x, y) for x, y, differs in ends if differs]
        if found:
            to[j, i] = found
    return to


def expected_outlines(labels):
    """Slow and obvious: corners moved one by one in a dictionary, put into the outlines along pixel edges."""
    to, (h, w) = border_edges(labels), labels.shape
    fixed = {p for p in to if len(to[p]) == 4 or p[0] in (0, w) or p[1] in (0, h)}
    at = {p: np.array(p, dtype=float) for p in to}
    for weight in [0.5] * 10 + [-5.0]:
        mean = {p: np.mean([at[q] for q in to[p]], axis=0) for p in to}
        at = {p: at[p] if p in fixed else at[p] + weight * (mean[p] - at[p]) for p in to}
    at = {p: np.clip(at[p], np.array(p) - 0.45, np.array(p) + 0.45) for p in to}

    def is_vertex(p):
        if sum(p) % 2 == 0 or len(to[p]) != 2:
            return True
        a, b = map(np.array, to[p])
        opposite = a + b - p
        if (opposite == p).all():
            return False
        if p in fixed or tuple(opposite) in to:
            return True
        ends = np.stack([at[tuple(a)], at[tuple(b)]])
        sides = [np.linalg.det(ends - q) for q in ((opposite + p) / 2, opposite)]
        return sides[0] * sides[1] <= 0

    def moved(ring):
        kept = [at[p] for p in map(tuple, ring.astype(int)[:-1]) if is_vertex(p)]
        return shapely.linearrings(kept)

    def of_part(part):
        rings = [moved(shapely.get_coordinates(ring)) for ring in (part.exterior, *part.interiors)]
        return shapely.Polygon(rings[0], rings[1:])

    exact = shapely.segmentize(polygon_frame(labels, np.eye(3)).geometry.to_numpy(), 1.0)
    return [shapely.union_all([of_part(part) for part in shapely.get_parts(polygon)]) for polygon in exact]


@settings(max_examples=300)
@given(label_images)
def test_valid_apart_and_around_the_centres_of_their_pixels(labels):
    cells = smooth(labels)
    polygons = cells.to_numpy()
    assert shapely.is_valid(polygons).all()
    assert shapely.area(polygons).sum() == pytest.approx(shapely.union_all(polygons).area, abs=1e-9)
    i, j = np.indices(labels.shape)
    found = np.zeros_like(labels)
    for label, polygon in cells.items():
        inside = shapely.contains_xy(polygon, j + 0.5, i + 0.5)
        assert (found[inside] == 0).all()
        found[inside] = label
    np.testing.assert_array_equal(found, labels)


@settings(max_examples=300)
@given(label_images)
def test_no_gaps_where_labels_touch(labels):
    """Background, outlined as a label, fills all that the cells leave."""
    polygons = smooth(labels + 1).to_numpy()
    assert shapely.coverage_is_valid(polygons)
    whole = shapely.union_all(polygons)
    assert whole.equals(shapely.box(0, 0, labels.shape[1], labels.shape[0]))


@given(label_images)
def test_against_the_obvious(labels):
    for made, expected in zip(smooth(labels), expected_outlines(labels), strict=True):
        assert made.symmetric_difference(expected).area < 1e-9


def test_parts_and_holes_are_those_of_the_labels():
    labels = blobs((60, 80), 3, 1, seed=2)
    exact = polygon_frame(labels, np.eye(3)).geometry.to_numpy()
    made = smooth(labels).to_numpy()
    np.testing.assert_array_equal(shapely.get_type_id(made), shapely.get_type_id(exact))
    of_made, of_exact = shapely.get_parts(made), shapely.get_parts(exact)
    holes = shapely.get_num_interior_rings(of_exact)
    assert len(of_exact) > len(exact)
    assert holes.any()
    np.testing.assert_array_equal(np.sort(shapely.get_num_interior_rings(of_made)), np.sort(holes))


@pytest.mark.parametrize("side", [1, 7, 40])
def test_any_window_gives_the_same(side):
    labels = ndimage.label(blobs((90, 70), 1, 2, seed=3))[0].astype(np.int32)

    class InBlocks:
        shape, dtype, ndim, chunks = labels.shape, labels.dtype, 2, (side, side)

        def __getitem__(self, key):
            return labels[key]

    a, b = smooth(labels).to_numpy(), smooth(InBlocks()).to_numpy()
    assert len(a) > 5
    assert shapely.equals_identical(a, b).all()


def test_what_lies_beyond_the_halo_does_not_matter():
    labels = np.zeros((60, 80), dtype=np.int32)
    labels[20:41, 30:50] = blobs((21, 20), 1, 2, seed=4)
    labels[25:35, 35:45] = 1
    other = labels.copy()
    far = ndimage.distance_transform_cdt(labels == 0, "chessboard") > HALO
    other[far] = 2
    assert (other == 2).any()
    assert shapely.equals_identical(smooth(labels)[1], smooth(other)[1])


def test_labels_that_are_left_out_are_background():
    labels = np.repeat(np.array([[1, 2, 3]], dtype=np.int32), 8, axis=0).repeat(6, axis=1)
    labels[:2] = labels[-2:] = 0
    boxes = np.array([[0, 0, 0, 0], [2, 0, 6, 6], [0, 0, 0, 0], [2, 12, 6, 18]])
    made = smooth(labels, boxes=boxes)
    without = smooth(np.where(labels == 2, 0, labels).astype(np.int32))
    assert shapely.equals_identical(made.to_numpy(), without.to_numpy()).all()


def test_round_cells_keep_their_area_and_lose_their_steps():
    """Radius 5 um at 0.5 um per pixel."""
    rng = np.random.default_rng(5)
    i, j = np.indices((40, 40))
    for _ in range(20):
        y, x = rng.uniform(18, 22, 2)
        labels = ((i + 0.5 - y) ** 2 + (j + 0.5 - x) ** 2 < 100).astype(np.int32)
        made, exact = smooth(labels)[1], polygon_frame(labels, np.eye(3)).geometry[1]
        assert made.area == pytest.approx(labels.sum(), rel=0.02)
        circle = shapely.Point(x, y).buffer(10, quad_segs=64)
        assert made.hausdorff_distance(circle) < 0.7 * exact.hausdorff_distance(circle)
        assert made.length == pytest.approx(circle.length, rel=0.03)
        assert shapely.get_num_coordinates(made) < shapely.get_num_coordinates(exact)


def test_ends_of_the_raster_stay():
    labels = np.ones((9, 11), dtype=np.int32)
    labels[:, 6:] = 2
    assert smooth(labels).total_bounds.tolist() == [0, 0, 11, 9]
    assert smooth(labels).area.sum() == 99
