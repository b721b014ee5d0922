"""Canonical order against a slow obvious oracle: a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucs._kernels import sorting
from ucs._kernels.sorting import Segment, sort_segments
from ucs._utils import parallel


def oracle(segments, height):
    """Sum in a dictionary, sort its keys, one transcript at a time."""
    total: dict[tuple[int, int, int], int] = {}
    for one in segments:
        for i in range(len(one.row)):
            key = (int(one.row[i]) + one.row0, int(one.column[i]) + one.column0, int(one.number[one.feature[i]]))
            total[key] = total.get(key, 0) + (1 if one.count is None else int(one.count[i]))
    keys = sorted(total)
    row_start = np.searchsorted([key[0] for key in keys], np.arange(height + 1)) if keys else np.zeros(height + 1)
    return row_start, [key[1] for key in keys], [key[2] for key in keys], [total[key] for key in keys]


def assert_sorted(segments, shape, n_features):
    expected = oracle(segments, shape[0])
    given_segments = list(segments)
    made = sort_segments(given_segments, shape=shape, n_features=n_features)
    assert given_segments == []  # they may be let go
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [array.dtype for array in made] == [np.int64, np.int32, np.int32, np.int32]


@st.composite
def segments_on_a_raster(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 7)))
    n_features = draw(st.integers(1, 5))
    entry = st.tuples(
        st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1), st.integers(0, n_features - 1), st.integers(0, 9)
    )
    segments = []
    for entries in draw(st.lists(st.lists(entry, max_size=30), max_size=5)):
        row, column, feature, count = np.array(entries, dtype=np.int32).reshape(-1, 4).T
        row0, column0 = draw(st.integers(-3, 3)), draw(st.integers(-3, 3))
        number = np.array(draw(st.permutations(range(n_features))), dtype=np.int32)
        code = feature.astype(draw(st.sampled_from([np.uint16, np.int32])))
        counts = count.copy() if draw(st.booleans()) else None
        segments.append(Segment(row - row0, column - column0, code, number, counts, row0, column0))
    return segments, shape, n_features


@given(segments_on_a_raster())
def test_any_segments(given_segments):
    assert_sorted(*given_segments)


def many(seed, n, shape, n_features, *, counts=False, code=np.int32):
    random = np.random.default_rng(seed)
    return Segment(
        random.integers(0, shape[0], n).astype(np.int32),
        random.integers(0, shape[1], n).astype(np.int32),
        random.integers(0, n_features, n).astype(code),
        random.permutation(n_features).astype(np.int32),
        random.integers(0, 5, n).astype(np.int32) if counts else None,
    )


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize(
    ("n", "shape", "n_features"),
    [
        (3000, (1, 40), 30),  # one row, longer than what is sorted by insertion or by bytes, with ties
        (3000, (1, 1), 1),  # one pixel, one feature
        (5000, (20, 7000), 600),  # rows sorted by bytes
        (300, (400, 3), 5),  # most rows are empty
        (4000, (2, 100_000), 70_000),  # more than 32 bits, and more features than 16 bits hold
        (20_000, (3, 30_000), 27_000),  # 30 bits in three digits
    ],
)
def test_rows_of_all_lengths(n, shape, n_features, counts):
    assert_sorted([many(n, n, shape, n_features, counts=counts)], shape, n_features)


def test_each_way_to_sort_is_as_good(monkeypatch):
    """Radix sort, by few or many digits, and insertion."""
    shape, n_features = (1, 5000), 300
    segment = many(0, 1000, shape, n_features, counts=True)
    expected = oracle([segment], 1)
    for insertion, short in ((0, 10**9), (0, 0), (10**9, 0)):
        key = (segment.column.astype(np.uint32) << np.uint32(9)) | segment.number[segment.feature].astype(np.uint32)
        count, n_distinct = segment.count.copy(), np.zeros(1, dtype=np.int64)
        sort = sorting.sort_rows.py_func
        monkeypatch.setattr(sorting, "_INSERTION", insertion)
        monkeypatch.setattr(sorting, "_SHORT", short)
        monkeypatch.setattr(
            sorting, "_radix_sort", sorting._radix_sort.py_func if insertion == 0 else sorting._radix_sort
        )
        sort(0, 1, np.array([0, 1000]), key, count, 22, n_distinct)
        monkeypatch.undo()
        assert n_distinct[0] == len(expected[3])
        assert (np.diff(key.astype(np.int64)) >= 0).all()
        np.testing.assert_array_equal(np.unique(key >> np.uint32(9)), np.unique(expected[1]))
        sums = [int(count[key == one].sum()) for one in np.unique(key)]
        np.testing.assert_array_equal(sums, expected[3])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_have_no_say(monkeypatch, threads):
    shape, n_features = (50, 60), 9
    segments = [many(seed, 997, shape, n_features, counts=seed == 1, code=np.uint16) for seed in range(4)]
    monkeypatch.setattr(sorting, "n_threads", lambda: threads)
    monkeypatch.setattr(parallel, "n_threads", lambda: threads)
    assert_sorted(segments, shape, n_features)


def test_a_segment_split_is_the_same(monkeypatch):
    monkeypatch.setattr(sorting, "_LARGEST_PIECE", 100)
    shape, n_features = (30, 20), 4
    whole = many(0, 1234, shape, n_features, counts=True)
    assert len(whole.split()) == 13
    assert_sorted([whole], shape, n_features)


def test_no_segments():
    row_start, *entries = sort_segments([], shape=(4, 3), n_features=2)
    assert row_start.tolist() == [0] * 5
    assert [len(array) for array in entries] == [0, 0, 0]
