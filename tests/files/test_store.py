"""The user's store when the process is killed while it writes, when the disk is full, or when it may not be written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import spatialdata as sd
import zarr
from kill_writer import elements, original, version_of

from ucs._files import store as _store
from ucs._files import swap as _swap
from ucs._files.journal import Journal
from ucs._files.store import bytes_to_write, check_store, mend_store, write_elements
from ucs._files.swap import swapping

KEYS = ("ours", "cells", "counts")

pytestmark = pytest.mark.filterwarnings("ignore:zarr v3 autosharding")


def files_of(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def versions(store: Path) -> set[int | None]:
    read = sd.read_zarr(store)
    np.testing.assert_array_equal(read["users"], np.arange(64).reshape(8, 8))
    return {version_of(read, key) for key in KEYS}


def hidden(store: Path) -> list[Path]:
    return list(store.glob(".ucs-*"))


@pytest.fixture(scope="module", params=[False, True], ids=["new", "overwrite"])
def with_results(request) -> bool:
    return request.param


@pytest.fixture(scope="module")
def untouched(with_results, tmp_path_factory) -> Path:
    """A store with an element of the user's, and perhaps results of an earlier run."""
    store = tmp_path_factory.mktemp("untouched") / "tissue.zarr"
    original(store, with_results=with_results)
    return store


