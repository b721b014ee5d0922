"""Whole slides, from Zarr to Zarr in a fresh process: ``pytest -m scale`` (some minutes, and GiBs of disk)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GIB = 2**30

pytestmark = pytest.mark.scale


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("benchmarks", None)  # another of that name may be installed
    from benchmarks.scale.run import measure

    return measure


def make(folder, *arguments):
    command = [sys.executable, "-m", "benchmarks.scale", *arguments, "--folder", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)


def test_central_part_of_a_stereoseq_chip(tmp_path, measure):
    make(tmp_path, "generate-chip", "--size", "6000")
    result = measure(tmp_path / "chip_6000.zarr", options={"compute": {"memory_limit": "8 GiB"}})
    assert result.peak < 8 * GIB
    assert result.found["genes"] > 20_000
    assert result.found["cells"] > 25_000


@pytest.mark.usefixtures("data_dir")
def test_whole_breast_slide(tmp_path, measure):
    """42.6 million transcripts around real nuclei."""
    make(tmp_path, "generate", "--mpx", "41")
    result = measure(tmp_path / "slide_41.zarr")
    assert result.peak < 6 * GIB
    assert result.found["cells"] > 108_000
    assert result.found["rows"] > 42_000_000
