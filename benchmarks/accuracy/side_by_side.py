"""Other programs' cells beside ours and expansion: ``python -m benchmarks.accuracy.side_by_side [--samples ...]``.

Their results are looked for in ``peers/`` of the shared data: ``PROGRAM/SAMPLE/cells.parquet``, polygons with the
column ``nucleus_id``, in the units of the sample's points, and ``transcripts.parquet``, the cell of every transcript.
Nothing of theirs is run. Expansions are the best by each figure, the radius chosen with the truth; at real samples
purity is compared with expansion at the same capture. The others saw all genes that their purity is measured with.
"""

from __future__ import annotations

import argparse
import json
import logging
from typing import TYPE_CHECKING, Any

import dask.dataframe as dd
import geopandas as gpd
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel, PointsModel
from spatialdata.transformations import Identity, Scale

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy import regimes
from benchmarks.accuracy.curves import advantage
from benchmarks.accuracy.real import EXPANSION, Agreement, _metrics
from benchmarks.accuracy.samples import DATA, RADII_UM, SAMPLES
from ucs._evaluation.rasters import CellRaster
from ucs._read.sample import find_source, prepare
from ucs.metrics import Tissue, expand_nuclei
from ucs.pl._purity_capture import PURITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.accuracy.samples import RealSample

PEERS = DATA / "peers"
PROGRAMS = ("proseg-3.1.1",)
CONFLUENT = ("dense", "medium", "ultrasparse")
SIMULATED = ("default", "sparse", "background", "diffusion", "crowded", "loose", "spindle", "missing", "5k")
UM_PER_PX = 0.2125
CONFLUENT_UM_PER_PX = 0.5
_OF_TRANSCRIPTS = ", its transcripts"


def polygons(program: str, sample: str, points: Any, **reading: Any) -> Any:
    """Return a program's cells as shapes with the transformations of the points, by the ids of their nuclei."""
    held = SpatialData.init_from_elements({"transcripts": points})
    path = PEERS / program / sample / "cells.parquet"
    ucs.io.read_segmentation(path, "proseg", sdata=held, key_added="peer", points_key="transcripts", **reading)
    return held["peer_boundaries"]


def labels_of(cells: CellRaster, ids: NDArray, nucleus: pd.Series | None = None) -> NDArray[np.int32]:
    """Return the raster with dense ids of the nuclei ``ids``; ``nucleus`` has the nucleus of each cell, if another."""
    names = pd.Index(cells.ids) if nucleus is None else pd.Index(nucleus.reindex(cells.ids))
    number = pd.Index(ids).get_indexer(names) + 1
    return np.concatenate([[0], number]).astype(np.int32)[cells.labels]


def ours(
    sdata: SpatialData, tissue: Tissue, ids: NDArray, **arguments: Any
) -> tuple[NDArray[np.int32], SpatialData, pd.Series]:
    """Segment; return labels with dense ids of the nuclei, the result, and the nucleus of each cell."""
    out = ucs.tl.segment(sdata, inplace=False, progress=False, **arguments)
    obs = out.tables["ucs_table"].obs
    nucleus = pd.Series(obs["nucleus_id"].to_numpy(), index=obs["cell_id"].to_numpy())
    cells = tissue.holding({"ours": out["ucs_cells"]}).cells("ours")
    return labels_of(cells, ids, nucleus), out, nucleus


