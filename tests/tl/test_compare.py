"""Segmentations side by side."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scenes import affine, boxes, labels_of, scaling, scene, segmented, translation
from spatialdata.models import Labels2DModel, ShapesModel, TableModel

import ucs
from ucs.metrics import Tissue

GENES = [f"GENE{k:04d}" for k in range(1, 41)]


@pytest.fixture(scope="module")
def cells():
    """The scene with cells of ours, and the nuclei once more as `vendor` on a raster of another pixel size."""
    sdata = segmented(scene().sdata())
    fine = np.kron(scene().nuclei, np.ones((2, 2), np.int32))
    sdata["vendor"] = Labels2DModel.parse(
        fine, dims=("y", "x"), transformations={"global": affine(scene().to_um @ scaling(0.5))}
    )
    return sdata


@pytest.fixture(scope="module")
def table(cells):
    return ucs.tl.compare(
        cells,
        {"vendor": "vendor", "ucs": "ucs_cells", "polygons": "ucs_boundaries", "listed": "ucs_table"},
        truth="ucs",
        markers={"x": GENES[:3], "y": GENES[3:6]},
        expansions_um=(0, 2),
        resolution=0.5,
    )


def test_one_row_for_each(table):
    assert table.index.tolist() == ["vendor", "ucs", "polygons", "listed", "nuclei + 0 um", "nuclei + 2 um"]
    assert table.index.name == "segmentation"
    assert table["radius_um"].tolist()[4:] == [0, 2]
    assert table["curve"].isna().tolist() == [True] * 4 + [False] * 2
    assert table.attrs["nuclei_key"] == "nucleus_labels"
    assert table.attrs["resolution"] == 0.5


def test_the_same_cells_have_the_same_figures_however_they_are_given(table):
    figures = table.drop(columns=["radius_um", "curve"])
    pd.testing.assert_series_equal(figures.loc["ucs"], figures.loc["polygons"], check_names=False)
    pd.testing.assert_series_equal(figures.loc["ucs"], figures.loc["listed"], check_names=False)
    pd.testing.assert_series_equal(figures.loc["vendor"], figures.loc["nuclei + 0 um"], check_names=False)
    assert table.loc["ucs", ["f1_0.5", "f1_0.7"]].tolist() == [1, 1]


def test_figures_are_those_of_the_metrics(cells, table):
    tissue = Tissue(cells, resolution=0.5)
    row = table.loc["ucs"]
    assert row["capture"] == ucs.metrics.capture("ucs_cells", sdata=tissue).share
    assert row["n_cells"] == cells["ucs_table"].n_obs
    own = ucs.metrics.summary(cells["ucs_table"])
    for name in ("area_um2", "transcripts_per_cell", "genes_per_cell", "mean_area_um2"):
        assert row[name] == pytest.approx(own[name])
    markers = {"x": GENES[:3], "y": GENES[3:6]}
    assert row["mecr"] == ucs.metrics.mecr(cells["ucs_table"], markers).rate
    depth = table.attrs["depth"]
    assert row["mecr_at_depth"] == ucs.metrics.mecr("ucs_cells", markers, depth=depth, sdata=tissue).rate
    shapes = ucs.metrics.morphology("ucs_cells", "nucleus_labels", sdata=tissue)
    assert row["solidity"] == shapes["solidity"].median()
    assert row["cells_with_nucleus"] == row["nuclei_in_cells"] == 1
    f1 = ucs.metrics.match("ucs_cells", "vendor", sdata=tissue)["f1"]
    assert table.loc["vendor", ["f1_0.5", "f1_0.7"]].tolist() == f1.tolist()


def test_too_few_nuclei_for_a_metric_are_said(cells, caplog):
    table = ucs.tl.compare(cells, {"ucs": "ucs_cells"}, resolution=1.0)
    assert np.isnan(table.loc["ucs", "spurious_coexpression"])
    assert "ucs: A half of the tissue has" in caplog.text


def test_without_nuclei_what_needs_them_is_left_out(cells):
    few = cells.subset(["transcripts", "ucs_cells"])
    table = ucs.tl.compare(few, {"ucs": "ucs_cells"}, resolution=1.0)
    assert "spurious_coexpression" not in table
    assert table.attrs["nuclei_key"] is None
    assert table.attrs["depth"] == 10
    with pytest.raises(KeyError, match="Found no labels or shapes element with nuclei"):
        ucs.tl.compare(few, {"ucs": "ucs_cells"}, expansions_um=[1])


def test_a_reference_gives_purity_and_correlation():
    """With the profiles that the tissue was made of; types follow from the nuclei."""
    sdata = ucs.datasets.simulate(width_um=160, height_um=160, n_genes=60, n_cell_types=3, seed=5)
    truth = sdata["true_table"]
    reference = AnnData(truth.X, obs=truth.obs[["cell_type"]].astype(str), var=pd.DataFrame(index=truth.var_names))
    table = ucs.tl.compare(
        sdata,
        {"true": "true_cells"},
        reference=reference,
        type_key="cell_type",
        expansions_um=(0, 10),
        truth="true_cells",
        resolution=1.0,
    )
    assert table.loc["true", "f1_0.5"] == 1
    assert table.loc["true", "reference_correlation"] > table.loc["nuclei + 10 um", "reference_correlation"]
    assert table.loc["true", "reference_correlation"] > 0.9
    purities = table[["negative_marker_purity", "negative_marker_purity_cells"]]
    assert (purities.loc["true"] > purities.loc["nuclei + 10 um"]).all()


def test_the_object_stays_as_it_is(cells):
    before = {name: element for _, name, element in cells.gen_elements()}
    ucs.tl.compare(cells, {"ucs": "ucs_cells"}, resolution=1.0)
    assert {name: element for _, name, element in cells.gen_elements()}.keys() == before.keys()
    assert all(cells[name] is element for name, element in before.items())


def test_points_in_pixels_and_another_coordinate_system(cells):
    """The same tissue with transcripts in pixels, which meet the cells in a system that is not `global`."""
    points = scene().points.assign(x=scene().points["x"] * 4, y=scene().points["y"] * 4)
    other = (
        scene()
        .with_points(points)
        .sdata(points_systems={"slide": scaling(0.25)}, nuclei_systems={"slide": scene().to_um})
    )
    own = labels_of(cells)
    other["ucs_cells"] = Labels2DModel.parse(
        own, dims=("y", "x"), transformations={"slide": affine(scene().to_um), "global": affine(translation(500, 0))}
    )
    expected = ucs.tl.compare(cells, {"ucs": "ucs_cells"}, resolution=1.0)
    found = ucs.tl.compare(
        other,
        {"ucs": "ucs_cells"},
        resolution=1.0,
        um_per_unit=0.25,
        coordinate_system="slide",
        nuclei_key="nucleus_labels",
    )
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)


def test_bad_input(cells):
    with pytest.raises(ValueError, match="There is nothing to compare"):
        ucs.tl.compare(cells, {})
    with pytest.raises(KeyError, match="'baysor' is no labels, shapes or table element"):
        ucs.tl.compare(cells, {"ucs": "ucs_cells", "baysor": "baysor"})
    with pytest.raises(KeyError, match="'vendor_cells' is no labels"):
        ucs.tl.compare(cells, {"ucs": "ucs_cells"}, truth="vendor_cells")
    with pytest.raises(ValueError, match=r"thresholds \[0.0\]"):
        ucs.tl.compare(cells, {"ucs": "ucs_cells"}, thresholds=[0.0])
    with pytest.raises(ValueError, match="radius=-1"):
        ucs.tl.compare(cells, {"ucs": "ucs_cells"}, expansions_um=[-1])
    with pytest.raises(ValueError, match="depth=0"):
        ucs.tl.compare(cells, {"ucs": "ucs_cells"}, depth=0)
    with pytest.raises(ValueError, match="0 of 2 types have a marker among the 40 genes"):
        ucs.tl.compare(cells, {"ucs": "ucs_cells"}, markers={"x": ["CD3E"], "y": ["EPCAM"]})
    reference = pd.DataFrame(20.0, index=["a", "b"], columns=["CD3E", "EPCAM"])
    with pytest.raises(ValueError, match="The reference shares 0 genes with the table"):
        ucs.tl.compare(cells, {"ucs": "ucs_cells"}, reference=reference)
    with pytest.raises(ValueError, match="negative values"):
        ucs.tl.compare(cells, {"ucs": "ucs_cells"}, reference=-reference)


def test_an_empty_segmentation_and_ids_that_fit_no_table(cells):
    sdata = cells.subset(["transcripts", "nucleus_labels", "ucs_cells"])
    sdata["none"] = Labels2DModel.parse(np.zeros((72, 96), np.int32), dims=("y", "x"))
    with pytest.raises(ValueError, match=r"labels\['none'\] has no cell where the transcripts are"):
        ucs.tl.compare(sdata, {"ucs": "ucs_cells", "none": "none"})
    obs = pd.DataFrame({"region": pd.Categorical(["ucs_cells"]), "id": [9999]}, index=["a"])
    sdata["wrong"] = TableModel.parse(
        AnnData(np.ones((1, 1)), obs=obs), region="ucs_cells", region_key="region", instance_key="id"
    )
    with pytest.raises(ValueError, match=r"tables\['wrong'\] lists 1 ids in 'id' \(9999\), none of which"):
        ucs.tl.compare(sdata, {"wrong": "wrong"})
    sdata["apart"] = ShapesModel.parse(boxes((1, 1, 5, 5)), transformations={"other": affine(np.eye(3))})
    with pytest.raises(ValueError, match="share no coordinate system"):
        ucs.tl.compare(sdata, {"apart": "apart"})


def test_the_figure(table):
    ax = ucs.pl.purity_capture(table)
    assert ax.get_xlabel() == "share of the transcripts captured"
    assert ax.get_ylabel() == "MECR (lower is purer; axis inverted)"
    assert ax.yaxis_inverted()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["nuclear expansion"]
    written = [text.get_text() for text in ax.texts]
    assert [text for text in written if not text.startswith("+")] == ["vendor", "ucs", "polygons", "listed", "better"]
    assert "+2 um" in written
    line, *points = ax.lines
    assert len({drawn.get_color() for drawn in ax.lines}) == len(ax.lines) == 5
    assert [point.get_xdata()[0] for point in points] == table["capture"].iloc[:4].tolist()
    np.testing.assert_allclose(line.get_xdata(), table["capture"].iloc[4:])
    again = ucs.pl.purity_capture(table, ax=ax)
    assert again is ax
    assert [text.get_text() for text in ax.texts].count("better") == 1
    assert ax.yaxis_inverted()
    plt.close(ax.figure)
    ax = ucs.pl.purity_capture(table.drop(columns=["curve", "radius_um"]), purity="f1_0.5")
    assert not ax.yaxis_inverted()
    assert len(ax.lines) == 6
    plt.close(ax.figure)


def test_the_figure_needs_its_columns(table):
    with pytest.raises(KeyError, match="no column 'mecr', 'capture'|no column 'capture'"):
        ucs.pl.purity_capture(table.drop(columns="capture"), purity="mecr")
    with pytest.raises(KeyError, match="no column 'purity'"):
        ucs.pl.purity_capture(table, purity="purity")
    with pytest.raises(KeyError, match="no column 'mecr', 'negative_marker_purity'"):
        ucs.pl.purity_capture(table[["capture"]])
    with pytest.raises(ValueError, match="No row has both"):
        ucs.pl.purity_capture(table.assign(mecr=np.nan), purity="mecr")
