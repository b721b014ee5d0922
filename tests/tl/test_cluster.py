"""Tiles on the workers of a Dask client against tiles in this process."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import resumed
import torch
from calls import check, segment
from interrupted import interrupt
from resumed import N_TILES

from ucs._kernels.labels.windows import Window
from ucs._run import cluster as module
from ucs._run.output import put_from_elsewhere
from ucs.methods import TileCells
from ucs.methods.density.predict import DensityPredictor

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def tissue():
    return resumed.tissue()


@pytest.fixture(scope="module")
def model():
    return resumed.model()


@pytest.fixture(scope="module")
def expected(tissue, model):
    """Cells by this process."""
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
    return segment(tissue, model=model, tile_size=96, **options)


def assert_same(one, other):
    np.testing.assert_array_equal(np.asarray(one["ucs_cells"]), np.asarray(other["ucs_cells"]))
    assert (one["ucs_table"].X != other["ucs_table"].X).nnz == 0
    np.testing.assert_array_equal(one["ucs_table"].obs["confidence"], other["ucs_table"].obs["confidence"])


@pytest.fixture
def not_here(monkeypatch):
    """This process works on no tile; its workers are processes of their own."""
    monkeypatch.setattr(DensityPredictor, "forward", lambda *_, **__: pytest.fail("worked on here"))


def test_workers_give_the_same(tissue, model, expected, tmp_path, client, not_here):
    assert_same(run(tissue, model, scratch=tmp_path), expected)
    assert not list(tmp_path.iterdir())


def test_models_of_regions(tissue, tmp_path, cluster):
    options = {"regions": 75, "params": {"max_steps": 2, "min_nuclei": 4}, "scratch": tmp_path}
    alone = run(tissue, None, **options)
    with distributed.Client(cluster):
        assert_same(run(tissue, None, **options), alone)


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
    monkeypatch.setattr("ucs._run.tiles.work_in_cluster", lambda *_, **__: pytest.fail("sent away"))
    assert check(tissue, model=model, estimate=True)["estimate"]["seconds"] > 0


def test_a_run_begun_here_goes_on_with_workers(tissue, model, expected, tmp_path, monkeypatch, cluster):
    options = {"resume": True, "scratch": tmp_path}
    with monkeypatch.context() as patch:
        interrupt(patch, "tile", 3)
        with pytest.raises(KeyboardInterrupt):
            run(tissue, model, **options)
    sent, dump = [], module._dump
    monkeypatch.setattr(module, "_dump", lambda file, content: (sent.append(file.name), dump(file, content)))
    with distributed.Client(cluster):
        made = run(tissue, model, **options)
    assert sent == ["predictor.pickle", *(f"{number}.pickle" for number in range(2, N_TILES))]
    assert_same(made, expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("not_here")
def test_a_worker_that_is_killed_takes_nothing_with_it(client, tissue, model, expected, tmp_path, monkeypatch):
    victim, original, done_tiles = next(iter(client.run(os.getpid).values())), module.work_in_cluster, []

    def work(*arguments, done, **options):
        def kill_once():
            if not done_tiles:
                os.kill(victim, signal.SIGKILL)
            done_tiles.append(1)
            done()

        original(*arguments, done=kill_once, **options)

    monkeypatch.setattr("ucs._run.tiles.work_in_cluster", work)
    made = run(tissue, model, scratch=tmp_path)
    assert len(done_tiles) == N_TILES
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
        run(tissue, model, scratch=tmp_path, inplace=True)
    assert [name for _, name, _ in tissue.gen_elements()] == before
    assert not list(tmp_path.iterdir())
    assert not any(client.processing().values())


def test_rasters_that_are_gone_are_not_made_again_by_a_worker_that_is_late(tmp_path):
    cells = TileCells(*(np.zeros((4, 4), dtype=dtype) for dtype in (np.int32, np.uint8, np.uint8)))
    with pytest.raises(FileNotFoundError):
        put_from_elsewhere(tmp_path / "gone", ["labels"], 0, Window(0, 0, 4, 4), cells)
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
