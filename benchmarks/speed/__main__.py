"""Print the stages of the main job: ``python -m benchmarks.speed [--size 600] [--genes 300] [--repeats 3]``.

Two yardsticks: the nets' own convolutions over the same pixels in float32, timed in the same run (nothing that uses
these nets for one pass can be faster on that arithmetic), and the time that the published program was measured to
take on two such cores for the default case (600 x 600 um, 300 genes, one epoch): 577 s.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

import ucs
from benchmarks._machine import describe, peak_gib
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.paper.inference import BLOCK

PUBLISHED_SECONDS = 577.0


def one_pass_seconds(n_pixels: int) -> float:
    """Time the encoder and classifier on one block in float32 and scale to a number of pixels."""
    net = ForegroundNet(1).eval().to(memory_format=torch.channels_last)
    side = BLOCK + 2 * net.halo
    embedded = torch.randn(1, 64, side, side).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        times = []
        for _ in range(6):
            start = time.perf_counter()
            x = net.encode(embedded)
            for layer in net.classifier:
                x = torch.relu(layer(x))
            times.append(time.perf_counter() - start)
    return float(np.median(times[1:])) * n_pixels / BLOCK**2


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=600.0, help="side of the tissue in um")
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sdata = ucs.datasets.simulate(width_um=options.size, height_um=options.size, n_genes=options.genes, seed=0)
    print(describe())
    for repeat in range(options.repeats):
        result = ucs.tl.segment(sdata, inplace=False, progress=False)
        timings = result.tables["ucs_table"].uns["ucs"]["timings"]
        stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in timings.items() if name != "total")
        first = " (compiles or loads kernels)" if repeat == 0 else ""
        h, w = result.labels["ucs_cells"].shape
        baseline = one_pass_seconds(h * w)
        line = f"run {repeat + 1}{first}: {timings['total']:.1f} s ({stages}); {timings['total'] / baseline:.1f} x one "
        line += f"float32 pass of the nets ({baseline:.1f} s)"
        if options.size == 600 and options.genes == 300:
            line += f"; {PUBLISHED_SECONDS / timings['total']:.1f} x faster than {PUBLISHED_SECONDS:.0f} s"
        print(line)
    print(f"peak memory {peak_gib():.2f} GiB (with the simulator's)")


if __name__ == "__main__":
    main()
