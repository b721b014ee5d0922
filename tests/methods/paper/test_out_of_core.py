"""The paper's method with rasters on disk, on a client's workers, and interrupted: bit by bit as in memory."""

from __future__ import annotations

import numpy as np
import pytest
import resumed
import spatialdata as sd
from helpers import cheap_copy
from interrupted import interrupt
from resumed import N_TILES

import ucs

COMPUTE = {"device": "cpu", "tile_size": 96}
PARAMS = {"background": 5.0, "max_steps": 20, "cell_steps": 40, "cell_patches": 8, "patch_size": 24}
KEYS = {"foreground": "ucs_foreground"}


@pytest.fixture(scope="module")
def tissue():
    return resumed.tissue()


@pytest.fixture(scope="module")
def model(tissue):
    return ucs.tl.train(tissue, method="paper", params=PARAMS, device="cpu", progress=False)


@pytest.fixture(scope="module")
def expected(tissue, model):
    """In memory, in one tile."""
    made = run(tissue, model, compute={"tile_size": 1000, "memory_limit": None})
    cells, nuclei = np.asarray(made["ucs_cells"]) > 0, made["ucs_table"].obs["nucleus_area_um2"].sum()
    assert 1.1 * nuclei < cells.sum() < 0.95 * cells.size
    return made


def run(sdata, model=None, *, compute=None, **options):
    given = {"method": "paper", "params": PARAMS} if model is None else {"model": model}
    return ucs.tl.segment(
        sdata, inplace=False, progress=False, compute={**COMPUTE, **(compute or {})}, key_added=KEYS, **given, **options
    )


def assert_same(one, other):
    for key in ("ucs_cells", "ucs_foreground"):
        np.testing.assert_array_equal(np.asarray(one[key]), np.asarray(other[key]), err_msg=key)
    assert (one["ucs_table"].X != other["ucs_table"].X).nnz == 0
    np.testing.assert_array_equal(one["ucs_table"].obs["confidence"], other["ucs_table"].obs["confidence"])


def test_tiles_in_memory(tissue, model, expected):
    assert_same(run(tissue, model), expected)


def test_out_of_core(tissue, model, expected, tmp_path, nothing_held, caplog):
    caplog.set_level("INFO", "ucs")
    made = run(tissue, model, compute={"memory_limit": 1.6e6, "scratch": tmp_path})
    assert "Rasters are held in" in caplog.text
    assert_same(made, expected)
    assert not list(tmp_path.iterdir())


def test_compressed(tissue, model, expected, monkeypatch):
    monkeypatch.setattr("ucs._files.workspace.PLAIN_PIXELS", 0)
    assert_same(run(tissue, model), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("client")
def test_workers_of_a_client(tissue, model, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("ucs._run.tiles._work_here", lambda *_: pytest.fail("worked on here"))
    assert_same(run(tissue, model, compute={"scratch": tmp_path}), expected)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_interrupted_goes_on(tissue, expected, tmp_path, monkeypatch, caplog):
    """It trains, and its model is kept, too."""
    caplog.set_level("INFO", "ucs")
    store = tmp_path / "data" / "tissue.zarr"
    cheap_copy(tissue).write(store)
    with monkeypatch.context() as patch:
        interrupt(patch, "mark", 4)
        with pytest.raises(KeyboardInterrupt):
            run(sd.read_zarr(store), compute={"resume": True})
    monkeypatch.setattr("ucs.methods.paper.method.train_nets", lambda *_, **__: pytest.fail("trained again"))
    made = run(sd.read_zarr(store), compute={"resume": True})
    assert f"3 of {N_TILES} tiles are there already" in caplog.text
    assert_same(made, expected)
    assert [path.name for path in store.parent.iterdir()] == [store.name]


@pytest.mark.slow
def test_a_large_tissue_out_of_core(model, tmp_path, nothing_held, caplog):
    """600 x 600 um, rasters of 5.8 MB, with 16 MB of room for them and a tile."""
    caplog.set_level("INFO", "ucs")
    tissue = ucs.datasets.simulate(width_um=600, height_um=600, n_genes=30, seed=1)
    expected = run(tissue, model, compute={"tile_size": 1000, "memory_limit": None})
    made = run(tissue, model, compute={"tile_size": 1000, "memory_limit": 16e6, "scratch": tmp_path})
    assert "Rasters are held in" in caplog.text
    assert_same(made, expected)
    assert not list(tmp_path.iterdir())
