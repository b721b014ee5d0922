"""What the benchmarks compute themselves; their figures are not tested."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scenes

import ucs
from ucs._read.sample import find_source, prepare

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("benchmarks", None)  # another of that name may be installed


def test_cells_shrink_as_the_threshold_rises_and_the_default_is_that_of_segment():
    from benchmarks.accuracy.curves import default_threshold, segment_at

    sdata, model = scenes.scene().sdata(), scenes.model()
    sample = prepare(sdata, find_source(sdata), check_alignment=False)
    areas = [(segment_at(sample, model, threshold) > 0).sum() for threshold in (0.01, 0.3, 0.7, 0.999)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1]
    np.testing.assert_array_equal(
        segment_at(sample, model, default_threshold(model)), scenes.labels_of(scenes.segmented(sdata))
    )


def test_advantage_is_the_difference_to_the_other_curve_at_the_same_capture():
    from benchmarks.accuracy.curves import advantage

    table = pd.DataFrame(
        {
            "curve": ["expansion"] * 3 + ["ucs"] * 3 + [None],
            "capture": [0.2, 0.6, 1.0, 0.1, 0.4, 0.8, 0.5],
            "mecr": [0.0, 0.2, 0.2, 0.0, 0.05, 0.3, 0.0],
            "reference_correlation": [0.9, 0.5, 0.5, 0.9, 0.75, 0.4, 1.0],
        },
        index=list("abcdefg"),
    )
    gain = advantage(table, "ucs", "expansion", "mecr")
    assert gain.to_dict() == {"e": pytest.approx(0.05), "f": pytest.approx(-0.1)}  # d captures less than any expansion
    gain = advantage(table, "ucs", "expansion", "reference_correlation")
    assert gain.to_dict() == {"e": pytest.approx(0.05), "f": pytest.approx(-0.1)}
    assert advantage(table, "ucs", "nothing", "mecr").empty


def test_real_samples_are_laid_out_as_they_say(data_dir):
    from benchmarks.accuracy import samples

    if Path(samples.DATA).resolve() != Path(data_dir).resolve():
        pytest.skip("the benchmarks look for real data elsewhere")
    real = samples.prostate()
    cells, nuclei = real.sdata.shapes["cells"], real.sdata.shapes["nucleus_boundaries"]
    assert set(cells["group"]) == {"membrane", "other"}
    assert cells.index.isin(nuclei["cell_id"]).all()
    assert nuclei["cell_id"].is_unique


def test_errors_of_advantages_are_those_of_the_gap_and_not_of_the_curves():
    """Curves of the same cells differ by nothing, whichever cells are drawn; of other cells they differ by chance."""
    from benchmarks.accuracy.uncertainty import errors_of_advantages

    from ucs._evaluation.rasters import CellRaster
    from ucs.metrics import ComparisonMetrics, Tissue, expand_nuclei

    sdata = ucs.datasets.simulate(width_um=200, height_um=200, n_genes=60, seed=1)
    sample = prepare(sdata, find_source(sdata))
    nuclei, grid = sample.nuclei.labels, sample.transcripts.grid

    def raster(labels):
        return CellRaster(labels, sample.nuclei.ids, grid.um_per_px)

    cells = {f"{radius} um": raster(expand_nuclei(nuclei, radius, um_per_px=1.0)) for radius in (0, 2, 4, 8)}
    cells["same"] = cells["4 um"]
    half = np.where(np.arange(nuclei.shape[1]) % 2 == 0, cells["8 um"].labels, nuclei)  # striped
    cells["other"] = raster(half)
    metrics = ComparisonMetrics.of(Tissue(sdata, resolution=1.0), nuclei=raster(nuclei))
    table = pd.DataFrame.from_dict({name: metrics.measure(one, name) for name, one in cells.items()}, orient="index")
    table["curve"] = ["expansion"] * 4 + ["ucs"] * 2
    errors = errors_of_advantages(metrics, cells, table, ours="ucs", baseline="expansion", draws=5)
    assert list(errors) == ["spurious_coexpression"]
    assert errors.loc["same"].item() == pytest.approx(0, abs=1e-12)
    assert 0 < errors.loc["other"].item() < 0.2


@pytest.mark.parametrize("by_block", [True, False])
def test_the_lazy_map_of_a_slide_has_the_transcripts_that_were_written(tmp_path, by_block):
    from benchmarks.rasterize.__main__ import make, run

    make(tmp_path / "slide.zarr", 0.02, 12, by_block=by_block, seed=0)
    figures = run(tmp_path / "slide.zarr")
    assert figures["genes"] == 12
    assert figures["transcripts"] > 10_000


def test_cells_are_scored_by_the_class_of_their_nucleus():
    from benchmarks.accuracy import regimes

    cells, bins = regimes.measure("necrosis", seed=4, size=80.0, resolution=1.0, methods={})
    assert set(cells["class"]) == {"living", "dead"}
    table = regimes.summarise(cells, bins)
    assert list(table["segmentation"]) == ["expansion"] * 2
    by_class = table.set_index("class")
    assert by_class.loc["dead", "radius"] < by_class.loc["living", "radius"]
    field = regimes.make_field("necrosis", 4, 80.0, 1.0)
    assigned = field.points["true_cell_id"].to_numpy()
    scored, curve = regimes.score(field, field.truth, assigned, np.full(len(assigned), 0.75))
    assert (scored["iou"] == 1).all()
    found = regimes.summarise(
        pd.concat([cells, scored.assign(regime="necrosis", segmentation="truth", radius=np.nan)]),
        curve.assign(regime="necrosis", segmentation="truth"),
    )
    truth = found[found["segmentation"] == "truth"]
    assert (truth[["F1@0.5", "F1@0.7", "transcript F1", "area ratio", "purity"]] == 1).all(axis=None)
    assert truth["calibration error"].to_numpy() == pytest.approx(0.25)
    gain = regimes.gains(found).iloc[0]
    assert gain["worst at 0.5"] >= 0
    assert gain["classes"] == 2


def test_one_to_one_accuracy_pairs_cells_once():
    from benchmarks.accuracy.side_by_side import one_to_one

    true = np.array([1, 1, 1, 2, 2, 0])
    assert one_to_one(true, np.array([5, 5, 5, 7, 7, 0])) == 1
    assert one_to_one(true, np.array([5, 5, 5, 5, 5, 5])) == pytest.approx(0.6)  # one cell stands for one
    assert one_to_one(true, np.zeros(6, int)) == 0


def test_held_out_purity_is_compared_at_equal_capture():
    from benchmarks.accuracy import heldout
    from benchmarks.accuracy.samples import RealSample

    sdata = ucs.datasets.simulate(width_um=160, height_um=160, n_genes=60, transcripts_per_cell=400.0, seed=0)
    sample = RealSample("simulated", sdata, "nucleus_labels")
    table = heldout.measure(sample, "simulated", resolution=1.0, methods=[], radii=(0, 2, 6), n_splits=1)
    assert table.groupby(["split", "way"]).size().tolist() == [3, 3]
    of_all = heldout.summarise(table)
    assert of_all["capture"].is_monotonic_increasing
    assert of_all["spurious_coexpression"].between(0.1, 2).all()
    assert of_all["gain"].isna().all()
