"""Print what poor nuclei cost: ``python -m benchmarks.accuracy.ablation [--seeds 0 1] [--size 300]``.

On simulated tissue the nuclei are eroded, dilated, merged, split, or taken away, as in the paper's Figure S3, and cells
are scored against the truth: ours, ours with ``find_missing``, and the best nuclear expansion, whose radius is chosen
for each sample with the truth. A cell whose nucleus was taken away counts as not found by all that cannot find it.
"""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.morphology import convex_hull_image
from skimage.segmentation import find_boundaries
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel
from spatialdata.transformations import get_transformation

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.__main__ import RADII_UM, truth_on_grid
from ucs._read.sample import find_source, prepare
from ucs.metrics import expand_nuclei, match

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

UM_PER_PX = 0.2125  # of the simulated labels
MOVED_UM = 1.0  # by which outlines are eroded or dilated
CHANGED = 0.2  # share of the nuclei that are merged, split or taken away
_MOST_APART_UM = 15.0  # between the centres of nuclei that are merged


def eroded(nuclei: NDArray[np.int32], _random: np.random.Generator) -> NDArray[np.int32]:
    """Take 1 um from each outline; nuclei that vanish are gone."""
    depth = ndimage.distance_transform_edt((nuclei > 0) & ~find_boundaries(nuclei, mode="inner"))
    return np.where(depth > MOVED_UM / UM_PER_PX - 1, nuclei, 0)


def dilated(nuclei: NDArray[np.int32], _random: np.random.Generator) -> NDArray[np.int32]:
    """Move each outline out by 1 um, up to its neighbours'."""
    return expand_nuclei(nuclei, MOVED_UM, um_per_px=UM_PER_PX)


def merged(nuclei: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
    """Make one of a fifth of the nuclei and their nearest neighbours, with what lies between."""
    out, ids, centres = nuclei.copy(), *_centres(nuclei)
    distance, partner = cKDTree(centres).query(centres, k=2)
    done: set[int] = set()
    for k in random.permutation(len(ids)):
        other = int(partner[k, 1])
        if len(done) >= CHANGED * len(ids):
            break
        if distance[k, 1] * UM_PER_PX > _MOST_APART_UM or done & {int(k), other}:
            continue
        done |= {int(k), other}
        both = np.isin(out, ids[[k, other]])
        window = ndimage.find_objects(both.astype(np.int8))[0]
        hull = convex_hull_image(both[window])
        out[window][both[window] | (hull & (out[window] == 0))] = ids[k]
    return out


def split(nuclei: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
    """Cut a fifth of the nuclei in two, across their long axis."""
    out, windows, new = nuclei.copy(), ndimage.find_objects(nuclei), int(nuclei.max())
    for k in _some(nuclei, random):
        window = windows[k - 1]
        position = np.argwhere(nuclei[window] == k)
        position_from_centre = position - position.mean(axis=0)
        long_axis = np.linalg.eigh(np.cov(position.T))[1][:, -1]
        half = position[position_from_centre @ long_axis > 0]
        new += 1
        out[window][tuple(half.T)] = new
    return out


def missing(nuclei: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
    """Take a fifth of the nuclei away."""
    return np.where(np.isin(nuclei, _some(nuclei, random)), 0, nuclei)


def as_given(nuclei: NDArray[np.int32], _random: np.random.Generator) -> NDArray[np.int32]:
    """Leave them as they are."""
    return nuclei


CHANGES: dict[str, Callable[[NDArray[np.int32], np.random.Generator], NDArray[np.int32]]] = {
    "as given": as_given,
    "eroded 1 um": eroded,
    "dilated 1 um": dilated,
    "20 % merged": merged,
    "20 % split": split,
    "20 % missing": missing,
}


def _centres(nuclei: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    ids = np.flatnonzero(np.bincount(nuclei.ravel())[1:]) + 1
    return ids, np.array(ndimage.center_of_mass(nuclei > 0, nuclei, ids))


def _some(nuclei: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.intp]:
    ids = np.flatnonzero(np.bincount(nuclei.ravel())[1:]) + 1
    return random.choice(ids, round(CHANGED * len(ids)), replace=False)


def with_nuclei(sdata: SpatialData, nuclei: NDArray[np.int32]) -> SpatialData:
    """Return the transcripts and the truth with other nuclei."""
    element = Labels2DModel.parse(
        nuclei.astype(np.int32), dims=("y", "x"), transformations=get_transformation(sdata["true_cells"], get_all=True)
    )
    return SpatialData(
        points={"transcripts": sdata["transcripts"]},
        labels={"nuclei": element, "true_cells": sdata["true_cells"]},
    )


def run(change: str, seed: int, size: float, params: Any = None) -> list[dict[str, Any]]:
    """Score all segmentations with nuclei changed in one way."""
    tissue = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed)
    nuclei = np.asarray(tissue["nucleus_labels"]["scale0"]["image"]).astype(np.int32)
    sdata = with_nuclei(tissue, CHANGES[change](nuclei, np.random.default_rng(seed)))
    sample = prepare(sdata, find_source(sdata, platform="xenium"), "nuclei")
    truth = truth_on_grid(sdata, sample)
    rows = [
        _score(f"expansion {radius:g} um", truth, expand_nuclei(sample.nuclei.labels, radius)) for radius in RADII_UM
    ]
    best = max(rows, key=lambda row: row["F1@0.7"])
    rows = [best | {"segmentation": "best expansion", "radius um": float(best["segmentation"].split()[1])}]
    options: dict[str, Any] = {"platform": "xenium", "inplace": False, "progress": False}
    model = ucs.tl.train(sdata, nuclei_key="nuclei", platform="xenium", seed=seed, progress=False, params=params)
    for name, cells_of in (("ucs", ucs.tl.predict), ("ucs, find_missing", ucs.tl.find_missing)):
        result = cells_of(sdata, model, nuclei_key="nuclei", **options)
        rows.append(_score(name, truth, np.asarray(result.labels["ucs_cells"])))
    return [{"nuclei": change, "seed": seed, **row} for row in rows]


def _score(name: str, truth: NDArray, cells: NDArray) -> dict[str, Any]:
    f1 = match(truth, cells, thresholds=(0.5, 0.7))["f1"]
    return {"segmentation": name, "F1@0.5": float(f1.iloc[0]), "F1@0.7": float(f1.iloc[1])}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=list(CHANGES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=float, default=300.0, help="side of the tissue in um")
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    print(describe())
    rows: list[dict[str, Any]] = []
    for change in options.changes:
        for seed in options.seeds:
            rows += run(change, seed, options.size)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    means = table.groupby(["nuclei", "segmentation"], sort=False)[["F1@0.5", "F1@0.7"]].mean()
    print("\nMean over seeds")
    print(means.to_string(float_format=lambda x: f"{x:.3f}"))


if __name__ == "__main__":
    main()
