from __future__ import annotations

import contextlib

import pytest

from ucs.methods.density import training as density_training


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The density net in single precision throughout."""
    monkeypatch.setattr(density_training, "autocast", lambda _: contextlib.nullcontext())


@pytest.fixture(scope="session")
def cluster():
    """Two processes on this machine, without a client."""
    distributed = pytest.importorskip("distributed")
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=2, **options) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    import distributed

    with distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


@pytest.fixture
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds nothing yet, so that a limit of memory is that of what is to come."""
    for module in ("ucs._files.workspace", "ucs._run.scratch_dir"):
        monkeypatch.setattr(f"{module}.resident_memory", lambda: 0)
