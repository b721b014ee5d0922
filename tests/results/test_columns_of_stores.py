"""Columns added to points that Dask reads from files: each selection of columns says what the whole frame says."""

from __future__ import annotations

import dask.dataframe as dd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from bins import stereoseq_sdata
from dask import delayed
from scenes import affine, labels_of, scene, segmented
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel, PointsModel
from spatialdata.transformations import get_transformation

import ucs
from ucs._read.lazy.row_groups import find_row_groups

SELECTIONS = ["label", ["label"], ["x", "y", "label"], ["feature_name", "label"], ["label", "qv", "x"]]


def in_store(path, parts: list[pd.DataFrame]) -> SpatialData:
    """The scene with its transcripts in these partitions, whose divisions are unknown, read back from a store."""
    points = dd.from_delayed([delayed(part) for part in parts], meta=parts[0].iloc[:0])
    made = PointsModel.parse(points, feature_key="feature_name", transformations={"global": affine(np.eye(3))})
    elements = scene().sdata()
    del elements.points["transcripts"]
    elements["transcripts"] = made
    elements.write(path)
    return sd.read_zarr(path)


def cut(frame: pd.DataFrame, n: int, *, empty: bool = False, restart: bool = True) -> list[pd.DataFrame]:
    """Parts of a frame; some are empty, and the index begins anew in each, if wanted."""
    borders = np.linspace(0, len(frame), n + 1).astype(int)
    if empty and n > 2:
        borders[1] = borders[0]
        borders[n // 2] = borders[n // 2 - 1]
    parts = [frame.iloc[a:b] for a, b in zip(borders[:-1], borders[1:], strict=True)]
    return [part.reset_index(drop=True) for part in parts] if restart else parts


def expected_labels(frame: pd.DataFrame) -> np.ndarray:
    nuclei = scene().nuclei
    column, row = (np.floor(frame[axis] - start).astype(int) for axis, start in (("x", -37.0), ("y", -13.0)))
    return nuclei[row, column]


@pytest.mark.parametrize(
    ("n", "empty", "restart"),
    [(1, False, True), (2, False, False), (5, True, True), (8, True, True), (8, False, False), (40, False, True)],
)
def test_each_selection_says_what_the_frame_says(tmp_path, n, empty, restart):
    frame = scene().points
    sdata = in_store(tmp_path / "tissue.zarr", cut(frame, n, empty=empty, restart=restart))
    ucs.tl.aggregate(sdata, "nucleus_labels", points_column_added="label")
    points, expected = sdata["transcripts"], expected_labels(frame)
    assert (expected > 0).any()
    for columns in SELECTIONS:
        selected = points[columns].compute()
        label = selected if isinstance(columns, str) else selected["label"]
        assert label.dtype == np.int32
        np.testing.assert_array_equal(label, expected)
    pd.testing.assert_frame_equal(points.drop(columns="label").compute(), frame_of(points), check_like=True)
    by_cell = points[points["label"] > 0].groupby("label").size().compute().sort_index()
    np.testing.assert_array_equal(by_cell, np.bincount(expected)[by_cell.index])
    assert int((points.persist()["label"] > 0).sum().compute()) == (expected > 0).sum()
    assert int(by_cell.sum()) == sdata["nucleus_labels_table"].X.sum()


def frame_of(points: dd.DataFrame) -> pd.DataFrame:
    return points.compute().drop(columns="label")


def test_both_columns_of_a_segmentation_and_a_second_run(tmp_path):
    sdata = in_store(tmp_path / "tissue.zarr", cut(scene().points, 9, empty=True))
    for _ in range(2):
        segmented(sdata, inplace=True, overwrite=True, confidence_column="confidence")
    points = sdata["transcripts"]
    whole = points.compute()
    for column in ("ucs_cell_id", "confidence"):
        np.testing.assert_array_equal(points[column].compute(), whole[column])
    table = sdata["ucs_table"]
    counted = table.X.sum() + table.obsm["controls"].sum()
    assert (whole["ucs_cell_id"] > 0).sum() == counted > 0
    assert ((whole["confidence"] > 0) <= (whole["ucs_cell_id"] > 0)).all()
    sdata.write(tmp_path / "copy.zarr")
    copy = sd.read_zarr(tmp_path / "copy.zarr")
    np.testing.assert_array_equal(copy["transcripts"]["ucs_cell_id"].compute(), whole["ucs_cell_id"])
    np.testing.assert_array_equal(labels_of(copy), labels_of(sdata))


def test_columns_of_bins(tmp_path):
    sdata = stereoseq_sdata(scene())
    bins = sdata["bin1_genes"].compute()
    parts = dd.from_delayed([delayed(part) for part in cut(bins, 7, empty=True, restart=False)], meta=bins.iloc[:0])
    points = PointsModel.parse(parts, transformations=get_transformation(sdata["bin1_genes"], get_all=True))
    squares = np.add.outer(np.arange(18) * 100, np.arange(1, 20)).repeat(8, axis=0).repeat(10, axis=1)
    labels = Labels2DModel.parse(squares.astype(np.int32), dims=("y", "x"))
    made = SpatialData.init_from_elements(
        {"bin1_genes": points, "bin1_table": sdata["bin1_table"], "squares": labels}, attrs=dict(sdata.attrs)
    )
    made.write(tmp_path / "bins.zarr")
    read = sd.read_zarr(tmp_path / "bins.zarr")
    ucs.tl.aggregate(read, "squares", points_column_added="label")
    whole = read["bin1_genes"].compute()
    inside = (whole["x"] < squares.shape[1]) & (whole["y"] < squares.shape[0])
    expected = np.where(inside, squares[whole["y"].clip(0, 143).astype(int), whole["x"].clip(0, 189).astype(int)], 0)
    for columns in ("label", ["x", "label"], ["label", "y"]):
        selected = read["bin1_genes"][columns].compute()
        np.testing.assert_array_equal(selected if isinstance(columns, str) else selected["label"], expected)


def test_other_columns_are_still_those_of_the_files(tmp_path):
    """Rows need not be read to know where the transcripts lie."""
    sdata = in_store(tmp_path / "tissue.zarr", cut(scene().points, 3))
    ucs.tl.aggregate(sdata, "nucleus_labels", points_column_added="label")
    points = sdata["transcripts"]
    assert sum(group.n_rows for group in find_row_groups(points, ["x", "y"])) == len(scene().points)
    assert find_row_groups(points, ["x", "y", "label"]) is None


@pytest.mark.filterwarnings("ignore")
def test_queries_and_plots(tmp_path):
    plot = pytest.importorskip("spatialdata_plot")
    frame = scene().points
    parts = cut(frame, 11, empty=True, restart=False)  # spatialdata plots no other index
    sdata = in_store(tmp_path / "tissue.zarr", parts)
    ucs.tl.aggregate(sdata, "nucleus_labels", points_column_added="label")
    expected = expected_labels(frame)
    part = sdata.query.bounding_box(
        axes=("x", "y"), min_coordinate=[-20, 0], max_coordinate=[30, 40], target_coordinate_system="global"
    )["transcripts"]
    x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
    inside = (x > -20) & (x < 30) & (y > 0) & (y < 40)
    found = part[["x", "y", "label"]].compute().to_numpy(dtype=float)
    by_hand = np.stack([x, y, expected], axis=1)[inside]
    np.testing.assert_array_equal(found[np.lexsort(found.T)], by_hand[np.lexsort(by_hand.T)])
    assert int(part[part["label"] > 0]["label"].count().compute()) == (expected[inside] > 0).sum() > 0
    in_labels = sdata["transcripts"].assign(inside=lambda frame: (frame["label"] > 0).astype(int))
    genes = in_labels.groupby("feature_name", observed=True)["inside"].sum()
    by_hand = pd.Series(expected > 0).groupby(frame["feature_name"].to_numpy()).sum()
    assert genes.compute().sort_index().to_dict() == by_hand.to_dict()
    assert plot.__name__ in type(sdata.pl).__module__
    figure, axis = plt.subplots(figsize=(2, 2))
    sdata.pl.render_points("transcripts", color="label", size=2).pl.show(ax=axis)
    figure.savefig(tmp_path / "points.png", dpi=50)
    assert plt.imread(tmp_path / "points.png")[..., :3].std() > 0.05
    plt.close("all")
