"""Runs that do not fit into memory, or onto a disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import resumed
import spatialdata as sd
from calls import segment
from helpers import cheap_copy
from interrupted import interrupt

from ucs._files import workspace as _workspace
from ucs._files.workspace import Workspace
from ucs._run import output as _output
from ucs._run import scratch_dir as _place
from ucs._run.scratch_dir import fit_tiles, place_of
from ucs._utils import memory as _memory
from ucs.methods import DensityMethod

BYTES_OF_TILE = DensityMethod().bytes_of_tile
SHAPE = (3000, 4000)
MIB = 2**20


@pytest.fixture(scope="module")
def tissue():
    return resumed.tissue()


@pytest.fixture(scope="module")
def model():
    return resumed.model()


@pytest.fixture(scope="module")
def expected(tissue, model):
    """Cells with no limit."""
    return run(tissue, model, memory_limit=None)


@pytest.fixture
def nothing_held(monkeypatch):
    """A process that holds nothing yet, so that limits are those of what is to come."""
    monkeypatch.setattr(_workspace, "resident_memory", lambda: 0)
    monkeypatch.setattr(_place, "resident_memory", lambda: 0)


@pytest.fixture
def no_rasters_in_memory(monkeypatch):
    """Tiles, of some MB, fit; the rasters of the whole, of less, do not."""
    monkeypatch.setattr(Workspace, "fits", lambda workspace, n_bytes: workspace.on_disk and n_bytes > 10**6)


def run(sdata, model, **options):
    return segment(sdata, model=model, **{"tile_size": 96, **options})


def assert_same(one, other):
    np.testing.assert_array_equal(np.asarray(one["ucs_cells"]), np.asarray(other["ucs_cells"]))
    tables = one["ucs_table"], other["ucs_table"]
    assert (tables[0].X != tables[1].X).nnz == 0
    assert (tables[0].layers["nucleus"] != tables[1].layers["nucleus"]).nnz == 0
    assert tables[0].obs.equals(tables[1].obs)
    assert tables[0].var.equals(tables[1].var)
    np.testing.assert_array_equal(tables[0].obsm["spatial"], tables[1].obsm["spatial"])
    assert one["ucs_boundaries"].geometry.geom_equals(other["ucs_boundaries"].geometry).all()
    assert one["ucs_boundaries"].index.equals(other["ucs_boundaries"].index)
    columns = [of["transcripts"]["ucs_cell_id"].compute().to_numpy() for of in (one, other)]
    np.testing.assert_array_equal(*columns)


# Where rasters are held, and in tiles of which size


@pytest.mark.usefixtures("nothing_held")
def test_tiles_shrink_until_they_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "PLAIN_PIXELS", SHAPE[0] * SHAPE[1])

    def fitted(limit_mib, tile_size):
        workspace = Workspace(tmp_path, limit=None if limit_mib is None else int(limit_mib * MIB))
        side = fit_tiles(workspace, SHAPE, tile_size, bytes_of_tile=BYTES_OF_TILE)
        on_disk = workspace.on_disk
        workspace.close()
        return side, on_disk

    assert fitted(None, 2048) == (2048, False)
    assert fitted(10_000, 2048) == (2048, False)
    n_mib = SHAPE[0] * SHAPE[1] / MIB
    sides = [fitted(n_mib + of_tiles, 2048) for of_tiles in (500, 200, 60, 20)]
    assert all(on_disk for _, on_disk in sides)
    assert [side for side, _ in sides] == sorted((side for side, _ in sides), reverse=True)
    assert sides[0][0] > sides[-1][0]
    assert fitted(n_mib + 20, 100)[0] == 100  # a tile that is small enough stays as it is
    message = r"compute\['memory_limit'\] allows .* GiB, of which 0 GiB are held already; even with"
    with pytest.raises(MemoryError, match=message):
        fitted(n_mib + 1, 2048)
    assert not list(tmp_path.iterdir()) or all(path.name.startswith(".ucs-tmp-") for path in tmp_path.iterdir())


@pytest.mark.usefixtures("nothing_held")
@pytest.mark.parametrize(("plain_pixels", "on_disk"), [(10**9, True), (10**6, False)])
def test_what_is_compressed_fits_where_plain_rasters_do_not(tmp_path, monkeypatch, plain_pixels, on_disk):
    monkeypatch.setattr(_memory, "PLAIN_PIXELS", plain_pixels)
    workspace = Workspace(tmp_path, limit=160 * MIB)
    fit_tiles(workspace, SHAPE, 960, bytes_of_tile=BYTES_OF_TILE)
    assert workspace.on_disk == on_disk
    workspace.close()


@pytest.mark.usefixtures("nothing_held")
def test_rasters_on_disk_need_room_there(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    workspace = Workspace(tmp_path, limit=100 * MIB)
    with pytest.raises(OSError, match=r"The run needs about .* GiB in the scratch folder .*, where .* GiB are free"):
        fit_tiles(workspace, SHAPE, 2048, bytes_of_tile=BYTES_OF_TILE)
    workspace.close()
    assert not list(tmp_path.iterdir())


def test_a_workspace_on_disk_stays_there(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.use_folder()
    assert fit_tiles(workspace, SHAPE, 777, bytes_of_tile=BYTES_OF_TILE) == 777
    assert workspace.on_disk
    workspace.close()


# The whole job


@pytest.mark.usefixtures("no_rasters_in_memory")
def test_on_disk_all_results_are_the_same(tissue, model, expected, tmp_path):
    made = run(tissue, model, memory_limit="100 GiB", scratch=tmp_path)
    assert [path.name[:9] for path in tmp_path.iterdir()] == [".ucs-tmp-"]  # the cells' labels, till the process ends
    assert_same(made, expected)
    made.write(tmp_path / "out.zarr")
    assert_same(sd.read_zarr(tmp_path / "out.zarr"), expected)


def test_large_rasters_are_compressed_in_memory_and_all_results_are_the_same(
    tissue, model, expected, tmp_path, monkeypatch
):
    """Labels, table, shapes, columns; copied and written, too."""
    monkeypatch.setattr("ucs._files.workspace.PLAIN_PIXELS", 0)
    made = run(tissue, model, scratch=tmp_path / "scratch")
    assert not list((tmp_path / "scratch").iterdir())
    for sdata in (made, sd.deepcopy(made)):
        assert_same(sdata, expected)
    made.write(tmp_path / "out.zarr")
    assert_same(sd.read_zarr(tmp_path / "out.zarr"), expected)


@pytest.mark.usefixtures("nothing_held")
def test_a_limit_that_rasters_exceed(tissue, model, expected, tmp_path, caplog):
    caplog.set_level("INFO", "ucs")
    limit = BYTES_OF_TILE(96, 121 * 151) + 2 * 121 * 151
    made = run(tissue, model, memory_limit=limit, scratch=tmp_path)
    assert "Rasters are held in" in caplog.text
    assert_same(made, expected)


@pytest.mark.usefixtures("no_rasters_in_memory")
def test_with_the_column_of_confidence_and_missing_cells(tissue, model, tmp_path):
    options = {"confidence_column": "sure", "find_missing": True}
    made = run(tissue, model, memory_limit="100 GiB", scratch=tmp_path, **options)
    expected = run(tissue, model, memory_limit=None, **options)
    assert_same(made, expected)
    columns = [of["transcripts"]["sure"].compute().to_numpy() for of in (made, expected)]
    np.testing.assert_array_equal(*columns)


@pytest.mark.usefixtures("no_rasters_in_memory")
def test_missing_cells_that_are_not_there(tissue, model, expected, tmp_path, monkeypatch):
    """Rasters of the first time are removed before the second, which does not come."""
    none = "ucs._run.missing.find_missing_nuclei"
    monkeypatch.setattr(none, lambda raster, *_, **__: (0 * raster.nuclei, np.zeros(0)))
    made = run(tissue, model, memory_limit="100 GiB", scratch=tmp_path, find_missing=True)
    assert made["ucs_table"].uns["ucs"]["qc"]["n_missing_cells"] == 0
    np.testing.assert_array_equal(made["ucs_table"].obs["confidence"], expected["ucs_table"].obs["confidence"])
    np.testing.assert_array_equal(np.asarray(made["ucs_cells"]), np.asarray(expected["ucs_cells"]))


@pytest.mark.usefixtures("no_rasters_in_memory")
def test_written_to_the_store(tissue, model, expected, tmp_path):
    store, scratch = tmp_path / "tissue.zarr", tmp_path / "scratch"
    cheap_copy(tissue).write(store)
    sdata = sd.read_zarr(store)
    run(sdata, model, write=True, inplace=True, memory_limit="100 GiB", scratch=scratch)
    assert_same(sdata, expected)
    written = sd.read_zarr(store)
    np.testing.assert_array_equal(np.asarray(written["ucs_cells"]), np.asarray(expected["ucs_cells"]))


def test_far_too_little_memory(tissue, model, tmp_path):
    before = names(tissue)
    with pytest.raises(MemoryError, match=r"\d"):
        run(tissue, model, inplace=True, memory_limit="1 MB", scratch=tmp_path)
    assert names(tissue) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ("lots", ValueError),
        ("6 GiX", ValueError),
        (-1, ValueError),
        (0, ValueError),
        (np.nan, ValueError),
        (True, TypeError),
    ],
)
def test_limits_that_are_none(tissue, model, limit, error):
    with pytest.raises(error, match="memory_limit="):
        run(tissue, model, memory_limit=limit)


def test_what_was_held_is_recorded(expected):
    recorded = expected["ucs_table"].uns["ucs"]["peak_memory_gib"]
    assert 0.05 < recorded < 100


# The scratch folder


def test_it_is_a_file(tissue, model, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(NotADirectoryError, match=r"compute\['scratch'\]='.*file' is a file; name a folder"):
        run(tissue, model, scratch=file)
    assert file.read_text() == "mine"


def test_it_is_read_only(tissue, model, tmp_path, monkeypatch):
    original = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and original(path, mode))
    with pytest.raises(PermissionError, match=f"{tmp_path} cannot be written to"):
        run(tissue, model, scratch=tmp_path)
    assert not list(tmp_path.iterdir())


def test_it_is_made(tissue, tmp_path):
    assert place_of(tmp_path / "a" / "b", tissue, resume=False) == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    assert place_of(None, tissue, resume=False) is None


# Disks that are full


def names(sdata):
    return {name for _, name, _ in sdata.gen_elements()}


@pytest.mark.usefixtures("no_rasters_in_memory")
@pytest.mark.parametrize("resume", [False, True])
def test_a_disk_that_fills_up_leaves_all_as_it_was(tissue, model, expected, tmp_path, monkeypatch, resume):
    store, scratch = tmp_path / "tissue.zarr", tmp_path / "scratch"
    cheap_copy(tissue).write(store)
    sdata, calls, original = sd.read_zarr(store), [], _output.mark_done
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}, names(sdata)

    def mark(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments)

    options = {"inplace": True, "scratch": scratch, "write": True, "resume": resume, "memory_limit": "100 GiB"}
    with monkeypatch.context() as patch:
        patch.setattr(_output, "mark_done", mark)
        with pytest.raises(OSError, match="No space left"):
            run(sdata, model, **options)
    assert ({path: path.stat().st_mtime_ns for path in store.rglob("*")}, names(sdata)) == before
    assert len(list(scratch.iterdir())) == int(resume)
    with monkeypatch.context() as patch:
        tiles = interrupt(patch, "tile", -1)
        run(sdata, model, **options)
    assert tiles() == (resumed.N_TILES - 2 if resume else resumed.N_TILES)
    assert_same(sdata, expected)


def test_no_room_from_the_start(tissue, model, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    before = names(tissue)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10))
    monkeypatch.setattr(Workspace, "fits", lambda workspace, _: workspace.on_disk)
    with pytest.raises(OSError, match=r"Name another folder with compute=\{'scratch': ...\}"):
        run(tissue, model, inplace=True, scratch=tmp_path, memory_limit="100 GiB")
    assert names(tissue) == before
    assert not list(tmp_path.iterdir())
