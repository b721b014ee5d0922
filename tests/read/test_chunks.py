"""Partitions of transcripts read ahead by several threads, or by the scheduler that was chosen."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest
from scenes import make_points
from transcript_tables import assert_same, many_points, read

from ucs._read import chunks as _pieces
from ucs._read.chunks import in_order


class TestReadingAhead:
    @pytest.fixture(params=[1, 2, 3, 9])
    def threads(self, request, monkeypatch):
        monkeypatch.setattr(_pieces, "n_threads", lambda: request.param)
        monkeypatch.setattr(_pieces, "_MOST_READERS", 4)
        return min(request.param, 4)

    def test_in_order_and_not_far_ahead(self, threads):
        begun, seen, lock = [0], [], threading.Lock()

        def task(k):
            with lock:
                begun[0] += 1
            time.sleep(0.002 * (k % 3))
            return k

        for k in in_order(partial(task, k) for k in range(20)):
            seen.append(k)
            with lock:
                assert begun[0] <= len(seen) + threads
        assert seen == list(range(20))

    def test_the_first_error_is_raised(self, threads):
        def task(k):
            time.sleep(0.01 if k == 2 else 0)
            if k >= 2:
                raise ValueError(str(k))
            return k

        seen = []
        with pytest.raises(ValueError, match="2"):
            seen.extend(in_order(partial(task, k) for k in range(6)))

    def test_none(self, threads):
        assert list(in_order([])) == []

    def test_the_first_bad_partition_is_named(self, threads):
        points = many_points()
        points.loc[2000, "x"], points.loc[3900, "y"] = np.nan, np.inf
        with pytest.raises(ValueError, match="partition 2: 1 of .* NaN or infinite x"):
            read(points, npartitions=4)

    def test_threads_have_no_say(self, threads):
        points = many_points()
        assert_same(read(points, npartitions=11), read(points))


def test_a_scheduler_that_was_chosen_is_respected():
    import dask

    points, used = make_points(many_points(), npartitions=3), []

    def get(graph, keys, **options):
        used.append(keys)
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=get):
        made = read(points)
    assert len(used) == 3
    assert_same(made, read(points))
