"""Segmentations of one object on one raster."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scenes import AFFINES, X0, Y0, affine, boxes, make_sdata, scaling, scene, translation
from spatialdata.models import Labels2DModel, ShapesModel, TableModel

import ucs
from ucs.metrics import Tissue, capture, match, mecr, morphology, seams, summary

POINTS = pd.DataFrame(
    {
        "x": [0.2, 1.5, 2.5, 9.9, 5.0, 5.5],
        "y": [0.2, 1.5, 2.5, 7.9, 4.0, 4.5],
        "feature_name": ["A", "A", "B", "B", "A", "BLANK_1"],
        "qv": [30.0, 30, 30, 30, 10, 30],
    }
)


def small():
    """A raster of 1 um with two cells, and six transcripts: one of low quality, one of a control."""
    labels = np.zeros((8, 10), np.int32)
    labels[1:4, 1:4], labels[4:8, 5:10] = 40, 70
    return make_sdata(labels, POINTS)


def test_transcripts_are_counted_in_cells():
    tissue = Tissue(small(), resolution=1.0)
    table = tissue.table("nucleus_labels")
    assert table.obs["cell_id"].tolist() == [40, 70]
    assert table.obs["area_um2"].tolist() == [9, 20]
    assert table.var_names.tolist() == tissue.genes == ["A", "B"]
    assert table.X.toarray().tolist() == [[1, 1], [0, 1]]
    np.testing.assert_allclose(table.obsm["spatial"], [[2.5, 2.5], [7.5, 6.0]])
    found = capture("nucleus_labels", sdata=tissue)
    assert (found.n_assigned, found.n_transcripts) == (3, 4)  # neither low quality nor controls
    assert found.per_gene["share"].to_dict() == {"A": 0.5, "B": 1.0}
    assert summary("nucleus_labels", sdata=tissue)["n_transcripts"] == 3


def test_an_object_serves_as_well_as_a_tissue():
    sdata = small()
    for given in (sdata, Tissue(sdata, resolution=0.5)):
        assert capture("nucleus_labels", sdata=given).share == 0.75
        assert morphology("nucleus_labels", sdata=given)["area_um2"].tolist() == [9, 20]
        assert seams("nucleus_labels", sdata=given).index.tolist() == [40, 70]


@pytest.mark.parametrize("name", AFFINES)
def test_elements_meet_through_their_transformations(name):
    """The same cells on another raster, turned, sheared and flipped: they are found where they were."""
    to_um = scene().to_um
    sdata = scene().sdata()
    matrix = to_um @ AFFINES[name]  # from another raster's pixels to um
    corners = np.linalg.inv(matrix) @ np.array([[X0, X0 + 96, X0, X0 + 96], [Y0, Y0, Y0 + 72, Y0 + 72], [1, 1, 1, 1]])
    low = np.floor(corners[:2].min(axis=1)) - 1
    size = np.ceil(corners[:2].max(axis=1)) + 1 - low
    fine = max(1.0, 3.0 * np.sqrt(abs(np.linalg.det(AFFINES[name][:2, :2]))))
    matrix = matrix @ translation(*low) @ scaling(1 / fine)
    from ucs._kernels.labels.resample import sample_labels

    other = sample_labels(scene().nuclei, np.linalg.inv(to_um) @ matrix, tuple((size[::-1] * fine).astype(int)))
    sdata["other"] = Labels2DModel.parse(other, dims=("y", "x"), transformations={"global": affine(matrix)})
    scores = match("nucleus_labels", "other", thresholds=(0.7, 0.9), sdata=Tissue(sdata, resolution=1.0))
    assert scores.loc[0.7, "f1"] == 1
    assert scores.loc[0.9, "f1"] > 0.9


def test_shapes_and_labels_and_tables_meet():
    sdata = small()
    frame = boxes((1, 1, 4, 4), (5, 4, 10, 8), index=["left", "right"])
    sdata["boxes"] = ShapesModel.parse(frame, transformations={"global": affine(np.eye(3))})
    tissue = Tissue(sdata, resolution=0.5)
    assert match("nucleus_labels", "boxes", thresholds=[1.0], sdata=tissue)["f1"].tolist() == [1]
    pairs = ucs.metrics.matched_pairs("nucleus_labels", "boxes", sdata=tissue)
    assert pairs[["true_id", "predicted_id"]].to_numpy().tolist() == [[40, "left"], [70, "right"]]
    obs = pd.DataFrame({"region": pd.Categorical(["boxes"]), "id": ["right"]}, index=["a"])
    sdata["kept"] = TableModel.parse(
        AnnData(np.ones((1, 1)), obs=obs), region="boxes", region_key="region", instance_key="id"
    )
    assert tissue.cells("kept").ids.tolist() == ["right"]
    assert capture("kept", sdata=tissue).n_assigned == 1


def test_the_counts_of_a_table_of_the_object_are_taken_as_they_are():
    sdata = small()
    table = AnnData(np.array([[5, 5], [0, 1]]), var=pd.DataFrame(index=["A", "B"]))
    sdata["counts"] = TableModel.parse(table)
    markers = {"x": ["A"], "y": ["B"]}
    assert mecr("counts", markers, sdata=sdata).rate == 0.5
    assert mecr("nucleus_labels", markers, sdata=sdata).rate == 0.5
    with pytest.raises(ValueError, match=r"tables\['counts'\] annotates no element"):
        capture("counts", sdata=sdata)


def test_bad_input(caplog):
    sdata = small()
    with pytest.raises(KeyError, match="'cells' is no labels, shapes or table element .* 'nucleus_labels'"):
        capture("cells", sdata=sdata)
    with pytest.raises(ValueError, match="resolution=0 "):
        Tissue(sdata, resolution=0)
    sdata["empty"] = Labels2DModel.parse(np.zeros((8, 10), np.int32), dims=("y", "x"))
    with pytest.raises(ValueError, match=r"labels\['empty'\] has no cell where the transcripts are"):
        capture("empty", sdata=sdata)
    sdata["far"] = ShapesModel.parse(boxes((500, 500, 510, 510)))
    with pytest.raises(ValueError, match=r"shapes\['far'\] has no cell where the transcripts are"):
        capture("far", sdata=sdata)
    sdata["elsewhere"] = ShapesModel.parse(boxes((1, 1, 5, 5)), transformations={"other": affine(np.eye(3))})
    with pytest.raises(ValueError, match="share no coordinate system .* 'elsewhere' is in 'other'"):
        capture("elsewhere", sdata=sdata)
    obs = pd.DataFrame({"region": pd.Categorical(["nucleus_labels"] * 2), "id": [41, 42]}, index=["a", "b"])
    sdata["wrong"] = TableModel.parse(
        AnnData(np.ones((2, 1)), obs=obs), region="nucleus_labels", region_key="region", instance_key="id"
    )
    with pytest.raises(ValueError, match="lists 2 ids in 'id' .*41, 42.* none of which is among the 2 cells .*40, 70"):
        capture("wrong", sdata=sdata)
    sdata["wrong"].obs["id"] = [41, 70]
    caplog.clear()
    capture("wrong", sdata=sdata)
    assert "1 of 2 cells that it lists are not in 'nucleus_labels'" in caplog.text


def test_nothing_of_the_object_is_changed():
    sdata = small()
    before = {name: element for _, name, element in sdata.gen_elements()}
    summary("nucleus_labels", sdata=sdata)
    assert {name for _, name, _ in sdata.gen_elements()} == set(before)
    assert all(sdata[name] is element for name, element in before.items())
