"""Training of the two nets on the sample itself (paper, equations 7-10)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from ucs._kernels.distances import nucleus_axes
from ucs.methods.device import autocast, one_thread
from ucs.methods.optimize import FINE_TUNING, cosine_schedule
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.paper.pairs import training_pairs
from ucs.methods.paper.patches import IGNORED, MOST_HELD_OUT, Patch, PatchSource, TrainingData

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ucs.methods.paper.params import PaperParams

    Progress = Callable[[int, int], None]

_LEAST_TEMPERATURE = 1e-3  # of a net that says the same of every pair


@dataclass
class Curve:
    """The course of one net's training."""

    step: list[int] = field(default_factory=list)
    training_loss: list[float] = field(default_factory=list)
    held_out_loss: list[float] = field(default_factory=list)
    stopped_at: int = 0
    best_step: int = 0

    def as_dict(self) -> dict[str, list[int] | list[float] | int]:
        """Return the fields as plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Trained:
    """Two trained nets and how they got there."""

    foreground: ForegroundNet
    cell: CellNet
    foreground_curve: Curve
    cell_curve: Curve


def train_nets(
    data: Sequence[TrainingData],
    params: PaperParams,
    *,
    device: torch.device,
    seed: int = 0,
    start: tuple[ForegroundNet, CellNet] | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Trained:
    """Train both nets.

    Parameters
    ----------
    data
        One or several samples, each on its raster, with the same genes.
    params
        Parameters.
    device
        Where to compute.
    seed
        Of the weights and the patches.
    start
        Trained nets to begin with, which stay as they are; new ones if None.
    progress
        Called with ``(steps done, steps at most)``.
    """
    if start is None:
        foreground, cell = new_nets(
            data[0].transcripts.n_features,
            seed,
            marked=data[0].marks is not None,
            convolutions=params.encoder_convolutions,
        )
    else:
        foreground, cell = copy.deepcopy(start)
    # torch's annotations lack memory_format.
    foreground.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    cell.to(device)
    patches = PatchSource(data, size=params.patch_size, halo=foreground.halo, held_out=params.held_out, seed=seed)
    params = params.planned(len(patches) * params.patch_size**2)
    if start is not None:
        steps, cell_steps = (math.ceil(FINE_TUNING * n) for n in (params.max_steps, params.cell_steps))
        params = replace(params, max_steps=steps, cell_steps=cell_steps)
    total = params.max_steps + params.cell_steps

    def foreground_progress(done: int) -> None:
        progress(done, total)

    def cell_progress(done: int) -> None:
        progress(params.max_steps + done, total)

    with one_thread(device):
        foreground_curve = _train_foreground(foreground, patches, params, device, foreground_progress)
        cell_curve = _train_cell(cell, foreground, patches, params, device, cell_progress)
    progress(total, total)
    return Trained(foreground.eval(), cell.eval(), foreground_curve, cell_curve)


def new_nets(n_genes: int, seed: int, *, marked: bool = False, convolutions: int = 1) -> tuple[ForegroundNet, CellNet]:
    """Return untrained nets, whose weights depend on the seed alone; ``marked`` if there are markers."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU alone: the user's GPU generators stay as they are
        foreground = ForegroundNet(n_genes, convolutions=convolutions)
        return foreground, CellNet(foreground.feature_width, marked=marked)


def _train_foreground(
    net: ForegroundNet,
    patches: PatchSource,
    params: PaperParams,
    device: torch.device,
    progress: Callable[[int], None],
) -> Curve:
    squares = patches.held_out_patches(MOST_HELD_OUT)
    held_out = (
        [(patches.transcripts(squares).to(device), patches.labels(squares, training=False).to(device))]
        if squares
        else []
    )

    def draw_loss() -> Tensor:
        drawn = patches.draw(params.batch_size)
        transcripts, labels = patches.transcripts(drawn), patches.labels(drawn, training=True)
        with autocast(device):
            logits = net(transcripts.to(device))
        return foreground_loss(logits.float(), labels.to(device), params.foreground_weights)

    def held_out_loss() -> float:
        with torch.no_grad(), autocast(device):
            losses = [foreground_loss(net(t).float(), y, params.foreground_weights) for t, y in held_out]
        return float(torch.stack(losses).mean())

    steps = params.max_steps
    adam = _adam(net, params.learning_rate, steps, params)
    return _optimise(net, adam, draw_loss, held_out_loss if held_out else None, steps, params, progress)


