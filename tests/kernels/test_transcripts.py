from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasters import random_map

from ucs._files.scratch import Scratch
from ucs._kernels import transcripts as module
from ucs._kernels.transcripts import TranscriptMap, Window


@st.composite
def transcripts(draw):
    """Rows, columns, features and counts on a tiny raster, so that equal entries and its edges occur all the time."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    n_features = draw(st.integers(1, 4))
    entry = st.tuples(
        st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1), st.integers(0, n_features - 1), st.integers(0, 5)
    )
    entries = np.array(draw(st.lists(entry, max_size=40)), dtype=np.int64).reshape(-1, 4)
    return entries, shape, n_features


windows = st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 12), st.integers(0, 12)).map(
    lambda w: Window(w[0], w[1], w[0] + w[2], w[1] + w[3])
)


def build(entries, shape, n_features):
    return TranscriptMap.from_positions(*entries.T, shape=shape, n_features=n_features)


def dense_oracle(entries, shape, n_features):
    dense = np.zeros((n_features, *shape), dtype=np.int64)
    for row, column, feature, count in entries:
        dense[feature, row, column] += count
    return dense


def window_oracle(dense, window):
    """The window of a dense map, zero beyond the raster, pixel by pixel."""
    out = np.zeros((len(dense), *window.shape), dtype=dense.dtype)
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            row, column = window.row0 + i, window.column0 + j
            if 0 <= row < dense.shape[1] and 0 <= column < dense.shape[2]:
                out[:, i, j] = dense[:, row, column]
    return out


@given(transcripts(), st.randoms(use_true_random=False))
def test_the_order_of_transcripts_has_no_say(given_transcripts, random):
    entries, shape, n_features = given_transcripts
    order = list(range(len(entries)))
    random.shuffle(order)
    one, other = build(entries, shape, n_features), build(entries[order], shape, n_features)
    for name in ("row_start", "column", "feature", "count"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(transcripts())
def test_canonical_order(given_transcripts):
    entries, shape, n_features = given_transcripts
    made = build(entries, shape, n_features)
    assert (made.row_start.dtype, made.column.dtype, made.feature.dtype, made.count.dtype) == (
        np.int64,
        np.int32,
        np.int32,
        np.int32,
    )
    assert made.row_start[0] == 0
    assert made.row_start[-1] == len(made.column) == len(made.feature) == len(made.count)
    place = (made.rows().astype(np.int64) * shape[1] + made.column) * n_features + made.feature
    assert (np.diff(place) > 0).all()  # sorted, and each (row, column, feature) once
    assert set(place) == {(r * shape[1] + c) * n_features + f for r, c, f, _ in entries}
    assert made.n_transcripts == entries[:, 3].sum()


@given(transcripts(), windows)
def test_windows_equal_the_dense_map(given_transcripts, window):
    entries, shape, n_features = given_transcripts
    made, dense = build(entries, shape, n_features), dense_oracle(*given_transcripts)
    np.testing.assert_array_equal(made.dense(), dense)
    np.testing.assert_array_equal(made.totals(), dense.sum(axis=0))
    expected = window_oracle(dense, window)
    np.testing.assert_array_equal(made.dense(window), expected)
    np.testing.assert_array_equal(made.totals(window), expected.sum(axis=0))

    pixel_start, feature, count = made.window(window)
    assert len(pixel_start) == window.shape[0] * window.shape[1] + 1
    assert (pixel_start.dtype, feature.dtype, count.dtype) == (np.int64, np.int64, np.float32)
    assert pixel_start[-1] == len(feature) == len(count)
    flat = expected.reshape(n_features, -1)
    for pixel in range(len(pixel_start) - 1):
        entry = slice(pixel_start[pixel], pixel_start[pixel + 1])
        assert (np.diff(feature[entry]) > 0).all()
        np.testing.assert_array_equal(np.bincount(feature[entry], count[entry], n_features), flat[:, pixel])


@given(transcripts(), st.data())
def test_select_keeps_and_renumbers(given_transcripts, data):
    entries, shape, n_features = given_transcripts
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=n_features, max_size=n_features)))
    order = data.draw(st.permutations(range(int(keep.sum()))))
    index = np.zeros(n_features, dtype=np.int32)
    index[keep] = order
    selected = build(entries, shape, n_features).select(keep, index, int(keep.sum()))
    dense = dense_oracle(entries, shape, n_features)[keep]
    np.testing.assert_array_equal(selected.dense(), dense[np.argsort(order)])
    assert selected.n_features == keep.sum()
    place = (selected.rows().astype(np.int64) * shape[1] + selected.column) * n_features + selected.feature
    assert (np.diff(place) > 0).all()  # renumbering may not leave the order of before


@given(windows, st.tuples(st.integers(0, 6), st.integers(0, 6)), st.integers(0, 3))
def test_window_reads_and_clips(window, shape, by):
    raster = np.arange(1, shape[0] * shape[1] + 1, dtype=np.int32).reshape(shape)
    read = window.read(raster, fill=-7)
    inside = window.clipped(shape)
    expected = np.full(window.shape, -7)
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            if 0 <= window.row0 + i < shape[0] and 0 <= window.column0 + j < shape[1]:
                expected[i, j] = raster[window.row0 + i, window.column0 + j]
    np.testing.assert_array_equal(read, expected)
    assert read.dtype == raster.dtype
    np.testing.assert_array_equal(np.sort(raster[inside.slices], axis=None), np.sort(expected[expected > 0]))
    grown = window.grown(by)
    assert grown.shape == (window.shape[0] + 2 * by, window.shape[1] + 2 * by)
    assert (grown.row0, grown.column0) == (window.row0 - by, window.column0 - by)


def test_without_counts_each_is_one():
    made = TranscriptMap.from_positions(
        np.array([1, 1, 0]), np.array([0, 0, 2]), np.array([1, 1, 0]), None, shape=(2, 3), n_features=2
    )
    assert (made.count.tolist(), made.column.tolist(), made.feature.tolist()) == ([1, 2], [2, 0], [0, 1])
    assert made.row_start.tolist() == [0, 1, 2]
    assert made.n_transcripts == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64])
def test_integer_types(dtype):
    columns = [np.array(values, dtype=dtype) for values in ([2, 0, 2], [1, 1, 1], [3, 0, 3], [4, 1, 2])]
    made = TranscriptMap.from_positions(*columns, shape=(3, 2), n_features=4)
    assert (made.count.tolist(), made.feature.tolist()) == ([1, 6], [0, 3])


def test_no_transcripts():
    none = np.zeros(0, dtype=np.int64)
    made = TranscriptMap.from_positions(none, none, none, none, shape=(3, 4), n_features=5)
    assert made.n_transcripts == 0
    assert made.row_start.tolist() == [0] * 4
    assert made.dense().shape == (5, 3, 4)
    pixel_start, feature, _ = made.window(Window(-1, -1, 2, 2))
    assert (pixel_start.tolist(), len(feature)) == ([0] * 10, 0)
    assert made.select(np.ones(5, dtype=bool), np.arange(5), 5).n_transcripts == 0


def test_sums_of_counts_do_not_overflow():
    n = 3
    place = np.arange(n)
    made = TranscriptMap.from_positions(place, place, place, np.full(n, 2**30), shape=(n, n), n_features=n)
    assert made.n_transcripts == n * 2**30


def test_a_large_panel_on_a_long_row():
    # Column times panel is beyond 32 bits.
    shape, n_features = (2, 100_000), 30_000
    made = TranscriptMap.from_positions(
        np.array([1, 1]), np.array([99_999, 99_998]), np.array([29_999, 0]), None, shape=shape, n_features=n_features
    )
    assert (made.column.tolist(), made.feature.tolist()) == ([99_998, 99_999], [0, 29_999])


def test_windows_tile_the_map():
    made = random_map(0, (70, 50), 6, 2000)
    tiles = [
        made.dense(Window(i, j, i + 16, j + 16).clipped(made.shape)) for i in range(0, 70, 16) for j in range(0, 50, 16)
    ]
    assert sum(int(tile.sum()) for tile in tiles) == made.n_transcripts
    np.testing.assert_array_equal(tiles[0], made.dense()[:, :16, :16])


@pytest.mark.parametrize(
    "window",
    [Window(0, 0, 20, 30), Window(3, 5, 17, 6), Window(19, 0, 20, 30), Window(4, 4, 4, 9), Window(0, 29, 1, 30)],
)
def test_crop_equals_the_dense_window(window):
    made = random_map(2, (20, 30), 5, 900)
    cropped = made.crop(window)
    assert cropped.shape == window.shape
    np.testing.assert_array_equal(cropped.dense(), made.dense(window))
    assert cropped.row_start[-1] == len(cropped.count) == len(cropped.rows())
    assert {cropped.column.dtype, cropped.feature.dtype, cropped.count.dtype} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    "window", [Window(0, 0, 20, 30), Window(-4, 25, 7, 80), Window(12, -3, 99, 2), Window(5, 5, 5, 5)]
)
def test_within_and_where_keep_what_lies_there(window):
    made = random_map(3, (20, 30), 5, 900)
    inside = np.zeros(made.shape, dtype=bool)
    inside[window.clipped(made.shape).slices] = True
    for kept in (made.within(window), made.where(inside)):
        assert kept.shape == made.shape
        np.testing.assert_array_equal(kept.dense(), made.dense() * inside)
        np.testing.assert_array_equal(np.diff(kept.row_start), np.bincount(kept.rows(), minlength=20))


def test_a_crop_of_everything_is_the_same():
    made = random_map(4, (20, 30), 5, 900)
    everything = Window(0, 0, 20, 30)
    for again in (made.crop(everything), made.within(everything), made.where(np.ones(made.shape, dtype=bool))):
        for name in ("row_start", "column", "feature", "count"):
            np.testing.assert_array_equal(getattr(again, name), getattr(made, name))


FIELDS = ("row_start", "column", "feature", "count")


def assert_same(one, other):
    assert (one.shape, one.n_features) == (other.shape, other.n_features)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


def on_disk(transcripts, folder):
    """The same map in temporary files."""
    writer = module.MapWriter(transcripts.shape, transcripts.n_features, storage=Scratch(folder))
    for _, _, band in transcripts.bands(7):
        writer.append_map(band)
    return writer.finish()


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(module, "ENTRIES_AT_ONCE", 100)


@pytest.mark.parametrize("rows_at_once", [1, 3, 20, 21, 1000, None])
def test_bands_are_the_map(rows_at_once):
    made = random_map(5, (20, 30), 5, 900)
    last = 0
    for row0, row1, band in made.bands(rows_at_once):
        assert row0 == last
        assert row1 - row0 <= (rows_at_once or 20)
        assert band.shape == (row1 - row0, 30)
        assert np.shares_memory(band.count, made.count)
        assert_same(band, made.crop(Window(row0, 0, row1, 30)))
        last = row1
    assert last == 20


def test_bands_hold_about_as_much_as_they_may(few_at_once):
    made = random_map(5, (20, 30), 5, 900)
    sizes = [len(band.count) for _, _, band in made.bands()]
    assert max(sizes) <= 100
    assert min(a + b for a, b in itertools.pairwise(sizes)) > 100
    assert max(band.shape[0] for _, _, band in random_map(5, (3, 30), 5, 900).bands()) == 1  # each holds more
    assert list(random_map(5, (20, 30), 5, 0).bands())[0][:2] == (0, 20)
    none = np.zeros(0, dtype=np.int32)
    assert list(TranscriptMap((0, 4), 2, np.zeros(1, dtype=np.int64), none, none, none).bands()) == []


@pytest.mark.parametrize("n_transcripts", [0, 1, 900])
def test_a_map_on_disk_is_a_map(tmp_path, few_at_once, n_transcripts):
    made = random_map(6, (20, 30), 5, n_transcripts)
    stored = on_disk(made, tmp_path)
    assert_same(stored, made)
    assert stored.n_transcripts == made.n_transcripts
    np.testing.assert_array_equal(stored.rows(), made.rows())
    mask = np.random.default_rng(0).random(made.shape) < 0.5
    assert_same(stored.where(mask), made.where(mask))
    for window in (Window(0, 0, 20, 30), Window(-4, 25, 7, 80), Window(12, -3, 99, 2), Window(40, 5, 50, 9)):
        assert_same(stored.within(window), made.within(window))
        np.testing.assert_array_equal(stored.totals(window), made.totals(window))
        np.testing.assert_array_equal(stored.dense(window), made.dense(window))
    assert_same(stored.crop(Window(3, 4, 9, 30)), made.crop(Window(3, 4, 9, 30)))
    for index in (np.array([0, 9, 1, 9, 2]), np.array([2, 9, 0, 9, 1])):
        keep = np.array([True, False, True, False, True])
        selected = stored.select(keep, index, 3)
        assert selected.storage is stored.storage
        assert_same(selected, made.select(keep, index, 3))


@pytest.mark.parametrize("threshold", [1, 1 << 30])
def test_totals_are_the_same_in_threads(monkeypatch, tmp_path, few_at_once, threshold):
    made = random_map(7, (20, 30), 5, 900)
    monkeypatch.setattr(module, "_PIXELS_FOR_THREADS", threshold)
    for one in (made, on_disk(made, tmp_path)):
        for window in (None, Window(-3, -2, 25, 33), Window(5, 6, 15, 9), Window(30, 0, 35, 30), Window(-9, 0, 2, 30)):
            expected = made.dense(window or Window(0, 0, 20, 30)).sum(axis=0)
            np.testing.assert_array_equal(one.totals(window), expected)


def test_a_selection_of_everything_is_the_map():
    made = random_map(8, (20, 30), 5, 900)
    assert made.select(np.ones(5, dtype=bool), np.arange(5), 5) is made
    more = made.select(np.ones(5, dtype=bool), np.arange(5), 7)
    assert more.n_features == 7
    assert_same(more, TranscriptMap(made.shape, 7, *(getattr(made, name) for name in FIELDS)))


def test_features_of_one_new_number_are_summed():
    made = random_map(9, (20, 30), 5, 900)
    merged = made.select(np.ones(5, dtype=bool), np.array([0, 0, 1, 1, 0]), 2)
    dense = made.dense()
    np.testing.assert_array_equal(merged.dense(), [dense[[0, 1, 4]].sum(axis=0), dense[2:4].sum(axis=0)])
    place = (merged.rows().astype(np.int64) * 30 + merged.column) * 2 + merged.feature
    assert (np.diff(place) > 0).all()


def test_masks_may_be_read_band_by_band(few_at_once, tmp_path):
    """As from a Zarr array, of which only rows are asked for."""

    class Rows:
        def __init__(self, array):
            self.array, self.shape = array, array.shape

        def __getitem__(self, rows):
            assert isinstance(rows, slice)
            return self.array[rows]

    made = on_disk(random_map(10, (20, 30), 5, 900), tmp_path)
    mask = np.random.default_rng(0).random(made.shape) < 0.5
    assert_same(made.where(Rows(mask)), made.where(mask))
    with pytest.raises(ValueError, match=r"The mask has shape \(19, 30\), the map \(20, 30\)"):
        made.where(mask[1:])
