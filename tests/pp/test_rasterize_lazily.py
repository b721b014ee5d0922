"""What the transcript map reads, and when."""

from __future__ import annotations

import logging
from collections import Counter

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import spatialdata as sd
from dask.callbacks import Callback
from fields import cut_fields
from scenes import affine, make_points, rotation, scene, translation
from spatialdata import SpatialData
from spatialdata.models import PointsModel

import ucs
from ucs._read.lazy.row_groups import find_categories, find_row_groups
from ucs._read.platforms import XENIUM
from ucs._read.source import find_source
from ucs._read.transcripts import read_transcripts

COLUMNS = ["x", "y", "feature_name", "qv"]
SIDE = 20.0  # of a block, of which each partition of a stored slide has one
OVERLAPPING = [(0, 0, 45, 34), (39, 0, 96, 34), (0, 26, 45, 72), (39, 26, 96, 72)]


def slide(n: int = 4000, *, low_quality: float = 0.2, seed: int = 0) -> pd.DataFrame:
    """Transcripts on 80 x 60 um, in blocks; some of low quality beyond that."""
    rng = np.random.default_rng(seed)
    names = [f"GENE{k}" for k in range(9)] + ["GENE_unused", "NegControlProbe_1", "BLANK_7"]
    present = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11])
    frame = pd.DataFrame(
        {
            "x": rng.uniform(0, 80, n).astype(np.float32),
            "y": rng.uniform(0, 60, n).astype(np.float32),
            "feature_name": pd.Categorical.from_codes(rng.choice(present, n), categories=names),
            "qv": np.where(rng.random(n) < low_quality, 10, 30).astype(np.float32),
        }
    )
    outliers = frame[:2].assign(x=np.float32([-7.5, 90]), y=np.float32([-3.5, 64]), qv=np.float32(5))
    frame = pd.concat([frame, outliers], ignore_index=True)
    block = np.clip(frame["y"] // SIDE, 0, 2) * 4 + np.clip(frame["x"] // SIDE, 0, 3)
    return frame.assign(block=block.astype(np.int32))


def oracle(frame: pd.DataFrame, image, *, step: float = 1.0, row0: int = 0, column0: int = 0):
    """Counts of each channel, one row after the other."""
    out = np.zeros(image.shape, dtype=np.int64)
    channel = {name: k for k, name in enumerate(image.coords["c"].to_numpy().tolist())}
    for x, y, name, qv in zip(frame["x"], frame["y"], frame["feature_name"], frame["qv"], strict=True):
        if qv >= 20 and name in channel:
            out[channel[name], int(np.floor(float(y) / step)) - row0, int(np.floor(float(x) / step)) - column0] += 1
    return out


def partitions_of(frame: pd.DataFrame, how: str) -> list[pd.DataFrame]:
    """The rows in parts: by block, any which way, or all in one."""
    if how == "blocks":
        return [rows.drop(columns="block") for _, rows in frame.groupby("block")]
    mixed = frame.drop(columns="block").sample(frac=1, random_state=1)
    return [mixed[k::5] for k in range(5)] if how == "mixed" else [mixed]


def as_points(parts: list[pd.DataFrame], read=None, **options) -> dd.DataFrame:
    """A points element whose partitions `read` makes."""
    frame = dd.from_map(read or (lambda number: parts[number]), range(len(parts)), meta=parts[0][:0])
    return PointsModel.parse(frame, feature_key="feature_name", sort=True, **options)


def store(path, frame: pd.DataFrame, how: str = "blocks") -> SpatialData:
    SpatialData(points={"transcripts": as_points(partitions_of(frame, how))}).write(path)
    return sd.read_zarr(path)


@pytest.fixture(scope="module")
def frame():
    return slide()


@pytest.fixture(scope="module")
def stored(frame, tmp_path_factory):
    return store(tmp_path_factory.mktemp("blocks") / "slide.zarr", frame)


@pytest.fixture
def reads(monkeypatch):
    """How many rows each read of Parquet files has taken so far; none of them by Dask."""
    taken: list[int] = []
    read = pq.ParquetFile.read_row_groups

    def counting(self, *args, **kwargs):
        table = read(self, *args, **kwargs)
        taken.append(table.num_rows)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counting)
    return taken


