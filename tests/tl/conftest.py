"""What all tests of the tools share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from spatialdata import SpatialData

import scenes
from helpers import cheap_copy


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Torch's threads wait in a loop: beside other work on few processors, two of them are ten times as slow as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cells(_one_thread: None) -> SpatialData:
    """The scene with its cells; not to be written to."""
    return scenes.cells()


@pytest.fixture
def cells_copy(cells: SpatialData) -> Callable[[], SpatialData]:
    """Call it for a copy of the scene with its cells that may be written to."""
    return lambda: cheap_copy(cells)
