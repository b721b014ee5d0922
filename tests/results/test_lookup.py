"""The label under each transcript: of rasters in memory and on disk, and what that costs in a Dask graph."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from invariants import assert_invariants, assert_same_cells
from rasters import random_nuclei
from scenes import labels_of, scene, segmented
from spatialdata import SpatialData
from spatialdata.models import PointsModel

from ucs._read.grid import Grid
from ucs._results.lookup import LabelLookup, PointColumns, with_label_column
from ucs._run import run as _run

LABELS = random_nuclei(0, (60, 80), 25, radius=(2, 9))
GRID = Grid(-3, 5, LABELS.shape, 0.5)


def on_disk(raster, chunk=(16, 23)):
    return zarr.create_array({}, data=raster, chunks=chunk)


@given(st.integers(0, 2**31), st.integers(0, 300), st.booleans())
def test_a_raster_on_disk_says_the_same(seed, n, with_table):
    x, y = np.random.default_rng(seed).uniform(-5, 45, (2, n))
    renumber = np.arange(LABELS.max() + 1, dtype=np.int16)[::-1].copy() if with_table else None
    made = LabelLookup(on_disk(LABELS), GRID, renumber).at(x, y)
    np.testing.assert_array_equal(made, LabelLookup(LABELS, GRID, renumber).at(x, y))
    column, row = np.floor(x / 0.5).astype(int) + 3, np.floor(y / 0.5).astype(int) - 5
    inside = (row >= 0) & (row < 60) & (column >= 0) & (column < 80)
    expected = np.where(inside, LABELS[row.clip(0, 59), column.clip(0, 79)], 0)
    if with_table:
        expected = np.where(inside, LABELS.max() - expected, 0)
    np.testing.assert_array_equal(made, expected)
    assert made.dtype == (np.int16 if with_table else np.int32)


def test_only_what_is_needed_is_read():
    read = []

    class Spied:
        shape, dtype, ndim, chunks = LABELS.shape, LABELS.dtype, 2, (16, 16)

        def __getitem__(self, key):
            read.append(LABELS[key].size)
            return LABELS[key]

    x, y = np.array([0.1, 0.7, 30.2]), np.array([3.0, 3.2, 20.0])
    np.testing.assert_array_equal(LabelLookup(Spied(), GRID).at(x, y), LabelLookup(LABELS, GRID).at(x, y))
    assert read == [2, 1]


class OfPoints:
    """Stands for a part of a sample."""

    key, table_key, columns = "points", None, SimpleNamespace(kept=lambda frame: frame["x"].to_numpy() < 30)

    def read_columns(self):
        return ["x", "y"]

    def place(self, frame):
        return frame["x"].to_numpy(), frame["y"].to_numpy()


@pytest.fixture
def sdata():
    frame = pd.DataFrame(np.random.default_rng(0).uniform(-5, 45, (500, 2)), columns=["x", "y"])
    frame["other"] = np.arange(500)
    return SpatialData(points={"points": PointsModel.parse(dd.from_pandas(frame, npartitions=4))})


class Guarded(np.ndarray):
    """A raster that may not be hashed nor pickled."""

    def __reduce_ex__(self, protocol):
        raise AssertionError("pickled")

    def __dask_tokenize__(self):
        raise AssertionError("hashed")


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_columns_of_points(sdata, where, tmp_path):
    """The raster is neither hashed nor pickled when points are made and written."""
    share = np.random.default_rng(1).integers(0, 256, LABELS.shape).astype(np.uint8)
    rasters = [raster.view(Guarded) if where == "memory" else on_disk(raster) for raster in (LABELS, share)]
    labels, shares = (LabelLookup(raster, GRID) for raster in rasters)
    sdata["points"] = with_label_column(sdata, PointColumns(OfPoints(), None, labels, "label", ("share", shares)))
    points = sdata["points"]
    assert points.npartitions == 4
    frame = points.compute()
    x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
    expected = np.where(x < 30, LabelLookup(LABELS, GRID).at(x, y), 0)
    np.testing.assert_array_equal(frame["label"], expected)
    of_shares = np.where(expected > 0, LabelLookup(share, GRID).at(x, y), 0) / np.float32(255)
    np.testing.assert_array_equal(frame["share"], of_shares.astype(np.float32))
    assert (frame["label"].dtype, frame["share"].dtype) == (np.int32, np.float32)
    assert dict(points.dtypes[["label", "share"]]) == {"label": np.int32, "share": np.float32}
    assert frame["other"].tolist() == list(range(500))
    np.testing.assert_array_equal(points["label"].compute(), expected)
    sdata.write(tmp_path / "points.zarr")
    read = dd.read_parquet(tmp_path / "points.zarr" / "points" / "points" / "points.parquet")
    np.testing.assert_array_equal(read["label"].compute(), expected)


def test_by_a_worker_of_a_cluster(sdata):
    distributed = pytest.importorskip("distributed")
    columns = PointColumns(OfPoints(), None, LabelLookup(LABELS, GRID), "label")
    points = with_label_column(sdata, columns)
    expected = points["label"].compute()
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        np.testing.assert_array_equal(points["label"].compute(), expected)


def test_results_of_rasters_on_disk_are_the_same(monkeypatch, tmp_path):
    """Table, shapes, labels and columns, in memory and in the store."""
    options = {"min_transcripts": 100, "confidence_column": "confidence", "tile_size": 32}
    expected = segmented(scene().sdata(), **options)
    predict = _run.predict_cells

    def predict_on_disk(*arguments, **given):
        prediction = predict(*arguments, **given)
        labels, confidence = (on_disk(np.asarray(raster)) for raster in (prediction.labels, prediction.confidence))
        return replace(prediction, labels=labels, confidence=confidence)

    monkeypatch.setattr(_run, "predict_cells", predict_on_disk)
    made = segmented(scene().sdata(), **options)
    made_labels = made["ucs_cells"].data
    assert made_labels.chunksize == (16, 23)
    assert_same_cells(made, expected)
    assert_invariants(made)
    for column in ("ucs_cell_id", "confidence"):
        a, b = (sdata["transcripts"][column].compute() for sdata in (made, expected))
        pd.testing.assert_series_equal(a, b)
    store = tmp_path / "tissue.zarr"
    scene().sdata().write(store)
    sdata = SpatialData.read(store)
    segmented(sdata, inplace=True, write=True, **options)
    np.testing.assert_array_equal(labels_of(SpatialData.read(store)), labels_of(expected))
