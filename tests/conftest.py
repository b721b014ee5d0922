"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import scenes
import spatialdata as sd
import stains
import torch
from helpers import cheap_copy, prostate_sdata, require_data
from hypothesis import settings
from spatialdata import SpatialData

from ucs._utils.log import logger

os.environ.setdefault("MPLBACKEND", "Agg")

# No deadline: the first example pays for numba's compilation. The same examples on every run of the CI.
settings.register_profile("ucs", max_examples=40, deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("ucs")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _log_reaches_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logger, "propagate", True)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real samples."""
    return require_data()


@pytest.fixture
def breast() -> SpatialData:
    """Xenium human breast, 191 x 162 um, as the reader wrote it; read anew for each test, backed by its store."""
    return sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr"))


@pytest.fixture(scope="session")
def _prostate() -> SpatialData:
    return prostate_sdata(require_data("xenium5k_prostate_west"))


@pytest.fixture
def prostate(_prostate: SpatialData) -> SpatialData:
    """Xenium Prime 5K human prostate, 200 x 400 um; a copy of its own for each test."""
    return cheap_copy(_prostate)


@pytest.fixture(scope="session")
def simulated() -> SpatialData:
    """Simulated tissue, 200 x 200 um; shared by all tests, so not to be written to."""
    import ucs

    return ucs.datasets.simulate(width_um=200, height_um=200, seed=0)


@pytest.fixture
def simulated_copy(simulated: SpatialData) -> Callable[[], SpatialData]:
    """Call it for a copy of the simulated tissue that may be written to."""
    return lambda: cheap_copy(simulated)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Torch's threads wait in a loop: beside other work on few processors, two of them are ten times as slow as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """What was written stays there after kills and errors, but not after a power cut, which no test makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


@pytest.fixture(scope="session")
def cells(_one_thread: None) -> SpatialData:
    """The scene with its cells; not to be written to."""
    return scenes.cells()


@pytest.fixture
def cells_copy(cells: SpatialData) -> Callable[[], SpatialData]:
    """Call it for a copy of the scene with its cells that may be written to."""
    return lambda: cheap_copy(cells)


@pytest.fixture(scope="session")
def small() -> tuple[np.ndarray, np.ndarray]:
    """An image of nuclei, and the nuclei; not to be written to."""
    return stains.dapi(0)
