"""Tiles on the workers of a Dask client against tiles in this process."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from interrupted import interrupt
from ucs.methods.density.tile import TileCells

import ucs
from ucs._kernels.transcripts import Window
from ucs._run import cluster as module
from ucs._run.output import Handle
from ucs.methods.density import engine as _density_engine

distributed = pytest.importorskip("distributed")

QUIET = {"progress": False, "device": "cpu"}
N_TILES = 6  # of 96 px
ORIGINAL = _density_engine.ask_nets


@pytest.fixture(scope="module")
def tissue():
    return ucs.datasets.simulate(width_um=240, height_um=180, n_genes=30, seed=2)


@pytest.fixture(scope="module")
def model(tissue):
    return ucs.tl.train(tissue, params={"max_steps": 5}, **QUIET)


@pytest.fixture(scope="module")
def expected(tissue, model):
    """Cells by threads of this process."""
    return run(tissue, model)


@pytest.fixture(scope="module")
def cluster():
    """Two processes; closed at the end."""
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=2, **options) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


def run(tissue, model, **options):
    return ucs.tl.segment(tissue, inplace=False, model=model, **{"tile_size": 96, **QUIET, **options})


def assert_same(one, other):
    np.testing.assert_array_equal(np.asarray(one["ucs_cells"]), np.asarray(other["ucs_cells"]))
    assert (one["ucs_table"].X != other["ucs_table"].X).nnz == 0
    np.testing.assert_array_equal(one["ucs_table"].obs["confidence"], other["ucs_table"].obs["confidence"])


@pytest.fixture
def not_here(monkeypatch):
    """This process works on no tile."""
    monkeypatch.setattr(_density_engine, "ask_nets", lambda *_, **__: pytest.fail("worked on here"))


@pytest.mark.usefixtures("client", "not_here")
def test_workers_give_the_same(tissue, model, expected, tmp_path):
    assert_same(run(tissue, model, scratch=tmp_path), expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("client", "not_here")
def test_models_of_regions(tissue, tmp_path, monkeypatch):
    options = {"regions": 120, "train": {"max_steps": 2, "min_nuclei": 4}, "scratch": tmp_path}
    made = run(tissue, None, **options)
    with monkeypatch.context() as patch:
        patch.setattr(_density_engine, "active_client", lambda _: None)
        patch.setattr("ucs._run.run.active_client", lambda _: None)
        patch.setattr(_density_engine, "ask_nets", ORIGINAL)
        assert_same(made, run(tissue, None, **options))


def test_workers_that_are_threads_of_this_process(tissue, model, expected, tmp_path):
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        assert_same(run(tissue, model, scratch=tmp_path), expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("client")
def test_what_is_timed_in_a_check_is_done_here(tissue, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "work_in_cluster", lambda *_, **__: pytest.fail("sent away"))
    assert ucs.pp.check(tissue, model=model, compute={"device": "cpu"})["estimate"]["seconds"] > 0


@pytest.mark.usefixtures("not_here")
def test_a_run_begun_here_goes_on_with_workers(tissue, model, expected, tmp_path, monkeypatch, cluster):
    options = {"resume": True, "scratch": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(_density_engine, "ask_nets", ORIGINAL)
        interrupt(patch, "tile", 3)
        with pytest.raises(KeyboardInterrupt):
            run(tissue, model, **options)
    sent, dump = [], module._dump
    monkeypatch.setattr(module, "_dump", lambda file, content: (sent.append(file.name), dump(file, content)))
    with distributed.Client(cluster):
        made = run(tissue, model, **options)
    assert sent == ["judges.pickle", *(f"{number}.pickle" for number in range(2, N_TILES))]
    assert_same(made, expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("not_here")
def test_a_worker_that_is_killed_takes_nothing_with_it(client, tissue, model, expected, tmp_path, monkeypatch):
    victim, original, done_tiles = next(iter(client.run(os.getpid).values())), module.work_in_cluster, []

    def work(*arguments, done, **options):
        def kill_once(number):
            if not done_tiles:
                os.kill(victim, signal.SIGKILL)
            done_tiles.append(number)
            done(number)

        original(*arguments, done=kill_once, **options)

    monkeypatch.setattr(_density_engine, "work_in_cluster", work)
    made = run(tissue, model, scratch=tmp_path)
    assert sorted(done_tiles) == list(range(N_TILES))
    assert_same(made, expected)
    assert not list(tmp_path.iterdir())
    client.wait_for_workers(2)
    assert victim not in client.run(os.getpid).values()


def test_an_error_on_a_worker_is_told_and_nothing_left(client, tissue, model, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_work", fail)
    before = [name for _, name, _ in tissue.gen_elements()]
    with pytest.raises(OSError, match="No space left"):
        ucs.tl.segment(tissue, model=model, compute={"tile_size": 96, "scratch": tmp_path}, **QUIET)
    assert [name for _, name, _ in tissue.gen_elements()] == before
    assert not list(tmp_path.iterdir())
    assert not any(client.processing().values())


def test_rasters_that_are_gone_are_not_made_again_by_a_worker_that_is_late(tmp_path):
    cells = TileCells(*(np.zeros((4, 4), dtype=dtype) for dtype in (np.int32, np.uint8, np.uint8)))
    with pytest.raises(FileNotFoundError):
        Handle(str(tmp_path / "gone")).put(0, Window(0, 0, 4, 4), cells)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpus_that_workers_lack(client, tissue, model):
    addresses = list(client.nthreads())
    with pytest.raises(ValueError, match=r"device='cuda' is not there on 2 of the 2 workers of the") as error:
        module.active_client("cuda")
    assert all(address in str(error.value) for address in addresses)
    assert "LocalCUDACluster" in str(error.value)
    with pytest.raises(ValueError, match="device='cuda' is not there"):
        run(tissue, model, device="cuda")


def test_a_client_without_workers(tissue, model):
    options = {"processes": False, "dashboard_address": None}
    with (
        distributed.LocalCluster(n_workers=0, **options) as empty,
        distributed.Client(empty),
        pytest.raises(ValueError, match=r"The active Dask client \(.*\) has no workers; start some, or close it"),
    ):
        run(tissue, model)


def test_a_client_that_is_closed_is_none(cluster, monkeypatch):
    client = distributed.Client(cluster)
    assert module.active_client("auto") is client
    assert module.active_client("cpu") is client
    client.close()
    assert module.active_client("auto") is None
    monkeypatch.delitem(module.sys.modules, "distributed")
    assert module.active_client("auto") is None