@pytest.fixture
def store(untouched, tmp_path) -> Path:
    return Path(shutil.copytree(untouched, tmp_path / "tissue.zarr"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestKilled:
    @pytest.fixture(scope="class", params=[("steps", 20), ("moments", 5)], ids=["steps", "moments"])
    @classmethod
    def killed(cls, request, untouched, tmp_path_factory) -> Path:
        """A folder with stores in which a process was killed."""
        folder = tmp_path_factory.mktemp("killed")
        program = Path(__file__).parents[1] / "support" / "kill_writer.py"
        command = [sys.executable, str(program), str(untouched), str(folder), *map(str, request.param)]
        subprocess.run(command, check=True, timeout=900, capture_output=True)
        return folder

    def test_each_time_it_can_be_read_and_is_mended(self, killed, untouched, with_results):
        before, after = files_of(untouched), files_of(killed / "undisturbed.zarr")
        assert versions(killed / "undisturbed.zarr") == {2}
        stores = sorted(killed.glob("[0-9]*.zarr"))
        assert len(stores) >= 5
        undone = 0
        for store in stores:
            seen = versions(store)  # as it was left: what is being replaced may be absent, but nothing is broken
            assert seen <= {None, 1, 2}, store
            undone += any((folder / "journal.json").is_file() for folder in hidden(store))
            mend_store(store)
            assert not hidden(store)
            (version,) = versions(store)
            assert version in ({1, 2} if with_results else {None, 2}), store
            if version == 2:
                assert set(files_of(store)) == set(after)
            else:
                assert files_of(store) == before, store
        assert undone > 10 or len(stores) < 20

    def test_writing_again_mends_it(self, killed):
        stores = sorted(killed.glob("[0-9]*.zarr"))
        for store in stores[::5]:
            write_elements(store, elements(2))
            assert versions(store) == {2}
            assert not hidden(store)


class TestLeftovers:
    def test_a_writer_that_lives_is_waited_for(self, store, caplog):
        with ThreadPoolExecutor(1) as other:
            with swapping(_store._area(store)) as swap:
                waiting = other.submit(write_elements, store, elements(2))
                with pytest.raises(TimeoutError):
                    waiting.result(1.5)
                assert set(hidden(store)) == {swap.folder, swap.area.lock}
                assert "which another run is writing to" in caplog.text
            waiting.result(60)
        assert versions(store) == {2}
        assert hidden(store) == []

    def test_it_is_said_if_something_was_undone(self, store, caplog):
        folder = store / ".ucs-write-abcdefgh"
        for part in ("new", "files", "replaced"):
            (folder / part).mkdir(parents=True)
        Journal([], [], {}).write(folder)
        before = versions(store)
        sdata = sd.read_zarr(store)
        check_store(sdata, {"other": "labels"}, overwrite=False)
        assert "A process was killed while it wrote to" in caplog.text
        assert not hidden(store)
        assert versions(store) == before


class TestFullDisk:
    @pytest.mark.parametrize(
        ("where", "at"),
        [
            ("zarr.storage._local._put", 0),
            ("zarr.storage._local._put", 20),
            ("zarr.storage._local._put", -1),
            ("spatialdata._io.write_shapes", 0),
            ("ucs._files.journal.write_file", 0),
            ("ucs._files.swap.write_file", 0),
            ("ucs._files.swap.write_file", 2),
            ("ucs._files.swap._move", 0),
            ("ucs._files.swap._move", 1),
            ("ucs._files.swap._move", 2),
        ],
    )
    def test_while_writing(self, store, untouched, tmp_path, where, at, monkeypatch):
        before = files_of(store)
        module, _, name = where.rpartition(".")
        original = getattr(sys.modules[module], name)
        calls = []

        def full(*arguments, **options):
            calls.append(name)
            if len(calls) > at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*arguments, **options)

        if at < 0:  # from the end, of as many as there are
            with monkeypatch.context() as patch:
                at = 10**6
                patch.setattr(where, full)
                write_elements(Path(shutil.copytree(untouched, tmp_path / "other.zarr")), elements(2))
            at = len(calls) - 1
            calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(where, full)
            message = rf"The disk of {store} is full: ours, cells, counts could not be written"
            with pytest.raises(OSError, match=message) as error:
                write_elements(store, elements(2))
        assert error.value.errno == errno.ENOSPC
        assert files_of(store) == before
        assert not hidden(store)

    def test_before_the_work(self, store, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(10**12, 10**12, 5 * 2**20))
        _swap.check_space(store, 4 * 2**20, "The result")
        needed = bytes_to_write(n_pixels=41_000_000, n_cells=110_000, n_entries=0)
        with pytest.raises(OSError, match=r"needs about .* on the disk of .*, which has 5 MiB left") as error:
            _swap.check_space(store, needed, "The result")
        assert error.value.errno == errno.ENOSPC

    def test_before_anything_is_written(self, store, monkeypatch):
        before = files_of(store)
        monkeypatch.setattr(shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(10**12, 10**12, 50))
        with pytest.raises(OSError, match="To write ours, cells, counts needs about"):
            write_elements(store, elements(2))
        assert files_of(store) == before

    def test_the_estimate_is_rather_too_low(self, store):
        """So that nothing is refused that would have fitted."""
        made = elements(2)
        write_elements(store, made)
        paths = ("labels/ours", "shapes/cells", "tables/counts")
        written = sum(len(content) for name, content in files_of(store).items() if name.startswith(paths))
        assert 0 < sum(map(_store._bytes_of, made.values())) < written


class TestReadOnly:
    @pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
    @pytest.mark.parametrize("kind", ["", "labels"])
    def test_it_is_said_before_the_work(self, store, kind):
        sdata = sd.read_zarr(store)
        (store / kind).chmod(0o555)
        try:
            with pytest.raises(PermissionError, match="cannot be written to: its permissions forbid it"):
                check_store(sdata, {"ours": "labels"}, overwrite=True)
        finally:
            (store / kind).chmod(0o755)

    def test_as_the_system_tells(self, store, monkeypatch):
        sdata, before = sd.read_zarr(store), files_of(store)
        monkeypatch.setattr(os, "access", lambda *_arguments: False)
        with pytest.raises(PermissionError, match="or its disk is read-only"):
            check_store(sdata, {"ours": "labels"}, overwrite=True)
        with pytest.raises(PermissionError, match="or its disk is read-only"):
            write_elements(store, elements(2))
        assert files_of(store) == before


def test_a_failure_to_undo_keeps_what_was_there(store, with_results, monkeypatch):
    """What was moved away must not be deleted with the folder it is in."""
    before = files_of(store)

    def fail(*_arguments, **_options):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(_store, "finish", fail)
        patch.setattr(_swap, "undo", fail)
        with pytest.raises(OSError, match="broken"):
            write_elements(store, elements(2))
    assert hidden(store)
    mend_store(store)
    assert files_of(store) == before


@pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format")
@pytest.mark.parametrize("consolidated", [False, True])
def test_of_the_older_version_of_zarr(tmp_path, monkeypatch, consolidated):
    from spatialdata._io.format import SpatialDataContainerFormatV01

    store = tmp_path / "old.zarr"
    original(tmp_path / "new.zarr", with_results=True)
    sdata = sd.read_zarr(tmp_path / "new.zarr")
    sdata.write(store, update_sdata_path=False, sdata_formats=SpatialDataContainerFormatV01())
    if consolidated:
        with pytest.warns(zarr.errors.ZarrUserWarning, match="not recognized"):  # shapes.parquet
            zarr.consolidate_metadata(store)
    before = files_of(store)
    assert (".zmetadata" in before) == consolidated

    def fail(*_arguments, **_options):
        assert versions(store) == {2}  # already, but not all is listed yet
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_store, "finish", fail)
        with pytest.raises(OSError, match="could not be written"):
            write_elements(store, elements(2))
    assert files_of(store) == before
    write_elements(store, elements(2))
    assert versions(store) == {2}
    assert set(files_of(store)) == set(before)
