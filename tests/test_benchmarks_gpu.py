"""The check of the engine on a GPU: it runs on a machine that has next to nothing, and says what failed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
MISSING = (
    "anndata", "dask", "distributed", "fsspec", "geopandas", "importlib_metadata", "matplotlib", "pandas", "psutil",
    "pyarrow", "rich", "safetensors", "scanpy", "shapely", "spatialdata", "tqdm", "typer", "xarray", "zarr",
)  # fmt: skip
# Runs the check as on a machine that lacks these packages, and this one.
BARE = f"""
import importlib.metadata, runpy, sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {MISSING!r} else super().find_spec(name, path, target)

def version(name, known=importlib.metadata.version):
    if name == "spatialdata-ucs":
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)

sys.meta_path = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
importlib.metadata.version = version
sys.argv = ["benchmarks.gpu", sys.argv[1], "--reduced", "--device", "cpu"]
runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("benchmarks", None)  # another of that name may be installed


def test_it_runs_where_next_to_nothing_is_installed(tmp_path):
    out = tmp_path / "out.json"
    run = subprocess.run(
        [sys.executable, "-c", BARE, str(out)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(out.read_text())
    assert found["passed"]
    assert found["complete"]
    assert found["stand_ins"] == ["psutil", "safetensors", "tqdm"]
    parts = found["parts"]
    assert list(parts) == ["machine", "warm_up", "checks", "timings", "graphs", "batches"]
    assert all(parts["checks"][method]["labels_float32"]["same"] == 1 for method in ("pretrained", "density", "paper"))
    case = parts["timings"]["pretrained_0.003_mpx"]
    assert set(case["seconds"]) == {"make", "shared", "survey", "train", "plan", "cells", "refine"}
    assert case["blocks"] > 0


@pytest.mark.usefixtures("_from_the_root")
class TestReport:
    @pytest.fixture
    def report(self, tmp_path):
        from benchmarks.gpu.report import Report

        made = Report(tmp_path / "out.json", 100, device="none")
        yield made
        made._watchdog.cancel()

    @staticmethod
    def written(report):
        return json.loads(report.path.read_text())

    def test_what_a_part_found_before_it_failed_is_kept(self, report):
        def fail(found, _end):
            found["before"] = 1
            raise ValueError("no such thing")

        report.part("one", fail, later=0)
        report.part("two", lambda found, _end: found.update(one={"ok": True}), later=0)
        parts = self.written(report)["parts"]
        assert parts["one"]["before"] == 1
        assert "no such thing" in parts["one"]["error"]
        assert parts["two"]["one"] == {"ok": True}
        assert not report.finish()
        assert self.written(report)["failures"] == ["one"]

    def test_a_check_that_does_not_hold_is_a_failure(self, report):
        report.part("checks", lambda found, _end: found.update(a={"b": {"ok": False}, "c": {"ok": True}}), later=0)
        assert not report.finish()
        assert self.written(report)["failures"] == ["checks/a/b"]

    def test_a_part_that_takes_too_long_is_stopped(self, report):
        def hang(found, end):
            assert end == pytest.approx(time.perf_counter() + 0.2, abs=0.1)
            found["begun"] = True
            time.sleep(30)

        report.part("slow", hang, later=99.8)
        report.part("late", hang, later=200)
        report.part("last", lambda found, _end: found.update(done=True), later=0)
        parts = self.written(report)["parts"]
        assert parts["slow"]["begun"]
        assert parts["slow"]["out_of_time"]
        assert parts["late"]["out_of_time"]
        assert "begun" not in parts["late"]
        assert parts["last"]["done"]
        assert report.finish()
        assert not self.written(report)["complete"]


@pytest.mark.usefixtures("_from_the_root")
def test_a_slide_is_made_of_pieces():
    from benchmarks.gpu.scene import make_slide

    one, four = make_slide((50, 60), 0.5, n_genes=7), make_slide((50, 60), 0.5, n_genes=7, repeats=(2, 2))
    assert one.shape == (100, 120)
    np.testing.assert_array_equal(np.unique(one.nuclei), np.arange(one.n + 1))
    np.testing.assert_array_equal(np.unique(four.nuclei), np.arange(4 * one.n + 1))
    np.testing.assert_array_equal(four.nuclei > 0, np.tile(one.nuclei > 0, (2, 2)))
    np.testing.assert_array_equal(four.transcripts.totals(), np.tile(one.transcripts.totals(), (2, 2)))
    in_nuclei = one.transcripts.totals()[one.nuclei > 0].mean()
    assert in_nuclei > 4 * one.transcripts.totals()[one.nuclei == 0].mean()


@pytest.mark.usefixtures("_from_the_root")
def test_weights_are_read_without_safetensors():
    import torch
    from benchmarks.gpu._bare import load_tensors
    from safetensors.torch import save

    given = {"a": torch.rand(2, 3), "b": torch.arange(4), "c": torch.tensor(1.5, dtype=torch.float64)}
    made = load_tensors(save(given, metadata={"of": "us"}))
    assert made.keys() == given.keys()
    assert all(torch.equal(made[name], given[name]) and made[name].dtype == given[name].dtype for name in given)
