"""Folders that replace others: undone as a whole wherever it is interrupted, even while it is undone."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from spatialdata import SpatialData

from ucs._files.new_store import check_new_store, write_new_store
from ucs._files.swap import Area, clean, swapping
from ucs._utils import lock as _lock

PREFIX = ".ucs-test-"
FILES = ["list", "list 2", "b/list"]


def area(place: Path) -> Area:
    return Area(place, PREFIX, lambda path: path in PLACES, lambda file: file in FILES)


class Killed(BaseException):
    """Stands for the end of the process: what follows is not done."""


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with an old thing, another one, and a small file."""
    place = tmp_path / "place"
    for name in ("a", "b/c"):
        (place / name).mkdir(parents=True)
        (place / name / "content").write_text(f"old {name}")
    (place / "list").write_text("a, c")
    return place


PLACES = ["a", "b/c", "d"]


def swap(place: Path) -> None:
    with swapping(area(place)) as one:
        for name in PLACES:
            (one.new / name).mkdir(parents=True)
            (one.new / name / "content").write_text(f"new {name}")

        def after(change) -> None:
            change.write("list", b"a, c, d")
            change.write("list 2", b"d")

        one.replace(PLACES, files=FILES, after=after)


def dying(monkeypatch, after: int, *, then: bool) -> None:
    """The process ends at a renaming, before or after it is done; nothing is undone."""
    original, calls = Path.rename, []

    def rename(path, target):
        calls.append(path)
        if len(calls) <= after:
            return original(path, target)
        if then and len(calls) == after + 1:
            original(path, target)
        raise Killed

    monkeypatch.setattr(Path, "rename", rename)
    # A lock goes with its process.
    monkeypatch.setattr(_lock, "_lock_file", lambda _file: None)
    monkeypatch.setattr("shutil.rmtree", lambda *_arguments, **_options: None)


def test_all_is_replaced(place):
    swap(place)
    assert tree(place) == {
        "a": None, "a/content": b"new a", "b": None, "b/c": None, "b/c/content": b"new b/c", "d": None,
        "d/content": b"new d", "list": b"a, c, d", "list 2": b"d",
    }  # fmt: skip


@pytest.mark.parametrize("then", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(5))
def test_killed_at_any_renaming_and_again_while_that_is_undone(place, at, then, monkeypatch):
    before = tree(place)
    with monkeypatch.context() as patch:
        dying(patch, at, then=then)
        with pytest.raises(Killed):
            swap(place)
    for again in range(6):
        with monkeypatch.context() as patch:
            dying(patch, 0 if again % 2 else 1, then=again % 3 == 0)
            try:
                clean(area(place))
            except Killed:
                continue
            break
    assert tree(place) != before  # the folder is still there
    clean(area(place))
    assert tree(place) == before


def test_what_was_done_stays_done(place, monkeypatch):
    """Killed when the journal is gone, but the folder is not."""
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_arguments, **_options: None)
        swap(place)
    assert len(list(place.glob(f"{PREFIX}*"))) == 1
    clean(area(place))
    assert not list(place.glob(f"{PREFIX}*"))
    assert (place / "a" / "content").read_text() == "new a"


def test_files_half_written_by_others_stay(place):
    """Zarr's own may be those of another program that writes to the store just now."""
    for name in (f"zarr.{'0' * 32}.partial", "mine.partial"):
        (place / name).touch()
    swap(place)
    clean(area(place))
    assert (place / f"zarr.{'0' * 32}.partial").exists()
    assert (place / "mine.partial").exists()


@pytest.fixture
def output(tmp_path) -> Path:
    """A store that another one is to replace."""
    output = tmp_path / "out" / "cells.zarr"
    output.parent.mkdir()
    SpatialData(attrs={"version": 1}).write(output)
    return output


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("then", [False, True], ids=["before", "after"])
def test_a_new_store_when_the_process_is_killed(output, at, then, monkeypatch):
    before = tree(output.parent)
    with monkeypatch.context() as patch:
        dying(patch, at, then=then)
        with pytest.raises(Killed):
            write_new_store(SpatialData(attrs={"version": 2}), output)
    check_new_store(output, overwrite=True)
    assert tree(output.parent) == before
    sdata = SpatialData(attrs={"version": 2})
    write_new_store(sdata, output)
    assert sdata.path == output
    assert SpatialData.read(output).attrs["version"] == 2
    assert [path.name for path in output.parent.iterdir()] == ["cells.zarr"]


def test_a_new_store_on_a_full_disk(output, monkeypatch):
    before, sdata = tree(output.parent), SpatialData(attrs={"version": 2})

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zarr.storage._local._put", full)
    with pytest.raises(OSError, match=r"The disk of .*out is full: cells\.zarr could not be written") as error:
        write_new_store(sdata, output)
    assert error.value.errno == errno.ENOSPC
    assert tree(output.parent) == before
    assert sdata.path is None
