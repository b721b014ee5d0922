"""Processes that are killed, or whose disk fails, before any of their file operations: the old or the new is there.

The gate takes some of the operations, spread over all of them; with ``-m slow`` every one is disturbed.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import spatialdata as sd
from faults import FAILED, disturbed, operations
from store_versions import elements, original, version_of

from ucs._files import store as _store
from ucs._files.listing import elements_on_disk, listed_elements
from ucs._files.new_store import check_new_store, write_new_store
from ucs._files.store import mend_store, write_elements
from ucs._files.swap import swapping
from ucs._files.workspace import Workspace, closing
from ucs._kernels.lattice import tiles_of
from ucs._run.output import TileOutput
from ucs.methods.base import TileCells
from ucs.methods.clusters.expression import ExpressionProfiles
from ucs.methods.density.model import DensityModel
from ucs.methods.density.net import DensityNet
from ucs.methods.density.params import DensityParams
from ucs.methods.model import UCSModel
from ucs.methods.region_models import RegionModels, load_model

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:zarr v3 autosharding"),
]

KINDS = pytest.mark.parametrize("kind", ["kill", "error"])
MANY = pytest.mark.parametrize(
    "most", [pytest.param(6, id="some"), pytest.param(10**6, id="all", marks=pytest.mark.slow)]
)
PLACES = ["labels/ours", "shapes/cells", "tables/counts"]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def some(done: list[str], most: int, since: str = "") -> list[int]:
    """Numbers of operations spread over all, the most of them from the first one that names ``since``."""
    first = next((k for k, one in enumerate(done) if since in one), 0)
    if len(done) <= most:
        return list(range(len(done)))
    return sorted({*np.linspace(0, first, 3).astype(int), *np.linspace(first, len(done) - 1, most - 2).astype(int)})


def disturb(work: Callable[[], object], at: int, kind: str) -> bool:
    """Return whether the work went on to its end: there are errors that need not stop it."""
    code = disturbed(work, at, kind)
    assert code == -signal.SIGKILL if kind == "kill" else code in (0, FAILED)
    return code == 0


# Elements in a store


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> tuple[Path, Path]:
    """A store, and what it becomes."""
    folder = tmp_path_factory.mktemp("stores")
    original(folder / "before.zarr", with_results=True)
    after = Path(shutil.copytree(folder / "before.zarr", folder / "after.zarr"))
    write_elements(after, elements(2))
    assert {version_of(sd.read_zarr(after), key) for key in elements(2)} == {2}
    return folder / "before.zarr", after


def replace_results(store: Path, made: Path) -> None:
    """Do what ``write_elements`` does once the elements are written, which takes long."""
    with swapping(_store._area(store)) as swap:
        shutil.copytree(made, swap.new, copy_function=os.link)
        _store._put_in_place(swap, PLACES)


def check_readable(store: Path) -> None:
    """What is listed is there, and each element is whole, of either version."""
    assert listed_elements(store) is None or listed_elements(store) <= elements_on_disk(store)
    assert {"labels/users"} <= elements_on_disk(store)


@KINDS
@MANY
def test_results_in_a_store(stores, tmp_path, kind, most):
    before, after = map(tree, stores)
    users = {name: content for name, content in before.items() if name.startswith("labels/users/")}
    store = tmp_path / "tissue.zarr"
    shutil.copytree(stores[0], store)
    done = operations(lambda: replace_results(store, stores[1]))
    assert tree(store) == after
    seen = []
    for at in some(done, most, since="journal"):
        shutil.rmtree(store)
        shutil.copytree(stores[0], store)
        finished = disturb(lambda: replace_results(store, stores[1]), at, kind)
        check_readable(store)
        left = tree(store)
        assert users.items() <= left.items()
        mend_store(store)
        assert tree(store) in (before, after), done[at]
        seen.append(tree(store) == after)
        if kind == "error":  # undone at once: no hidden folder holds what was there
            assert {name: content for name, content in left.items() if ".ucs-" not in name} == tree(store), done[at]
            assert seen[-1] or not finished, done[at]
    assert not seen[0]
    assert seen[-1]
    if kind == "kill":
        assert seen == sorted(seen)  # once it is there it stays
    replace_results(store, stores[1])
    assert tree(store) == after


@KINDS
@MANY
def test_mending_a_store(stores, tmp_path, kind, most):
    """It may be disturbed as well, and begun again."""
    before, store, broken = tree(stores[0]), tmp_path / "tissue.zarr", tmp_path / "broken.zarr"
    for copy in (store, broken):
        shutil.copytree(stores[0], copy)
    done = operations(lambda: replace_results(store, stores[1]))
    (commit,) = (k for k, one in enumerate(done) if one.startswith("os.remove") and one.endswith("journal.json"))
    disturb(lambda: replace_results(broken, stores[1]), commit, "kill")
    assert tree(broken) != before

    def begin_again() -> None:
        shutil.rmtree(store)
        shutil.copytree(broken, store, symlinks=True)

    begin_again()
    done = operations(lambda: mend_store(store))
    for at in some(done, most // 2):
        begin_again()
        disturb(lambda: mend_store(store), at, kind)
        check_readable(store)
        mend_store(store)
        assert tree(store) == before, done[at]


@pytest.mark.slow
@KINDS
def test_all_of_writing_to_a_store(stores, tmp_path, kind):
    """With the writing of the elements by SpatialData, at operations spread over all."""
    before, after = map(tree, stores)
    store, new = tmp_path / "tissue.zarr", elements(2)
    shutil.copytree(stores[0], store)
    done = operations(lambda: write_elements(store, new))
    for at in some(done, 30):
        shutil.rmtree(store)
        shutil.copytree(stores[0], store)
        disturb(lambda: write_elements(store, new), at, kind)
        mend_store(store)
        left = tree(store)
        assert left == before or left.keys() == after.keys(), done[at]
        assert {version_of(sd.read_zarr(store), key) for key in new} in ({1}, {2})


# A store as a whole


@KINDS
def test_a_store_of_its_own(tmp_path, kind):
    output = tmp_path / "out" / "cells.zarr"
    old, new = (sd.SpatialData(attrs={"version": version}) for version in (1, 2))
    write_new_store(old, output)
    done = operations(lambda: write_new_store(new, output))
    assert sd.read_zarr(output).attrs["version"] == 2
    for at in some(done, 8):
        write_new_store(old, output)
        disturb(lambda: write_new_store(new, output), at, kind)
        check_new_store(output, overwrite=True)
        assert sd.read_zarr(output).attrs["version"] in (1, 2), done[at]
        assert [path.name for path in output.parent.iterdir()] == ["cells.zarr"]


# Models


def density_model(version: int) -> DensityModel:
    return DensityModel(
        net=DensityNet(version),
        clusters=ExpressionProfiles(0, 3),
        genes=("a", "b", "c"),
        params=DensityParams(),
        um_per_px=1.0,
        history={"version": version},
    )


@KINDS
@MANY
@pytest.mark.parametrize("regions", [False, True], ids=["one", "regions"])
def test_a_saved_model(tmp_path, kind, most, regions):
    old, new = density_model(4), density_model(5)
    if regions:
        new = RegionModels({"tumour": new, "stroma": density_model(6)}, new)
    path = tmp_path / "model"
    old.save(path)
    before = tree(path)
    done = operations(lambda: new.save(path, overwrite=True))
    after = tree(path)
    for at in some(done, most // 2):
        shutil.rmtree(path)
        old.save(path)
        disturb(lambda: new.save(path, overwrite=True), at, kind)
        assert load_model(path).history in (old.history, new.history), done[at]
        new.save(path, overwrite=True)
        assert tree(path) == after
    assert before.keys() != after.keys()


def test_two_writers_and_a_reader_of_one_model(tmp_path):
    """At any time one of the two is there, with its own weights."""
    models = [density_model(4), density_model(5)]
    path = tmp_path / "model"
    models[0].save(path)
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(lambda one=one: [one.save(path, overwrite=True) for _ in range(30)]) for one in models]
        seen = []
        while not all(writer.done() for writer in writers):
            seen.append(UCSModel.load(path).history)
        for writer in writers:
            writer.result()
    assert len(seen) > 10
    assert all(one in (models[0].history, models[1].history) for one in seen)
    assert sorted(tree(path))[0] == "model.json"
    assert len(tree(path)) == 2


# Runs that are continued

SHAPE, TILE = (200, 150), 96


def cells(number: int, height: int, width: int) -> TileCells:
    random = np.random.default_rng(number)
    labels = random.integers(0, 1000, (height, width), dtype=np.int32)
    return TileCells(labels, labels.astype(np.uint8), labels.astype(np.uint8))


def run(place: Path, made: list[int] | None = None) -> tuple[np.ndarray, ...]:
    """The steps of a run that is continued, without a network."""
    with closing(Workspace(place, resumable="run")) as workspace:
        if workspace.read("manifest") != "this run":
            workspace.clear()
            workspace.write("manifest", "this run")
        output = TileOutput.open(workspace, SHAPE, TILE, foreground=False)
        for number, core in enumerate(tiles_of(SHAPE, TILE)):
            if number not in output.done:
                rows, columns = core.slices
                output.put(number, core, cells(number, rows.stop - rows.start, columns.stop - columns.start))
                if made is not None:
                    made.append(number)
        return tuple(raster[:] for raster in output.rasters.values())


@KINDS
@MANY
def test_a_run_is_continued(tmp_path, kind, most):
    expected = run(tmp_path / "undisturbed")
    done = operations(lambda: run(tmp_path / "scratch"))
    assert not list((tmp_path / "scratch").iterdir())
    for at in some(done, most):
        disturb(lambda: run(tmp_path / "scratch"), at, kind)
        for one, other in zip(run(tmp_path / "scratch"), expected, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=done[at])
        assert not list((tmp_path / "scratch").iterdir()), done[at]


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "empty"])
def test_a_damaged_chunk_is_made_again(tmp_path, damage, caplog):
    done = operations(lambda: run(tmp_path))
    last = max(k for k, one in enumerate(done) if "/done/" in one)
    disturb(lambda: run(tmp_path), last, "kill")
    chunks = sorted(path for path in tmp_path.glob(".ucs-resume-*/rasters-*/labels/c/*/*") if path.is_file())
    content = chunks[0].read_bytes()
    if damage == "missing":
        chunks[0].unlink()
    else:
        chunks[0].write_bytes({"cut": content[:20], "other": chunks[1].read_bytes(), "empty": b""}[damage])
    made: list[int] = []
    for one, other in zip(run(tmp_path, made), run(tmp_path / "undisturbed"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert 0 in made
    assert len(made) < len(list(tiles_of(SHAPE, TILE)))
    assert "1 tiles in" in caplog.text
