"""Folders of the vendors' instruments on the command line."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest
import small_runs
import spatialdata as sd
import spatialdata_io
from typer.testing import CliRunner, Result

from ucs._files.vendor import read_vendor, vendor_of
from ucs.cli import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


RUNS = {"xenium": small_runs.xenium_run, "merscope": small_runs.merscope_run, "cosmx": small_runs.cosmx_run}


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Name of the reader, and a folder for it."""
    return request.param, RUNS[request.param](tmp_path_factory.mktemp("instrument"))


@pytest.fixture(scope="module")
def xenium_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.xenium_run(tmp_path_factory.mktemp("instrument"))


def test_a_run_is_segmented_into_a_new_store(run: tuple[str, Path], tmp_path: Path):
    """By one command without any option, whether there are nuclei (Xenium) or they have to be found in the stain."""
    reader, folder = run
    before = sorted(path.name for path in folder.rglob("*"))
    result = call("segment", folder, "--output", tmp_path / "cells.zarr")
    assert result.exit_code == 0, result.stderr
    assert f"Reading {folder} with spatialdata_io.{reader}" in result.stderr.replace("\n", "")
    table = sd.read_zarr(tmp_path / "cells.zarr").tables["ucs_table"]
    assert table.uns["ucs"]["parameters"]["platform"] == reader
    assert table.n_obs == small_runs.N_CELLS
    assert table.X.sum() > 0.8 * small_runs.N_TRANSCRIPTS
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_a_merscope_has_the_plane_that_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The reader's own choice is plane 3, and it fails where there is none."""
    folder = small_runs.merscope_run(tmp_path)
    for path in (folder / "images").glob("*_z3.tif"):
        path.rename(path.with_name(path.name.replace("_z3", "_z5")))
        path.with_name(path.name.replace("_z3", "_z0")).touch()
    with caplog.at_level("INFO", logger="ucs"):
        assert list(read_vendor(folder, "merscope").images) == ["slide_region_0_z5"]
    assert "spatialdata_io.merscope (plane 5)" in caplog.text


def test_a_reader_is_not_told_what_only_its_authors_can_mend(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    theirs = logging.getLogger("spatialdata._logging")
    theirs.addHandler(caplog.handler)  # it does not propagate
    folder = small_runs.merscope_run(tmp_path)
    read_vendor(folder, "merscope")
    assert "categories" not in caplog.text
    spatialdata_io.merscope(folder)
    assert "is categorical with unknown categories" in caplog.text
    theirs.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"R1_tx_file.csv": "R1_tx_file.csv.gz"}, r"has \*_tx_file.csv.gz, .* uncompressed only: gunzip"),
        ({"R1_metadata_file.csv": "other.csv"}, r"lacks \*_metadata_file.csv, which the reader needs"),
        ({"CellLabels": "Labels"}, "lacks the folders CellLabels, .* of the run's raw files"),
    ],
)
def test_a_cosmx_run_that_lacks_files(tmp_path: Path, changed: dict[str, str], message: str):
    folder = small_runs.cosmx_run(tmp_path)
    for name, other in changed.items():
        (folder / name).rename(folder / other)
    result = call("check", folder)
    assert result.exit_code == 2
    assert re.search(message, result.stderr.replace("\n", " "))


def test_a_folder_that_is_nearly_one(tmp_path: Path):
    (tmp_path / "detected_transcripts.csv").touch()
    result = call("check", tmp_path)
    assert result.exit_code == 2
    assert "would be of merscope, but has no images/micron_to_mosaic_pixel_transform.csv" in result.stderr


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
