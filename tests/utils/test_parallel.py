"""Tasks in threads: results in order, and no further ahead than threads."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from ucs._utils import parallel
from ucs._utils.parallel import in_order


@pytest.fixture(params=[1, 2, 3, 9])
def threads(request, monkeypatch):
    monkeypatch.setattr(parallel, "n_threads", lambda: request.param)
    return min(request.param, 4)


def test_in_order_and_not_far_ahead(threads):
    begun, seen, lock = [0], [], threading.Lock()

    def task(k):
        with lock:
            begun[0] += 1
        time.sleep(0.002 * (k % 3))
        return k

    for k in in_order((partial(task, k) for k in range(20)), most=4):
        seen.append(k)
        with lock:
            assert begun[0] <= len(seen) + threads
    assert seen == list(range(20))


def test_the_first_error_is_raised(threads):
    def task(k):
        time.sleep(0.01 if k == 2 else 0)
        if k >= 2:
            raise ValueError(str(k))
        return k

    seen = []
    with pytest.raises(ValueError, match="2"):
        seen.extend(in_order((partial(task, k) for k in range(6)), most=4))


def test_none(threads):
    assert list(in_order([], most=4)) == []
