"""The user's store when the process is killed while it writes, when the disk is full, or when it may not be written."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import spatialdata as sd
import zarr
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel
from store_versions import elements, original, version_of

from ucs._files import store as _store
from ucs._files import swap as _swap
from ucs._files.disk import check_space
from ucs._files.journal import Journal
from ucs._files.listing import elements_on_disk, listed_elements
from ucs._files.store import bytes_to_write, check_store, mend_store, write_elements
from ucs._files.swap import swapping
from ucs._results.write import Elements, add_elements

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


class TestTwoWriters:
    @staticmethod
    def labels(value: int) -> object:
        return Labels2DModel.parse(np.full((8, 8), value, dtype=np.int32), dims=("y", "x"))

    def test_different_keys_both_arrive(self, store):
        with ThreadPoolExecutor(2) as threads:
            for key in ("one", "two"):
                threads.submit(write_elements, store, {key: self.labels(1)}, replaced=())
        read = sd.read_zarr(store)
        assert {"one", "two", "users"} <= set(read.labels)
        listed = zarr.open_group(store / "labels", mode="r", use_consolidated=False).attrs["ome"]["labels"]
        assert {"one", "two", "users"} <= set(listed)
        assert not hidden(store)

    def test_of_one_key_the_second_is_refused(self, store):
        """Also if it was free when the second began."""
        with ThreadPoolExecutor(2) as threads:
            writers = [threads.submit(write_elements, store, {"one": self.labels(k)}, replaced=()) for k in (1, 2)]
        refused = [writer.exception() for writer in writers]
        (first,) = (k for k, error in enumerate(refused) if error is None)
        with pytest.raises(
            ValueError, match=r"holds labels\['one'\]; pass overwrite=True to replace it or another key"
        ):
            raise refused[1 - first]
        assert int(np.asarray(sd.read_zarr(store)["one"]).max()) == first + 1

    def test_an_element_that_the_user_writes_meanwhile_stays_and_is_listed(self, store, monkeypatch):
        finish = _store.finish

        def finish_later(*arguments, **options):
            theirs = SpatialData(labels={"theirs": self.labels(3)})
            theirs.write(store.with_name("theirs.zarr"))
            shutil.copytree(store.with_name("theirs.zarr") / "labels" / "theirs", store / "labels" / "theirs")
            finish(*arguments, **options)

        monkeypatch.setattr(_store, "finish", finish_later)
        write_elements(store, {"one": self.labels(1)})
        assert listed_elements(store) == elements_on_disk(store) >= {"labels/one", "labels/theirs", "labels/users"}

    def test_a_reader_meanwhile(self, store, monkeypatch):
        """It finds each element whole, or not at all."""
        move, seen = _swap._move, []

        def read_and_move(source: Path, target: Path) -> None:
            seen.append(versions(store))
            move(source, target)

        monkeypatch.setattr(_swap, "_move", read_and_move)
        write_elements(store, elements(2))
        assert len(seen) >= 3
        assert set().union(*seen) <= {None, 1, 2}
        assert versions(store) == {2}


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_an_interruption_says_whether_the_results_are_there(store, monkeypatch, written):
    sdata, new = sd.read_zarr(store), Elements(elements(2))

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    if written:
        monkeypatch.setattr(_swap, "shutil", SimpleNamespace(rmtree=interrupted))  # the hidden folder is in the way
    else:
        monkeypatch.setattr(_store, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        add_elements(sdata, new, write=True, overwrite=True)
    monkeypatch.undo()
    said = f"interrupted when all was done: ours, cells, counts are in {store}."
    assert str(interrupt.value) == (said if written else "")
    assert ("ours" in sdata and sdata["ours"] is new.new["ours"]) == written
    assert (versions(store) == {2}) == written
    mend_store(store)
    assert not hidden(store)


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
        check_space(store, 4 * 2**20, "The result")
        needed = bytes_to_write(n_pixels=41_000_000, n_cells=110_000, n_entries=0)
        with pytest.raises(OSError, match=r"needs about .* on the disk of .*, which has 5 MiB left") as error:
            check_space(store, needed, "The result")
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
