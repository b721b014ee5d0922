"""The three nets as modules of plain tensors, with inputs of the shape that they have at work."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from benchmarks.gpu.scene import N_GENES
from ucs._kernels.lattice import BLOCK
from ucs.methods.density.net import HALO, N_GEOMETRY, DensityNet
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.pretrained import net as owner_net
from ucs.methods.pretrained import predict as owner_prediction
from ucs.methods.pretrained.features import N_FEATURES
from ucs.methods.pretrained.model import pretrained_net

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST_SECONDS, _LEAST_PASSES = 0.3, 3


class PaperNets(nn.Module):
    """Both of the paper's nets, from embedded transcripts on."""

    def __init__(self) -> None:
        super().__init__()
        self.foreground = ForegroundNet(N_GENES)
        self.cell = CellNet(self.foreground.feature_width)
        self.halo = self.foreground.halo
        self.foreground.embedding = nn.Identity()

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor]:
        """Return both nets' values of pixels."""
        features = self.foreground.features(embedded)
        return self.foreground.logits(features), self.cell.scalar(features)


@dataclass(frozen=True)
class NetAtWork:
    """A net, the channels of its inputs (None for no such axis), the side of its output and what it sees around it."""

    net: nn.Module
    channels: tuple[int | None, ...]
    side: int
    halo: int

    def inputs(self, n: int, device: torch.device) -> list[Tensor]:
        """Return random inputs for ``n`` blocks."""
        side = self.side + 2 * self.halo
        shapes = [(n, side, side) if width is None else (n, width, side, side) for width in self.channels]
        drawn = [torch.rand(shape, device=device) for shape in shapes]
        return [one.contiguous(memory_format=torch.channels_last) if one.dim() == 4 else one for one in drawn]

    def flops(self) -> int:
        """Return the floating point operations of the convolutions over one block, which are nearly all of them."""
        counted = []

        def count(layer: nn.Module, _given: object, made: Tensor) -> None:
            weight = cast("nn.Conv2d", layer).weight
            counted.append(2 * made.numel() * weight[0].numel())

        convolutions = [layer for layer in self.net.modules() if isinstance(layer, nn.Conv2d)]
        hooks = [layer.register_forward_hook(count) for layer in convolutions]
        with torch.inference_mode():
            self.net(*self.inputs(1, torch.device("cpu")))
        for hook in hooks:
            hook.remove()
        return sum(counted)


def all_nets(*, side: int | None = None) -> dict[str, NetAtWork]:
    """Return the nets of the three methods, on the CPU; ``side`` of the blocks if not that which they have at work."""
    torch.manual_seed(0)
    paper, density = PaperNets().eval(), DensityNet().eval()
    nn.init.normal_(density.head[-1].weight, std=0.1)  # type: ignore[arg-type]  # which begins as 0
    nets = {
        "pretrained": NetAtWork(pretrained_net(), (N_FEATURES,), side or owner_prediction.BLOCK, owner_net.HALO),
        "density": NetAtWork(density, (None, N_GEOMETRY), side or BLOCK, HALO),
        "paper": NetAtWork(paper, (64,), side or BLOCK, paper.halo),
    }
    for one in nets.values():
        one.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return nets


def seconds_of(work: Callable[[], object], device: torch.device, *, once: bool = False) -> float:
    """Return the seconds of one call: of the first if ``once``, else the mean of some that follow it."""
    if not once:
        work()
        _wait(device)
    n, start = 0, time.perf_counter()
    while n < 1 or (not once and (n < _LEAST_PASSES or time.perf_counter() - start < _LEAST_SECONDS)):
        work()
        _wait(device)
        n += 1
    return (time.perf_counter() - start) / n


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
