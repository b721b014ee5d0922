"""Training and application of the density net."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ucs._core.lattice import boxes_by_block
from ucs._core.transcripts import Window
from ucs.nn.density import HALO, DensityNet, count_scale, geometry
from ucs.nn.device import autocast, each_in_one_thread, one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ucs._core.surroundings import Surroundings
    from ucs.nn.params import TrainParams

    Progress = Callable[[int, int], None]

BLOCK = 96
"""Side of the blocks of prediction; all have one shape and lie on one lattice (see :mod:`ucs.nn.inference`)."""

_KEPT = 0.8  # share of the transcripts that the net sees in training
_RISE = 10  # steps over which the learning rate rises
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class DensityData:
    """What the density net learns from, or is applied to.

    Attributes
    ----------
    around
        The raster.
    mine
        ``(n + 1,)`` bool, the nuclei that count: windows are drawn around them, and the mean count by which a sample is
        normalised is that of the pixels nearest to them.
    mean
        That mean count per pixel, outside nuclei.
    """

    around: Surroundings
    mine: NDArray[np.bool_]
    mean: float

    @classmethod
    def of(cls, around: Surroundings, mine: NDArray[np.bool_] | None = None) -> DensityData:
        """Measure the mean; all nuclei count if ``mine`` is None."""
        mine = np.ones(len(around.boxes), dtype=bool) if mine is None else mine.copy()
        mine[0] = False  # no nucleus
        nearest, n, total = around.nearest, 0, 0
        for row0 in range(0, len(around.totals), 1024):
            rows = slice(row0, row0 + 1024)
            wanted = _outside(nearest.distance[rows]) & mine[nearest.owner[rows]]
            n += int(wanted.sum())
            total += int(around.totals[rows][wanted].sum())
        return cls(around, mine, total / n if total else 1e-6)

    def boxes(self) -> NDArray[np.int64]:
        """Return the boxes of the nuclei that count, ``(n + 1, 4)``, zeros for the others."""
        return np.where(self.mine[:, None], self.around.boxes, 0)

    def place(self, window: Window) -> NDArray[np.float32]:
        """Return :func:`ucs.nn.density.geometry` of a window, which may reach beyond the raster."""
        around, nearest = self.around, self.around.nearest
        distance = window.read(nearest.distance, fill=np.inf)
        second = window.read(nearest.second, fill=np.inf)
        richness = around.richness[window.read(nearest.owner)]
        return geometry(distance, second, richness, um_per_px=around.um_per_px)


def _outside(distance: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (distance > 0) & np.isfinite(distance)


def train_density(
    data: Sequence[DensityData],
    params: TrainParams,
    *,
    device: torch.device,
    seed: int,
    start: DensityNet | None = None,
    progress: Progress = lambda _done, _total: None,
) -> tuple[DensityNet, list[float]]:
    """Train a net on windows drawn around nuclei.

    Parameters
    ----------
    data
        One or several samples.
    params
        Parameters.
    device
        Where to compute.
    seed
        Of weights, windows and the split of the transcripts.
    start
        A trained net to begin with, which stays as it is; a new one if None.
    progress
        Called with ``(steps done, steps)``.

    Returns
    -------
    The net and the loss of every step (negative Poisson log-likelihood per pixel).
    """
    params = params.filled(density=True)
    random = np.random.default_rng(seed)
    net = new_density_net(params, seed) if start is None else copy.deepcopy(start)
    # torch's annotations lack memory_format.
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.train()
    optimizer = torch.optim.Adam(
        net.parameters(), lr=params.learning_rate, betas=params.betas, weight_decay=params.weight_decay
    )
    rise = min(_RISE, params.max_steps)

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * step / params.max_steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    windows = _Windows(data, params.patch_size, random)
    losses = []
    with one_thread(device):
        for step in range(1, params.max_steps + 1):
            loss = _loss(net, data, windows.draw(params.batch_size), random, device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), _LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            progress(step, params.max_steps)
    return net.eval(), losses


def new_density_net(params: TrainParams, seed: int) -> DensityNet:
    """Return an untrained net, whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU alone: the user's GPU generators stay as they are
        return DensityNet(params.density_width)


class _Windows:
    """Draws windows around nuclei that count, from all samples in proportion to their number."""

    def __init__(self, data: Sequence[DensityData], size: int, random: np.random.Generator) -> None:
        boxes = [one.boxes() for one in data]
        self.size, self.random = size, random
        self.box = np.concatenate([of[of[:, 2] > 0] for of in boxes])
        self.sample = np.repeat(np.arange(len(data)), [int((of[:, 2] > 0).sum()) for of in boxes])

    def draw(self, n: int) -> list[tuple[int, Window]]:
        """Draw ``n`` windows, each with a nucleus somewhere in it: (number of the sample, window)."""
        chosen = self.random.integers(0, len(self.box), size=n)
        shift = self.random.integers(0, self.size, size=(n, 2))
        corner = (self.box[chosen, :2] + self.box[chosen, 2:]) // 2 - shift
        return [
            (int(self.sample[k]), Window(int(r), int(c), int(r) + self.size, int(c) + self.size))
            for k, (r, c) in zip(chosen, corner, strict=True)
        ]