def _train_cell(
    net: CellNet,
    foreground: ForegroundNet,
    patches: PatchSource,
    params: PaperParams,
    device: torch.device,
    progress: Callable[[int], None],
) -> Curve:
    foreground.eval()
    axes = [
        nucleus_axes(sample.data.nuclei, len(sample.boxes) - 1, strength=params.shape_exponent)
        for sample in patches.samples
    ]
    training = [
        _cell_examples(patch, foreground, patches, axes, params, device, training=True)
        for patch in _inside(patches, patches.draw(params.cell_patches, with_nuclei=True))
    ]
    held_out = [
        _cell_examples(patch, foreground, patches, axes, params, device, training=False)
        for patch in _inside(patches, patches.held_out_patches(MOST_HELD_OUT))
    ]
    training = [example for example in training if len(example[1])]
    held_out = [example for example in held_out if len(example[1])]
    order = patches.random.permutation(len(training))
    turn = 0

    def logits_of(example: tuple[Tensor, ...]) -> Tensor:
        features, pixel, _, softmask, _, mark = example
        return net(features, pixel, softmask, mark.clamp_min(0))

    def loss_of(example: tuple[Tensor, ...]) -> Tensor:
        _, _, nucleus, _, label, mark = example
        logits = logits_of(example)
        loss = cell_loss(logits, nucleus, label, params.cell_weights)
        return loss + params.marker_weight * marker_loss(logits, nucleus, mark) if net.marked else loss

    def draw_loss() -> Tensor:
        nonlocal turn
        chosen = [training[order[(turn + k) % len(order)]] for k in range(min(8, len(order)))]
        turn += len(chosen)
        return torch.stack([loss_of(example) for example in chosen]).mean()

    def held_out_loss() -> float:
        with torch.no_grad():
            return float(torch.stack([loss_of(example) for example in held_out]).mean())

    if not training:
        return Curve()
    steps = params.cell_steps
    adam = _adam(net, params.cell_learning_rate, steps, params)
    curve = _optimise(net, adam, draw_loss, held_out_loss if held_out else None, steps, params, progress)
    with torch.no_grad():
        squares = torch.cat([logits_of(example).square() for example in training])
        net.temperature.fill_(max(float(squares.mean().sqrt()), _LEAST_TEMPERATURE))
    return curve


def _inside(patches: PatchSource, drawn: list[Patch]) -> list[Patch]:
    """Return the parts of patches that lie on the rasters of their samples."""
    shapes = [sample.data.transcripts.shape for sample in patches.samples]
    return [Patch(patch.sample, patch.window.clipped(shapes[patch.sample])) for patch in drawn]


def _cell_examples(
    patch: Patch,
    foreground: ForegroundNet,
    patches: PatchSource,
    axes: list[NDArray[np.float64]],
    params: PaperParams,
    device: torch.device,
    *,
    training: bool,
) -> tuple[Tensor, ...]:
    """Return features and labelled pairs of one patch: (I, pixel, nucleus, softmask, label, mark).

    In training, pixels of the held-out squares are left out.
    """
    sample = patches.samples[patch.sample]
    with torch.no_grad(), autocast(device):
        features = foreground.features(patches.transcripts([patch]).to(device))
        background = foreground.logits(features).float()[0] < 0
    pixel, nucleus, softmask, label = training_pairs(
        sample.data.nuclei,
        sample.boxes,
        axes[patch.sample],
        background.cpu().numpy(),
        patch.window,
        tau=params.tau,
        reach=params.reach,
    )
    if training:
        kept = ~sample.is_held_out(patch.window).ravel()[pixel]
        pixel, nucleus, softmask, label = pixel[kept], nucleus[kept], softmask[kept], label[kept]
    marks = sample.data.marks
    mark = np.full(len(pixel), -1, np.float32) if marks is None else marks.of_pairs(patch.window, pixel, nucleus)
    _, nucleus = np.unique(nucleus, return_inverse=True)
    pairs = (torch.from_numpy(x).to(device) for x in (pixel, nucleus, softmask, label, mark))
    return features.float(), *pairs


