"""Folders of the vendors' instruments on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from typer.testing import CliRunner, Result
from xenium_bundle import write_xenium_bundle

from ucs._files.vendor import vendor_of
from ucs.cli import app

N_CELLS = 16


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def xenium_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells in four rows, 14 um apart, each with a square nucleus of 6 um and transcripts about it."""
    rng = np.random.default_rng(0)
    names = np.array([f"aaaaaaa{'abcdefghijklmnop'[k]}-1" for k in range(N_CELLS)])
    centre = 14.0 * (1 + np.stack(np.divmod(np.arange(N_CELLS), 4), axis=1))
    place = np.repeat(centre, 60, axis=0) + rng.normal(0, 2.5, (60 * N_CELLS, 2))
    transcripts = pd.DataFrame({
        "transcript_id": np.arange(len(place), dtype=np.uint64),
        "cell_id": np.repeat(names, 60),
        "overlaps_nucleus": np.uint8(0),
        "feature_name": rng.choice([f"Gene{k}" for k in range(12)], len(place)),
        "x_location": place[:, 0].astype(np.float32),
        "y_location": place[:, 1].astype(np.float32),
        "z_location": np.float32(5),
        "qv": np.float32(40),
    })  # fmt: skip
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])

    def squares(half: float) -> pd.DataFrame:
        ring = (centre[:, None] + half * square).reshape(-1, 2)
        return pd.DataFrame({"cell_id": np.repeat(names, 5), "vertex_x": ring[:, 0], "vertex_y": ring[:, 1]})

    folder = tmp_path_factory.mktemp("instrument") / "run"
    return write_xenium_bundle(folder, transcripts, squares(3), squares(6), version="3.0.0")


def test_a_run_is_segmented_into_a_new_store(xenium_run: Path, tmp_path: Path):
    before = sorted(path.name for path in xenium_run.rglob("*"))
    result = call("segment", xenium_run, "--output", tmp_path / "cells.zarr")
    assert result.exit_code == 0, result.stderr
    assert f"Reading {xenium_run} with spatialdata_io.xenium." in result.stderr.replace("\n", "")
    sdata = sd.read_zarr(tmp_path / "cells.zarr")
    assert sdata.tables["ucs_table"].n_obs == N_CELLS
    assert sdata.tables["ucs_table"].X.sum() > 0.8 * 60 * N_CELLS
    assert sorted(path.name for path in xenium_run.rglob("*")) == before


def test_nothing_is_written_into_a_run(xenium_run: Path):
    result = call("segment", xenium_run)
    assert result.exit_code == 2
    assert "is a folder of xenium, in which nothing is written: name a new store with --output" in result.stderr


def test_without_spatialdata_io(xenium_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "spatialdata_io", None)
    result = call("segment", xenium_run, "--output", tmp_path / "cells.zarr")
    assert result.exit_code == 2
    assert "pip install 'spatialdata-ucs[io]'" in result.stderr


def test_a_run_that_lacks_files(tmp_path: Path):
    (tmp_path / "experiment.xenium").write_text("{}")
    result = call("check", tmp_path)
    assert result.exit_code == 2
    assert f"spatialdata_io.xenium cannot read {tmp_path}" in result.stderr


def test_a_folder_that_is_none(tmp_path: Path):
    result = call("check", tmp_path)
    assert result.exit_code == 2
    assert "is not a SpatialData Zarr store" in result.stderr
    assert "xenium: experiment.xenium; merscope: detected_transcripts.csv" in result.stderr


@pytest.mark.parametrize(
    ("vendor", "files"),
    [
        ("xenium", ["experiment.xenium"]),
        ("merscope", ["detected_transcripts.csv", "images/micron_to_mosaic_pixel_transform.csv"]),
        ("cosmx", ["R1_tx_file.csv", "R1_fov_positions_file.csv"]),
        (None, ["R1_tx_file.csv"]),
    ],
)
def test_vendors_are_told_by_their_files(tmp_path: Path, vendor: str | None, files: list[str]):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert vendor_of(tmp_path) == vendor
