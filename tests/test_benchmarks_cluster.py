"""What the cluster benchmark estimates from measured parts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("benchmarks", None)  # another of that name may be installed


@pytest.fixture
def parts():
    from benchmarks.cluster.parts import Parts

    return Parts(
        mpx=2, tiles=10, seconds_beside=5, seconds_per_tile=8, seconds_of_nets=6, seconds_per_task=0.4,
        bytes_per_task=3e6, bytes_per_result=1e6, scheduler_seconds=0.1,
    )  # fmt: skip


def test_workers_share_the_tiles_of_a_slide(parts):
    from benchmarks.cluster.estimate import estimate

    one, eight = (estimate(parts, workers=n, slides=3, mpx=4) for n in (1, 8))
    assert one.together == pytest.approx(3 * (10 + 20 * 8))
    assert eight.together == pytest.approx(3 * (10 + 20))
    assert one.bound_by == eight.bound_by == "workers"
    assert eight.bytes_per_second == pytest.approx(4e6)


def test_the_client_can_not_feed_any_number(parts):
    from benchmarks.cluster.estimate import estimate

    many = estimate(parts, workers=100, slides=1, mpx=2)
    assert many.bound_by == "client"
    assert many.together == pytest.approx(5 + 10 * 0.5)
    assert estimate(parts, workers=8, slides=1, mpx=2, nets=False).bound_by == "client"


def test_slides_of_their_own(parts):
    from benchmarks.cluster.estimate import estimate

    made = estimate(parts, workers=8, slides=9, mpx=2)
    assert made.apart == pytest.approx(2 * (5 + 10 * 8.4))
    assert estimate(replace(parts, seconds_of_nets=0), workers=8, slides=9, mpx=2, nets=False).apart == made.apart


def test_what_is_printed(parts, capsys):
    from benchmarks.cluster.__main__ import show_estimates, show_parts

    show_parts(parts)
    show_estimates(parts)
    printed = capsys.readouterr().out
    assert "seconds_per_tile" in printed
    assert len([line for line in printed.splitlines() if line.endswith(("workers", "client"))]) == 8
