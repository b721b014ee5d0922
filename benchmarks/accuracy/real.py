"""Print agreement, purity and capture on real samples: ``python -m benchmarks.accuracy.real [--samples ...]``.

Every sample is measured with the vendor's cells (where there are any), nuclear expansion by every radius, and ours at
every decision threshold, the default one among them: nothing of ours is chosen by what is measured. Samples whose
folder is missing are left out. With ``--figures FOLDER`` the curves are drawn; with ``--heldout 3`` purity on genes
that the methods have not seen is added.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import ucs
from benchmarks._machine import describe
from benchmarks.accuracy.curves import THRESHOLDS, advantage, default_threshold, segment_at, survey_of
from benchmarks.accuracy.samples import DATA, RADII_UM, SAMPLES, RealSample
from benchmarks.accuracy.uncertainty import errors_of_advantages
from ucs._evaluation.rasters import CellRaster
from ucs._evaluation.reference import as_reference
from ucs._read.sample import find_source, prepare
from ucs.metrics import ComparisonMetrics, Tissue, expand_nuclei, match, transcript_assignment
from ucs.pl._purity_capture import PURITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ucs._read.sample import Sample

EXPANSION, OURS = "expansion", "ucs"
ERROR = "standard error of the gap: "
SHOWN = ["capture", "area_um2", "transcripts_per_cell", "genes_per_cell", "solidity"]


def measure(
    real: RealSample, resolution: float, *, radii: tuple[float, ...], thresholds: tuple[float, ...], params: Any = None
) -> tuple[pd.DataFrame, float]:
    """Return one row per segmentation of a sample at one pixel size, and the seconds that training took."""
    source = find_source(real.sdata, um_per_unit=real.um_per_unit, resolution=resolution)
    sample = prepare(real.sdata, source, real.nuclei_key)
    tissue = Tissue(real.sdata, um_per_unit=real.um_per_unit, resolution=resolution)
    metrics = _metrics(real, tissue, sample)
    agreement = None if real.truth_key is None else Agreement(real, tissue, sample)
    start = time.perf_counter()
    model = ucs.tl.train(
        real.sdata,
        nuclei_key=real.nuclei_key,
        resolution=resolution,
        progress=False,
        params=params,
        read={"um_per_unit": real.um_per_unit},
    )
    seconds = time.perf_counter() - start
    rows = {name: metrics.measure(tissue.cells(key), name) for name, key in real.segmentations.items()}
    default, survey = default_threshold(model), survey_of(sample, model)
    curves = [(EXPANSION, f"nuclei + {radius:g} um", radius, _expanded(sample, radius)) for radius in radii]
    curves += [
        (OURS, f"ucs at {threshold:g}", threshold, segment_at(sample, model, threshold, survey=survey))
        for threshold in sorted({*thresholds, default})
    ]
    cells = {name: CellRaster(labels, sample.nuclei.ids, resolution) for _, name, _, labels in curves}
    for curve, name, value, labels in curves:
        row = metrics.measure(cells[name], name)
        row |= {} if agreement is None else agreement.of(labels)
        is_default = curve == OURS and value == default
        rows[name] = row | {"curve": curve, "value": value, "is_default": is_default}
    table = pd.DataFrame.from_dict(rows, orient="index")
    errors = errors_of_advantages(metrics, cells, table, ours=OURS, baseline=EXPANSION)
    return table.join(errors.add_prefix(ERROR)), seconds


def _metrics(real: RealSample, tissue: Tissue, sample: Sample) -> ComparisonMetrics:
    known = None
    if real.reference is not None:
        known = as_reference(real.reference, type_key=real.type_key, scale=real.scale)
    nuclei = CellRaster(sample.nuclei.labels, sample.nuclei.ids, sample.transcripts.grid.um_per_px)
    return ComparisonMetrics.of(tissue, nuclei=nuclei, markers=real.markers, reference=known)


def _expanded(sample: Sample, radius: float) -> NDArray[np.int32]:
    return expand_nuclei(sample.nuclei.labels, radius, um_per_px=sample.transcripts.grid.um_per_px)


class Agreement:
    """Agreement with the vendor's cells that hold a nucleus, all of them and each group alone.

    A cell of ours belongs to the group of the vendor's cell that its nucleus belongs to, so that cells of one group are
    not counted as wrong in another.
    """

    def __init__(self, real: RealSample, tissue: Tissue, sample: Sample) -> None:
        cells = tissue.cells(str(real.truth_key))
        group = real.sdata.shapes[real.truth_key]["group"].reindex(cells.ids).to_numpy()
        owner = real.sdata.shapes[real.nuclei_key][real.owner].reindex(sample.nuclei.ids).to_numpy()
        of_nucleus = pd.Series(group, index=cells.ids).reindex(owner).to_numpy()
        everything = (cells.labels, ~pd.isna(of_nucleus))
        self.groups: dict[str, tuple[NDArray, NDArray[np.bool_]]] = {"all": everything}
        for name in sorted(set(group)):
            kept = np.concatenate([[False], group == name])
            self.groups[str(name)] = np.where(kept[cells.labels], cells.labels, 0), of_nucleus == name
        transcripts = sample.transcripts.map
        self.pixels = transcripts.rows(), transcripts.column
        self.of_gene = transcripts.feature < len(sample.transcripts.genes)
        self.true_id = cells.labels[self.pixels][self.of_gene]

    def of(self, labels: NDArray[np.int32]) -> dict[str, float]:
        """Score cells that carry the ids of their nuclei."""
        row: dict[str, float] = {}
        for name, (truth, kept) in self.groups.items():
            predicted = np.where(np.concatenate([[False], kept])[labels], labels, 0)
            for level, f1 in match(truth, predicted, thresholds=(0.5, 0.7))["f1"].items():
                row[f"F1@{level} {name}"] = f1
        row["transcript F1"] = transcript_assignment(self.true_id, labels[self.pixels][self.of_gene])["f1"]
        return row


def report(table: pd.DataFrame) -> None:
    """Print the rows, and where ours lies against the best expansion and its curve."""
    scores = [name for name in table if str(name).startswith(("F1", "transcript F1"))]
    purities = [name for name in PURITIES if name in table]
    default_name = _default(table).index[0]
    print(f"(default: {default_name})")
    print(table[[*scores, *purities, *SHOWN]].to_string(float_format=lambda x: f"{x:.3f}"))
    expansions, default = table[table["curve"] == EXPANSION], _default(table)
    for name in scores:
        best = expansions[name].idxmax()
        print(f"{name}: best expansion {expansions[name].max():.3f} ({best}), ucs {default[name].item():.3f}")
    for name in purities:
        gain = advantage(table, OURS, EXPANSION, name)
        if len(gain):
            error, worst = table[ERROR + name], gain.idxmin()
            at = f"{worst}, capture {table.loc[worst, 'capture']:.2f}"
            own = f"; by default {gain[default_name]:.4f} +- {error[default_name]:.4f}" if default_name in gain else ""
            known = gain[error[gain.index].notna()]
            below = (known < -2 * error[known.index]).sum()
            print(
                f"{name}: ucs above the expansion curve by {gain.min():.4f} +- {error[worst]:.4f} ({at}) to "
                f"{gain.max():.4f}{own}; below it by more than two standard errors at {below} of {len(known)} points"
            )


def _default(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row of what :func:`ucs.tl.segment` does."""
    return table[table["is_default"] == 1]


