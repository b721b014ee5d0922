"""The one call: what it leaves in the object, what it leaves alone, and that it works on the least of data."""

from __future__ import annotations

import logging
import sys
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import scenes
import spatialdata as sd
from calls import segment
from geopandas import GeoDataFrame
from helpers import cheap_copy
from invariants import assert_invariants, assert_same_cells
from scenes import PAPER_TINY, TINY, boxes, labels_of, make_points, make_sdata, scene, segmented
from spatialdata import SpatialData
from spatialdata.models import ShapesModel, TableModel
from spatialdata.transformations import Identity, get_transformation, set_transformation

import ucs
from ucs.methods import DensityMethod

BOTH_METHODS = pytest.mark.parametrize("method", ["density", "paper"])


class TestResult:
    @BOTH_METHODS
    def test_invariants(self, method):
        assert_invariants(scenes.cells(method), nuclei=scene().nuclei)

    @BOTH_METHODS
    def test_these_cells_are_worth_testing(self, method):
        """Cytoplasm, background and neighbours that touch: else the other tests would say little."""
        labels, nuclei = labels_of(scenes.cells(method)), scene().nuclei
        assert 2 * (nuclei > 0).sum() < (labels > 0).sum() < 0.9 * labels.size
        right, below = (labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])
        assert sum(((a != b) & (a > 0) & (b > 0)).sum() for a, b in (right, below)) > 50

    def test_the_record_says_what_was_done(self, cells):
        record = cells.tables["ucs_table"].uns["ucs"]
        assert record["version"] == ucs.__version__
        parameters = record["parameters"]
        assert parameters["platform"] == "xenium"
        assert parameters["points_key"] == "transcripts"
        assert parameters["nuclei_key"] == "nucleus_labels"
        assert parameters["resolution"] == 1.0
        assert (parameters["method"], parameters["threshold"]) == ("density", 0.35)
        assert parameters["params"]["max_steps"] == scenes.SHORT["max_steps"]
        assert parameters["key_added"]["labels"] == "ucs_cells"
        assert set(record["model"]["curves"]) == {"density"}
        assert record["model"]["seed"] == 0
        assert {"torch", "numpy", "numba", "spatialdata-ucs"} <= set(record["model"]["versions"])
        assert record["qc"]["n_kept"] == len(scene().points)
        assert record["qc"]["n_nuclei"] == 31
        assert list(record["qc"]["grid_shape"]) == [72, 96]
        assert list(record["qc"]["grid_origin"]) == [scenes.X0, scenes.Y0]
        assert set(record["timings"]) >= {"read", "survey", "cells", "refine", "total"}

    def test_the_record_of_the_papers_method(self):
        record = scenes.cells("paper").tables["ucs_table"].uns["ucs"]
        assert (record["parameters"]["method"], record["parameters"]["threshold"]) == ("paper", 0.5)
        assert record["parameters"]["params"]["background"] == 5.0
        background = record["model"]["background"]
        assert (background["method"], background["distance_um"]) == ("given", 5.0)
        assert set(record["model"]["curves"]) == {"foreground", "cell"}

    def test_a_line_or_two_per_stage(self, caplog):
        caplog.set_level(logging.INFO, logger="ucs")
        segmented(scene().sdata())
        lines = [record.getMessage() for record in caplog.records if record.name == "ucs"]
        assert len(lines) == 4
        assert lines[0].startswith("Input: xenium, points 'transcripts': 4,201 transcripts of 4,201 rows, 40 genes, ")
        assert lines[1].startswith("Nuclei 'nucleus_labels': 31, median ")
        assert lines[2].startswith("Transcripts per um2: ")
        assert lines[3].startswith("Added labels 'ucs_cells', shapes 'ucs_boundaries', table 'ucs_table', ")
        assert "31 cells" in lines[3]

    def test_points_get_a_column_and_keep_all_else(self, cells):
        before, after = scene().sdata()["transcripts"], cells["transcripts"]
        assert after.npartitions == before.npartitions
        assert list(after.columns) == [*before.columns, "ucs_cell_id"]
        pd.testing.assert_frame_equal(after.compute().drop(columns="ucs_cell_id"), before.compute())
        assert after.attrs["spatialdata_attrs"] == before.attrs["spatialdata_attrs"]
        assert get_transformation(after, get_all=True) == get_transformation(before, get_all=True)

    def test_labels_and_outlines_lie_on_each_other_in_spatialdata(self, cells):
        labels, shapes = labels_of(cells), cells["ucs_boundaries"]
        rows, columns = np.flatnonzero(labels.any(axis=1)), np.flatnonzero(labels.any(axis=0))
        extent = sd.get_extent(shapes, coordinate_system="global")
        x0, y0 = scenes.X0, scenes.Y0
        assert extent["x"] == (x0 + columns[0], x0 + columns[-1] + 1)
        assert extent["y"] == (y0 + rows[0], y0 + rows[-1] + 1)
        whole = sd.get_extent(cells["ucs_cells"], coordinate_system="global")
        assert whole["x"] == (x0, x0 + 96)
        assert whole["y"] == (y0, y0 + 72)


