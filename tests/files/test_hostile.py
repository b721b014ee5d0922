"""Stores and folders that somebody else prepared: nothing outside them is changed, and nothing in them is believed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ucs._files.store import check_store, mend_store
from ucs._files.workspace import Workspace, remove_leftovers
from ucs._run.cluster import _load
from ucs._run.output import put_from_elsewhere
from ucs._utils import lock as _lock
from ucs._utils.checks import check_features
from ucs._utils.files import digest_of_bytes, digest_of_tree
from ucs.options import OutputKeys

FOLDER = ".ucs-write-abcdefgh"
OF_ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
SOMEBODY = 54321


def tree(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
    }


@pytest.fixture
def outside(tmp_path) -> Path:
    """What belongs to the user and lies beside the store."""
    folder = tmp_path / "home" / "thesis"
    folder.mkdir(parents=True)
    (folder / "chapter").write_text("the user's")
    (folder.parent / "notes").write_text("the user's too")
    return folder


@pytest.fixture
def store(tmp_path) -> Path:
    """A store with an element of the user's, and the folder that a killed run leaves in it."""
    store = tmp_path / "data" / "tissue.zarr"
    (store / "labels" / "users").mkdir(parents=True)
    for group in ("", "labels", "labels/users"):
        (store / group / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
    for part in ("new/labels", "files", "replaced"):
        (store / FOLDER / part).mkdir(parents=True)
    return store


def write_journal(store: Path, **content: object) -> None:
    (store / FOLDER / "journal.json").write_text(json.dumps({"places": [], "digests": [], "files": {}} | content))


def mend(store: Path) -> None:
    check_store(SimpleNamespace(is_backed=lambda: True, path=store), {"ours": "labels"}, overwrite=False)


PATHS = {
    "absolute": lambda outside: str(outside),
    "upwards": lambda _outside: "labels/../../../home/thesis",
    "parent": lambda _outside: "../../home/thesis",
    "two levels": lambda _outside: "labels/users/c",
    "kind": lambda _outside: "labels",
    "dots": lambda _outside: "labels/..",
    "backslash": lambda _outside: "labels\\users",
    "nul": lambda _outside: "labels/a\0b",
    "hidden": lambda _outside: f"{FOLDER}/new",
    "empty": lambda _outside: "",
}


@pytest.mark.parametrize("what", ["place", "file"])
@pytest.mark.parametrize("path", PATHS)
def test_a_journal_that_names_what_is_no_element(store, outside, caplog, what, path):
    named = PATHS[path](outside)
    for number in ("0", "1"):  # what would be put there
        (store / FOLDER / "replaced" / number).mkdir()
        (store / FOLDER / "files" / number).write_text("theirs")
    if what == "place":
        write_journal(store, places=[named], digests=[digest_of_tree(outside)])
    else:
        chapter = [digest_of_bytes(b"theirs"), digest_of_bytes(b"the user's")]
        write_journal(store, files={named if path == "kind" else f"{named}/chapter": chapter})
    before = tree(outside.parent), tree(store)
    mend(store)
    assert (tree(outside.parent), tree(store)) == before
    assert f"{FOLDER} is left alone" in caplog.text


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"places": 1, "digests": [], "files": {}}', b"NaN",
     b'{"places": ["labels/a", "labels/a"], "digests": ["", ""], "files": {}}',
     b'{"places": [], "digests": [], "files": {"zarr.json": []}}',
     b'{"places": [], "digests": [], "files": [["zarr.json"]]}',
     b'{"places": [], "digests": [], "files": {"zarr.json": [1]}}',
     b'{"folder": "/home", "places": [], "digests": [], "files": {}}', pickle.dumps({"places": []})],
)  # fmt: skip
def test_what_is_no_journal(store, caplog, content):
    (store / FOLDER / "journal.json").write_bytes(content)
    before = tree(store)
    mend(store)
    assert tree(store) == before
    assert "is left alone, as it is not what a killed run leaves" in caplog.text


