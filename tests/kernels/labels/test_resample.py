from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucs._kernels.labels import resample as sample
from ucs._kernels.labels.resample import sample_labels, source_window
from ucs._utils import parallel


def sample_slowly(source, matrix, shape, row0=0, col0=0):
    sampled = np.zeros(shape, dtype=source.dtype)
    for i in range(shape[0]):
        for j in range(shape[1]):
            x, y, _ = np.asarray(matrix) @ [col0 + j + 0.5, row0 + i + 0.5, 1]
            row, column = int(np.floor(y + 1e-6)), int(np.floor(x + 1e-6))
            if 0 <= row < source.shape[0] and 0 <= column < source.shape[1]:
                sampled[i, j] = source[row, column]
    return sampled


def scale(sx, sy):
    return np.diag([sx, sy, 1.0])


def translation(dx, dy):
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]])


def rotation(degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def shear(k):
    return np.array([[1, k, 0], [0, 1, 0], [0, 0, 1.0]])


@pytest.fixture
def source(rng):
    return rng.integers(0, 50, size=(23, 31)).astype(np.int32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


affines = st.builds(
    lambda sx, sy, angle, k, dx, dy: translation(dx, dy) @ rotation(angle) @ shear(k) @ scale(sx, sy),
    *[st.sampled_from([-4.7, -1.0, 0.2125, 0.5, 1.0, 1.3, 2.0])] * 2,
    st.sampled_from([0.0, 30.0, 90.0, 180.0, 271.3]),
    st.sampled_from([0.0, -0.5, 0.3]),
    *[st.sampled_from([-20.0, 0.0, 0.5, 7.25, 30.0])] * 2,
)


@given(affines, st.integers(-5, 20), st.integers(-5, 20))
def test_equals_a_plain_loop_for_any_affine(matrix, row0, col0):
    source = np.arange(1, 23 * 31 + 1, dtype=np.int32).reshape(23, 31)
    shape = (17, 12)
    np.testing.assert_array_equal(
        sample_labels(source, matrix, shape, row0=row0, col0=col0), sample_slowly(source, matrix, shape, row0, col0)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint64, np.float32])
def test_identity_returns_the_source_in_its_dtype(source, dtype):
    source = source.astype(dtype)
    source[0, 0] = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 7
    sampled = sample_labels(source, np.eye(3), source.shape)
    assert sampled.dtype == dtype
    np.testing.assert_array_equal(sampled, source)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (translation(3, 1), lambda s: s[1:, 3:]),
        (scale(2, 2) @ translation(-0.5, -0.5), lambda s: s[::2, ::2]),
        (scale(0.5, 0.5), lambda s: s.repeat(2, axis=0).repeat(2, axis=1)),
        (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), lambda s: s.T),
        (translation(31, 0) @ scale(-1, 1), lambda s: s[:, ::-1]),
        (translation(0, 23) @ scale(1, -1), lambda s: s[::-1]),
        (translation(31, 0) @ rotation(90), lambda s: np.rot90(s)),
    ],
    ids=["translation", "every second", "doubled", "transposed", "flipped in x", "flipped in y", "rotated"],
)
def test_known_placements(source, matrix, expected):
    expected = expected(source)
    np.testing.assert_array_equal(sample_labels(source, matrix, expected.shape), expected)


def test_half_a_pixel_is_the_border():
    # Moved by just below half a pixel the centres stay in their pixels, from half a pixel on they are in the next.
    source = np.arange(1, 6)[None]
    for dx, expected in [
        (0.49, [1, 2, 3, 4, 5]),
        (0.5, [2, 3, 4, 5, 0]),
        (-0.5, [1, 2, 3, 4, 5]),
        (-0.51, [0, 1, 2, 3, 4]),
    ]:
        np.testing.assert_array_equal(sample_labels(source, translation(dx, 0), (1, 5))[0], expected)


def test_outside_is_zero(source):
    sampled = sample_labels(source, translation(-2, -3), (40, 40))
    np.testing.assert_array_equal(sampled[3:26, 2:33], source)
    assert np.count_nonzero(sampled) == np.count_nonzero(source)
    assert not sample_labels(source, translation(1e300, 0), (4, 4)).any()


