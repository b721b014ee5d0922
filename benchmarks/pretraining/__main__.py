"""Train the net of the pretrained method: ``python -m benchmarks.pretraining FOLDER``.

Draws fields of randomised tissue (:mod:`benchmarks.pretraining.tissue`), then trains on them. About 3 hours of one
core. Fields from number 0 on are learned from, those from :data:`HELD_OUT` on tell how well.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from benchmarks.pretraining.tissue import Field, random_tissue
from ucs._kernels.transcripts import TranscriptMap
from ucs.methods.density.cores import count_in_cores
from ucs.methods.model import Selection
from ucs.methods.pretrained.candidates import Candidates, find_candidates
from ucs.methods.pretrained.clusters import Clusters
from ucs.methods.pretrained.features import NucleusTable, net_features, read_maps
from ucs.methods.pretrained.net import HALO, OwnerNet
from ucs.methods.pretrained.survey import measure_tissue

HELD_OUT = 1_000_000
_SIDE_UM = 160
_EDGE = 4  # net px left out: their surroundings are not seen
_SHAPE_EXPONENT = 0.3


def example(seed: int, *, mixed: bool | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features ``(N_FEATURES, h, w)``, targets ``(2, 3, h, w)`` and weights ``(2, h, w)`` of a field."""
    random = np.random.default_rng([seed, 1])
    resolutions = 0.5, float(random.uniform(0.38, 0.62)), float(random.uniform(0.8, 1.25))
    um_per_px = random.choice(resolutions, p=[0.75, 0.12, 0.13])
    field = random_tissue(seed, mixed=mixed, side=round(_SIDE_UM / um_per_px / 12) * 12, um_per_px=um_per_px)
    features, candidates = describe(field, seed)
    targets, weights = truth(field, candidates)
    inner = np.s_[..., _EDGE:-_EDGE, _EDGE:-_EDGE]
    return features[inner].astype(np.float16), targets[inner].astype(np.float16), weights[inner].astype(np.float16)


def describe(field: Field, seed: int) -> tuple[np.ndarray, Candidates]:
    """Return what the net sees of a field, computed as for a sample."""
    n, shape = int(field.nuclei.max()), field.nuclei.shape
    transcripts = TranscriptMap.from_positions(
        field.row, field.column, field.gene, None, shape=shape, n_features=field.n_genes
    )
    genes = [str(k) for k in range(field.n_genes)]
    selection = Selection.of_genes(genes, genes)
    um_per_px = field.um_per_px
    survey = measure_tissue(
        transcripts, selection, field.nuclei, n, shape_exponent=_SHAPE_EXPONENT, um_per_px=um_per_px
    )
    counts = count_in_cores(transcripts, field.nuclei, n, um_per_px=um_per_px)
    clusters = Clusters.fit(counts, survey.far, seed=seed)
    candidates = find_candidates(field.nuclei, survey.boxes, survey.axes, factor=survey.factor, um_per_px=um_per_px)
    table = NucleusTable(survey.level, survey.area, survey.rings, clusters.membership(counts))
    maps = read_maps(survey.maps, 0, 0, candidates.owner.shape[1:])
    log_ratio = clusters.log_ratio.numpy()
    features = net_features(
        transcripts, field.nuclei, candidates, table, maps, log_ratio, factor=survey.factor, um_per_px=um_per_px
    )
    return features, candidates