LINKS: dict[str, Callable[[Path, Path], tuple[Path, Path]]] = {
    "folder": lambda store, outside: (store / FOLDER, outside),
    "new": lambda store, outside: (store / FOLDER / "new", outside),
    "kind in new": lambda store, outside: (store / FOLDER / "new" / "labels", outside),
    "kept": lambda store, outside: (store / FOLDER / "files", outside),
    "kept file": lambda store, outside: (store / FOLDER / "files" / "0", outside / "chapter"),
    "replaced": lambda store, outside: (store / FOLDER / "replaced", outside),
    "journal": lambda store, outside: (store / FOLDER / "journal.json", outside / "chapter"),
    "kind": lambda store, outside: (store / "labels", outside),
    "metadata": lambda store, outside: (store / "zarr.json", outside / "chapter"),
}


@pytest.mark.parametrize("link", LINKS)
def test_symbolic_links(store, outside, link):
    """In the place of any part of what a killed run leaves."""
    (outside / "labels").mkdir()
    shutil.copytree(store / "labels" / "users", outside / "users")
    old = digest_of_bytes(b"the user's"), digest_of_bytes((store / "zarr.json").read_bytes())
    write_journal(
        store,
        places=["labels/users"],
        digests=[digest_of_tree(store / "labels" / "users")],
        files={"zarr.json": list(old)},
    )
    path, target = LINKS[link](store, outside)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(target)
    before = tree(outside.parent)
    try:
        mend(store)
    except PermissionError as error:
        assert "symbolic link" in str(error)  # noqa: PT017 - some links stop it, others are left alone
    assert tree(outside.parent) == before
    assert not [name for name in tree(store) if "chapter" in name]


@pytest.mark.parametrize("kind", ["link", "folder", "hard link", "pipe"])
def test_a_lock_that_is_none(store, outside, kind):
    lock, target = store / ".ucs-write-lock", outside / "chapter"
    {
        "link": lambda: lock.symlink_to(target),
        "folder": lock.mkdir,
        "hard link": lambda: os.link(target, lock),
        "pipe": lambda: os.mkfifo(lock),
    }[kind]()
    before = tree(outside.parent)
    with pytest.raises(PermissionError, match=r"is not the plain file that a lock is. Delete it"):
        mend(store)
    assert tree(outside.parent) == before


@OF_ROOT
@pytest.mark.parametrize("what", ["folder", "journal"])
def test_what_is_another_users(store, caplog, what):
    write_journal(store, places=["labels/users"], digests=[digest_of_tree(store / "labels" / "users")])
    os.chown(store / FOLDER / ("journal.json" if what == "journal" else ""), SOMEBODY, SOMEBODY)
    before = tree(store)
    mend(store)
    assert tree(store) == before
    assert "left alone" in caplog.text


def test_what_the_user_has_written_since_stays(store, caplog):
    """A killed run had put an element there; the user has replaced it, and written a list anew."""
    before = (store / "zarr.json").read_bytes()
    (store / FOLDER / "files" / "0").write_bytes(before)
    write_journal(
        store,
        places=["labels/users"],
        digests=["another"],
        files={"zarr.json": [digest_of_bytes(before), digest_of_bytes(b"ours")]},
    )
    theirs = json.dumps(json.loads(before) | {"attributes": {"users": 1}}).encode()
    (store / "zarr.json").write_bytes(theirs)
    content = digest_of_tree(store / "labels" / "users")
    mend_store(store)
    assert (store / "zarr.json").read_bytes() == theirs
    assert digest_of_tree(store / "labels" / "users") == content
    assert not (store / FOLDER).exists()
    assert "was changed after a process had been killed" in caplog.text


# Names


@pytest.mark.parametrize("name", ["A" * 256, "µ" * 128, "A\0B"], ids=["long", "long in bytes", "NUL"])
def test_names(name):
    with pytest.raises(ValueError, match=r"points: 1 names of genes or controls hold a NUL character or more than 255"):
        check_features(["A" * 255, "HLA-A/B/C", name], "points")
    with pytest.raises(ValueError, match="is no valid name|is the name of a folder, which has at most 255"):
        OutputKeys(labels=name)
    for odd in ("a/b", "..", "", "__a"):
        with pytest.raises(ValueError, match="is no valid name"):
            OutputKeys(labels=odd)


