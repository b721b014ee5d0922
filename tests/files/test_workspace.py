from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ucs._files import workspace as module
from ucs._files.workspace import Workspace, closing, in_memory, open_raster, remove_leftovers
from ucs._utils.files import write_file
from ucs._utils.memory import resident_memory

SHAPE = (50, 70)


def in_folder(place, **options):
    workspace = Workspace(place, **options)
    workspace.use_folder()
    return workspace


def written(workspace, seed=0, name="labels"):
    """A raster of a workspace with numbers in it, and these numbers."""
    numbers = np.random.default_rng(seed).integers(0, 1000, SHAPE, dtype=np.int32)
    raster = workspace.raster(name, SHAPE, np.int32, 32)
    raster[:] = numbers
    return raster, numbers


@pytest.fixture
def living(tmp_path):
    """A process that works in a folder for temporary files."""
    code = (
        "import sys, pathlib, time; from ucs._files.workspace import Workspace; "
        "w = Workspace(pathlib.Path(sys.argv[1])); w.use_folder(); print('there', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)  # noqa: S603
    assert process.stdout.readline().strip() == b"there"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


# Memory or a folder


def test_in_memory_nothing_is_made(tmp_path):
    workspace = Workspace(tmp_path)
    raster, numbers = written(workspace)
    assert isinstance(raster, np.ndarray)
    assert not workspace.on_disk
    assert workspace.settle([raster])[0] is raster
    workspace.forget_rasters()
    np.testing.assert_array_equal(raster, numbers)
    workspace.close()
    assert not list(tmp_path.iterdir())


def test_what_fits_goes_by_what_is_held():
    held = resident_memory()
    assert Workspace().fits(1e18)
    workspace = Workspace(limit=held + 2**30)
    assert workspace.fits(2**28)
    assert not workspace.fits(2**31)
    assert not Workspace(limit=1).fits(0)


def test_a_raster_in_the_folder_is_found_again(tmp_path):
    workspace = in_folder(tmp_path)
    raster, numbers = written(workspace)
    assert raster.chunks == (32, 32)
    assert raster.dtype == np.int32
    np.testing.assert_array_equal(in_memory(workspace.raster("labels", SHAPE, np.int32, 32)), numbers)
    assert not in_memory(workspace.raster("other", SHAPE, np.int32, 32)).any()
    np.testing.assert_array_equal(open_raster(workspace.raster_folder, "labels", SHAPE, np.int32, 32)[:], numbers)
    assert workspace.use_folder() == workspace.folder
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path]
    workspace.close()
    assert not list(tmp_path.iterdir())
    workspace.close()  # nothing more to do


def test_the_place_is_made(tmp_path):
    workspace = in_folder(tmp_path / "a" / "b")
    assert workspace.folder.parent == tmp_path / "a" / "b"
    workspace.close()


def test_a_workspace_that_is_let_go_leaves_nothing(tmp_path):
    workspace = in_folder(tmp_path)
    written(workspace)
    del workspace
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_process_that_ends_without_closing_leaves_nothing(tmp_path):
    code = "import sys, pathlib; from ucs._files.workspace import Workspace; w = Workspace(pathlib.Path(sys.argv[1])); "
    for end in ("w.use_folder()", "w.use_folder(); 1 / 0", "w.use_folder(); sys.exit(3)"):
        subprocess.run([sys.executable, "-c", code + end, str(tmp_path)], check=False, capture_output=True)  # noqa: S603
        assert not list(tmp_path.iterdir())


# What runs leave behind