def truth(field: Field, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of places and of transcripts that belong to either candidate or to none, and their weights."""
    h, w = candidates.owner.shape[1:]
    factor = round(field.cells.shape[0] / h)
    first, second = (np.kron(one, np.ones((factor, factor), dtype=one.dtype)) for one in candidates.owner)

    def shares(owner: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        belongs = np.stack([(owner == first) & (first > 0), (owner == second) & (second > 0)])
        sums = (belongs * count).reshape(2, h, factor, w, factor).sum(axis=(2, 4))
        whole = count.reshape(h, factor, w, factor).sum(axis=(1, 3))
        return np.concatenate([sums, (whole - sums.sum(axis=0))[None]]) / np.maximum(whole, 1), whole

    place, _ = shares(field.cells, np.ones(field.cells.shape))
    near = np.where(candidates.distance[0] < 12, 1.0, 0.3) * (candidates.owner[0] > 0)
    far_other = 1 - 0.5 * (place[2] > 0.5) * (field.cells[::factor, ::factor] > 0)  # of a third nucleus
    out = np.zeros((2, 3, h, w))
    out[0] = place
    weights = np.stack([near * far_other, np.zeros((h, w))])
    total = np.zeros((h, w))
    at = field.row // factor, field.column // factor
    origin = field.origin
    for number in (0, 1):
        owner = candidates.owner[number][at]
        np.add.at(out[1, number], at, (origin == owner) & (owner > 0))
    np.add.at(total, at, 1)
    out[1, 2] = total - out[1, :2].sum(axis=0)
    out[1] /= np.maximum(total, 1)
    weights[1] = np.minimum(total, 4) * (candidates.owner[0] > 0)
    return out, weights


def make(folder: Path, first: int, n: int, processes: int, *, mixed: bool | None = None) -> None:
    """Draw fields ``first`` to ``first + n`` into a folder, one file each; those that are there are kept."""
    torch.set_num_threads(1)
    todo = [seed for seed in range(first, first + n) if not (folder / f"{seed}.npz").exists()]
    begin = time.time()
    with ProcessPoolExecutor(processes) as pool:
        for done, seed in enumerate(pool.map(partial(_make_one, folder, mixed=mixed), todo, chunksize=4), start=1):
            if done % 100 == 0:
                print(f"{done} fields (last: {seed}), {(time.time() - begin) / done:.2f} s each", flush=True)


def _make_one(folder: Path, seed: int, *, mixed: bool | None) -> int:
    features, targets, weights = example(seed, mixed=mixed)
    path = folder / f".{seed}.npz"  # a file with its own name is complete
    np.savez(path, features=features, targets=targets, weights=weights)
    path.replace(folder / f"{seed}.npz")
    return seed


class Fields:
    """Examples on disk, held in memory once read."""

    def __init__(self, folder: Path, seeds: list[int]) -> None:
        self.folder, self.seeds, self.held = folder, seeds, {}

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seed = self.seeds[number]
        if seed not in self.held:
            with np.load(self.folder / f"{seed}.npz") as file:
                self.held[seed] = file["features"], file["targets"], file["weights"]
        return self.held[seed]


def batch(fields: Fields, random: np.random.Generator, n: int, size: int) -> list[torch.Tensor]:
    """Draw crops, turned and mirrored at random."""
    out = []
    for _ in range(n):
        arrays = fields[random.integers(len(fields.seeds))]
        h, w = arrays[0].shape[-2:]
        y, x = random.integers(0, h - size + 1), random.integers(0, w - size + 1)
        cut = [a[..., y : y + size, x : x + size] for a in arrays]
        if random.random() < 0.5:
            cut = [np.swapaxes(a, -1, -2) for a in cut]
        if random.random() < 0.5:
            cut = [a[..., ::-1, :] for a in cut]
        if random.random() < 0.5:
            cut = [a[..., ::-1] for a in cut]
        out.append(cut)
    return [torch.from_numpy(np.stack([one[k] for one in out]).astype(np.float32)) for k in range(3)]


def losses(net: OwnerNet, features: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of owners and of origins, ``(2,)``."""
    logits = net(features.contiguous(memory_format=torch.channels_last)).float()
    inner = np.s_[..., HALO:-HALO, HALO:-HALO]
    targets, weights = targets[inner], weights[inner]
    each = -(targets * functional.log_softmax(logits, dim=2)).sum(dim=2)
    return (each * weights).sum(dim=(0, 2, 3)) / weights.sum(dim=(0, 2, 3)).clamp_min(1)


def train(
    folder: Path,
    steps: int,
    *,
    seed: int,
    width: int,
    out: Path,
    crop: int,
    n: int,
    rate: float,
    start: Path | None,
) -> OwnerNet:
    """Train a net on the fields of a folder; write it with the record of its training."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    seeds = sorted(int(path.stem) for path in folder.glob("[0-9]*.npz"))
    learned = Fields(folder, [])
    held = Fields(folder, [one for one in seeds if one >= HELD_OUT])
    net = OwnerNet(width)
    if start is not None:
        net.load_state_dict(load_file(start))
    net.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    begin, record = time.time(), []
    mean = np.zeros(2)
    for step in range(steps):
        if step % 100 == 0:  # others may still be drawing fields
            learned.seeds = sorted(int(path.stem) for path in folder.glob("[0-9]*.npz") if int(path.stem) < HELD_OUT)
        each = losses(net, *batch(learned, random, n, crop))
        loss = each[0] + 0.3 * each[1]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean = mean * 0.99 + 0.01 * each.detach().numpy()
        if (step + 1) % 250 == 0 or step + 1 == steps:
            found = evaluate(net, held)
            record.append({"step": step + 1, "train": mean.tolist(), "held_out": found})
            print(f"step {step + 1}, losses {mean}, held out {found}, {time.time() - begin:.0f} s", flush=True)
            save_file({name: weight.contiguous() for name, weight in net.state_dict().items()}, out)
            about = {"fields": len(learned.seeds), "steps": steps, "seed": seed, "rate": rate, "width": width}
            about |= {"start": None if start is None else start.name, "record": record}
            out.with_suffix(".json").write_text(json.dumps(about, indent=1))
    return net


@torch.no_grad()
def evaluate(net: OwnerNet, held: Fields) -> list[float]:
    """Return the mean losses on held-out fields, and the share of places whose likeliest owner is the true one."""
    sums = []
    for number in range(len(held.seeds)):
        features, targets, weights = (torch.from_numpy(a.astype(np.float32))[None] for a in held[number])
        each = losses(net, features, targets, weights)
        inner = np.s_[..., HALO:-HALO, HALO:-HALO]
        right = (net(features)[:, 0].argmax(1) == targets[inner][:, 0].argmax(1)).float() * weights[inner][:, 0]
        sums.append([*each.tolist(), (right.sum() / weights[inner][:, 0].sum().clamp_min(1)).item()])
    return [round(float(v), 4) for v in np.mean(sums, axis=0)]


def main() -> None:
    """Parse arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fields", type=int, default=3000)
    parser.add_argument("--held-out", type=int, default=48)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--crop", type=int, default=120)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--start", type=Path, help="a net to go on with")
    parser.add_argument("--mixed", action="store_true", help="only fields of kinds that differ widely")
    parser.add_argument("--only", choices=("fields", "train"))
    parser.add_argument("--out", type=Path, default=Path("owner_net.safetensors"))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.only != "train":
        make(asked.folder, HELD_OUT, asked.held_out, asked.processes)
        make(asked.folder, asked.first, asked.fields, asked.processes, mixed=asked.mixed or None)
    if asked.only != "fields":
        train(
            asked.folder,
            asked.steps,
            seed=asked.seed,
            width=asked.width,
            out=asked.out,
            crop=asked.crop,
            n=asked.batch,
            rate=asked.rate,
            start=asked.start,
        )


if __name__ == "__main__":
    main()