class TestKeys:
    def test_results_go_where_they_are_sent(self, cells):
        sdata = segmented(scene().sdata(), labels="a", shapes="b", table="c", points_column="d")
        assert {"a", "b", "c"} <= {name for _, name, _ in sdata.gen_elements()}
        assert "ucs_cells" not in sdata
        np.testing.assert_array_equal(labels_of(sdata, "a"), labels_of(cells))
        assert sdata["c"].uns["spatialdata_attrs"]["region"] == "b"
        np.testing.assert_array_equal(
            sdata["transcripts"]["d"].compute(), cells["transcripts"]["ucs_cell_id"].compute()
        )

    def test_overwrite_replaces_the_results_of_an_earlier_run(self, cells_copy):
        sdata = cells_copy()
        smaller = {"min_transcripts": 100, "inplace": True}
        assert segmented(sdata, overwrite=True, **smaller) is None
        table = sdata["ucs_table"]
        assert 0 < table.n_obs < 31
        assert len(sdata["ucs_boundaries"]) == table.n_obs
        assert_invariants(sdata)
        assert list(sdata["transcripts"].columns).count("ucs_cell_id") == 1

    def test_points_and_nuclei_of_other_names(self, cells):
        sdata = scene().sdata()
        sdata["tx"], sdata["dapi"] = sdata["transcripts"], sdata["nucleus_labels"]
        del sdata["transcripts"], sdata["nucleus_labels"]
        result = segmented(sdata, "tx", "dapi")
        np.testing.assert_array_equal(labels_of(result), labels_of(cells))
        assert "ucs_cell_id" in result["tx"].columns

    def test_another_gene_column(self, cells):
        points = scene().points.rename(columns={"feature_name": "target"})
        points["feature_name"] = pd.Categorical(["x"] * len(points))
        result = segmented(scene().with_points(points).sdata(), gene_key="target")
        np.testing.assert_array_equal(labels_of(result), labels_of(cells))


