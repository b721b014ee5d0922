"""Print how many missing nuclei are found: ``python -m benchmarks.accuracy.missing [--regimes ...] [--seeds 5 6 7]``.

Of simulated tissue a fifth of the nuclei is taken away. A removed cell counts as found if most of a found nucleus lies
in it; whatever else is found is false, a second nucleus in the same cell too. The stricter rule: the cells overlap with
an IoU of at least 0.5. Where nothing was taken away (``--missing 0``) all that is found is false. ``--real`` does so to
real samples: a nucleus that was taken away counts as found if most of a found one lies within 3 um of it.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.__main__ import truth_on_grid
from benchmarks.accuracy.curves import default_threshold, segment_at
from benchmarks.accuracy.samples import SAMPLES
from ucs._read.sample import find_source, prepare
from ucs._run.region_samples import raster_of
from ucs._run.training import TrainingOptions, train_model
from ucs._utils.progress import Stages
from ucs.methods.base import resolve_method
from ucs.methods.missing.search import find_missing_nuclei
from ucs.metrics import expand_nuclei, match

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ucs._read.sample import Sample

MISSING = 0.2
_NEAR_UM = 3.0


def run(regime: str, seed: int, size: float, missing: float) -> dict[str, Any]:
    """Score one simulated sample."""
    options = {**ucs.datasets.REGIMES[regime], "missing_nuclei": missing}
    sdata = ucs.datasets.simulate(width_um=size, height_um=size, seed=seed, **options)
    model = ucs.tl.train(sdata, seed=seed, progress=False)
    before = np.asarray(ucs.tl.predict(sdata, model, inplace=False, progress=False).labels["ucs_cells"])
    after = ucs.tl.find_missing(sdata, model, inplace=False, progress=False)
    truth = truth_on_grid(sdata, prepare(sdata, find_source(sdata)))
    cells, nuclei = (np.asarray(after.labels[key]) for key in ("ucs_cells", "ucs_missing_nuclei"))
    has = np.concatenate([[False], sdata.tables["true_table"].obs["has_nucleus_label"].to_numpy()])
    removed = np.setdiff1d(np.unique(truth[~has[truth]]), [0])
    found = np.unique(nuclei[nuclei > 0])
    hits = len(set(_most(nuclei, truth, found)) & set(removed))
    row = {"regime": regime, "seed": seed, "nuclei": int(has.sum()), "removed": len(removed), "found": len(found)}
    row |= {"recall": hits / len(removed) if len(removed) else np.nan, "false": 1 - hits / max(len(found), 1)}
    if len(removed) and len(found):
        of_removed = np.where(np.isin(truth, removed), truth, 0)
        strict = match(of_removed, np.where(np.isin(cells, found), cells, 0), thresholds=(0.5,)).iloc[0]
        row |= {"recall at IoU 0.5": strict["recall"], "precision at IoU 0.5": strict["precision"]}
    for name, labels in (("before", before), ("after", cells)):
        row[f"F1@0.5 {name}"] = match(truth, labels, thresholds=(0.5,))["f1"].iloc[0]
    return row


def _most(nuclei: NDArray, truth: NDArray, found: NDArray) -> NDArray:
    """Return the true cell in which most of each found nucleus lies."""
    pairs = pd.DataFrame({"nucleus": nuclei[nuclei > 0], "cell": truth[nuclei > 0]})
    return pairs.groupby("nucleus")["cell"].agg(lambda cells: np.bincount(cells).argmax()).reindex(found).to_numpy()


def run_real(name: str, seed: int, missing: float) -> dict[str, Any]:
    """Take nuclei from a real sample and look for them."""
    real = SAMPLES[name]()
    sample = prepare(real.sdata, find_source(real.sdata, um_per_unit=real.um_per_unit), real.nuclei_key)
    labels, n, um_per_px = sample.nuclei.labels, len(sample.nuclei.ids), sample.transcripts.grid.um_per_px
    gone = np.zeros(n + 1, dtype=bool)
    gone[np.random.default_rng(seed).choice(np.arange(1, n + 1), round(missing * n), replace=False)] = True
    number = np.where(gone, 0, np.cumsum(~gone) - 1).astype(np.int32)
    kept = replace(sample, nuclei=replace(sample.nuclei, labels=number[labels], ids=sample.nuclei.ids[~gone[1:]]))
    model = _model_of(kept)
    added, _ = find_missing_nuclei(raster_of(kept, None), model, segment_at(kept, model, default_threshold(model)))
    m = int(added.max(initial=0))
    near = _most(added, expand_nuclei(labels, _NEAR_UM, um_per_px=um_per_px), np.arange(1, m + 1))
    hits = len(set(near[gone[near]]))
    known = int((~gone[near] & (near > 0)).sum())
    row = {"sample": name, "seed": seed, "nuclei": n - int(gone.sum()), "removed": int(gone.sum()), "found": m}
    return row | {
        "recall": hits / gone.sum() if gone.any() else np.nan,
        "at a known nucleus": known,
        "elsewhere": m - hits - known,
    }


def _model_of(sample: Sample) -> Any:
    options = TrainingOptions(resolve_method("density"), ucs.methods.DensityParams(), device="cpu")
    return train_model([sample], None, options, Stages()).model


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    regimes = sorted(ucs.datasets.REGIMES)
    parser.add_argument("--regimes", nargs="*", default=["default"], choices=regimes)
    parser.add_argument("--real", nargs="*", default=[], choices=list(SAMPLES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7])
    parser.add_argument("--size", type=float, default=300.0, help="side of the tissue in um")
    parser.add_argument("--missing", type=float, default=MISSING, help="share of the nuclei that is taken away")
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    print(describe())
    rows = [run(regime, seed, options.size, options.missing) for regime in options.regimes for seed in options.seeds]
    if rows:
        print(pd.DataFrame(rows).to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    rows = [run_real(name, seed, options.missing) for name in options.real for seed in options.seeds]
    if rows:
        print(pd.DataFrame(rows).to_string(index=False, float_format=lambda x: f"{x:.3f}"))


if __name__ == "__main__":
    main()
