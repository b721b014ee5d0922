"""The column of the points in a store: written with the cells, or refused; and what an earlier run has left."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from pyarrow.parquet import ParquetFile
from scenes import make_sdata, model, scene, segmented
from typer.testing import CliRunner

import ucs
from ucs._files import swap as _swap
from ucs.cli import app


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "tissue.zarr"
    make_sdata(scene().nuclei, scene().points, labels_to_um=scene().to_um, npartitions=6).write(path)
    return path


def in_store(path, column="ucs_cell_id"):
    """The column of the points, and the number of transcripts that the table counts."""
    read = sd.read_zarr(path)
    table = read["ucs_table"]
    return read["transcripts"][column].compute(), table.X.sum() + table.obs["n_controls"].sum()


def digest(path):
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def columns_of(path):
    return {file.name: ParquetFile(file).read() for file in sorted((path / "points").rglob("part*.parquet"))}


def test_only_the_column_is_new_and_again_after_a_second_run(store):
    before = columns_of(store)
    sdata = sd.read_zarr(store)
    segmented(sdata, inplace=True, write="points", confidence_column="confidence")
    segmented(sdata, inplace=True, write="points", confidence_column="confidence", overwrite=True, min_transcripts=150)
    column, counted = in_store(store)
    assert (column > 0).sum() == counted > 0
    np.testing.assert_array_equal(column, sdata["transcripts"]["ucs_cell_id"].compute())
    np.testing.assert_array_equal(in_store(store, "confidence")[0], sdata["transcripts"]["confidence"].compute())
    after = columns_of(store)
    assert list(before) == list(after)
    for name, table in before.items():
        assert after[name].select(table.column_names).equals(table)
        assert after[name].column_names == [*table.column_names, "ucs_cell_id", "confidence"]
    whole = sd.read_zarr(store)["transcripts"].compute()
    pd.testing.assert_frame_equal(whole[scene().points.columns], sdata["transcripts"].compute()[scene().points.columns])


def test_a_stale_column_is_refused_before_anything_is_done(store):
    segmented(sd.read_zarr(store), inplace=True, write="points")
    before = digest(store)
    with pytest.raises(ValueError, match=r"column 'ucs_cell_id' of an earlier run.*write='points'"):
        segmented(sd.read_zarr(store), inplace=True, write=True, overwrite=True)
    assert digest(store) == before
    segmented(sd.read_zarr(store), inplace=True, write=True, key_added="other")


def test_points_that_are_not_those_of_the_store_are_refused(store):
    sdata = sd.read_zarr(store)
    points = sdata["transcripts"]
    some = points[points["x"] > 0]
    some.attrs.update(points.attrs)
    sdata["transcripts"] = some
    with pytest.raises(ValueError, match="in memory is not what the store"):
        segmented(sdata, inplace=True, write="points")


@pytest.mark.parametrize("write", ["all", 2])
def test_other_values_are_named(store, write):
    with pytest.raises(ValueError, match="must be False, True, or 'points'"):
        segmented(sd.read_zarr(store), inplace=True, write=write)


def test_all_or_nothing(store, monkeypatch):
    before = digest(store)
    move = _swap._move

    def fail(source, target):
        move(source, target)
        if target.parent.name == "points":
            raise OSError("the disk is gone")

    monkeypatch.setattr(_swap, "_move", fail)
    sdata = sd.read_zarr(store)
    with pytest.raises(OSError, match="the disk is gone"):
        segmented(sdata, inplace=True, write="points")
    assert digest(store) == before
    assert "ucs_cell_id" not in sdata["transcripts"].columns


def test_the_command_line_keeps_points_and_table_in_step(store, tmp_path):
    model().save(tmp_path / "model")
    run = ["segment", str(store), "--model", str(tmp_path / "model"), "--device", "cpu", "--quiet"]
    run += ["--no-check-alignment"]
    for more in ([], ["--overwrite", "--min-transcripts", "150"]):
        result = CliRunner().invoke(app, [*run, *more])
        assert result.exit_code == 0, result.output
        column, counted = in_store(store)
        assert (column > 0).sum() == counted > 0
    refused = CliRunner().invoke(app, [*run, "--overwrite", "--keep-points"])
    assert refused.exit_code != 0
    assert "of an earlier run" in " ".join(refused.output.split())


def test_nothing_is_left_of_an_earlier_run_in_memory(caplog):
    sdata = scene().sdata()
    segmented(sdata, inplace=True, confidence_column="confidence", foreground="inside", find_missing=True)
    assert "ucs_missing_nuclei" in sdata
    segmented(sdata, inplace=True, overwrite=True)
    assert "confidence" not in sdata["transcripts"].columns
    assert "inside" not in sdata
    assert "ucs_missing_nuclei" not in sdata
    assert "Removed what was left of the earlier run" in caplog.text
    column = sdata["transcripts"]["ucs_cell_id"].compute()
    assert (column > 0).sum() == sdata["ucs_table"].X.sum() + sdata["ucs_table"].obs["n_controls"].sum()


def test_what_a_run_would_leave_in_the_store_is_refused_before_anything_is_done(store):
    sdata = sd.read_zarr(store)
    segmented(sdata, inplace=True, write="points", foreground="inside", find_missing=True)
    before = digest(store)
    for write in ("points", True):
        with pytest.raises(ValueError, match=r"earlier run.*(delete_element_from_disk|key_added)"):
            segmented(sd.read_zarr(store), inplace=True, write=write, overwrite=True)
    assert digest(store) == before
    for key in ("ucs_missing_nuclei", "inside"):
        sdata.delete_element_from_disk(key)
    segmented(sdata, inplace=True, write="points", overwrite=True)
    read = sd.read_zarr(store)
    assert not {"ucs_missing_nuclei", "inside"} & {name for _, name, _ in read.gen_elements()}
    assert "inside" not in sdata


def test_a_column_that_a_run_does_not_make_goes_from_the_store_too(store):
    before = columns_of(store)
    sdata = sd.read_zarr(store)
    segmented(sdata, inplace=True, write="points", confidence_column="confidence")
    with pytest.raises(ValueError, match=r"'confidence'.*write='points'"):
        segmented(sdata, inplace=True, write=True, overwrite=True, points_column="cell")
    segmented(sdata, inplace=True, write="points", overwrite=True, points_column="cell")
    for name, table in columns_of(store).items():
        assert table.column_names == [*before[name].column_names, "cell"]
        assert table.select(before[name].column_names).equals(before[name])
    whole = sd.read_zarr(store)["transcripts"].compute()
    assert list(whole.columns) == [*scene().points.columns, "cell"]
    np.testing.assert_array_equal(whole["cell"], sdata["transcripts"]["cell"].compute())


def test_the_column_of_another_sample_goes_with_its_table():
    both = sd.concatenate({"a": scene().sdata(), "b": scene().sdata()})
    for name, overwrite in (("a", False), ("b", True)):
        segmented(both, f"transcripts-{name}", f"nucleus_labels-{name}", inplace=True, overwrite=overwrite)
    assert "ucs_cell_id" not in both["transcripts-a"].columns
    assert "ucs_cell_id" in both["transcripts-b"].columns
    ucs.tl.aggregate(both, "ucs_cells", "transcripts-b")


def test_the_column_of_another_sample_in_a_store(tmp_path):
    both = sd.concatenate({"a": scene().sdata(), "b": scene().sdata()})
    both.write(tmp_path / "both.zarr")
    both = sd.read_zarr(tmp_path / "both.zarr")
    segmented(both, "transcripts-a", "nucleus_labels-a", inplace=True, write="points")
    for write in ("points", True):
        with pytest.raises(ValueError, match=r"'ucs_cell_id' of the earlier run in points\['transcripts-a'\]"):
            segmented(both, "transcripts-b", "nucleus_labels-b", inplace=True, write=write, overwrite=True)
    segmented(both, "transcripts-b", "nucleus_labels-b", inplace=True, write="points", key_added="b")