@pytest.fixture
def tasks():
    """Keys of the Dask tasks that were run."""
    done: list[str] = []
    with Callback(pretask=lambda key, _graph, _state: done.append(str(key))):
        yield done


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "ucs")
    return lambda: [record.getMessage() for record in caplog.records if "are read once" in record.getMessage()]


class TestStored:
    """Points of a store, whose files have statistics."""

    def test_nothing_is_read_before_it_is_computed(self, stored, frame, reads, tasks, said, monkeypatch):
        values = []
        batches = pq.ParquetFile.iter_batches
        monkeypatch.setattr(
            pq.ParquetFile,
            "iter_batches",
            lambda self, *args, **kwargs: (values.append(b.num_rows) or b for b in batches(self, *args, **kwargs)),
        )
        image = ucs.pp.rasterize(stored, platform="xenium", tile_size=10)
        stored_again = SpatialData(images={"map": image}, points=dict(stored.points))
        assert (reads, tasks, said()) == ([], [], [])
        assert values == [1] * 12  # the first of each file comes with the dictionary
        assert stored_again["map"].sizes["y"] == 69
        total = int(image.sum())
        assert sorted(reads) == sorted(frame.groupby("block").size())  # each partition once
        assert total == oracle(frame, image, row0=-4, column0=-8).sum()

    def test_a_crop_reads_the_partitions_that_reach_it(self, stored, frame, reads):
        image = ucs.pp.rasterize(stored, platform="xenium", tile_size=4)
        # Rows 4 to 19 from row0 = -4 are y from 0 to 16, columns 32 to 39 from column0 = -8 are x from 24 to 32.
        crop = image.isel(y=slice(4, 20), x=slice(32, 40))
        found = crop.sum("c").compute()
        assert reads == [(frame["block"] == 1).sum()]
        inside = frame[frame["x"].between(24, 32, "left") & frame["y"].between(0, 16, "left")]
        assert int(found.sum()) == oracle(inside, image, row0=-4, column0=-8).sum() > 0
        reads.clear()
        image.isel(y=slice(4, 20), x=slice(24, 40)).sel(c="GENE3").compute()
        assert sorted(reads) == sorted((frame["block"] == k).sum() for k in (0, 1))

    @pytest.mark.parametrize("how", ["blocks", "mixed", "one"])
    @pytest.mark.parametrize(("tile_size", "gene_chunk"), [(256, None), (16, 3), (33, 1), (5, 4)])
    def test_it_is_the_dense_count(self, frame, tmp_path, how, tile_size, gene_chunk):
        sdata = store(tmp_path / "slide.zarr", frame, how)
        image = ucs.pp.rasterize(sdata, platform="xenium", tile_size=tile_size, gene_chunk=gene_chunk)
        assert image.dtype == np.int32
        assert max(image.chunks[0]) <= (gene_chunk or 100)
        np.testing.assert_array_equal(image, oracle(frame, image, row0=-4, column0=-8))

    @pytest.mark.parametrize("resolution", [0.3, 1.0, 2.5])
    def test_where_the_grid_of_segment_lies_it_is_the_same_and_beyond_it_empty(self, stored, resolution):
        source = find_source(stored, platform="xenium", resolution=resolution)
        read = read_transcripts(stored, source.elements, XENIUM, resolution=resolution, um_per_unit=1.0)
        image = ucs.pp.rasterize(stored, platform="xenium", resolution=resolution)
        corner = image.attrs["transform"]["global"].to_affine_matrix(("x", "y"), ("x", "y"))[:2, 2] / resolution
        column0, row0 = np.rint(corner).astype(int)
        top, left, (h, w) = read.grid.row0 - row0, read.grid.column0 - column0, read.grid.shape
        assert min(top, left) > 0
        dense = read.map.dense()[: len(read.genes)]
        np.testing.assert_array_equal(image.sel(c=list(read.genes))[:, top : top + h, left : left + w], dense)
        assert int(image.sum()) == dense.sum()

    def test_genes_that_do_not_occur_are_channels_of_zeros_and_controls_are_none(self, stored):
        image = ucs.pp.rasterize(stored, platform="xenium")
        assert image.coords["c"].to_numpy().tolist() == [*(f"GENE{k}" for k in range(9)), "GENE_unused"]
        assert int(image.sel(c="GENE_unused").sum()) == 0
        with pytest.raises(ValueError, match="genes lists 1 names that the data does not have: 'BLANK_7'"):
            ucs.pp.rasterize(stored, platform="xenium", read={"genes": ["BLANK_7"]})

    def test_row_groups_are_read_apart_where_they_are_large(self, frame, tmp_path, reads, monkeypatch):
        store(tmp_path / "slide.zarr", frame)
        parquet = tmp_path / "slide.zarr" / "points" / "transcripts" / "points.parquet"
        (file, *others) = sorted(parquet.glob("*.parquet"))
        table = pq.ParquetFile(file).read()
        pq.write_table(table, file, row_group_size=-(-table.num_rows // 3))
        for other in others:
            other.unlink()
        sdata = sd.read_zarr(tmp_path / "slide.zarr")
        reads.clear()
        expected = ucs.pp.rasterize(sdata, platform="xenium").compute()
        assert len(reads) == 1
        monkeypatch.setattr("ucs._read.lazy.row_groups._ROWS_AT_ONCE", 200)
        reads.clear()
        np.testing.assert_array_equal(ucs.pp.rasterize(sdata, platform="xenium"), expected)
        assert len(reads) == 3

    def test_columns_that_are_not_read_may_have_been_added(self, stored, frame, reads):
        points = stored["transcripts"].assign(new=1)
        points.attrs.update(stored["transcripts"].attrs)
        image = ucs.pp.rasterize(SpatialData(points={"transcripts": points}), platform="xenium")
        assert reads == []
        np.testing.assert_array_equal(image, oracle(frame, image, row0=-4, column0=-8))

    @pytest.mark.parametrize(
        "change",
        [
            lambda points: points[points["x"] > 40],
            lambda points: points.partitions[[1, 4]],
            lambda points: points.assign(x=points["x"] + 20),
            lambda points: dd.concat([points, points]),
        ],
    )
    def test_what_is_no_longer_what_is_stored_is_read(self, stored, change, said):
        points = change(stored["transcripts"])
        points.attrs.update(stored["transcripts"].attrs)
        sdata = SpatialData(points={"transcripts": points})
        image = ucs.pp.rasterize(sdata, platform="xenium")
        assert len(said()) == 1
        rows = points.compute()
        kept = rows[rows["qv"] >= 20]
        row0, column0 = int(np.floor(kept["y"].min())), int(np.floor(kept["x"].min()))
        np.testing.assert_array_equal(image, oracle(rows, image, row0=row0, column0=column0))

    def test_positions_that_are_not_finite_are_found_when_they_are_read(self, frame, tmp_path):
        broken = frame.copy()
        broken.loc[5, "x"] = np.nan
        image = ucs.pp.rasterize(store(tmp_path / "nan.zarr", broken), platform="xenium")
        with pytest.raises(ValueError, match=r"part.*row groups 0 to 0: 1 of .* positions have a NaN or infinite x"):
            image.compute()
        broken.loc[5, "x"] = np.inf  # statistics have it
        with pytest.raises(ValueError, match="NaN or infinite x"):
            ucs.pp.rasterize(store(tmp_path / "inf.zarr", broken), platform="xenium")

    def test_files_that_change_afterwards_are_an_error(self, frame, tmp_path):
        image = ucs.pp.rasterize(store(tmp_path / "a.zarr", frame, "one"), platform="xenium")
        (file,) = (tmp_path / "a.zarr" / "points" / "transcripts" / "points.parquet").glob("*.parquet")
        rows = pd.read_parquet(file)
        rows.assign(x=rows["x"] + 500).to_parquet(file)
        with pytest.raises(ValueError, match="beyond Window.* The points have changed since the map was made"):
            image.compute()
        rows.assign(feature_name="NEW").to_parquet(file)
        with pytest.raises(ValueError, match="there are new features: 'NEW'. The points have changed"):
            image.compute()

    def test_a_grid_that_is_far_too_fine_is_refused(self, stored):
        with pytest.raises(MemoryError, match=r"resolution=1e-07 um gives a grid of"):
            ucs.pp.rasterize(stored, platform="xenium", resolution=1e-7)

    def test_as_another_scheduler_or_a_pickle_computes_it(self, stored, frame):
        import pickle

        image = pickle.loads(pickle.dumps(ucs.pp.rasterize(stored, platform="xenium", tile_size=30)))
        for scheduler in ("synchronous", "threads"):
            with dask.config.set(scheduler=scheduler):
                np.testing.assert_array_equal(image, oracle(frame, image, row0=-4, column0=-8))


class TestWhatMetadataDoNotTell:
    """All rows are read once, which is said with the reason."""

    def test_each_partition_once_when_it_is_made_and_once_when_it_is_computed(self, frame, said):
        parts = partitions_of(frame, "blocks")
        read: Counter[int] = Counter()

        def partition(number: int) -> pd.DataFrame:
            read[number] += 1
            return parts[number]

        sdata = SpatialData(points={"transcripts": as_points(parts, partition)})
        read.clear()  # the model has looked at them
        image = ucs.pp.rasterize(sdata, platform="xenium", tile_size=10, gene_chunk=4)
        assert read == dict.fromkeys(range(12), 1)
        assert said() == [
            "points['transcripts']: all rows are read once, because no statistics of Parquet files tell where they lie."
        ]
        read.clear()
        by_gene = image.sum(("y", "x")).compute()
        assert read == dict.fromkeys(range(12), 1)
        np.testing.assert_array_equal(by_gene, oracle(frame, image).sum(axis=(1, 2)))
        read.clear()
        image.isel(y=slice(0, 10), x=slice(20, 30)).compute()
        assert read == {1: 1}

    def test_grid_and_genes_are_those_of_segment(self, frame, stored):
        sdata = SpatialData(points={"transcripts": as_points(partitions_of(frame, "mixed"))})
        image = ucs.pp.rasterize(sdata, platform="xenium", tile_size=21)
        source = find_source(sdata, platform="xenium")
        read = read_transcripts(sdata, source.elements, XENIUM, resolution=1.0, um_per_unit=1.0)
        assert image.coords["c"].to_numpy().tolist() == list(read.genes)
        np.testing.assert_array_equal(image, read.map.dense()[: len(read.genes)])

    @pytest.mark.parametrize(
        ("columns", "options", "why"),
        [
            ({"is_gene": True}, {}, "they tell by 'is_gene' whether they are of a gene"),
            ({"z": 0.0}, {"platform": "generic", "read": {"z_planes": 0}}, "no metadata list the planes in z"),
            ({}, {"read": {"genes": 3}}, "the variability of genes is measured on their counts"),
            ({"feature_name": str}, {}, "no metadata list the values of 'feature_name'"),
        ],
    )
    def test_the_reason_is_said(self, frame, tmp_path, columns, options, why, said):
        changed = frame.assign(
            **{name: frame[name].astype(v) if callable(v) else v for name, v in columns.items()}
        ).drop(columns="block")
        points = dd.from_pandas(changed, npartitions=2, sort=False)
        SpatialData(points={"transcripts": PointsModel.parse(points, sort=False)}).write(tmp_path / "a.zarr")
        read = {"gene_key": "feature_name", "um_per_unit": 1.0, **options.get("read", {})}
        options = {"platform": "xenium", "resolution": 1.0, **options, "read": read}
        image = ucs.pp.rasterize(sd.read_zarr(tmp_path / "a.zarr"), **options)
        (line,) = said()
        assert line == f"points['transcripts']: all rows are read once, because {why}."
        quality = {} if options["platform"] == "xenium" else {"qv": 30}
        changed = changed.assign(**quality)
        kept = changed[changed["qv"] >= 20]
        row0, column0 = int(np.floor(kept["y"].min())), int(np.floor(kept["x"].min()))
        assert image.sizes["c"] == (3 if read.get("genes") else 9)
        np.testing.assert_array_equal(image, oracle(changed, image, row0=row0, column0=column0))

    def test_controls_by_a_column_are_left_out(self, frame, tmp_path):
        flagged = frame.assign(is_gene=frame["feature_name"] != "GENE3").drop(columns="block")
        SpatialData(points={"transcripts": make_points(flagged)}).write(tmp_path / "a.zarr")
        image = ucs.pp.rasterize(sd.read_zarr(tmp_path / "a.zarr"), platform="xenium")
        assert image.coords["c"].to_numpy().tolist() == [f"GENE{k}" for k in range(9) if k != 3]


class TestSeveralElements:
    def test_fields_of_a_store_are_not_read_and_what_two_have_seen_counts_once(self, tmp_path, reads, tasks, said):
        options = {"platform": "cosmx", "resolution": 1.0, "read": {"um_per_unit": 1.0}}
        sdata = cut_fields(scene(), OVERLAPPING, to_global=translation(5, -3) @ rotation(30))
        expected = ucs.pp.rasterize(sdata, **options)
        assert len(said()) == 1
        sdata.write(tmp_path / "fields.zarr")
        stored = sd.read_zarr(tmp_path / "fields.zarr")
        (reads.clear(), tasks.clear())
        image = ucs.pp.rasterize(stored, **options, tile_size=16)
        assert (reads, tasks, len(said())) == ([], [], 1)
        (top, left), (h, w) = _offset(image, expected), expected.shape[1:]
        same = image.sel(c=expected.coords["c"])[:, top : top + h, left : left + w]
        np.testing.assert_array_equal(same, expected)
        assert int(image.sum()) == int(expected.sum())

    def test_fields_without_images_are_bounded_by_statistics(self, tmp_path, reads, tasks):
        rows = slide(low_quality=0)[["x", "y", "feature_name", "qv"]]
        halves = {"a": rows[rows["x"] < 50], "b": rows[rows["x"] > 40]}
        named = {key: make_points(half.reset_index(drop=True)) for key, half in halves.items()}
        read = {"um_per_unit": 1.0, "gene_key": "feature_name"}
        options = {"platform": "generic", "resolution": 1.0, "read": read}
        expected = ucs.pp.rasterize(SpatialData(points=named), ["a", "b"], **options)
        SpatialData(points=named).write(tmp_path / "two.zarr")
        stored = sd.read_zarr(tmp_path / "two.zarr")
        (reads.clear(), tasks.clear())
        image = ucs.pp.rasterize(stored, ["a", "b"], **options)
        assert (reads, tasks) == ([], [])
        np.testing.assert_array_equal(image.sel(c=expected.coords["c"]), expected)
        assert int(image.sum()) < len(halves["a"]) + len(halves["b"])


def _offset(image, other) -> tuple[int, int]:
    """Row and column of an image where another of the same resolution begins."""
    to_global = [one.attrs["transform"]["global"].to_affine_matrix(("x", "y"), ("x", "y")) for one in (image, other)]
    column, row = np.rint((np.linalg.inv(to_global[0]) @ to_global[1])[:2, 2]).astype(int)
    return row, column


class TestRowGroups:
    def test_those_without_rows_are_left_out_and_bounds_are_those_of_the_rows(self, stored, frame):
        found = find_row_groups(stored["transcripts"], COLUMNS)
        assert sorted(one.n_rows for one in found) == sorted(frame.groupby("block").size())
        assert min(one.lower[0] for one in found) == frame["x"].min()
        assert max(one.upper[1] for one in found) == frame["y"].max()
        pd.testing.assert_frame_equal(
            pd.concat([one.read(COLUMNS) for one in found]).sort_values(COLUMNS, ignore_index=True),
            frame[COLUMNS].sort_values(COLUMNS, ignore_index=True),
        )

    def test_categories_are_those_of_all_files(self, stored, frame):
        found = find_row_groups(stored["transcripts"], COLUMNS)
        assert find_categories(found, "feature_name") == set(frame["feature_name"].cat.categories)
        assert find_categories(found, "qv") is None

    def test_none_without_statistics(self, frame, tmp_path):
        store(tmp_path / "a.zarr", frame, "one")
        (file,) = (tmp_path / "a.zarr" / "points" / "transcripts" / "points.parquet").glob("*.parquet")
        pq.write_table(pq.ParquetFile(file).read(), file, write_statistics=["y"])
        sdata = sd.read_zarr(tmp_path / "a.zarr")
        assert find_row_groups(sdata["transcripts"], COLUMNS) is None
        image = ucs.pp.rasterize(sdata, platform="xenium")
        assert int(image.sum()) == oracle(frame, image).sum()

    def test_frames_that_are_no_files(self, frame):
        assert find_row_groups(make_points(frame, {"global": affine(np.eye(3))}), COLUMNS) is None
