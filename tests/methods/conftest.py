from __future__ import annotations

import contextlib

import pytest

from ucs.methods.density import training as density_training


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The density net in single precision throughout."""
    monkeypatch.setattr(density_training, "autocast", lambda _: contextlib.nullcontext())