@pytest.mark.parametrize("offset", [0.0, 0.1, 1234.5, 7153 * 0.2125])
@pytest.mark.parametrize("step", [0.2125, 0.1, 1 / 3, 4.70588235294])
def test_one_geometry_composed_of_other_affines_gives_the_same_pixels(offset, step):
    # Source and destination have pixels of `step` units, half a pixel apart: every centre falls on a border.
    source = np.arange(1, 201 * 3, dtype=np.int64)[:600].reshape(3, 200)
    expected = sample_labels(source, translation(0.5, 0), (3, 200))
    to_units = translation(offset, -offset) @ scale(step, step) @ translation(0.5, 0)
    from_units = scale(1 / step, 1 / step) @ translation(-offset, offset)
    detour = rotation(33) @ shear(0.4) @ scale(17, 0.3)
    for matrix in (
        from_units @ to_units,
        np.linalg.inv(translation(offset, -offset) @ scale(step, step)) @ to_units,
        from_units @ np.linalg.inv(detour) @ detour @ to_units,
        rotation(-90) @ translation(0, 0.5) @ rotation(90),
    ):
        np.testing.assert_array_equal(sample_labels(source, matrix, (3, 200)), expected)


@given(affines, st.integers(1, 9), st.integers(1, 9))
def test_windows_read_from_parts_of_the_source_equal_the_whole(matrix, rows, columns):
    source = np.arange(1, 23 * 31 + 1, dtype=np.int32).reshape(23, 31)
    whole = sample_labels(source, matrix, (24, 20))
    for row0 in range(0, 24, rows):
        for col0 in range(0, 20, columns):
            row1, col1 = min(row0 + rows, 24), min(col0 + columns, 20)
            a, b, c, d = source_window(matrix, (row0, col0, row1, col1), source.shape)
            part = sample_labels(
                source[a:c, b:d], matrix, (row1 - row0, col1 - col0), row0=row0, col0=col0, source_origin=(a, b)
            )
            np.testing.assert_array_equal(part, whole[row0:row1, col0:col1])


@given(affines)
def test_source_window_is_no_larger_than_needed(matrix):
    # All pixels that are looked at, found by sampling row and column numbers of an endless source.
    shape = (9, 14)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    u, v, _ = np.floor(matrix @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)]) + 1e-6)
    expected = max(v.min(), 0), max(u.min(), 0), min(v.max() + 1, 23), min(u.max() + 1, 31)
    if expected[0] >= expected[2] or expected[1] >= expected[3]:
        expected = (0, 0, 0, 0)
    assert source_window(matrix, (0, 0, *shape), (23, 31)) == expected


def test_empty_windows(source):
    assert source_window(np.eye(3), (5, 5, 5, 9), source.shape) == (0, 0, 0, 0)
    assert source_window(np.eye(3), (0, 0, 4, 4), (0, 31)) == (0, 0, 0, 0)
    assert sample_labels(source, np.eye(3), (0, 4)).shape == (0, 4)
    assert not sample_labels(source[:0], np.eye(3), (3, 4)).any()


def test_threads_change_nothing(source, monkeypatch):
    matrix = translation(2, 3) @ rotation(20)
    alone = sample_labels(source, matrix, (40, 33), row0=-3)
    monkeypatch.setattr(sample, "_PIXELS_FOR_THREADS", 1)
    monkeypatch.setattr(parallel, "n_threads", lambda: 3)
    with ThreadPoolExecutor(2) as pool:  # as Dask calls it
        for sampled in pool.map(lambda _: sample_labels(source, matrix, (40, 33), row0=-3), range(4)):
            np.testing.assert_array_equal(sampled, alone)


def test_strided_and_read_only_sources(source):
    flipped = source[::-1, ::2]
    flipped.flags.writeable = False
    np.testing.assert_array_equal(sample_labels(flipped, np.eye(3), flipped.shape), flipped)


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (np.eye(4), "3 x 3 affine"),
        (np.eye(3) * 2, "last row"),
        (np.diag([1, np.nan, 1]), "finite"),
        (np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]), "determinant is 0"),
    ],
)
def test_bad_matrix(source, matrix, match):
    with pytest.raises(ValueError, match=match):
        sample_labels(source, matrix, (3, 3))
    with pytest.raises(ValueError, match=match):
        source_window(matrix, (0, 0, 3, 3), source.shape)


def test_bad_source(source):
    with pytest.raises(ValueError, match="two dimensions"):
        sample_labels(source[None], np.eye(3), (3, 3))