class TestInputsStay:
    def snapshot(self, sdata: SpatialData):
        elements = {}
        for kind, name, element in sdata.gen_elements():
            if kind == "points":
                parts = [part.compute() for part in element.to_delayed()]
                elements[name] = (parts, list(element.columns), deepcopy(dict(element.attrs)))
            elif kind == "tables":
                elements[name] = element.copy()
            elif kind == "shapes":
                elements[name] = (element.copy(), deepcopy(element.attrs))
            else:
                levels = sd.get_pyramid_levels(element) if hasattr(element, "children") else [element]
                elements[name] = ([np.asarray(level) for level in levels], deepcopy(dict(element.attrs)))
        return elements, deepcopy(sdata.attrs), [name for _, name, _ in sdata.gen_elements()]

    def assert_equal(self, before, after):
        assert before[1:] == after[1:]
        for name, element in before[0].items():
            other = after[0][name]
            if isinstance(element, tuple) and isinstance(element[0], list) and len(element) == 3:
                assert element[1:] == other[1:]
                for a, b in zip(element[0], other[0], strict=True):
                    pd.testing.assert_frame_equal(a, b)
            elif isinstance(element, tuple) and isinstance(element[0], list):
                assert element[1] == other[1]
                for a, b in zip(element[0], other[0], strict=True):
                    np.testing.assert_array_equal(a, b)
            elif isinstance(element, tuple):
                assert element[1] == other[1]
                pd.testing.assert_frame_equal(pd.DataFrame(element[0]), pd.DataFrame(other[0]))
            else:
                pd.testing.assert_frame_equal(element.obs, other.obs)
                np.testing.assert_array_equal(element.X.toarray(), other.X.toarray())
                assert element.uns == other.uns

    @pytest.fixture
    def rich(self, simulated):
        """Every kind of element, cut down to the size of a block."""
        sdata = cheap_copy(simulated)
        points = sdata["transcripts"].compute()
        points = points[(points["x"] < 60) & (points["y"] < 60)]
        element = make_points(points, get_transformation(sdata["transcripts"], get_all=True))
        del sdata["transcripts"]
        sdata["transcripts"] = element
        sdata.attrs["mine"] = {"a": [1, 2]}
        return sdata

    def test_inplace_adds_and_changes_nothing_else(self, rich):
        before = self.snapshot(rich)
        assert segment(rich, inplace=True, params=TINY) is None
        for key in ("ucs_cells", "ucs_boundaries", "ucs_table"):
            del rich[key]
        after = self.snapshot(rich)
        parts, columns, attrs = after[0]["transcripts"]
        assert columns[-1] == "ucs_cell_id"
        after[0]["transcripts"] = ([part.drop(columns="ucs_cell_id") for part in parts], columns[:-1], attrs)
        order = sorted(after[2], key=before[2].index)
        self.assert_equal(before, (*after[:2], order))

    def test_a_new_object_leaves_the_old_one_as_it_was(self, rich):
        before = self.snapshot(rich)
        result = segment(rich, params=TINY)
        self.assert_equal(before, self.snapshot(rich))
        assert result is not rich
        assert result.attrs == rich.attrs
        assert not result.is_backed()
        assert {name for _, name, _ in result.gen_elements()} == {
            *(name for _, name, _ in rich.gen_elements()),
            "ucs_cells",
            "ucs_boundaries",
            "ucs_table",
        }
        assert_invariants(result)

    def test_transformations_of_the_new_points_are_their_own(self):
        sdata = scene().sdata()
        result = segmented(sdata)
        set_transformation(result["transcripts"], Identity(), "elsewhere")
        assert "elsewhere" not in get_transformation(sdata["transcripts"], get_all=True)

    @pytest.mark.parametrize(
        ("owner", "step"), [(DensityMethod, "prepare"), (DensityMethod, "plan"), (ShapesModel, "parse")]
    )
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_a_failure_on_the_way_leaves_everything_as_it_was(self, owner, step, error, monkeypatch):
        def fail(*_args, **_options):
            raise error("on the way")

        sdata = scene().sdata()
        before = self.snapshot(sdata)
        monkeypatch.setattr(owner, step, fail)
        with pytest.raises(error, match="on the way"):
            segment(sdata, inplace=True, params=TINY)
        self.assert_equal(before, self.snapshot(sdata))

    @pytest.mark.parametrize("failing", ["ucs_cells", "ucs_boundaries", "ucs_table", "transcripts"])
    @pytest.mark.parametrize("again", [False, True], ids=["new", "overwrite"])
    def test_a_failure_while_elements_are_added_takes_them_out_again(self, failing, again, cells_copy, monkeypatch):
        sdata = cells_copy() if again else scene().sdata()
        before = {name: element for _, name, element in sdata.gen_elements()}
        original = SpatialData.__setitem__

        def fail_once(self, key, value):
            if key == failing and value is not before.get(key):
                raise RuntimeError("cannot be added")
            original(self, key, value)

        monkeypatch.setattr(SpatialData, "__setitem__", fail_once)
        with pytest.raises(RuntimeError, match="cannot be added"):
            segmented(sdata, inplace=True, overwrite=again)
        after = {name: element for _, name, element in sdata.gen_elements()}
        assert set(after) == set(before)
        assert all(after[name] is before[name] for name in before)


class TestIds:
    @pytest.mark.parametrize(
        "ids",
        [
            np.arange(1, 32, dtype=np.uint64) + 2**63,
            np.arange(1, 32, dtype=np.int64) * 2**33,
            np.arange(1, 32, dtype=np.uint16) * 2000,
        ],
        ids=["uint64", "int64", "uint16"],
    )
    def test_of_labels_are_kept_in_the_table(self, ids, cells, tmp_path):
        world = scene()
        renumbered = np.concatenate([np.zeros(1, dtype=ids.dtype), ids])[world.nuclei]
        result = segmented(make_sdata(renumbered, world.points, labels_to_um=world.to_um))
        np.testing.assert_array_equal(labels_of(result), labels_of(cells))
        assert result["ucs_table"].obs["nucleus_id"].dtype == ids.dtype
        np.testing.assert_array_equal(result["ucs_table"].obs["nucleus_id"], ids)
        assert result["ucs_table"].obs["cell_id"].tolist() == list(range(1, 32))
        result.write(tmp_path / "store.zarr")
        read = sd.read_zarr(tmp_path / "store.zarr")["ucs_table"].obs["nucleus_id"]
        np.testing.assert_array_equal(read, ids)

    def test_of_shapes_are_kept_in_the_table(self, tmp_path):
        world = scene()
        frame = ucs.tl.outlines(world.sdata(), "nucleus_labels", inplace=False)["nucleus_labels_boundaries"]
        names = np.array([f"cell-{k:02d}" for k in range(31, 0, -1)], dtype=object)
        frame = GeoDataFrame({"geometry": frame.geometry.to_numpy()}, index=names)
        result = segmented(make_sdata(frame, world.points, labels_to_um=world.to_um))
        assert result["ucs_table"].obs["nucleus_id"].tolist() == sorted(names)
        nuclei = np.concatenate([[0], np.arange(31, 0, -1)])[world.nuclei]
        assert_invariants(result, nuclei=nuclei)
        result.write(tmp_path / "store.zarr")
        read = sd.read_zarr(tmp_path / "store.zarr")["ucs_table"].obs["nucleus_id"]
        assert read.astype(str).tolist() == sorted(names)


