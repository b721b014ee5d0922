from __future__ import annotations

import numpy as np
import pytest
from calls import segment
from scenes import TINY, scene
from spatialdata.models import Labels2DModel
from spatialdata.transformations import get_transformation

import ucs
from ucs.metrics import Tissue, expand_nuclei, subsample_stability
from ucs.metrics._stability import _with_points


def grown_where_transcripts_are(sdata):
    """Nuclei grown by 2 um, and those of them without a transcript left out: fewer transcripts, fewer cells."""
    tissue = Tissue(sdata, resolution=1.0)
    cells = tissue.cells("nucleus_labels")
    grown = expand_nuclei(cells.labels, 2.0)
    kept = np.asarray(tissue.count(cells._replace(labels=grown)).sum(axis=1)).ravel() > 0
    grown = np.where(np.concatenate([[False], kept])[grown], grown, 0)
    return tissue.element(grown)


def test_by_a_segmentation_that_follows_the_transcripts():
    table = subsample_stability(scene().sdata(), grown_where_transcripts_are, fractions=(1, 0.5, 0.02))
    assert table.index.tolist() == [1, 0.5, 0.02]
    assert table["f1_0.5"].iloc[0] == 1
    assert table["n_transcripts"].iloc[0] == len(scene().points)
    assert table["n_transcripts"].iloc[1] == pytest.approx(len(scene().points) / 2, rel=0.1)
    assert table["f1_0.5"].is_monotonic_decreasing
    assert table["n_cells"].iloc[2] < table["n_cells"].iloc[0]
    again = subsample_stability(scene().sdata(), grown_where_transcripts_are, fractions=[0.02])
    assert again.loc[0.02].equals(table.loc[0.02])
    other = subsample_stability(scene().sdata(), grown_where_transcripts_are, fractions=[0.02], seed=1)
    assert other.loc[0.02, "n_transcripts"] != table.loc[0.02, "n_transcripts"]


def test_the_default_is_our_segmentation():
    def briefly(sdata):
        return segment(sdata, params=TINY)

    sdata = scene().sdata()
    full = briefly(sdata)
    table = subsample_stability(sdata, briefly, fractions=[0.8], thresholds=(0.3, 0.5), full=full)
    assert table.columns.tolist() == ["n_transcripts", "n_cells", "f1_0.3", "f1_0.5"]
    assert 0 < table["f1_0.5"].item() <= table["f1_0.3"].item() <= 1
    in_place = subsample_stability(
        sdata, lambda part: part.__setitem__("ucs_cells", briefly(part)["ucs_cells"]), fractions=[0.8], full=full
    )
    assert in_place["f1_0.5"].item() == table["f1_0.5"].item()
    assert "ucs_cells" not in sdata


def test_the_default_segmentation_is_called(monkeypatch):
    called = []

    def of_nuclei(sdata, **options):
        called.append(options)
        found = sdata["nucleus_labels"].copy()
        return Labels2DModel.parse(found.data, dims=("y", "x"), transformations=get_transformation(found, get_all=True))

    monkeypatch.setattr(ucs.tl, "segment", of_nuclei)
    assert subsample_stability(scene().sdata())["f1_0.5"].tolist() == [1, 1, 1]
    assert called == [{"inplace": False, "progress": False}] * 4


def test_a_smaller_part_is_a_part_of_a_larger_one():
    tissue = Tissue(scene().sdata())
    parts = [_with_points(tissue, share, 0).points["transcripts"].compute() for share in (0.8, 0.4, 0.2)]
    rows = [set(zip(part["x"], part["y"], strict=True)) for part in parts]
    assert rows[2] < rows[1] < rows[0]
    assert len(parts[1]) / len(parts[0]) == pytest.approx(0.5, abs=0.05)


def test_molecules_are_thinned_where_rows_stand_for_several():
    points = scene().points.assign(count=np.arange(len(scene().points)) % 5 + 1).drop(columns="qv")
    sdata = scene().sdata()
    sdata = scene().with_points(points.rename(columns={"feature_name": "gene"})).sdata()
    tissue = Tissue(sdata, platform="generic")
    assert tissue.source.columns.count == "count"
    part = _with_points(tissue, 0.4, 0)["transcripts"].compute()
    assert part["count"].min() >= 1
    assert part["count"].sum() == pytest.approx(0.4 * points["count"].sum(), rel=0.05)
    table = subsample_stability(tissue, lambda s: s["nucleus_labels"], fractions=[0.4])
    assert table["n_transcripts"].item() == part["count"].sum()


def test_results_of_other_extents_are_brought_together():
    """A segmentation on a raster that depends on the transcripts it sees."""
    sdata = scene().with_points(scene().points.iloc[:-2]).sdata()  # without the corners
    shapes = []

    def on_own_raster(part):
        element = grown_where_transcripts_are(part)
        shapes.append(element.shape)
        return element

    table = subsample_stability(sdata, on_own_raster, fractions=[0.05])
    assert shapes[0] != shapes[1]
    assert table["f1_0.5"].item() > 0.7


def test_bad_input():
    sdata = scene().sdata()
    with pytest.raises(ValueError, match=r"fractions \[0.0, 1.5\]"):
        subsample_stability(sdata, fractions=[0.5, 0, 1.5])
    with pytest.raises(ValueError, match="one is needed"):
        subsample_stability(sdata, fractions=[])
    with pytest.raises(TypeError, match="returned a list"):
        subsample_stability(sdata, lambda _: [1], fractions=[0.5])
    with pytest.raises(KeyError, match="labels_key='ucs_cells' is not in this SpatialData"):
        subsample_stability(sdata, lambda part: part, fractions=[0.5])
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        subsample_stability(sdata, thresholds=[2])
