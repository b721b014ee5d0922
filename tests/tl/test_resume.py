"""Runs that are interrupted or killed and called again: they go on where they ended."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import resumed
import spatialdata as sd
from helpers import cheap_copy
from interrupted import begun as begun_in_process
from interrupted import interrupt, killed, stopped
from resumed import N_TILES, PARAMS, assert_same, counted, cut_short, other_transcripts, run, without_some_nuclei


@pytest.fixture(scope="module")
def tissue():
    return resumed.tissue()


@pytest.fixture(scope="module")
def model():
    return resumed.model()


@pytest.fixture(scope="module")
def expected(tissue):
    """An undisturbed run that trains its model."""
    return run(tissue)


@pytest.fixture
def store(tissue, tmp_path):
    path = tmp_path / "data" / "tissue.zarr"
    cheap_copy(tissue).write(path)
    return path


# The same run goes on


def test_finished_tiles_and_the_model_are_not_made_again(tissue, expected, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "ucs")
    options = {"resume": True, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, **options)
    (folder,) = tmp_path.iterdir()
    assert {"manifest.json", "tiles.json", "model"} <= {path.name for path in folder.iterdir()}
    cut_short(tissue, monkeypatch, call=2, **options)
    made, tiles, steps = counted(tissue, monkeypatch, **options)
    assert (tiles, steps) == (N_TILES - 3, 0)
    assert "Continuing the run" in caplog.text
    assert f"3 of {N_TILES} tiles are there already" in caplog.text
    assert "begun afresh" not in caplog.text
    assert_same(made, expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("stage", "call", "tiles_left"), [("refine", 2, 0), ("elements", 1, 0), ("mark", 2, 3)])
def test_wherever_it_ended(tissue, expected, tmp_path, monkeypatch, stage, call, tiles_left):
    options = {"resume": True, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, stage, call, **options)
    made, tiles, steps = counted(tissue, monkeypatch, **options)
    assert (tiles, steps) == (tiles_left, 0)
    assert_same(made, expected)


def test_an_end_in_training_begins_training_again(tissue, expected, tmp_path, monkeypatch):
    options = {"resume": True, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, "training", 3, **options)
    made, tiles, steps = counted(tissue, monkeypatch, **options)
    assert (tiles, steps) == (N_TILES, 5)
    assert_same(made, expected)


def test_what_does_not_decide_the_cells_may_differ(tissue, expected, tmp_path, monkeypatch):
    """Names of columns make another run, but how it is computed and which cells are kept do not."""
    options = {"resume": True, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, **options)
    others = {"tile_size": 500, "memory_limit": None, "min_transcripts": 1}
    with monkeypatch.context() as patch:
        tiles = interrupt(patch, "tile", -1)
        made = run(tissue, **others, **options)
    assert tiles() == N_TILES - 2
    assert_same(made, expected)


def test_without_resume_nothing_is_left_and_nothing_continued(tissue, model, tmp_path, monkeypatch):
    options = {"model": model, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, **options)
    assert not list(tmp_path.iterdir())
    cut_short(tissue, monkeypatch, **options, resume=True)
    _, tiles, _ = counted(tissue, monkeypatch, **options)
    assert tiles == N_TILES
    assert len(list(tmp_path.iterdir())) == 1  # that of the other run


def test_a_run_with_models_of_regions(tissue, tmp_path, monkeypatch):
    options = {"regions": 100, "params": {"max_steps": 3, "min_nuclei": 4}}
    expected = run(tissue, **options)
    options |= {"resume": True, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, **options)
    made, tiles, steps = counted(tissue, monkeypatch, **options)
    assert (tiles, steps) == (N_TILES - 2, 0)
    assert_same(made, expected)


@pytest.mark.parametrize("call", [N_TILES, N_TILES + 3])
def test_a_run_that_looks_for_missing_cells(tissue, model, tmp_path, monkeypatch, call):
    """It predicts twice: tiles of the second time are not taken for those of the first."""
    options = {"find_missing": True, "model": model}
    expected = run(without_some_nuclei(tissue), **options)
    assert expected["ucs_table"].uns["ucs"]["qc"]["n_missing_cells"] > 0
    options |= {"resume": True, "scratch": tmp_path}
    cut_short(without_some_nuclei(tissue), monkeypatch, call=call, **options)
    made, tiles, _ = counted(without_some_nuclei(tissue), monkeypatch, **options)
    assert tiles <= 2 * N_TILES - (call - 1 if call <= N_TILES else 2)
    assert_same(made, expected)
    assert not list(tmp_path.iterdir())


# Killed processes


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param([("tile", 3), ("move", 2)], id="twice"),
        pytest.param(
            [("training", 3), ("model", 1), ("tile", 3), ("mark", 2), ("refine", 3), ("move", 2)],
            id="at each step",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_killed_again_and_again_it_gives_what_an_undisturbed_run_gives(store, expected, monkeypatch, ends):
    """In training, while the model is saved, in tiles, in refinement and while results are written."""
    options = {"resume": True, "write": True, "tile_size": 96, "params": PARAMS}
    before = {path.relative_to(store) for path in store.rglob("*")}
    for stage, call in ends:
        assert killed(store, stage, call, **options) == -signal.SIGKILL, stage
        if stage != "move":
            assert {path.relative_to(store) for path in store.rglob("*")} == before, stage
        names = {name for _, name, _ in sd.read_zarr(store).gen_elements()}
        assert {"transcripts", "nucleus_labels"} <= names
        assert len([path for path in store.parent.iterdir() if path.name.startswith(".ucs-resume-")]) == 1
    sdata = sd.read_zarr(store)
    with monkeypatch.context() as patch:
        tiles = interrupt(patch, "tile", -1)
        run(sdata, inplace=True, **options)
    assert tiles() == 0
    assert_same(sdata, expected)
    written = sd.read_zarr(store)
    np.testing.assert_array_equal(np.asarray(written["ucs_cells"]), np.asarray(expected["ucs_cells"]))
    assert [path.name for path in store.parent.iterdir()] == [store.name]
    assert not [path for path in store.iterdir() if path.name.startswith(".ucs")]


@pytest.mark.slow
def test_killed_at_any_moment(store, expected):
    random = np.random.default_rng(0)
    options = {"resume": True, "write": True, "tile_size": 96, "params": PARAMS, "overwrite": True}
    for _ in range(5):
        process = begun_in_process(store, **options)
        process.join(random.uniform(1, 8))
        process.kill()
        process.join()
        assert {"transcripts", "nucleus_labels"} <= {name for _, name, _ in sd.read_zarr(store).gen_elements()}
    sdata = sd.read_zarr(store)
    run(sdata, inplace=True, **options)
    assert_same(sdata, expected)
    labels = np.asarray(sd.read_zarr(store)["ucs_cells"])
    np.testing.assert_array_equal(labels, np.asarray(expected["ucs_cells"]))
    assert [path.name for path in store.parent.iterdir()] == [store.name]


def test_two_processes_on_one_run(store, expected, tmp_path):
    options = {"resume": True, "tile_size": 96, "params": PARAMS}
    process = stopped(store, "tile", 3, tmp_path / "sign", **options)
    try:
        with pytest.raises(RuntimeError, match=rf"Process {process.pid} on .* works on the same run in .*; wait for"):
            run(sd.read_zarr(store), inplace=True, **options)
        assert process.is_alive()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    sdata = sd.read_zarr(store)
    run(sdata, inplace=True, **options)
    assert_same(sdata, expected)
    assert [path.name for path in store.parent.iterdir()] == [store.name]


def test_a_store_that_changed_between_the_attempts(store, tissue, monkeypatch, caplog):
    options = {"resume": True, "inplace": True}
    with monkeypatch.context() as patch:
        interrupt(patch, "tile", 4)
        with pytest.raises(KeyboardInterrupt):
            run(sd.read_zarr(store), **options)
    changed = other_transcripts(tissue)
    shutil.rmtree(store)
    cheap_copy(changed).write(store)
    sdata = sd.read_zarr(store)
    run(sdata, **options)
    assert "begun afresh" in caplog.text
    assert_same(sdata, run(changed))


# What cannot be


def test_without_a_store_or_scratch(tissue):
    with pytest.raises(ValueError, match=r"compute=\{'resume': True\} needs a folder that is found again: name one"):
        run(cheap_copy(tissue), resume=True)


def test_the_folder_is_that_of_the_store(store, model, monkeypatch):
    sdata = sd.read_zarr(store)
    cut_short(sdata, monkeypatch, resume=True, model=model)
    left = [path for path in store.parent.iterdir() if path != store]
    assert [path.name[:12] for path in left] == [".ucs-resume-"]
    run(sdata, resume=True, model=model)
    assert [path.name for path in Path(store).parent.iterdir()] == [store.name]
