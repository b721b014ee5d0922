"""Transcripts read from a points element: counted where they lie, with their genes, or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import scene
from transcript_tables import assert_same, frame, many_points, read

from ucs._read import transcripts as _transcripts
from ucs._read.platforms import GENERIC, XENIUM
from ucs._utils.memory import check_fits_memory


def dense(transcripts):
    return transcripts.map.dense()


def histogram(points, grid, features):
    """A dense map (features, h, w), one transcript at a time."""
    out = np.zeros((len(features), *grid.shape), dtype=int)
    for x, y, name in points[["x", "y", "feature_name"]].itertuples(index=False):
        row, column = int(np.floor(y / grid.step)) - grid.row0, int(np.floor(x / grid.step)) - grid.column0
        out[features.index(name), row, column] += 1
    return out


@pytest.mark.parametrize("resolution", [0.5, 1.0, 1.7])
def test_every_transcript_is_counted_where_it_lies(resolution):
    points = scene().points
    transcripts = read(points, resolution=resolution)
    expected = histogram(points, transcripts.grid, [*transcripts.genes, *transcripts.controls])
    np.testing.assert_array_equal(dense(transcripts), expected)
    assert transcripts.map.n_transcripts == len(points)
    assert transcripts.grid.um_per_px == pytest.approx(resolution)
    # The smallest grid: transcripts in the first and the last row and column.
    total = expected.sum(axis=0)
    assert all(total[side].sum() > 0 for side in (0, -1))
    assert all(total[:, side].sum() > 0 for side in (0, -1))


def test_genes_come_first_then_controls_in_alphabetical_order_and_only_those_that_occur():
    categories = ["ZZZ", "BLANK_0001", "B", "A", "NegControlProbe_1", "unseen"]
    genes = pd.Categorical(["B", "BLANK_0001", "ZZZ", "NegControlProbe_1", "A"], categories=categories)
    transcripts = read(frame(np.arange(5) + 0.5, np.zeros(5), genes))
    assert transcripts.genes == ("A", "B", "ZZZ")
    assert transcripts.controls == ("BLANK_0001", "NegControlProbe_1")
    assert transcripts.map.n_features == 5
    assert transcripts.map.feature.tolist() == [1, 3, 2, 4, 0]


def test_low_quality_is_left_out_before_anything_else():
    points = frame([0.5, 9.5, 3.5], [0.5, 9.5, 3.5], ["A", "B", "C"], qv=np.float32([20, 19.99, np.nan]))
    transcripts = read(points, platform=XENIUM)
    assert transcripts.genes == ("A",)
    assert transcripts.grid.shape == (1, 1)
    assert (transcripts.n_rows, transcripts.n_low_quality) == (3, 2)
    assert read(points, platform=GENERIC).map.n_transcripts == 3


def test_counts_are_honoured():
    points = frame([0.5, 0.6, 4.5], [0.5, 0.6, 0.5], ["A", "A", "B"], counts=np.uint16([3, 4, 0]))
    transcripts = read(points)
    assert transcripts.genes == ("A",)
    assert transcripts.grid.shape == (1, 1)
    assert dense(transcripts).tolist() == [[[7]]]
    assert transcripts.map.n_transcripts == 7


def test_positions_in_other_units_give_the_same_counts():
    points = scene().points
    in_um = read(points)
    in_half_um = read(points.assign(x=points["x"] * 2, y=points["y"] * 2), um_per_unit=0.5)
    np.testing.assert_array_equal(dense(in_um), dense(in_half_um))
    assert in_half_um.grid.step == 2.0
    assert in_half_um.grid.um_per_px == 1.0
    assert (in_half_um.grid.row0, in_half_um.grid.column0) == (in_um.grid.row0, in_um.grid.column0)


@pytest.mark.parametrize("npartitions", [1, 3, 17])
@pytest.mark.parametrize("order", ["as it is", "reversed", "shuffled"])
def test_partitions_and_order_have_no_say(npartitions, order):
    points = scene().points
    rows = {"as it is": np.arange(len(points)), "reversed": np.arange(len(points))[::-1]}
    rows["shuffled"] = np.random.default_rng(1).permutation(len(points))
    assert_same(read(points.iloc[rows[order]], npartitions=npartitions), read(points))


@given(
    st.lists(
        st.tuples(
            st.floats(-50, 50, width=32), st.floats(-50, 50, width=32), st.sampled_from("abc"), st.integers(0, 5)
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_any_counts_at_any_place(rows, npartitions, random):
    x, y, genes, counts = (list(column) for column in zip(*rows, strict=True))
    points = frame(np.float32(x), np.float32(y), genes, count=counts)
    if not any(counts):
        with pytest.raises(ValueError, match="no transcripts to work with"):
            read(points)
        return
    transcripts = read(points)
    assert transcripts.map.n_transcripts == sum(counts)
    kept = points[points["count"] > 0]
    assert transcripts.genes == tuple(sorted(set(kept["feature_name"])))
    expected = np.zeros((len(transcripts.genes), *transcripts.grid.shape), dtype=int)
    row, column = transcripts.grid.rows_columns(kept["x"], kept["y"])
    feature = [transcripts.genes.index(gene) for gene in kept["feature_name"]]
    np.add.at(expected, (feature, row, column), kept["count"])
    np.testing.assert_array_equal(dense(transcripts), expected)
    order = list(range(len(points)))
    random.shuffle(order)
    assert_same(read(points.iloc[order], npartitions=min(npartitions, len(points))), transcripts)


@pytest.mark.parametrize("dtype", ["category", "string", object, "string[pyarrow]"])
def test_genes_of_any_type(dtype):
    points = frame([0.5, 1.5, 2.5], [0.5, 0.5, 0.5], ["B", "A", "B"]).astype({"feature_name": dtype})
    transcripts = read(points, npartitions=2)
    assert transcripts.genes == ("A", "B")
    assert transcripts.map.feature.tolist() == [1, 0, 1]


def test_partitions_with_different_categories_are_united():
    import dask.dataframe as dd
    from spatialdata.models import PointsModel

    parts = [
        frame([0.5], [0.5], pd.Categorical(["B"], categories=["B", "C"])),
        frame([1.5], [0.5], pd.Categorical(["A"], categories=["A", "B"])),
    ]
    element = PointsModel.parse(dd.concat([dd.from_pandas(part, npartitions=1) for part in parts]))
    transcripts = read(element)
    assert transcripts.genes == ("A", "B")
    assert transcripts.map.feature.tolist() == [1, 0]


def test_whole_number_positions_are_pixels_of_their_own():
    points = pd.DataFrame({"x": [0, 1, 5], "y": [2, 2, 3], "feature_name": ["A", "A", "B"]})
    transcripts = read(points)
    assert transcripts.grid.shape == (2, 6)
    assert dense(transcripts)[0, 0, :2].tolist() == [1, 1]


def test_one_transcript_is_a_grid_of_one_pixel():
    transcripts = read(frame([-7.25], [1e5], ["A"]))
    assert (transcripts.grid.column0, transcripts.grid.row0, transcripts.grid.shape) == (-8, 100_000, (1, 1))


class TestBadPoints:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("axis", ["x", "y"])
    def test_positions_that_are_not_finite(self, axis, value):
        points = frame([0.5, 1.5, 2.5], [0.5, 1.5, 2.5], ["A", "B", "C"])
        points.loc[2, axis] = value
        with pytest.raises(ValueError, match=rf"partition 1: 1 of 1 positions have a NaN or infinite {axis}"):
            read(points, npartitions=2)

    def test_genes_that_are_null(self):
        points = frame([0.5, 1.5], [0.5, 1.5], ["A", None])
        with pytest.raises(ValueError, match=r"1 of 2 rows have no value in 'feature_name'"):
            read(points)

    @pytest.mark.parametrize("bad", [-1.0, 0.5, np.nan, np.inf, 2**31])
    def test_counts_that_are_none(self, bad):
        points = frame([0.5, 1.5], [0.5, 1.5], ["A", "B"], count=[1.0, bad])
        with pytest.raises(ValueError, match=r"1 of 2 values of 'count' are negative, not whole or too large, e.g. "):
            read(points)

    def test_nothing_there(self):
        points = frame([0.5], [0.5], ["A"]).iloc[:0]
        with pytest.raises(ValueError, match=r"points\['transcripts'\] has no transcripts .*: the element is empty"):
            read(points)

    def test_nothing_left(self):
        points = frame([0.5, 1.5], [0.5, 1.5], ["A", "B"], qv=[3.0, 4.0])
        with pytest.raises(ValueError, match=r"no transcripts to work with: all 2 rows have qv < 20"):
            read(points, platform=XENIUM)
        points = frame([0.5, 1.5], [0.5, 1.5], ["A", "B"], count=[0, 0])
        with pytest.raises(ValueError, match=r"no transcripts to work with: all 2 rows have count = 0"):
            read(points)

    def test_controls_only(self):
        with pytest.raises(ValueError, match=r"holds control features only: 'BLANK_1'"):
            read(frame([0.5], [0.5], ["BLANK_1"]))


class TestMemory:
    def test_a_far_too_fine_grid_is_refused_before_it_is_made(self):
        with pytest.raises(MemoryError, match=r"resolution=1e-09 um gives a grid of .*, which needs about .* GiB"):
            read(scene().points, resolution=1e-9)

    def test_the_resolution_named_fits(self, monkeypatch):
        monkeypatch.setattr("ucs._utils.memory.machine_memory", lambda: 10**8)
        with pytest.raises(MemoryError) as error:
            check_fits_memory(np.array([1e6, 1e6]), 0.01, 1000)
        finest = float(str(error.value).rsplit("is about ", 1)[1].split(" um.")[0])
        side = 1e6 * 0.01 / (finest * 1.01)
        check_fits_memory(np.array([side, side]), finest, 1000)


def test_points_are_read_once(monkeypatch):
    read_parts = []
    original = _transcripts.check_frame
    monkeypatch.setattr(
        _transcripts, "check_frame", lambda part, *a, **k: read_parts.append(len(part)) or original(part, *a, **k)
    )
    read(scene().points, npartitions=5)
    assert len(read_parts) == 5
    assert sum(read_parts) == len(scene().points)


def slow_oracle(points, platform):
    """Entries (row, column, feature) -> count, one row of the table at a time."""
    total = {}
    for one in points.itertuples(index=False):
        if one.qv >= platform.minimum_quality and one.count > 0:
            key = (int(np.floor(one.y)), int(np.floor(one.x)), one.feature_name)
            total[key] = total.get(key, 0) + one.count
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_as_one_by_one(dtype):
    points = many_points(dtype=dtype)
    platform = replace(GENERIC, quality_column="qv", minimum_quality=20.0)
    made = read(points, platform=platform, npartitions=3)
    expected = slow_oracle(points, platform)
    names = np.array([*made.genes, *made.controls])
    places = zip(
        (made.map.rows() + made.grid.row0).tolist(),
        (made.map.column + made.grid.column0).tolist(),
        names[made.map.feature].tolist(),
        strict=True,
    )
    assert dict(zip(places, made.map.count.tolist(), strict=True)) == expected
