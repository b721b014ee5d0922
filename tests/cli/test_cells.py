"""``ucs export`` and ``ucs compare``."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from exported import exported
from typer.testing import CliRunner

import ucs
from ucs.cli import app


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.zarr"
    exported().write(path)
    return path


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_export_is_that_of_the_library(store, tmp_path):
    made = tmp_path / "cells.geojson"
    result = call("export", store, "--to", "geojson", "-o", made, "--measurements", "n_parts", "--type-key", "type")
    assert result.exit_code == 0, result.output
    assert "in um" in result.stderr
    ucs.io.to_geojson(exported(), tmp_path / "again.geojson", measurements=["n_parts"], type_key="type")
    assert made.read_text() == (tmp_path / "again.geojson").read_text()


def test_export_for_xenium_ranger_warns_when_quiet_too(store, tmp_path):
    result = call("export", store, "--to", "xenium-ranger", "-o", tmp_path, "--legacy", "--quiet")
    assert result.exit_code == 0, result.output
    assert "1 cells have no transcript" in result.stderr
    assert "Written to" not in result.stderr
    assert json.loads((tmp_path / "cells.geojson").read_text())["type"] == "GeometryCollection"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--to", "geojson", "--legacy"], "--legacy has no effect with --to geojson"),
        (["--to", "loupe"], "--to loupe is unknown; valid are geojson, xenium-ranger, xenium-explorer."),
        (["--to", "geojson", "--shapes-key", "none"], "--shapes-key 'none' is not in this SpatialData"),
    ],
)
def test_bad_options_of_export(store, tmp_path, options, complaint):
    result = call("export", store, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_compare_reads_other_segmentations(store, tmp_path):
    np.save(tmp_path / "masks.npy", np.asarray(exported()["ucs_cells"]))
    result = call(
        "compare", store, "ours=ucs_table", "--read", f"mask={tmp_path / 'masks.npy'}", "--image-key",
        "morphology_focus", "--truth", "ours", "--resolution", "1", "-o", tmp_path / "table.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "table.csv", index_col="segmentation")
    assert table.index.tolist() == ["ours", "mask"]
    assert table.loc["mask", "f1_0.7"] == 1
    assert table.loc["ours", "capture"] == table.loc["mask", "capture"] > 0.5
    assert "capture" in result.stdout
    wrong = call("compare", store, "ucs_table")
    assert wrong.exit_code == 2
    assert "ucs_table must be NAME=KEY" in wrong.stderr