def simulated(name: str, methods: Sequence[str], resolution: float) -> pd.DataFrame:
    """Score one of the simulated fields that are kept with the results."""
    folder = PEERS / "simulated" / name
    images = np.load(folder / "labels.npz")
    points = pd.read_parquet(folder / "transcripts.parquet")
    to_px = Scale([1 / UM_PER_PX] * 2, axes=("x", "y"))
    sdata = _object(points, "feature_name", images["nucleus_labels"], to_px, Identity())
    sdata["true_cells"] = Labels2DModel.parse(
        images["true_cells"], dims=("y", "x"), transformations={"global": Identity()}
    )
    ids = np.unique(images["nucleus_labels"])
    field = regimes.field_of(sdata, pd.Series("all", index=ids[ids > 0]), resolution)
    tissue = Tissue(sdata, resolution=resolution)
    parts = [
        regimes.score(field, expand_nuclei(field.nuclei, radius, um_per_px=resolution))[0].assign(
            segmentation=EXPANSION, radius=radius
        )
        for radius in regimes.RADII_UM
    ]
    for method in methods:
        of_nuclei, assigned, confidence = regimes.run_method(field, resolution, 0, method=method)
        parts.append(regimes.score(field, of_nuclei, assigned, confidence)[0].assign(segmentation=method))
    for program in PROGRAMS:
        shapes = polygons(program, f"simulated_{name}", sdata.points["transcripts"])
        cells = tissue.holding({"cells": shapes}).cells("cells")
        parts.append(
            regimes.score(field, np.concatenate([[0], cells.ids])[cells.labels])[0].assign(segmentation=program)
        )
        own = pd.read_parquet(PEERS / program / f"simulated_{name}" / "transcripts.parquet")["proseg_id"].to_numpy()
        links = gpd.read_parquet(PEERS / program / f"simulated_{name}" / "cells.parquet")["nucleus_id"]
        own = np.where(np.isin(own, links), own, 0)[regimes.is_kept(points, field.sample)]
        scored, _ = regimes.score(field, np.zeros_like(field.truth), own)
        parts.append(scored.assign(segmentation=program + _OF_TRANSCRIPTS))
    table = regimes.summarise(pd.concat(parts).assign(regime=name, seed=0), pd.DataFrame())
    table.loc[table["segmentation"].str.endswith(_OF_TRANSCRIPTS), ["F1@0.5", "F1@0.7", "area ratio"]] = np.nan
    return table.drop(columns=["class", "calibration error"])


def confluent(name: str, methods: Sequence[str], resolution: float) -> pd.DataFrame:
    """Score one confluent field by the one-to-one accuracy of its molecules; the ceilings are those it came with."""
    stem = f"strec_{name}_s2_disjoint"
    points = pd.read_parquet(DATA / "confluent" / f"{stem}.parquet")
    nuclei = np.load(DATA / "confluent" / f"{stem}_nuclei.npz")["nuclei"]
    known = json.loads((DATA / "confluent" / f"{stem}.json").read_text())
    to_labels = Scale([CONFLUENT_UM_PER_PX] * 2, axes=("x", "y"))
    sdata = _object(points[["x", "y", "gene"]], "gene", nuclei, Identity(), to_labels)
    arguments: dict[str, Any] = {"platform": "generic", "resolution": resolution}
    sample = prepare(sdata, find_source(sdata, **arguments))
    tissue = Tissue(sdata, **arguments)
    true, inside = points["true_cell"].to_numpy(), points["interior"].to_numpy(bool)
    at = sample.transcripts.grid.rows_columns(points["x"], points["y"])

    def row(segmentation: str, assigned: NDArray) -> dict[str, Any]:
        right = one_to_one(true[inside], assigned[inside])
        return {"field": name, "segmentation": segmentation, "accuracy": right}

    rows = [{"field": name, "segmentation": f"{key} (stated)", "accuracy": known[key]} for key in ("oracle", "nearest")]
    grown = expand_nuclei(sample.nuclei.labels, np.inf, um_per_px=resolution)
    rows.append(row("nearest nucleus", grown[at]))
    for method in methods:
        labels, out, nucleus = ours(sdata, tissue, sample.nuclei.ids, method=method, **arguments)
        rows.append(row(f"{method}, inside its cells", labels[at]))
        cell = out.points["transcripts"].compute()["ucs_cell_id"].to_numpy()
        rows.append(row(method, nucleus.reindex(cell).fillna(0).to_numpy(np.int64)))
    for program in PROGRAMS:
        shapes = polygons(program, f"confluent_{name}_s2_disjoint", sdata.points["transcripts"], platform="generic")
        labels = labels_of(tissue.holding({"cells": shapes}).cells("cells"), sample.nuclei.ids)
        rows.append(row(f"{program}, inside its cells", labels[at]))
        own = pd.read_parquet(PEERS / program / f"confluent_{name}_s2_disjoint" / "transcripts.parquet")
        rows.append(row(program, own["proseg_id"].to_numpy()))
    return pd.DataFrame(rows)


def one_to_one(true: NDArray, predicted: NDArray) -> float:
    """Return the share of molecules in the cell that theirs is paired with, pairs chosen to make this largest."""
    known = (true > 0) & (predicted > 0)
    shape = (int(true.max()) + 1, int(predicted.max()) + 1)
    together = coo_array((np.ones(known.sum()), (true[known], predicted[known])), shape=shape).toarray()
    return float(together[linear_sum_assignment(together, maximize=True)].sum() / max((true > 0).sum(), 1))