# Folders for temporary files


@OF_ROOT
def test_scratch_of_another_user(tmp_path):
    for name in (".ucs-tmp-abcdefgh", ".ucs-tmp-owner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").write_text("not JSON")
        os.chown(tmp_path / name, SOMEBODY, SOMEBODY)
    remove_leftovers(tmp_path)
    workspace = Workspace(tmp_path)
    assert workspace.use_folder().stat().st_mode & 0o777 == 0o700
    workspace.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ucs-tmp-abcdefgh", ".ucs-tmp-owner"]


def test_scratch_that_is_a_link(tmp_path, outside):
    (outside / "lock").touch()
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / ".ucs-tmp-abcdefgh").symlink_to(outside)
    before = tree(outside.parent)
    remove_leftovers(tmp_path / "scratch")
    assert tree(outside.parent) == before


class Harm:
    """What a pickle can do."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("how", ["link", pytest.param("owner", marks=OF_ROOT), "mode", "folder"])
def test_pickles_of_others_are_not_loaded(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "tasks"
    folder.mkdir(mode=0o700)
    file = folder / "0.pickle"
    file.write_bytes(pickle.dumps(Harm()))
    if how == "link":
        file = file.rename(tmp_path / "theirs")
        (folder / "0.pickle").symlink_to(file)
        file = folder / "0.pickle"
    elif how == "owner":
        os.chown(file, SOMEBODY, SOMEBODY)
    else:
        (file if how == "mode" else folder).chmod(0o777)
    with pytest.raises(OSError, match="not only this user's|symbolic links"):
        _load(str(file))
    assert not (tmp_path / "harm").exists()


def test_a_worker_whose_client_has_died(tmp_path):
    """It goes on for a while, and must not write into the rasters of the run that was begun afresh."""
    workspace = Workspace(tmp_path, resumable="run")
    before = workspace.raster_folder
    workspace.raster("labels", (96, 96), "int32", 96)
    workspace.clear()
    raster = workspace.raster("labels", (96, 96), "int32", 96)
    core, cells = SimpleNamespace(slices=np.s_[:96, :96]), SimpleNamespace(labels=np.ones((96, 96), np.int32))
    with pytest.raises(FileNotFoundError):
        put_from_elsewhere(before, ["labels"], 0, core, cells)
    assert not raster[:].any()
    assert workspace.raster_folder != before
    assert not before.exists()
    workspace.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_containers(tmp_path):
    """Processes that do not see each other, each the first one of its container, do not continue one run."""
    import ctypes

    workspace = Workspace(tmp_path, resumable="run")
    child = os.fork()
    if child == 0:
        code = 9
        try:
            if ctypes.CDLL(None).unshare(0x20000000) != 0:  # CLONE_NEWPID
                os._exit(7)
            inner = os.fork()
            if inner == 0:
                assert os.getpid() == 1
                try:
                    Workspace(tmp_path, resumable="run")
                except RuntimeError as error:
                    code = 0 if "works on the same run" in str(error) else 8
                os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    workspace.close()
    if code == 7:
        pytest.skip("no namespaces of processes here")
    assert code == 0
    Workspace(tmp_path, resumable="run").close()


def test_a_disk_without_locks(tmp_path, monkeypatch, caplog):
    """The process that is named in the file counts then; of another machine, it may live."""

    def none(_file: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(_lock, "_lock_file", none)
    lock = _lock.try_lock(tmp_path / "lock")
    assert "knows no locks" in caplog.text
    assert _lock.try_lock(tmp_path / "lock") is None
    owner = json.loads((tmp_path / "lock").read_text())
    (tmp_path / "lock").write_text(json.dumps(owner | {"pid": 2**22 + 1}))
    _lock.try_lock(tmp_path / "lock").release(remove=False)
    (tmp_path / "lock").write_text(json.dumps(owner | {"host": "another", "pid": 2**22 + 1}))
    assert _lock.try_lock(tmp_path / "lock") is None
    lock.release()
