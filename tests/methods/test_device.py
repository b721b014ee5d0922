"""Devices by name, nets on them, and blocks that go through a net together."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from ucs.methods import device as module
from ucs.methods.device import blocks_at_once, each_block, net_on, resolve_device, sent

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, of which the second is the current one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.mark.parametrize(("name", "expected"), [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0")])
def test_a_gpu_is_named_as_its_tensors_name_it(gpus, name, expected):
    assert str(resolve_device(name)) == expected  # a thread may have another current device


def test_what_is_resolved_is_resolved_to_itself(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("auto", "mps", "mps:0"):
        assert str(resolve_device(name)) == "mps:0"
    assert str(resolve_device("cpu")) == "cpu"


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_bfloat16_where_the_gpu_computes_in_it(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: {1: capability}[device.index])
    assert module.precision(torch.device("cuda:1")) == precision


def test_a_net_stays_where_it_is():
    net = nn.Conv2d(1, 1, 1)
    assert net_on(net, CPU) is net
    moved = net_on(net, META)
    assert moved.weight.device == META
    assert net.weight.device == CPU


def test_an_array_is_sent():
    np.testing.assert_array_equal(sent(np.arange(3), CPU).numpy(), [0, 1, 2])
    assert sent(np.arange(3), META).device == META


@pytest.mark.parametrize(("device", "expected"), [("cpu", 1), ("meta", 9)])
def test_blocks_at_once(device, expected):
    assert blocks_at_once(torch.device(device), 288, 96) == expected
    assert blocks_at_once(torch.device(device), 200, 96) == expected
    assert blocks_at_once(torch.device(device), 10, 96) == 1


# Memory of the device


class Cramped(nn.Module):
    """Computes squares of a few numbers at once at most."""

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error, self.asked = most, error, []

    def compute(self, some):
        held = np.ones(1)
        self.held = weakref.ref(held)
        self.asked.append(len(some))
        if len(some) > self.most:
            raise type(self.error)(*self.error.args)  # a new one, which nobody else holds
        return np.array(some) ** 2, -np.array(some)


ERRORS = [
    torch.cuda.OutOfMemoryError("no memory"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
]


def run(net, n, size):
    taken = []
    each_block(net.compute, list(range(n)), lambda *of: taken.append(of), net=net, device=META, at_once=size)
    return [tuple(int(x) for x in of) for of in taken]


@pytest.mark.parametrize(("most", "n", "size"), [(1, 4, 8), (3, 7, 8), (4, 5, 6), (8, 3, 8), (3, 20, 8), (5, 0, 5)])
@pytest.mark.parametrize("error", ERRORS, ids=range(len(ERRORS)))
def test_too_little_memory_halves_what_goes_through_at_once(caplog, most, n, size, error):
    net = Cramped(most, error)
    expected = [(k, k**2, -k) for k in range(n)]
    assert run(net, n, size) == expected
    assert ("on with" in caplog.text) == (min(n, size) > most)
    tried = caplog.text
    net.asked.clear()
    assert run(net, n, size) == expected
    assert max(net.asked, default=0) <= most  # what does not fit is not tried again
    assert caplog.text == tried


@pytest.mark.parametrize("error", [ERRORS[0], RuntimeError("CUDA error: device-side assert triggered")])
def test_of_no_block_that_fits_and_of_other_errors_the_error_is_told(error):
    with pytest.raises(RuntimeError, match=str(error)):
        run(Cramped(0, error), 3, 1)
    if error is not ERRORS[0]:
        with pytest.raises(RuntimeError, match="assert"):
            run(Cramped(2, error), 3, 4)


def test_memory_is_free_before_it_is_tried_again(monkeypatch):
    freed = []

    class Watching(Cramped):
        def compute(self, some):
            if self.asked:
                gc.collect()
                freed.append(self.held() is None)
            return super().compute(some)

    run(Watching(1, ERRORS[0]), 4, 4)
    assert freed == [True] * 5  # after two failures, and after each block but the last
