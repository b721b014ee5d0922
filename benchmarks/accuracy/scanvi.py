"""Label transfer by scANVI beside ours, the recipe of ``docs/exports.md``, in two environments.

``python -m benchmarks.accuracy.scanvi prepare FOLDER`` segments and writes counts and types of ours;
``python benchmarks/accuracy/scanvi.py run FOLDER SAMPLE [EPOCHS]`` needs scvi-tools alone, and prints the agreement.
EPOCHS are those of scVI; its own choice, at most 400, without it.

Two samples: simulated tissue, whose types are known (half of the true cells are the reference), and the breast crop,
for which single cells are drawn from the profiles of a published reference, as only these are there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

CELLS_PER_PROFILE = 30
DEPTH = 300  # median transcripts of the cells that are drawn


def prepare(folder: Path) -> None:
    """Write ``reference`` and ``cells`` of each sample; cells have types by ours in ``obs``, and true ones if known."""
    import ucs

    sdata = ucs.datasets.simulate(width_um=500, height_um=500, n_cell_types=8, seed=11)
    truth = sdata["true_table"]
    reference = truth[np.arange(truth.n_obs) % 2 == 0].copy()
    ucs.tl.segment(sdata, progress=False)
    cells = sdata["ucs_table"]
    known = truth.obs.set_index("cell_id")["cell_type"].astype(str).reindex(cells.obs["nucleus_id"]).to_numpy()
    cells.obs["true"] = np.where(cells.obs["nucleus_id"].isin(reference.obs["cell_id"]), "seen", known)
    cells.obs["ours"] = (
        ucs.metrics.transfer_types(cells, reference, type_key="cell_type")["type"].astype(str).to_numpy()
    )
    _write(folder, "simulated", reference, cells)

    from benchmarks.accuracy.samples import breast

    sample = breast()
    ucs.tl.segment(sample.sdata, progress=False)
    cells = sample.sdata["ucs_table"]
    types = ucs.metrics.transfer_types(cells, sample.reference, type_key=sample.type_key, scale=sample.scale)
    cells.obs["ours"] = types["type"].astype(str).to_numpy()
    _write(folder, "breast", _drawn(sample.reference, sample.type_key), cells)


def _drawn(profiles: pd.DataFrame, type_key: str) -> ad.AnnData:
    """Draw single cells from profiles, which are logarithms."""
    rng = np.random.default_rng(0)
    rates = np.expm1(profiles.drop(columns=type_key).to_numpy(dtype=float))
    rates = np.repeat(rates / rates.sum(axis=1, keepdims=True), CELLS_PER_PROFILE, axis=0)
    depth = DEPTH * np.exp(rng.normal(0, 0.5, (len(rates), 1)))
    types = np.repeat(profiles[type_key].to_numpy(str), CELLS_PER_PROFILE)
    obs = pd.DataFrame({"cell_type": types}, index=np.arange(len(types)).astype(str))
    var = pd.DataFrame(index=profiles.columns.drop(type_key))
    return ad.AnnData(rng.poisson(rates * depth).astype(np.float32), obs=obs, var=var)


def _write(folder: Path, name: str, reference: ad.AnnData, cells: ad.AnnData) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    for part, table in (("reference", reference), ("cells", cells)):
        kept = [column for column in ("cell_type", "ours", "true") if column in table.obs]
        ad.AnnData(table.X, obs=table.obs[kept].astype(str), var=table.var[[]]).write_h5ad(
            folder / name / f"{part}.h5ad"
        )


def transfer(reference: ad.AnnData, cells: ad.AnnData, epochs: int | None) -> np.ndarray:
    """Return the types of the cells, by the recipe."""
    import scvi

    scvi.settings.seed = 0
    reference.obs["batch"], cells.obs["batch"] = "reference", "cells"
    cells.obs["cell_type"] = "unknown"
    joint = ad.concat([reference, cells], join="inner", index_unique="-", keys=["reference", "cells"])
    scvi.model.SCVI.setup_anndata(joint, batch_key="batch")
    vae = scvi.model.SCVI(joint, n_layers=2)
    vae.train(max_epochs=epochs)
    scanvi = scvi.model.SCANVI.from_scvi_model(vae, unlabeled_category="unknown", labels_key="cell_type")
    scanvi.train(max_epochs=20, n_samples_per_label=100)
    return np.asarray(scanvi.predict())[len(reference) :]


def run(folder: Path, name: str, epochs: int | None) -> None:
    """Print how far the two agree, and how often each is right if that is known."""
    reference, cells = (ad.read_h5ad(folder / name / f"{part}.h5ad") for part in ("reference", "cells"))
    start = time.perf_counter()
    theirs = transfer(reference, cells, epochs)
    seconds = time.perf_counter() - start
    ours = cells.obs["ours"].to_numpy(str)
    print(
        f"{name}: {len(reference)} reference cells, {len(cells)} cells, {seconds:.0f} s; "
        f"the two agree on {(theirs == ours).mean():.1%}"
    )
    if "true" in cells.obs:
        true = cells.obs["true"].to_numpy(str)
        new = ~np.isin(true, ["seen", "nan"])
        right = (f"{(types == true)[new].mean():.1%}" for types in (theirs, ours))
        print(f"  of {new.sum()} cells that it has not seen are right: scANVI {next(right)}, ours {next(right)}")
    print(pd.crosstab(pd.Series(ours, name="ours"), pd.Series(theirs, name="scANVI")).to_string())


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
    else:
        run(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else None)
