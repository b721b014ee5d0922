"""Localization of genes against simulated truth: ``python -m benchmarks.accuracy.localization [SEED ...]``.

Half of the genes are as dense in nuclei as the others; a quarter each is ``fold`` times as dense in one part.
Genes are tested in the true cells and in those of ``ucs.tl.segment``, over all cells or type by type.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix

import ucs
from ucs.datasets import _simulate

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

FOLDS = (1.0, 1.5, 2.0)
SIDE_UM, N_GENES = 250, 300
_UM_PER_PX = 0.2125


def simulated(fold: float, seed: int) -> SpatialData:
    """Simulate tissue in which half of the genes have no preference."""
    draw = _simulate.draw_profiles

    def mixed(params: ucs.datasets.SimulationParams, rng: np.random.Generator) -> object:
        profiles = draw(params, rng)
        side = rng.choice([-1.0, 0.0, 0.0, 1.0], params.n_genes)
        object.__setattr__(profiles, "nuclear_ratio", params.nuclear_enrichment * fold**side)
        return profiles

    with mock.patch.object(_simulate, "draw_profiles", mixed):
        return ucs.datasets.simulate(width_um=SIDE_UM, height_um=SIDE_UM, n_genes=N_GENES, seed=seed)


def true_cells(sdata: SpatialData) -> AnnData:
    """Count the transcripts of good quality in the true cells, and in their nuclei."""
    table = sdata.tables["true_table"].copy()
    points = sdata["transcripts"].compute().query("qv >= 20")
    cells, nuclei = np.asarray(sdata["true_cells"]), np.asarray(sdata["nucleus_labels"]["scale0"]["image"])
    row, column = (
        np.clip((points[axis] / _UM_PER_PX).astype(int), 0, side - 1)
        for axis, side in zip("yx", cells.shape, strict=True)
    )
    cell, gene = cells[row, column].astype(int), table.var_names.get_indexer(points["feature_name"].astype(str))
    used = (cell > 0) & (gene >= 0)
    at = (cell[used] - 1, gene[used])
    table.X = coo_matrix((np.ones(used.sum()), at), table.shape).tocsr()
    inside = (nuclei[row, column] == cell)[used].astype(float)
    table.layers["nucleus"] = coo_matrix((inside, at), table.shape).tocsr()
    return table


def outcome(table: AnnData, side: pd.Series, *, by: str | None) -> dict[str, float]:
    """Compare calls with the truth: -1 for genes of the cytoplasm, 1 for those of the nucleus, 0 for none."""
    found = ucs.tl.localization(table, by=by)
    truth = side.reindex(found.index.get_level_values("gene")).to_numpy()
    called = found["localization"].map({"nuclear": 1, "cytoplasmic": -1, "none": 0}).to_numpy(int)
    tested = found["p_value"].notna().to_numpy()
    wrong = (called != 0) & (called != truth)
    there = tested & (truth != 0)
    return {
        "tested": tested.sum(),
        "called": (called != 0).sum(),
        "false": wrong.sum(),
        "there": there.sum(),
        "found": (there & (called == truth)).sum(),
        "p below 0.05 without preference": (found["p_value"][tested & (truth == 0)] < 0.05).mean(),
    }


def run(seeds: list[int]) -> pd.DataFrame:
    """Return one row per seed, fold, cells and grouping."""
    rows = []
    for seed in seeds:
        for fold in FOLDS:
            sdata = simulated(fold, seed)
            truth = sdata.tables["true_table"]
            side = np.sign(np.log(truth.var["nuclear_ratio"] / truth.var["nuclear_ratio"].median()).round(6))
            ucs.tl.segment(sdata, progress=False)
            ours = sdata.tables["ucs_table"]
            types = truth.obs.set_index("cell_id")["cell_type"]
            ours.obs["cell_type"] = types.reindex(ours.obs["nucleus_id"].astype(int)).to_numpy()
            for name, table in {"true cells": true_cells(sdata), "ucs.tl.segment": ours}.items():
                for by in (None, "cell_type"):
                    row = {"seed": seed, "fold": fold, "cells": name, "by": by or "-", "n cells": table.n_obs}
                    rows.append(row | outcome(table, side, by=by))
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = run([int(seed) for seed in sys.argv[1:]] or [1, 2])
    sums = table.groupby(["cells", "by", "fold"])[["tested", "called", "false", "there", "found"]].sum()
    sums["false discoveries"] = sums["false"] / sums["called"].clip(lower=1)
    sums["power"] = sums["found"] / sums["there"].clip(lower=1)
    sums["p below 0.05"] = table.groupby(["cells", "by", "fold"])["p below 0.05 without preference"].mean()
    print(sums.round(3).to_string())