class TestMinTranscripts:
    @pytest.mark.parametrize("n", [1, 80, 150])
    def test_poor_cells_are_left_out_everywhere(self, n, cells):
        result = segmented(scene().sdata(), min_transcripts=n)
        all_cells = cells["ucs_table"].obs
        expected = all_cells.loc[all_cells["n_transcripts"] >= n, "cell_id"]
        np.testing.assert_array_equal(result["ucs_table"].obs["cell_id"], expected)
        kept = np.isin(labels_of(cells), expected)
        np.testing.assert_array_equal(labels_of(result), np.where(kept, labels_of(cells), 0))
        assert_invariants(result, nuclei=scene().nuclei)

    def test_more_than_any_cell_has_is_an_error(self):
        sdata = scene().sdata()
        with pytest.raises(ValueError, match=r"No cell has min_transcripts=5000 or more .*: the richest of 31 has \d+"):
            segmented(sdata, min_transcripts=5000, inplace=True)
        assert "ucs_cells" not in sdata


class TestCountColumn:
    def test_counts_are_honoured(self):
        rng = np.random.default_rng(0)
        points = scene().points.drop(columns="qv").assign(counts=rng.integers(0, 6, len(scene().points)))
        points.loc[points.index[-2:], "counts"] = 1
        result = segmented(scene().with_points(points).sdata())
        assert_invariants(result, count_key="counts", nuclei=scene().nuclei)
        assert result["ucs_table"].uns["ucs"]["parameters"]["platform"] == "generic"

    def test_a_row_of_three_is_three_rows(self):
        points = scene().points.drop(columns="qv")
        thrice = pd.concat([points] * 3, ignore_index=True)
        one = segmented(scene().with_points(thrice).sdata())
        other = segmented(scene().with_points(points.assign(count=3)).sdata())
        assert_same_cells(one, other)


def test_genes_to_see_can_be_chosen_and_the_table_has_all():
    result = segment(scene().sdata(), params=TINY, genes=["GENE0005", "GENE0002", "GENE0009"])
    assert_invariants(result, nuclei=scene().nuclei)
    assert result["ucs_table"].n_vars == 40


def test_every_kind_of_background():
    chosen = {}
    for background in ("auto", "paper", 7):
        result = segment(scene().sdata(), method="paper", params={**PAPER_TINY, "background": background})
        chosen[background] = result["ucs_table"].uns["ucs"]["model"]["background"]
    assert chosen["auto"]["method"] == "auto"
    assert chosen["auto"]["distance_um"] > 0
    assert chosen["paper"]["method"] == "paper"
    assert (chosen[7]["method"], chosen[7]["distance_um"]) == ("given", 7.0)
    assert all(0 <= one["share_of_area"] <= 1 for one in chosen.values())


def test_the_table_is_a_table_of_spatialdata(cells):
    table = cells["ucs_table"]
    assert TableModel().validate(table) is table
    assert (table.obs["region"] == "ucs_boundaries").all()
    assert table.obs["region"].dtype == "category"


def test_progress_goes_to_the_standard_error_only(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    segmented(scene().sdata(), progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "cells" in captured.err


def test_polygons_as_nuclei_need_no_more_than_their_key():
    world = scene()
    squares = boxes((-30, 0, -24, 6), (-10, 10, -4, 16), index=["b", "a"])
    result = segmented(make_sdata(squares, world.points))
    assert result["ucs_table"].obs["nucleus_id"].tolist() == ["a", "b"]
    assert result["ucs_table"].uns["ucs"]["parameters"]["nuclei_key"] == "nucleus_boundaries"
