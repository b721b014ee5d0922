"""What all tests of the tools share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from spatialdata import SpatialData

import scenes
from helpers import cheap_copy
from ucs.tl import _run


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Torch's threads wait in a loop: beside other work on few processors, two of them are ten times as slow as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def cells(_one_thread: None) -> SpatialData:
    """The scene with its cells; not to be written to."""
    return scenes.cells()


_remembered: list[Any] = []


@pytest.fixture
def instant(cells: SpatialData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scene is predicted once, for tests of what comes before and after."""
    original = _run.predict_cells

    def predict_once(*arguments: Any, **options: Any) -> Any:
        if not _remembered:
            _remembered.append(original(*arguments, **options))
        return _remembered[0]

    monkeypatch.setattr(_run, "predict_cells", predict_once)


@pytest.fixture
def cells_copy(cells: SpatialData) -> Callable[[], SpatialData]:
    """Call it for a copy of the scene with its cells that may be written to."""
    return lambda: cheap_copy(cells)