def _loss(
    net: DensityNet,
    data: Sequence[DensityData],
    windows: list[tuple[int, Window]],
    random: np.random.Generator,
    device: torch.device,
) -> Tensor:
    seen, unseen, places, wanted = [], [], [], []
    for number, window in windows:
        one, grown = data[number], window.grown(HALO)
        totals = grown.read(one.around.totals)
        kept = random.binomial(totals, _KEPT)
        seen.append(kept * (count_scale(one.mean) / _KEPT))
        unseen.append((totals - kept)[HALO:-HALO, HALO:-HALO])
        places.append(one.place(grown))
        wanted.append(_outside(window.read(one.around.nearest.distance, fill=np.inf)))
    counts, place, target, weight = (
        torch.from_numpy(np.stack(parts).astype(np.float32)).to(device) for parts in (seen, places, unseen, wanted)
    )
    log_mean = torch.tensor([math.log(data[number].mean) for number, _ in windows], device=device)[:, None, None]
    with autocast(device):
        log_ratio = net(counts, place)
    log_density = log_ratio.float() + log_mean
    loss = (torch.exp(log_density) * (1 - _KEPT) - target * log_density) * weight
    return loss.sum() / weight.sum().clamp_min(1.0)


def predict_density(
    data: DensityData,
    net: DensityNet,
    out: NDArray[np.float32],
    *,
    device: torch.device,
    tile_size: int = 1024,
    progress: Progress = lambda _done, _total: None,
) -> None:
    """Write the expected transcripts per um2 of the pixels nearest to the nuclei that count.

    Parameters
    ----------
    data, net
        The sample and the net, the latter on ``device``.
    out
        ``(h, w)`` float32; pixels of other nuclei, or that no nucleus reaches, are left as they are.
    device
        Where to compute.
    tile_size
        Side in pixels of what goes through the net at once on a GPU; on a CPU the blocks go one by one.
    progress
        Called with ``(blocks done, blocks)``.
    """
    around = data.around
    wanted, block_columns = wanted_blocks(data)
    batch_size = 1 if device.type == "cpu" else max(1, (tile_size // BLOCK) ** 2)
    scale, per_um2 = count_scale(data.mean), data.mean / around.um_per_px**2

    @torch.inference_mode()
    def predict(chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        windows = [_block_window(int(k), block_columns) for k in chosen]
        windows += [windows[-1]] * (batch_size - len(windows))  # the last batch has the shape of the others
        grown = [window.grown(HALO) for window in windows]
        counts = torch.from_numpy(np.stack([g.read(around.totals) for g in grown]).astype(np.float32) * scale)
        place = torch.from_numpy(np.stack([data.place(g) for g in grown]))
        with autocast(device):
            log_ratio = net(counts.to(device), place.to(device))
        return (torch.exp(log_ratio.float()) * per_um2).cpu().numpy()

    def enter(chosen: NDArray[np.int64], density: NDArray[np.float32]) -> None:
        for k, block in zip(chosen, density, strict=False):
            inside = _block_window(int(k), block_columns).clipped(around.totals.shape)
            mine = data.mine[around.nearest.owner[inside.slices]]
            out[inside.slices][mine] = block[: inside.shape[0], : inside.shape[1]][mine]
        progress(int(np.searchsorted(wanted, chosen[-1])) + 1, len(wanted))

    batches = [wanted[first : first + batch_size] for first in range(0, len(wanted), batch_size)]
    each_in_one_thread(predict, batches, enter, device)


def wanted_blocks(data: DensityData) -> tuple[NDArray[np.int64], int]:
    """Return the numbers of the blocks that a nucleus that counts comes near, and how many blocks lie in a row."""
    h, w = data.around.totals.shape
    block_rows, block_columns = -(-h // BLOCK), -(-w // BLOCK)
    start, _ = boxes_by_block(data.boxes(), data.around.reach, BLOCK, block_rows, block_columns)
    return np.flatnonzero(np.diff(start)), block_columns


def _block_window(k: int, block_columns: int) -> Window:
    row0, column0 = (k // block_columns) * BLOCK, (k % block_columns) * BLOCK
    return Window(row0, column0, row0 + BLOCK, column0 + BLOCK)
