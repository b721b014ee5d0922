from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from ucs.nn import density_training


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Nets and patches are tiny here: several threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The density net in single precision throughout."""
    monkeypatch.setattr(density_training, "autocast", lambda _: contextlib.nullcontext())
