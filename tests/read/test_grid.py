from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scenes import AFFINES, affine
from spatialdata.transformations import Affine, Scale, Sequence, Translation

from ucs._kernels.binning import BORDER_TOLERANCE
from ucs._read.grid import Grid, pixel_index, planar

steps = st.sampled_from([0.1, 0.2125, 0.25, 0.3, 0.5, 1.0, 1.5, 2.0, 7.0])
positions = st.floats(-1e6, 1e6, allow_nan=False)


def matrix(transformation):
    return transformation.to_affine_matrix(("x", "y"), ("x", "y"))


@pytest.mark.parametrize(
    ("position", "pixel"),
    [
        (0.0, 0),
        (0.999, 0),
        (1.0, 1),
        (-0.0, 0),
        (-1e-5, -1),
        (-1e-9, 0),
        (17 * (80 / 17), 80),
        (-1.0, -1),
        (-1.001, -2),
        (41.0, 41),
    ],
)
def test_a_pixel_holds_its_lower_edge_and_not_its_upper_one(position, pixel):
    assert pixel_index(position, 1.0) == pixel


def test_rows_are_y_and_columns_are_x():
    grid = Grid(column0=-2, row0=10, shape=(5, 7), step=0.5)
    row, column = grid.rows_columns([-1.0, -0.75, 0.0], [5.0, 5.5, 4.9])
    np.testing.assert_array_equal(column, [0, 0, 2])
    np.testing.assert_array_equal(row, [0, 1, -1])
    assert grid.origin == (-1.0, 5.0)
    assert grid.n_pixels == 35


def test_single_precision_positions_are_not_rounded_again():
    just_below = np.nextafter(np.float32(300), np.float32(0))
    assert pixel_index(just_below, 1.0) == 299
    # 0.3 as float32 is 0.30000001192..., and stays in the pixel that begins at 0.3 in double precision.
    assert pixel_index(np.float32(0.3), 0.1) == 3


@given(position=positions, step=steps, column0=st.integers(-1000, 1000))
def test_binning_is_floor_from_any_origin(position, step, column0):
    grid = Grid(column0, 0, (1, 1), step)
    _, column = grid.rows_columns([position], [0.0])
    k = int(column[0]) + column0
    assert k <= position / step + BORDER_TOLERANCE < k + 1
    # The corner of the pixel as everything else computes it agrees, but for rounding.
    tolerance = 1e-9 * max(1.0, abs(position)) + BORDER_TOLERANCE * step
    assert k * step - tolerance <= position < (k + 1) * step + tolerance


def covering(bounds, *, resolution, um_per_unit=1.0):
    """The smallest grid over `(x_min, y_min, x_max, y_max)`, as :mod:`ucs.pp` makes it of the pixels of transcripts."""
    step = resolution / um_per_unit
    column0, row0, last_column, last_row = (int(index) for index in pixel_index(np.array(bounds, dtype=float), step))
    return Grid(column0, row0, (last_row - row0 + 1, last_column - column0 + 1), step, um_per_unit)


@given(
    x=st.lists(positions, min_size=1, max_size=20),
    y=st.lists(positions, min_size=1, max_size=20),
    resolution=steps,
    um_per_unit=st.sampled_from([0.12028, 0.2125, 0.5, 1.0]),
)
def test_a_grid_over_the_pixels_of_positions_holds_them_all(x, y, resolution, um_per_unit):
    n = min(len(x), len(y))
    x, y = np.array(x[:n]), np.array(y[:n])
    grid = covering([x.min(), y.min(), x.max(), y.max()], resolution=resolution, um_per_unit=um_per_unit)
    row, column = grid.rows_columns(x, y)
    assert (row.min(), column.min()) == (0, 0)
    assert (row.max() + 1, column.max() + 1) == grid.shape
    assert grid.um_per_px == pytest.approx(resolution)


@given(dx=st.integers(-50, 50), dy=st.integers(-50, 50), step=st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_two_grids_over_different_parts_bin_alike(dx, dy, step):
    x, y = np.linspace(-20, 20, 57), np.linspace(-3, 33, 57)
    one = covering([-20, -3, 20, 33], resolution=step)
    other = covering([-20 + min(dx, 0), -3 + min(dy, 0), 20 + max(dx, 0), 33 + max(dy, 0)], resolution=step)
    row, column = one.rows_columns(x, y)
    other_row, other_column = other.rows_columns(x, y)
    np.testing.assert_array_equal(row + one.row0, other_row + other.row0)
    np.testing.assert_array_equal(column + one.column0, other_column + other.column0)


def test_centres_lie_half_a_pixel_from_corners():
    grid = Grid(column0=-4, row0=6, shape=(3, 3), step=0.5, um_per_unit=2.0)
    np.testing.assert_allclose(grid.px_to_intrinsic @ [0, 0, 1], [-2.0, 3.0, 1.0])
    np.testing.assert_allclose(grid.px_to_intrinsic @ [1.5, 2.5, 1], [-1.25, 4.25, 1.0])
    assert grid.um_per_px == 1.0


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), step=steps, data=st.data())
def test_pixel_centres_bin_into_their_own_pixels(rows, columns, step, data):
    column0, row0 = (data.draw(st.integers(-(10**6), 10**6)) for _ in range(2))
    grid = Grid(column0, row0, (rows, columns), step)
    i, j = np.mgrid[:rows, :columns].reshape(2, -1)
    x, y, _ = grid.px_to_intrinsic @ np.stack([j + 0.5, i + 0.5, np.ones(len(i))])
    row, column = grid.rows_columns(x, y)
    np.testing.assert_array_equal(row, i)
    np.testing.assert_array_equal(column, j)


@pytest.mark.parametrize("name", AFFINES)
def test_transformations_compose_with_those_of_the_points(name):
    grid = Grid(column0=-40, row0=3, shape=(3, 3), step=0.5)
    of_points = {"global": affine(AFFINES[name]), "aligned": Translation([1, 2], axes=("x", "y"))}
    composed = grid.transformations(of_points)
    assert set(composed) == {"global", "aligned"}
    for system, transformation in composed.items():
        np.testing.assert_allclose(matrix(transformation), matrix(of_points[system]) @ grid.px_to_intrinsic)


def test_transformations_of_points_with_z_lose_it():
    of_points = {
        "a": Scale([2, 3, 5], axes=("x", "y", "z")),
        "b": Sequence([Scale([2, 3], axes=("x", "y")), Translation([7, 8, 9], axes=("x", "y", "z"))]),
    }
    flat = planar(of_points)
    assert all(isinstance(t, Affine) and t.input_axes == ("x", "y") for t in flat.values())
    np.testing.assert_allclose(matrix(flat["a"]), np.diag([2, 3, 1]))
    np.testing.assert_allclose(matrix(flat["b"]), [[2, 0, 7], [0, 3, 8], [0, 0, 1]])


@given(a=positions, b=positions, step=steps)
def test_binning_keeps_order(a, b, step):
    assume(a <= b)
    assert pixel_index(a, step) <= pixel_index(b, step)
