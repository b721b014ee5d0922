"""The workloads of the scale benchmark: what they hold, whichever part of them is made."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("benchmarks", None)  # another of that name may be installed


def test_alias_tables_draw_by_weight():
    from benchmarks.scale._alias import alias_tables

    weights = np.array([[1.0, 0.0, 5.0, 2.0, 0.5], [1.0, 1.0, 1.0, 1.0, 1.0]])
    share, other = alias_tables(weights)
    for row in range(2):
        drawn = np.zeros(5)
        for k in range(5):
            drawn[k] += share[row, k]
            drawn[other[row, k]] += 1 - share[row, k]
        np.testing.assert_allclose(drawn / 5, weights[row] / weights[row].sum(), atol=1e-6)


def test_parts_of_a_chip_are_those_of_the_whole():
    from benchmarks.scale.stereoseq import N_GENES, WHOLE, Chip

    small, large = Chip((300, 400)), Chip((600, 500))
    one = small.labels({None: {"array-location": [(0, 300), (0, 400)]}})
    pieces = [
        [small.labels({None: {"array-location": [rows, columns]}}) for columns in ((0, 130), (130, 400))]
        for rows in ((0, 211), (211, 300))
    ]
    np.testing.assert_array_equal(np.block(pieces), one)
    around = large.labels({None: {"array-location": [(150, 450), (50, 450)]}})
    middle = (slice(60, 240), slice(60, 340))  # nuclei whose centre lies outside the part are not in it
    np.testing.assert_array_equal(one[middle] > 0, around[middle] > 0)
    assert 0.15 < (one > 0).mean() < 0.45

    frame = large.frame(0)
    assert frame.equals(Chip((600, 500)).frame(0))
    assert len(frame) == large.rows_per_gene.sum()
    assert frame["gene"].cat.codes.is_monotonic_increasing
    assert len(frame["gene"].cat.categories) == N_GENES
    assert frame["x"].between(0, 499).all()
    assert frame["y"].between(0, 599).all()
    counts_per_pixel = frame["count"].sum() / (600 * 500)
    assert counts_per_pixel * WHOLE[0] * WHOLE[1] > 200e6 * 0.97
    labels = large.labels({None: {"array-location": [(0, 600), (0, 500)]}})
    inside = labels[frame["y"], frame["x"]] > 0
    assert inside.mean() > 1.3 * (labels > 0).mean()


def test_crops_of_the_slide_have_its_densities(data_dir):
    from benchmarks.scale import _nuclei

    if Path(_nuclei.DATA).resolve() != Path(data_dir).resolve():
        pytest.skip("the benchmarks look for real data elsewhere")
    from benchmarks.scale.workload import CONTROL_NAMES, N_TRANSCRIPTS, make_slide

    slide, whole = make_slide(1), _nuclei.read_nuclei(0)
    assert slide.nuclei.mask.shape == (1000, 1000)
    share = 1e6 / whole.mask.size
    assert len(slide.nuclei.weight) == pytest.approx(share * len(whole.weight), rel=0.05)
    assert slide.blocks == [(0, 0, 1000, 1000)]

    frame = slide.frame(0)
    assert len(frame) == pytest.approx(share * N_TRANSCRIPTS, rel=0.05)
    assert frame.dtypes.equals(slide.empty().dtypes)
    assert list(frame["feature_name"].cat.categories) == [*whole.genes, *CONTROL_NAMES]
    assert len(whole.genes) == 313
    assert frame["x"].between(0, 1000, inclusive="left").all()
    assert frame["transcript_id"].is_unique
    nucleus = slide.nuclei.mask[frame["y"].astype(int), frame["x"].astype(int)]
    np.testing.assert_array_equal(nucleus > 0, frame["overlaps_nucleus"] == 1)
    source = frame["cell_id"].to_numpy()
    strays = (nucleus > 0) & (source > 0) & (nucleus != source)
    assert strays.mean() < 0.03
    assert 0.06 < (source < 0).mean() < 0.11

    fine = slide.labels({None: {"array-location": [(0, 470), (0, 470)]}})
    centres = ((np.arange(100) + 0.5) / 0.2125).astype(int)
    centres = centres[centres < 470]
    np.testing.assert_array_equal(fine[np.ix_(centres, centres)], slide.nuclei.mask[: len(centres), : len(centres)])


def test_a_clone_can_be_written_to(tmp_path):
    from benchmarks.scale._clone import clone, digests

    store = tmp_path / "a.zarr"
    (store / "labels").mkdir(parents=True)
    (store / "zarr.json").write_text("{}")
    (store / "labels" / "0").write_bytes(b"chunk")
    before = digests(store)
    copy = clone(store, tmp_path / "b" / "b.zarr")
    assert digests(copy) == before
    (copy / "zarr.json").write_text("changed")
    (copy / "labels" / "1").write_bytes(b"new")
    assert digests(store) == before


def test_a_run_is_summed_up_by_stages():
    from benchmarks.scale.run import Result, stages

    found = {"timings": {"read": 2.0, "train": 3.0, "total": 6.0}, "grid": [2000, 1000], "transcripts": 1000}
    assert stages(found, 7.5) == {"read": 2.0, "train": 3.0, "in between": 1.0, "write": 1.5}
    result = Result(Path("x.zarr"), 7.5, 9.0, 20_000, found)
    assert result.mpx == 2.0
    assert result.peak_beyond_transcripts == 8000
