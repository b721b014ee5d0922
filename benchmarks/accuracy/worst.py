"""Print and draw the cells with the lowest IoU: ``python -m benchmarks.accuracy.worst --out worst.png``.

True cells are drawn in black, cells by the default method in blue, over the density of the transcripts.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.ndimage import center_of_mass, gaussian_filter
from skimage.segmentation import find_boundaries

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.regimes import make_field, run_method, score

_SIDE_UM = 50.0


def main() -> None:
    """Run, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = list(ucs.datasets.REGIMES)
    parser.add_argument("--regimes", nargs="+", default=known, choices=known)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--size", type=float, default=200.0, help="side of the tissue in um")
    parser.add_argument("--resolution", type=float, default=0.5, help="um per pixel")
    parser.add_argument("--n", type=int, default=10, help="cells")
    parser.add_argument("--most", type=int, default=2, help="cells of one class at most")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    print(describe())
    rows, crops = [], {}
    for regime in options.regimes:
        field = make_field(regime, options.seed, options.size, options.resolution)
        ids, assigned, _ = run_method(field, options.resolution, options.seed)
        cells, _ = score(field, ids, assigned)
        cells["area ratio"] = cells["area"] / cells["true_area"].clip(lower=1)
        cells["nucleus"] = np.bincount(field.nuclei.ravel(), minlength=cells.index.max() + 1)[cells.index]
        cells["nucleus"] /= cells["true_area"].clip(lower=1)
        worst = cells.sort_values("iou").groupby("class").head(options.most)
        for cell, row in worst.iterrows():
            rows.append({"regime": regime, "cell": cell, **row})
            crops[regime, cell] = _crop(field, ids, int(cell), options.resolution)
    table = pd.DataFrame(rows).sort_values("iou").head(options.n)
    print(table.to_string(index=False, float_format=lambda x: f"{x:.2f}"))
    figure, axes = plt.subplots(2, -(-options.n // 2), figsize=(3.2 * -(-options.n // 2), 7))
    for axis, (_, row) in zip(axes.flat, table.iterrows(), strict=False):
        axis.imshow(crops[row["regime"], row["cell"]])
        axis.set_title(f"{row['regime']}, {row['class']}\nIoU {row['iou']:.2f}, area x {row['area ratio']:.1f}", size=8)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(options.out, dpi=80)


def _crop(field, ids, cell: int, um_per_px: float) -> np.ndarray:
    """Return a picture ``(h, w, 3)`` around a cell."""
    density = gaussian_filter(field.sample.transcripts.map.totals().astype(float), 1 / um_per_px)
    shade = 1 - np.clip(density / max(np.quantile(density, 0.99), 1e-9), 0, 1)
    picture = np.stack([np.ones_like(shade), 0.5 + shade / 2, 0.3 + 0.7 * shade], axis=-1)
    picture[field.nuclei > 0] *= [0.75, 0.85, 0.9]
    picture[find_boundaries(field.truth, mode="inner")] = [0.55, 0.55, 0.55]
    picture[find_boundaries(field.truth == cell, mode="inner")] = 0
    picture[find_boundaries(ids == cell, mode="inner")] = [0.1, 0.2, 0.9]
    row, column = center_of_mass(field.truth == cell)
    half = int(_SIDE_UM / um_per_px / 2)
    row, column = (int(np.clip(at, half, side - half)) for at, side in zip((row, column), ids.shape, strict=True))
    return picture[row - half : row + half, column - half : column + half]


if __name__ == "__main__":
    main()