def foreground_loss(logits: Tensor, labels: Tensor, weights: tuple[float, float]) -> Tensor:
    """Weighted cross-entropy over the labelled pixels of each patch, averaged over patches (paper, equation 9).

    Patches without a labelled pixel are left out of the average.

    Parameters
    ----------
    logits
        ``(B, h, w)`` logit of p_fg.
    labels
        ``(B, h, w)`` int8: 1 nucleus, 0 background, ``IGNORED`` elsewhere.
    weights
        w1, w2 of nucleus and background pixels.
    """
    target = (labels == 1).to(logits.dtype)
    weight = torch.where(labels == 1, float(weights[0]), float(weights[1])) * (labels != IGNORED)
    loss = functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="none")
    total, loss = weight.sum(dim=(1, 2)), loss.sum(dim=(1, 2))
    return (loss / total.clamp_min(1e-12)).sum() / (total > 0).sum().clamp_min(1)


def cell_loss(logits: Tensor, nucleus: Tensor, label: Tensor, weights: tuple[float, float]) -> Tensor:
    """Weighted cross-entropy per nucleus, averaged over the nuclei (paper, equation 10).

    Parameters
    ----------
    logits, label
        ``(n,)`` logit of q and 1 or 0, per pair.
    nucleus
        ``(n,)`` 0..m-1, the nucleus of each pair.
    weights
        w3, w4 of nucleus and background pixels.
    """
    weight = torch.where(label > 0, float(weights[0]), float(weights[1]))
    loss = functional.binary_cross_entropy_with_logits(logits, label, weight=weight, reduction="none")
    n = int(nucleus.max()) + 1
    total = torch.zeros(n, device=loss.device).index_add(0, nucleus, loss)
    weight_sum = torch.zeros(n, device=loss.device).index_add(0, nucleus, weight)
    return (total / weight_sum).mean()


def marker_loss(logits: Tensor, nucleus: Tensor, mark: Tensor) -> Tensor:
    """Cross-entropy between q and the mask of markers, averaged over the nuclei of known type (paper, marker genes).

    Parameters
    ----------
    logits, nucleus
        As for :func:`cell_loss`.
    mark
        ``(n,)`` 1 where a marker of the nucleus' type is on the pixel, 0 where none is, -1 for a nucleus of no type.
    """
    typed = mark >= 0
    if not bool(typed.any()):
        return logits.new_zeros(())
    _, number = torch.unique(nucleus[typed], return_inverse=True)
    return cell_loss(logits[typed], number, mark[typed], (1.0, 1.0))


def _adam(
    net: nn.Module, learning_rate: float, max_steps: int, params: PaperParams
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LRScheduler]:
    """Return Adam and its schedule: a short rise, then a cosine down to 0 at the last step."""
    parameters = list(net.parameters())
    optimizer = torch.optim.Adam(
        parameters,
        lr=learning_rate,
        betas=params.betas,
        weight_decay=params.weight_decay,
        # In one pass over the weights, of which there are 256 per gene, without copies on the way.
        fused=parameters[0].device.type in ("cpu", "cuda"),
    )
    return optimizer, cosine_schedule(optimizer, max_steps)


def _optimise(
    net: nn.Module,
    adam: tuple[torch.optim.Adam, torch.optim.lr_scheduler.LRScheduler],
    draw_loss: Callable[[], Tensor],
    held_out_loss: Callable[[], float] | None,
    max_steps: int,
    params: PaperParams,
    progress: Callable[[int], None],
) -> Curve:
    """Take steps until the held-out loss no longer falls, and go back to its best point."""
    optimizer, schedule = adam
    curve, best_loss, best_state = Curve(), np.inf, None
    net.train()
    losses: list[float] = []
    for step in range(1, max_steps + 1):
        optimizer.zero_grad(set_to_none=True)
        loss = draw_loss()
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        progress(step)
        curve.stopped_at = step
        if step % params.evaluate_every and step != max_steps:
            continue
        curve.step.append(step)
        curve.training_loss.append(float(np.mean(losses)))
        losses.clear()
        if held_out_loss is None:
            curve.best_step = step  # for all one knows
            continue
        curve.held_out_loss.append(held_out_loss())
        if curve.held_out_loss[-1] < best_loss:
            best_loss, curve.best_step = curve.held_out_loss[-1], step
            best_state = copy.deepcopy(net.state_dict())
        elif (step - curve.best_step) // params.evaluate_every >= params.patience:
            break
    if best_state is not None:
        net.load_state_dict(best_state)
    return curve