def draw(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw every purity against capture."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    purities = [name for name in PURITIES if name in table]
    figure, axes = plt.subplots(1, len(purities), figsize=(5 * len(purities), 4), layout="constrained", squeeze=False)
    radius = table["value"].where(table["curve"] == EXPANSION)
    for ax, name in zip(axes[0], purities, strict=True):
        ucs.pl.purity_capture(table.assign(radius_um=radius), purity=name, ax=ax)
        default = _default(table)
        ax.scatter(default["capture"], default[name], s=70, facecolors="none", edgecolors="black", zorder=4)
        ax.set_title(title, fontsize="medium")
    figure.savefig(path, dpi=75)
    plt.close(figure)


def run(names: Sequence[str], options: argparse.Namespace) -> None:
    """Measure and print some samples."""
    for name in names:
        try:
            real = SAMPLES[name]()
        except FileNotFoundError as error:
            print(f"\n{name}: left out, {error}")
            continue
        for resolution in real.resolutions:
            table, seconds = measure(real, resolution, radii=tuple(options.radii), thresholds=tuple(options.thresholds))
            print(f"\n{name}, {resolution:g} um per pixel, trained in {seconds:.0f} s")
            report(table)
            if options.heldout:
                from benchmarks.accuracy import heldout  # it imports from here

                of_genes = heldout.measure(
                    real, name, resolution=resolution, methods=options.methods, n_splits=options.heldout
                )
                print("on held-out genes:")
                print(heldout.summarise(of_genes).to_string(float_format=lambda x: f"{x:.3f}"), flush=True)
            if options.figures is not None:
                options.figures.mkdir(parents=True, exist_ok=True)
                draw(table, f"{name}, {resolution:g} um per px", options.figures / f"{name}_{resolution:g}.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that this shares with ``python -m benchmarks.accuracy``."""
    parser.add_argument("--radii", nargs="+", type=float, default=RADII_UM, help="of nuclear expansion, in um")
    parser.add_argument("--thresholds", nargs="+", type=float, default=THRESHOLDS, help="of our decision")
    parser.add_argument("--figures", type=Path, help="folder for the curves")
    parser.add_argument("--heldout", type=int, default=0, help="splits of the genes for purity on held-out genes")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", nargs="+", default=list(SAMPLES), choices=list(SAMPLES))
    parser.add_argument("--methods", nargs="+", default=["density"], help="of the purity on held-out genes")
    add_arguments(parser)
    options = parser.parse_args()
    logging.getLogger("ucs").setLevel(logging.ERROR)
    print(describe())
    print(f"samples from {DATA.name}")
    run(options.samples, options)


if __name__ == "__main__":
    main()