def real(sample: RealSample, methods: Sequence[str], resolution: float, program_name: str) -> pd.DataFrame:
    """Score one real sample: agreement with the vendor's cells, if they are taken for true, and purity and capture."""
    source = find_source(sample.sdata, um_per_unit=sample.um_per_unit, resolution=resolution)
    prepared = prepare(sample.sdata, source, sample.nuclei_key)
    tissue = Tissue(sample.sdata, um_per_unit=sample.um_per_unit, resolution=resolution)
    metrics = _metrics(sample, tissue, prepared)
    agreement = None if sample.truth_key is None else Agreement(sample, tissue, prepared)
    found: dict[tuple[str, str], NDArray[np.int32]] = {}
    for radius in RADII_UM:
        grown = expand_nuclei(prepared.nuclei.labels, radius, um_per_px=resolution)
        found[EXPANSION, f"nuclei + {radius:g} um"] = grown
    for method in methods:
        arguments = {"method": method, "resolution": resolution, "read": {"um_per_unit": sample.um_per_unit}}
        labels, _, _ = ours(sample.sdata, tissue, prepared.nuclei.ids, nuclei_key=sample.nuclei_key, **arguments)
        found[method, method] = labels
    points = sample.sdata.points[source.elements[0].key]
    for program in PROGRAMS:
        cells = tissue.holding({"cells": polygons(program, program_name, points)}).cells("cells")
        found[program, program] = labels_of(cells, prepared.nuclei.ids)
    rows = {}
    for (curve, name), labels in found.items():
        with np.errstate(invalid="ignore"):  # a program may have dropped a nucleus: its cell has no place, no counts
            row = metrics.measure(CellRaster(labels, prepared.nuclei.ids, resolution), name)
        rows[name] = row | {"curve": curve}
        rows[name] |= {} if agreement is None else agreement.of(labels)
    return _beside_expansion(pd.DataFrame.from_dict(rows, orient="index"))


def _beside_expansion(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per program: its figures, and how much purer it is than expansion at its capture."""
    others = table[table["curve"] != EXPANSION].copy()
    purities = [name for name in PURITIES if name in table]
    for name in purities:
        gains = [advantage(table, curve, EXPANSION, name) for curve in others["curve"]]
        others[f"{name}: purer than expansion"] = pd.concat(gains) if gains else np.nan
    expansion = table[table["curve"] == EXPANSION]
    scores = [name for name in table if str(name).startswith(("F1", "transcript F1"))]
    best = pd.DataFrame([expansion[scores].max()], index=["best expansion"])
    shown = [*scores, "capture", *(name for name in others if str(name).startswith(tuple(purities)))]
    return pd.concat([best, others])[shown]


def _object(points: pd.DataFrame, gene: str, nuclei: NDArray, of_points: Any, of_labels: Any) -> SpatialData:
    frame = points.assign(**{gene: points[gene].astype("category")})
    return SpatialData(
        points={
            "transcripts": PointsModel.parse(
                dd.from_pandas(frame, npartitions=1), feature_key=gene, transformations={"global": of_points}
            )
        },
        labels={"nucleus_labels": Labels2DModel.parse(nuclei, dims=("y", "x"), transformations={"global": of_labels})},
    )


def _shown(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(float_format=lambda x: f'{x:.3f}')}", flush=True)


def main() -> None:
    """Run and print."""
    every: Mapping[str, Sequence[str]] = {"real": list(SAMPLES), "confluent": CONFLUENT, "simulated": SIMULATED}
    names = [name for group in every.values() for name in group]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", nargs="+", default=names, choices=names)
    parser.add_argument("--methods", nargs="*", default=["density", "pretrained"], choices=ucs.methods.method_names())
    parser.add_argument("--resolution", type=float, default=0.5, help="um per pixel")
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    if not PEERS.is_dir():
        parser.error(f"no folder peers/ in {DATA}: set UCS_TEST_DATA to where the results of other programs lie.")
    print(describe())
    for name in options.samples:
        if name in SAMPLES:
            _shown(name, real(SAMPLES[name](), options.methods, options.resolution, name))
        elif name in CONFLUENT:
            _shown(f"confluent, {name}", confluent(name, options.methods, options.resolution))
        else:
            _shown(f"simulated, {name}", simulated(name, options.methods, options.resolution))


if __name__ == "__main__":
    main()