@pytest.fixture
def odd(tmp_path):
    """What looks like a leftover but is none: nothing in or behind it may be touched."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").write_text("mine")
    folders = {name: tmp_path / f".ucs-tmp-{name}" for name in ("made", "link", "locklink", "pipe", "folder", "hard")}
    folders["link"].symlink_to(elsewhere)
    for name, folder in folders.items():
        if name != "link":
            folder.mkdir()
    (folders["made"] / "results").write_text("mine")
    (folders["locklink"] / "lock").symlink_to(elsewhere / "lock")
    os.mkfifo(folders["pipe"] / "lock")
    (folders["folder"] / "lock").mkdir()
    os.link(elsewhere / "lock", folders["hard"] / "lock")
    (tmp_path / ".ucs-tmp-file").write_text("mine")
    return elsewhere


def test_leftovers_of_the_dead_are_removed_and_all_else_kept(tmp_path, living, odd):
    (mine,) = [path for path in tmp_path.glob(".ucs-tmp-*") if path.is_dir() and path.stat().st_mode & 0o77 == 0]
    before = set(tmp_path.iterdir())
    dead = tmp_path / ".ucs-tmp-dead"
    dead.mkdir()
    (dead / "lock").write_text('{"host": "another", "pid": 1}')  # nobody holds it, whatever it says
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == before
    assert mine.exists()
    assert (odd / "lock").read_text() == "mine"
    living.kill()
    living.wait()
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == before - {mine}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs folders of other users")
def test_those_of_other_users_are_kept(tmp_path):
    folder = tmp_path / ".ucs-tmp-theirs"
    folder.mkdir()
    (folder / "lock").touch()
    os.chown(folder, 12345, 12345)
    remove_leftovers(tmp_path)
    assert folder.exists()


def test_the_next_run_removes_what_a_killed_one_left(tmp_path, living):
    (left,) = tmp_path.iterdir()
    beside = in_folder(tmp_path)
    assert left.exists()  # it lives
    beside.close()
    living.send_signal(signal.SIGKILL)
    living.wait()
    assert left.exists()
    workspace = in_folder(tmp_path)
    assert not left.exists()
    workspace.close()
    assert not list(tmp_path.iterdir())


# Runs that may be continued


def test_the_folder_of_a_run_goes_by_its_name(tmp_path):
    first = Workspace(tmp_path, resumable="one")
    assert first.on_disk  # taken before any work is done
    assert first.folder.stat().st_mode & 0o777 == 0o700
    other = Workspace(tmp_path, resumable="two")
    name = first.folder
    assert name != other.folder
    first.close(keep=True)
    again = Workspace(tmp_path, resumable="one")
    assert again.folder == name
    for workspace in (other, again):
        workspace.close()


def test_it_stays_when_the_run_fails_and_goes_when_it_is_complete(tmp_path):
    def run(*, fail):
        with closing(Workspace(tmp_path, resumable="run")) as workspace:
            before = workspace.read("how far")
            workspace.write("how far", {"tiles": 3})
            if fail:
                raise KeyboardInterrupt
            return before

    with pytest.raises(KeyboardInterrupt):
        run(fail=True)
    (folder,) = tmp_path.iterdir()
    assert not (folder / "lock").exists()  # nobody works on it
    assert run(fail=False) == {"tiles": 3}
    assert not list(tmp_path.iterdir())


def test_the_folder_of_another_run_goes_if_it_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), closing(in_folder(tmp_path)):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_two_do_not_work_on_one_run(tmp_path):
    """Nor two threads of a process: the lock is that of the file as it was opened."""
    workspace = Workspace(tmp_path, resumable="run")
    with pytest.raises(RuntimeError, match=rf"Process {os.getpid()} on .* works on the same run in .*; wait for its"):
        Workspace(tmp_path, resumable="run")
    workspace.close(keep=True)
    Workspace(tmp_path, resumable="run").close()


@pytest.mark.parametrize("kind", ["link", "file", "writable", "foreign"])
def test_a_folder_that_is_not_only_the_users_is_not_continued(tmp_path, kind):
    workspace = Workspace(tmp_path, resumable="run")
    folder = workspace.folder
    workspace.close()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    if kind == "link":
        folder.symlink_to(elsewhere)
    elif kind == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777)
        if kind == "foreign":
            if os.geteuid():
                pytest.skip("needs folders of other users")
            os.chown(folder, 12345, 12345)
    with pytest.raises(PermissionError, match=f"{folder}.*no run is continued there. Delete it"):
        Workspace(tmp_path, resumable="run")
    assert (elsewhere / "mine").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\udcff"])
def test_a_damaged_folder_is_named(tmp_path, content):
    workspace = Workspace(tmp_path, resumable="run")
    (workspace.folder / "manifest.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=rf"The folder {workspace.folder} of a run .* is damaged .* Delete it"):
        workspace.read("manifest")
    workspace.close()


def reopened(workspace):
    """The same run in the next process."""
    place = workspace.place
    workspace.close(keep=True)
    return Workspace(place, resumable="run")


def test_clear_and_forget(tmp_path):
    workspace = Workspace(tmp_path, resumable="run")
    written(workspace)
    workspace.write("manifest", [1, 2])
    (workspace.raster_folder / "done").mkdir()
    (workspace.raster_folder / "done" / "3").touch()
    (workspace.folder / "model").mkdir()
    workspace.forget_rasters()
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["lock", "manifest.json", "model"]
    _, numbers = written(workspace, 1)  # of the next part
    again = reopened(workspace)
    assert not in_memory(again.raster("labels", SHAPE, np.int32, 32)).any()
    again.forget_rasters()
    np.testing.assert_array_equal(in_memory(again.raster("labels", SHAPE, np.int32, 32)), numbers)
    before = again.raster_folder
    again.clear()
    assert sorted(path.name for path in again.folder.iterdir()) == ["generation.json", "lock"]
    assert again.read("manifest") is None
    assert again.raster_folder != before  # what workers of a run that died still write goes nowhere
    again.close()


def test_what_is_removed_is_gone_if_the_process_ends_on_the_way(tmp_path, monkeypatch):
    """No mark of a tile without the tile, no manifest without what it tells of."""

    def end(*_, **__):
        raise KeyboardInterrupt

    workspace = Workspace(tmp_path, resumable="run")
    written(workspace)
    workspace.write("manifest", [1])
    (workspace.folder / "a").mkdir()
    for remove, left in (("forget_rasters", [1]), ("clear", None)):
        with monkeypatch.context() as patch:
            patch.setattr(module.shutil, "rmtree", end if left is None else ends_with_all(end))
            with pytest.raises(KeyboardInterrupt):
                getattr(workspace, remove)()
        workspace = reopened(workspace)
        assert workspace.read("manifest") == left
        assert not list(workspace.raster_folder.iterdir())
    workspace.write("manifest", [2])
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", end)
        with pytest.raises(KeyboardInterrupt):
            workspace.close()
    assert [path.name[:9] for path in tmp_path.iterdir()] == [".ucs-tmp-"]
    again = Workspace(tmp_path, resumable="run")
    assert again.read("manifest") is None
    again.close()


def ends_with_all(end):
    """Removing ends the process, but where errors are ignored as nothing may be there."""
    return lambda *arguments, **options: None if options else end(*arguments)


# Files


def test_a_file_is_as_before_or_complete(tmp_path, monkeypatch):
    path = tmp_path / "values.json"
    write_file(path, b"first")
    write_file(path, b"second")
    assert path.read_bytes() == b"second"

    def fail(*_):
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(OSError, match="No space left"):
                write_file(path, b"third")
        assert [one.name for one in tmp_path.iterdir()] == ["values.json"]
    assert path.read_bytes() == b"second"


def test_a_file_under_kill_is_always_complete(tmp_path):
    path = tmp_path / "values.json"
    code = (
        "import sys, pathlib, json; from ucs._utils.files import write_file\n"
        "k = 0\n"
        "while True:\n"
        "    k += 1\n"
        "    write_file(pathlib.Path(sys.argv[1]), json.dumps([k] * 50_000).encode())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)])  # noqa: S603
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)
    for _ in range(20):
        assert len(set(json.loads(path.read_text()))) == 1
    process.kill()
    process.wait()
    assert len(json.loads(path.read_text())) == 50_000


# What outlives the folder


@pytest.mark.parametrize("resumable", [None, "run"])
def test_settled_rasters_outlive_the_folder(tmp_path, resumable):
    for limit in (None, 1):
        workspace = in_folder(tmp_path, resumable=resumable)
        workspace.limit = limit
        made = [written(workspace, seed, name) for seed, name in enumerate(("cells", "confidence"))]
        settled = workspace.settle([raster for raster, _ in made])
        workspace.close()
        for raster, (_, numbers) in zip(settled, made, strict=True):
            assert isinstance(raster, np.ndarray) == (limit is None)
            np.testing.assert_array_equal(in_memory(raster), numbers)
    assert len(list(tmp_path.iterdir())) == 1  # until the process ends
    remove_leftovers(tmp_path)
    np.testing.assert_array_equal(in_memory(settled[0]), made[0][1])


def test_they_go_when_the_process_ends(tmp_path):
    code = (
        "import sys, pathlib, numpy; from ucs._files.workspace import Workspace\n"
        "w = Workspace(pathlib.Path(sys.argv[1]), limit=1); w.use_folder()\n"
        "r, = w.settle([w.raster('a', (9, 9), 'i4', 4)]); w.close()\n"
        "assert len(list(pathlib.Path(sys.argv[1]).iterdir())) == 1\n"
        "assert r[:].shape == (9, 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)  # noqa: S603
    assert not list(tmp_path.iterdir())
