"""Purity on genes that a method has not seen: ``python -m benchmarks.accuracy.heldout [--samples ...]``.

Each split of the genes is used both ways: one half trains and segments, spurious co-expression of the other half is
measured, at equal capture of those genes. Expansion does not look at genes; other programs' cells, which lie in
``peers/`` of the shared data, come from all genes, so that theirs is flattered.
"""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.curves import advantage, default_threshold, segment_at, survey_of
from benchmarks.accuracy.real import EXPANSION
from benchmarks.accuracy.samples import RADII_UM, SAMPLES
from benchmarks.accuracy.side_by_side import PEERS, PROGRAMS, labels_of, polygons
from benchmarks.accuracy.uncertainty import errors_of_advantages
from ucs._evaluation.rasters import CellRaster
from ucs._kernels.labels.resample import sample_labels
from ucs._read.sample import find_source, prepare
from ucs.metrics import ComparisonMetrics, Tissue, expand_nuclei, gene_halves
from ucs.metrics._heldout import without_genes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.accuracy.samples import RealSample
    from ucs._read.sample import Sample

PURITY = "spurious_coexpression"
THRESHOLDS = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9)


def measure(
    real: RealSample,
    name: str,
    *,
    resolution: float,
    methods: Sequence[str],
    radii: Sequence[float] = RADII_UM,
    thresholds: Sequence[float] = THRESHOLDS,
    n_splits: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per split, way and segmentation.

    Columns: ``capture`` and ``spurious_coexpression`` of the held-out genes, ``gain`` (how much purer than expansion
    at its capture, NaN beyond the expansion's range) and ``error`` (of the gain, by cells drawn with replacement).
    """
    tissue = Tissue(real.sdata, um_per_unit=real.um_per_unit, resolution=resolution)
    transcripts, n_genes = tissue.transcripts.map, len(tissue.genes)
    weight = np.bincount(transcripts.feature, weights=transcripts.count, minlength=n_genes)[:n_genes]
    parts = []
    for split in range(n_splits):
        halves = gene_halves(tissue.genes, weight, seed=seed + split)
        for way, (shown, held) in enumerate((halves, halves[::-1])):
            table = _one_way(real, name, tissue, shown, held, resolution, methods, radii, thresholds)
            parts.append(table.assign(split=split, way=way))
    return pd.concat(parts)


def _one_way(
    real: RealSample,
    name: str,
    tissue: Tissue,
    shown: Sequence[str],
    held: Sequence[str],
    resolution: float,
    methods: Sequence[str],
    radii: Sequence[float],
    thresholds: Sequence[float],
) -> pd.DataFrame:
    """Segment with the genes ``shown``, and measure with those ``held``."""
    part, rest = without_genes(tissue, held), without_genes(tissue, shown)
    of_part, of_rest = (_sample(sdata, real, resolution) for sdata in (part, rest))
    measured = Tissue(rest, um_per_unit=real.um_per_unit, resolution=resolution)
    ids = of_rest.nuclei.ids
    nuclei = CellRaster(of_rest.nuclei.labels, ids, resolution)
    metrics = ComparisonMetrics.of(measured, nuclei=nuclei)
    found: dict[str, dict[str, NDArray[np.int32]]] = {
        EXPANSION: {f"nuclei + {r:g} um": expand_nuclei(nuclei.labels, r, um_per_px=resolution) for r in radii}
    }
    for method in methods:
        curve = _curve(part, of_part, real, resolution, method, thresholds)
        found[method] = {key: _moved(labels, of_part, of_rest) for key, labels in curve.items()}
    for program in PROGRAMS:
        if (PEERS / program / name / "cells.parquet").exists():
            shapes = polygons(program, name, rest.points[measured.source.elements[0].key])
            theirs = measured.holding({"cells": shapes}).cells("cells")
            found[program] = {program: labels_of(theirs, ids)}
    cells = {key: CellRaster(labels, ids, resolution) for curve in found.values() for key, labels in curve.items()}
    with np.errstate(invalid="ignore"):  # a program may have dropped a nucleus: its cell has no place and no counts
        rows = {
            key: metrics.measure(cells[key], key) | {"curve": name} for name, curve in found.items() for key in curve
        }
        table = _gains(metrics, cells, pd.DataFrame.from_dict(rows, orient="index"))
    return table[["curve", "capture", PURITY, "gain", "error"]]


def _gains(metrics: ComparisonMetrics, cells: dict[str, CellRaster], table: pd.DataFrame) -> pd.DataFrame:
    table["gain"], table["error"] = np.nan, np.nan
    for curve in table["curve"].unique():
        if curve == EXPANSION:
            continue
        both = table[table["curve"].isin([curve, EXPANSION])]
        gain = advantage(both, curve, EXPANSION, PURITY)
        of_both = {key: cells[key] for key in both.index}
        error = errors_of_advantages(metrics, of_both, both, ours=curve, baseline=EXPANSION, draws=20)
        table.loc[gain.index, "gain"] = gain
        if PURITY in error:
            table.loc[error.index, "error"] = error[PURITY]
    return table


def _sample(sdata: Any, real: RealSample, resolution: float) -> Sample:
    source = find_source(sdata, um_per_unit=real.um_per_unit, resolution=resolution)
    return prepare(sdata, source, real.nuclei_key)


def _curve(
    sdata: Any, sample: Sample, real: RealSample, resolution: float, method: str, thresholds: Sequence[float]
) -> dict[str, NDArray[np.int32]]:
    """Train once and segment at every threshold; return labels with dense ids of the nuclei."""
    model = ucs.tl.train(
        sdata,
        nuclei_key=real.nuclei_key,
        method=method,
        resolution=resolution,
        progress=False,
        read={"um_per_unit": real.um_per_unit},
    )
    survey, default = survey_of(sample, model), default_threshold(model)
    curve = {}
    for threshold in sorted({*thresholds, default}):
        key = f"{method} at {threshold:g}" + (" (default)" if threshold == default else "")
        curve[key] = segment_at(sample, model, threshold, survey=survey)
    return curve


def _moved(labels: NDArray[np.int32], of: Sample, to: Sample) -> NDArray[np.int32]:
    """Return labels on the raster of another sample, with its dense ids of the nuclei."""
    matrix = np.linalg.inv(of.transcripts.grid.px_to_intrinsic) @ to.transcripts.grid.px_to_intrinsic
    number = pd.Index(to.nuclei.ids).get_indexer(pd.Index(of.nuclei.ids)) + 1
    moved = sample_labels(labels, matrix, to.transcripts.grid.shape)
    renumbered: NDArray[np.int32] = np.concatenate([[0], number]).astype(np.int32)[moved]
    return renumbered


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per segmentation: means over splits and ways, and both errors of the gain."""
    table = table.rename_axis("segmentation").reset_index()
    by = ["curve", "segmentation"]
    of_splits = table.groupby([*by, "split"], sort=False)[["capture", PURITY, "gain"]].mean().groupby(by, sort=False)
    out = of_splits.mean()
    out["gain: error by splits"] = of_splits["gain"].std() / np.sqrt(of_splits["gain"].count())
    # Cells are the same in every split and way: their error does not shrink with more of them.
    out["gain: error by cells"] = table.groupby(by, sort=False)["error"].mean()
    return out


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", nargs="+", default=list(SAMPLES), choices=list(SAMPLES))
    parser.add_argument("--methods", nargs="*", default=["density", "pretrained"], choices=ucs.methods.method_names())
    parser.add_argument("--resolution", type=float, default=1.0, help="um per pixel")
    parser.add_argument("--radii", nargs="+", type=float, default=RADII_UM, help="of nuclear expansion, in um")
    parser.add_argument("--thresholds", nargs="+", type=float, default=THRESHOLDS)
    parser.add_argument("--splits", type=int, default=3, help="divisions of the genes, each used both ways")
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    print(describe())
    for name in options.samples:
        table = measure(
            SAMPLES[name](),
            name,
            resolution=options.resolution,
            methods=options.methods,
            radii=options.radii,
            thresholds=options.thresholds,
            n_splits=options.splits,
        )
        print(f"\n{name}\n{summarise(table).to_string(float_format=lambda x: f'{x:.3f}')}", flush=True)


if __name__ == "__main__":
    main()
