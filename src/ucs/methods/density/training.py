"""Training and application of the density net."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ucs._kernels.transcripts import Window
from ucs.methods.density.net import HALO, DensityNet, count_scale, geometry
from ucs.methods.density.statistics import Overview
from ucs.methods.device import autocast, blocks_at_once, each_block, one_thread, sent
from ucs.methods.optimize import cosine_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ucs.methods.density.params import DensityParams
    from ucs.methods.density.surroundings import Look, Surroundings

    Progress = Callable[[int, int], None]

BLOCK = 96
"""Side of the blocks of prediction; all have one shape and lie on one lattice (see ``paper.inference``)."""

_KEPT = 0.8  # share of the transcripts that the net sees in training
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class DensityData:
    """What the density net learns from, or is applied to.

    Attributes
    ----------
    around
        The raster: held whole, or looked at window by window.
    mine
        ``(n + 1,)`` bool, the nuclei that count: windows are drawn around them, and the mean count by which a sample is
        normalised is that of the pixels nearest to them.
    mean
        That mean count per pixel, outside nuclei.
    """

    around: Surroundings | Overview
    mine: NDArray[np.bool_]
    mean: float

    @classmethod
    def of(cls, around: Surroundings | Overview, mine: NDArray[np.bool_] | None = None) -> DensityData:
        """Measure the mean; all nuclei count if ``mine`` is None."""
        mine = np.ones(len(around.boxes), dtype=bool) if mine is None else mine.copy()
        mine[0] = False  # no nucleus
        return cls(around, mine, around.mean_count(mine))

    def boxes(self) -> NDArray[np.int64]:
        """Return the boxes of the nuclei that count, ``(n + 1, 4)``, zeros for the others."""
        return np.where(self.mine[:, None], self.around.boxes, 0)

    def look(self, window: Window) -> tuple[Look, NDArray[np.float32]]:
        """Return a window, which may reach beyond the raster, and :func:`ucs.methods.density.net.geometry` of it."""
        seen = self.around.look(window)
        return seen, geometry(seen.distance, seen.second, seen.richness, um_per_px=self.around.um_per_px)


def _outside(distance: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (distance > 0) & np.isfinite(distance)


def train_density(
    data: Sequence[DensityData],
    params: DensityParams,
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
    random = np.random.default_rng(seed)
    net = new_density_net(params, seed) if start is None else copy.deepcopy(start)
    # torch's annotations lack memory_format.
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.train()
    optimizer = torch.optim.Adam(
        net.parameters(), lr=params.learning_rate, betas=params.betas, weight_decay=params.weight_decay
    )
    schedule = cosine_schedule(optimizer, params.max_steps)
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


def new_density_net(params: DensityParams, seed: int) -> DensityNet:
    """Return an untrained net, whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU alone: the user's GPU generators stay as they are
        return DensityNet(params.width)


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
        look, around = one.look(grown)
        kept = random.binomial(look.totals, _KEPT)
        seen.append(kept * (count_scale(one.mean) / _KEPT))
        unseen.append((look.totals - kept)[HALO:-HALO, HALO:-HALO])
        places.append(around)
        wanted.append(_outside(look.distance[HALO:-HALO, HALO:-HALO]))
    counts, place, target, weight = (
        sent(np.stack(parts).astype(np.float32), device) for parts in (seen, places, unseen, wanted)
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
    core: Window | None = None,
    tile_size: int = 1024,
    progress: Progress = lambda _done, _total: None,
) -> None:
    """Write the expected transcripts per um2 of the pixels nearest to the nuclei that count.

    Parameters
    ----------
    data, net
        The sample, held whole, and the net, the latter on ``device``.
    out
        ``(h, w)`` float32; pixels of other nuclei, or that no nucleus reaches, are left as they are.
    device
        Where to compute.
    core
        The pixels that are wanted; all if None. Blocks are counted from its corner.
    tile_size
        Side in pixels of what goes through the net at once on a GPU, which is halved where its memory does not suffice;
        on a CPU the blocks go one by one.
    progress
        Called with ``(blocks done, blocks)``.
    """
    around = data.around
    if isinstance(around, Overview):
        msg = "Densities are predicted part by part (Extract.surroundings), not of a whole overview."
        raise TypeError(msg)
    owner = around.nearest.owner
    core = core or Window(0, 0, *out.shape)
    wanted, block_columns = wanted_blocks(data, core)
    scale, per_um2 = count_scale(data.mean), data.mean / around.um_per_px**2
    done = 0

    def window_of(k: int) -> Window:
        row0, column0 = core.row0 + (k // block_columns) * BLOCK, core.column0 + (k % block_columns) * BLOCK
        return Window(row0, column0, row0 + BLOCK, column0 + BLOCK)

    @torch.inference_mode()
    def predict(chosen: Sequence[int]) -> tuple[NDArray[np.float32]]:
        looks = [data.look(window_of(k).grown(HALO)) for k in chosen]
        counts = np.stack([look.totals for look, _ in looks]).astype(np.float32) * scale
        place = np.stack([place for _, place in looks])
        with autocast(device):
            log_ratio = net(sent(counts, device), sent(place, device))
        return ((torch.exp(log_ratio.float()) * per_um2).cpu().numpy(),)

    def enter(k: int, density: NDArray[np.float32]) -> None:
        nonlocal done
        inside = window_of(k).meet(core)
        mine = data.mine[owner[inside.slices]]
        out[inside.slices][mine] = density[: inside.shape[0], : inside.shape[1]][mine]
        done += 1
        progress(done, len(wanted))

    at_once = blocks_at_once(device, tile_size, BLOCK)
    each_block(predict, wanted.tolist(), enter, net=net, device=device, at_once=at_once)


def wanted_blocks(data: DensityData, core: Window) -> tuple[NDArray[np.int64], int]:
    """Return the numbers of the blocks that a nucleus that counts comes near, and how many blocks lie in a row."""
    n_rows, n_columns = -(-core.shape[0] // BLOCK), -(-core.shape[1] // BLOCK)
    boxes, reach = data.boxes(), data.around.reach
    boxes = boxes[boxes[:, 2] > 0]
    row0 = np.clip((boxes[:, 0] - reach - core.row0) // BLOCK, 0, n_rows)
    row1 = np.clip((boxes[:, 2] - 1 + reach - core.row0) // BLOCK + 1, row0, n_rows)
    column0 = np.clip((boxes[:, 1] - reach - core.column0) // BLOCK, 0, n_columns)
    column1 = np.clip((boxes[:, 3] - 1 + reach - core.column0) // BLOCK + 1, column0, n_columns)
    change = np.zeros((n_rows + 1, n_columns + 1), dtype=np.int64)  # summed up, the boxes over each block
    for rows, columns, sign in ((row0, column0, 1), (row1, column1, 1), (row0, column1, -1), (row1, column0, -1)):
        np.add.at(change, (rows, columns), sign)
    near = change.cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
    return np.flatnonzero(near), n_columns
