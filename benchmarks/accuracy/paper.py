"""Print what the paper's networks give: ``python -m benchmarks.accuracy.paper [--regimes ...] [--real prostate]``.

Cells of simulated tissue are scored against the truth beside the best nuclear expansion, whose radius is chosen for
each sample with the truth. ``--encoder 1 2`` and ``--softmask scaled literal plain`` compare the readings of the
paper's text, ``--thresholds`` shows the size dial on one model, ``--pictures FOLDER`` draws cells over transcripts.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from skimage.segmentation import find_boundaries

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.__main__ import expansions, score, truth_on_grid
from benchmarks.accuracy.samples import SAMPLES
from ucs._kernels.distances import nucleus_axes
from ucs._kernels.labels.refine import refine_cells
from ucs._kernels.lattice import bounding_boxes
from ucs._read.sample import find_source, prepare
from ucs.methods.paper.assign import assign_pixels
from ucs.methods.paper.calibrate import find_background
from ucs.methods.paper.inference import PixelScores, score_pixels
from ucs.methods.paper.params import PaperParams
from ucs.methods.paper.patches import TrainingData
from ucs.methods.paper.training import Trained, train_nets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._read.sample import Sample

REGIMES = ("default", "sparse", "background", "diffusion", "crowded", "loose", "spindle", "5k", "missing")
SOFTMASKS = {"scaled": 0.3, "literal": "literal", "plain": 0.0}  # name -> shape_exponent
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Result:
    """Trained nets on one sample, before the decision."""

    sample: Sample
    params: PaperParams
    trained: Trained
    scores: PixelScores
    distance_um: float
    seconds: float

    def cells(self, threshold: float = 0.5) -> NDArray[np.int32]:
        """Return the refined cells at a threshold, ``(h, w)``."""
        nuclei, params = self.sample.nuclei.labels, self.params
        n = len(self.sample.nuclei.ids)
        weight, bias = (float(value.detach()) for value in self.trained.cell.weight_bias())
        labels, _ = assign_pixels(
            nuclei,
            bounding_boxes(nuclei, n),
            nucleus_axes(nuclei, n, strength=params.shape_exponent),
            self.scores.scalar,
            model=np.zeros(n + 1, dtype=np.int64),
            weight=np.array([weight]),
            bias=np.array([bias]),
            temperature=self.trained.cell.temperature.numpy()[None],
            tau=params.tau,
            reach=params.reach,
            threshold=threshold,
        )
        return refine_cells(labels, nuclei, bounding_boxes(labels, n))


def learn(sample: Sample, background: str | float, params: PaperParams, seed: int) -> Result:
    """Train both nets on all genes of a sample and score its pixels."""
    start = time.perf_counter()
    nuclei, transcripts = sample.nuclei.labels, sample.transcripts
    um_per_px = transcripts.grid.um_per_px
    far, chosen = find_background(transcripts.map.totals(), nuclei, background, um_per_px=um_per_px)
    n_genes = len(transcripts.genes)
    is_gene = np.arange(transcripts.map.n_features) < n_genes
    genes = transcripts.map.select(is_gene, np.arange(len(is_gene), dtype=np.int32), n_genes)
    trained = train_nets([TrainingData(genes, nuclei, far)], params, device=CPU, seed=seed)
    n = len(sample.nuclei.ids)
    model = np.zeros(n + 1, dtype=np.int64)
    scores = PixelScores.empty(nuclei.shape, bounding_boxes(nuclei, n), model, reach=params.reach)
    score_pixels(scores, genes, trained.foreground, trained.cell, device=CPU)
    seconds = time.perf_counter() - start
    return Result(sample, params, trained, scores, float(chosen.get("distance_um", np.nan)), seconds)


def run(sample: Sample, truth: NDArray | None, sdata: Any, seed: int, options: argparse.Namespace) -> list[dict]:
    """Score every reading of the paper on one sample."""
    rows = [] if truth is None else expansions(truth, sdata, sample)
    for encoder, softmask, background in itertools.product(options.encoder, options.softmask, options.backgrounds):
        params = PaperParams(encoder_convolutions=encoder, shape_exponent=SOFTMASKS[softmask])
        result = learn(sample, float(background) if background[0].isdigit() else background, params, seed)
        curve = result.trained.foreground_curve
        for threshold in options.thresholds:
            labels = result.cells(threshold)
            name = f"paper, encoder {encoder}, {softmask}, {background}, threshold {threshold:g}"
            area = {"segmentation": name, "area share": float((labels > 0).mean())}
            rows.append(
                (area if truth is None else score(name, labels, truth, sdata, sample))
                | {
                    "background um": result.distance_um,
                    "steps": curve.stopped_at,
                    "held-out loss": min(curve.held_out_loss, default=np.nan),
                    "seconds": result.seconds,
                }
            )
            if options.pictures is not None:
                draw(options.pictures / f"{options.name} {name}.png", sample, labels)
    return rows


def draw(path: Path, sample: Sample, labels: NDArray, side: int = 220) -> None:
    """Draw the middle of a sample: transcripts, outlines of nuclei and of cells."""
    row0, column0 = (max(0, (n - side) // 2) for n in labels.shape)
    window = slice(row0, row0 + side), slice(column0, column0 + side)
    totals = np.sqrt(sample.transcripts.map.totals()[window])
    figure, axes = plt.subplots(1, 2, figsize=(18, 9), layout="constrained")
    for ax, of in zip(axes, (sample.nuclei.labels, labels), strict=True):
        ax.imshow(totals, cmap="gray", vmax=np.quantile(totals, 0.995))
        lines = np.ma.masked_equal(find_boundaries(of[window], mode="inner"), 0)
        ax.imshow(lines, cmap="autumn", alpha=0.8)
        ax.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60)
    plt.close(figure)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regimes", nargs="*", default=list(REGIMES), choices=list(REGIMES))
    parser.add_argument("--real", nargs="*", default=[], choices=list(SAMPLES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--size", type=float, default=300.0, help="side of the tissue in um")
    parser.add_argument("--encoder", type=int, nargs="+", default=[PaperParams.encoder_convolutions])
    parser.add_argument("--softmask", nargs="+", choices=SOFTMASKS, default=["scaled"])
    parser.add_argument("--backgrounds", nargs="+", default=["auto"], help="auto, paper, or distances in um")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.5])
    parser.add_argument("--pictures", type=Path, help="folder for pictures")
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.WARNING)
    print(describe(), flush=True)
    rows: list[dict] = []
    for regime, seed in itertools.product(options.regimes, options.seeds):
        sdata = ucs.datasets.simulate(
            width_um=options.size, height_um=options.size, seed=seed, **ucs.datasets.REGIMES[regime]
        )
        sample = prepare(sdata, find_source(sdata, resolution=1.0))
        options.name = f"{regime} {seed}"
        found = run(sample, truth_on_grid(sdata, sample), sdata, seed, options)
        rows += [{"sample": regime, "seed": seed, **row} for row in found]
        print(pd.DataFrame(rows[-len(found) :]).to_string(index=False, header=False, float_format="%.3f"), flush=True)
    for name, seed in itertools.product(options.real, options.seeds):
        real = SAMPLES[name]()
        source = find_source(real.sdata, um_per_unit=real.um_per_unit, resolution=real.resolutions[0])
        options.name = f"{name} {seed}"
        found = run(prepare(real.sdata, source, real.nuclei_key), None, real.sdata, seed, options)
        rows += [{"sample": name, "seed": seed, **row} for row in found]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.3f"))
    kind = table["segmentation"].str.replace(r"best expansion.*", "best expansion", regex=True)
    columns = [name for name in ("F1@0.5", "F1@0.7", "transcript F1", "area share") if name in table]
    for by in (["sample", kind], [kind]):
        print("\nMean over", "seeds" if len(by) == 2 else "all")
        print(table.groupby(by, sort=False)[columns].mean().to_string(float_format="%.3f"))


if __name__ == "__main__":
    main()
