"""Bad input: an error that names what was given, what is valid and how to mend it, and an object as it was before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from bins import visium_hd_sdata
from calls import segment, train
from geopandas import GeoDataFrame
from scenes import TINY, boxes, make_sdata, scaling, scene, translation
from spatialdata.models import Labels2DModel

from ucs._read.platforms import XENIUM
from ucs._read.sample import find_source, prepare
from ucs.methods import DensityMethod, PaperMethod


def raises(sdata, error, match, call=segment, **options):
    """The call fails with the message, and leaves the very same elements behind."""
    before = {name: element for _, name, element in sdata.gen_elements()}
    columns = {name: list(element.columns) for name, element in sdata.points.items()}
    attrs = dict(sdata.attrs)
    if call is segment:
        options = {"inplace": True, **options}
    with pytest.raises(error, match=match):
        call(sdata, **options)
    after = {name: element for _, name, element in sdata.gen_elements()}
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert {name: list(element.columns) for name, element in sdata.points.items()} == columns
    assert sdata.attrs == attrs


@pytest.fixture(autouse=True)
def _no_training(cells, monkeypatch):  # the cells first: their model is trained
    """Every call must fail before anything heavy runs, so none of the tests takes long."""

    def fail(*_args, **_options):
        raise AssertionError("the method began")

    for method in (DensityMethod, PaperMethod):
        for step in ("survey", "learn_shared", "prepare"):
            monkeypatch.setattr(method, step, fail)


@pytest.mark.parametrize("method", ["density", "paper"])
@pytest.mark.parametrize("call", [segment, train])
def test_the_guard_stands_where_methods_begin(call, method):
    with pytest.raises(AssertionError, match="the method began"):
        call(scene().sdata(), method=method)


@pytest.fixture
def sdata():
    return scene().sdata()


def with_points(change):
    points = scene().points.copy()
    points = change(points)
    return scene().with_points(points).sdata()


def points_at(frame, row, **values):
    for column, value in values.items():
        frame.loc[row, column] = value
    return frame


STEPS = pytest.mark.parametrize("call", [segment, train])


class TestKeys:
    @STEPS
    def test_points_that_are_not_there(self, sdata, call):
        raises(sdata, KeyError, r"points_key='spots' is not in this SpatialData; there are: 'transcripts'", call,
               points_key="spots")  # fmt: skip

    @STEPS
    def test_nuclei_that_are_not_there(self, sdata, call):
        raises(sdata, KeyError, r"nuclei_key='dapi' is not in this SpatialData; there are: 'nucleus_labels'", call,
               nuclei_key="dapi")  # fmt: skip

    def test_no_points_at_all(self, sdata):
        del sdata["transcripts"]
        raises(sdata, KeyError, r"Found no points element.*there are: none\. Name it with points_key=")

    def test_no_points_but_a_table_that_may_count_in_bins(self):
        squares, _ = visium_hd_sdata(scene(), boxes((0, 0, 9, 9)))
        squares.attrs.clear()
        squares["counts"] = squares["square_002um"]
        del squares["square_002um"]
        raises(squares, KeyError, r"Found no points element.*square bins, name one: 'counts'.*\(transcripts=True\)")

    def test_points_that_could_be_parts(self, sdata):
        sdata["a_transcripts"], sdata["b_transcripts"] = sdata["transcripts"], sdata["transcripts"].copy()
        del sdata["transcripts"]
        raises(sdata, ValueError, r"could be the points element: .*points_key=\['a_transcripts', 'b_transcripts'\]")

    def test_a_gene_column_that_could_be_meant(self, sdata):
        points = sdata["transcripts"].rename(columns={"feature_name": "symbol"})
        points.attrs.update(transform=sdata["transcripts"].attrs["transform"])
        del sdata["transcripts"]
        sdata["transcripts"] = points
        message = r"No gene column .*Name it: gene_key='symbol' \(in ucs.tl.segment: read=\{'gene_key': 'symbol'\}\)"
        raises(sdata, KeyError, message)

    def test_no_nuclei_at_all(self, sdata):
        del sdata["nucleus_labels"]
        raises(sdata, KeyError, r"Found no labels or shapes element with nuclei.*Name it with nuclei_key=")

    @STEPS
    def test_a_gene_column_that_is_not_there(self, sdata, call):
        raises(sdata, KeyError, r"No gene column .* looked for 'symbol', found 'x', 'y', 'feature_name'", call,
               gene_key="symbol")  # fmt: skip

    @STEPS
    def test_an_unknown_platform(self, sdata, call):
        raises(sdata, ValueError, r"platform='merfish' is unknown; known are 'auto', 'xenium'", call,
               platform="merfish")  # fmt: skip

    @STEPS
    def test_an_unknown_coordinate_system(self, sdata, call):
        raises(sdata, ValueError, r"coordinate_system='slide' is not one of both elements: .*'global'", call,
               coordinate_system="slide")  # fmt: skip


class TestOutputs:
    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("ucs_cells", r"labels\['ucs_cells'\] exists; pass overwrite=True"),
            ("ucs_boundaries", r"shapes\['ucs_boundaries'\] exists; pass overwrite=True"),
            ("ucs_table", r"tables\['ucs_table'\] exists; pass overwrite=True"),
        ],
    )
    def test_elements_that_exist(self, sdata, cells, key, message):
        sdata[key] = cells[key]
        raises(sdata, ValueError, message)

    def test_a_column_that_exists(self):
        sdata = with_points(lambda points: points.assign(ucs_cell_id=0))
        message = r"has a column 'ucs_cell_id'; pass overwrite=True to replace it, or another key_added\['points_col"
        raises(sdata, ValueError, message)

    @pytest.mark.parametrize("column", ["x", "y", "feature_name", "qv"])
    def test_columns_of_the_data_are_never_replaced(self, sdata, column):
        message = rf"key_added\['points_column'\]='{column}' is a column of the data itself"
        raises(sdata, ValueError, message, points_column=column, overwrite=True)

    def test_elements_of_another_kind_are_never_replaced(self, sdata):
        message = r"key_added\['table'\]='nucleus_labels' is the .* nuclei"
        raises(sdata, ValueError, message, table="nucleus_labels", overwrite=True)
        message = r"key_added\['table'\]='transcripts' is the name of an element in points"
        raises(sdata, ValueError, message, table="transcripts", overwrite=True)

    def test_the_nuclei_are_never_replaced(self, sdata):
        message = r"key_added\['labels'\]='nucleus_labels' is the key of the nuclei themselves"
        raises(sdata, ValueError, message, labels="nucleus_labels", overwrite=True)

    def test_two_outputs_of_one_name(self, sdata):
        message = r"key_added\['shapes'\]='a' and key_added\['labels'\]='a' must differ"
        raises(sdata, ValueError, message, labels="a", shapes="a")

    @pytest.mark.parametrize("name", ["my cells", "a/b", "__cells", "", ".", "..", 3])
    @pytest.mark.parametrize("field", ["labels", "table", "points_column", "foreground"])
    def test_names_that_spatialdata_does_not_take(self, sdata, field, name):
        raises(sdata, ValueError, rf"key_added\['{field}'\]=.* is no valid name", **{field: name})

    def test_names_that_differ_in_case_only(self, sdata):
        sdata["UCS_cells"] = Labels2DModel.parse(np.ones((2, 2), dtype=int), dims=("y", "x"))
        raises(sdata, ValueError, r"key_added\['labels'\]='ucs_cells' differs from 'UCS_cells' in case only")

    def test_writing_what_has_no_store(self, sdata):
        message = r"write=True needs an object with a Zarr store: call sdata.write\(path\) first"
        raises(sdata, ValueError, message, write=True)
        raises(sdata, ValueError, r"write=True .* needs inplace=True", write=True, inplace=False)


class TestPoints:
    @STEPS
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_positions_that_are_not_finite(self, value, call):
        sdata = with_points(lambda points: points_at(points, 9, y=value))
        raises(sdata, ValueError, r"points\['transcripts'\].*1 of \d+ positions have a NaN or infinite y", call)

    @STEPS
    def test_genes_that_are_null(self, call):
        sdata = with_points(lambda points: points_at(points, [3, 4], feature_name=None))
        raises(sdata, ValueError, r"2 of \d+ rows have no value in 'feature_name'. Drop these rows", call)

    @STEPS
    @pytest.mark.parametrize("missing", [None, np.nan])
    def test_genes_that_were_null_and_became_text(self, call, missing):
        """As ``PointsModel.parse`` makes them when it turns a column of text into categories."""
        names = scene().points["feature_name"].astype(object)
        names[:2] = missing
        sdata = with_points(lambda points: points.assign(feature_name=names))
        assert sdata["transcripts"]["feature_name"].isna().sum().compute() == 0
        message = r"2 of \d+ rows have 'feature_name' = '(nan|None|<NA>)', which is what a missing"
        raises(sdata, ValueError, message, call)

    @STEPS
    def test_negative_counts(self, call):
        sdata = with_points(lambda points: points.drop(columns="qv").assign(count=np.arange(len(points)) - 1))
        raises(sdata, ValueError, r"1 of \d+ values of 'count' are negative, .*e\.g\. -1", call)

    def test_none_of_good_quality(self):
        sdata = with_points(lambda points: points.assign(qv=np.float32(3)))
        raises(sdata, ValueError, r"\['transcripts'\] has no transcripts to work with: all 4201 rows have qv < 20")

    @STEPS
    @pytest.mark.parametrize(
        ("z_planes", "error", "message"),
        [
            ([7], ValueError, r"z_planes=\[7.0\]: .* no transcripts in 7.0; in its column 'z' are 0.0, 1.0"),
            ([], ValueError, r"z_planes=\(\) must be a number or a list of numbers"),
            ("all", ValueError, r"z_planes='all' must be a number or a list of numbers"),
            ([np.nan], ValueError, r"z_planes=\(nan,\) must be"),
        ],
    )
    def test_planes_that_are_not_there(self, call, z_planes, error, message):
        sdata = with_points(lambda points: points.assign(z=np.arange(len(points)) % 2))
        raises(sdata, error, message, call, z_planes=z_planes, platform="generic")

    def test_planes_where_there_are_none(self, sdata):
        message = r"z_planes=1: no column of points\['transcripts'\] says in which plane .*\(xenium: it has no planes\)"
        raises(sdata, KeyError, message, z_planes=1)
        raises(sdata, KeyError, r"\(generic: looked for 'z', 'global_z', 'z_raw'\)", z_planes=1, platform="generic")

    def test_none_of_good_quality_in_the_planes(self):
        own = replace(XENIUM, plane_columns=("z",))
        sdata = with_points(lambda points: points_at(points.assign(z=1), 0, z=0, qv=3.0))
        message = r"no transcripts .*: 1 of 4201 rows have qv < 20, 4200 of 4201 rows lie in other planes \(z\)"
        raises(sdata, ValueError, message, platform=own, z_planes=0)

    def test_none_that_is_a_gene(self):
        sdata = with_points(lambda points: points.assign(is_gene=False))
        message = r"holds control features only, by their names or by the column 'is_gene': 'BLANK_0002', "
        raises(sdata, ValueError, message)

    def test_none_at_all(self):
        sdata = make_sdata(scene().nuclei, scene().points.iloc[:0], npartitions=1)
        raises(sdata, ValueError, r"points\['transcripts'\] has no transcripts to work with: the element is empty")

    def test_controls_only(self):
        sdata = with_points(lambda points: points.assign(feature_name=pd.Categorical(["BLANK_0001"] * len(points))))
        raises(sdata, ValueError, r"points\['transcripts'\] holds control features only: 'BLANK_0001'")


class TestNuclei:
    @STEPS
    def test_none_where_the_transcripts_are(self, call):
        sdata = scene().sdata(labels_to_um=translation(5000, 0))
        message = r"No nucleus of 'nucleus_labels' lies where the transcripts .* are \(x, y in \[-37, 59\]"
        raises(sdata, ValueError, message, call)

    def test_none_at_all(self):
        sdata = make_sdata(np.zeros_like(scene().nuclei), scene().points)
        raises(sdata, KeyError, r"There are no nuclei: labels\['nucleus_labels'\] hold background only")

    def test_unconnected_coordinate_systems(self):
        sdata = scene().sdata(points_systems={"a": np.eye(3)}, nuclei_systems={"b": np.eye(3)})
        message = r"share no coordinate system and no path connects them: .* is in 'b', .* in 'a'.*set_transformation"
        raises(sdata, ValueError, message)

    def test_a_transformation_onto_a_line(self):
        sdata = scene().sdata(nuclei_systems={"global": scaling(0, 1)})
        raises(sdata, ValueError, r"The transformation of 'nucleus_labels' to 'global' cannot be inverted")

    def test_repeated_ids(self):
        sdata = make_sdata(boxes((-30, 0, -20, 9), (0, 0, 9, 9), (20, 9, 30, 20), index=[1, 2, 1]), scene().points)
        message = r"shapes\['nucleus_boundaries'\] has 1 ids that occur more than once \(1\)"
        raises(sdata, ValueError, message, platform="generic")  # where cells do not share their id with their nuclei

    @STEPS
    @pytest.mark.parametrize("kind", ["labels", "shapes"])
    def test_nuclei_of_an_impossible_size(self, call, kind):
        """A unit of 4 um is taken for 1 um, or one of 1 um for 6: the error says which units would do."""
        squares = boxes((-30, -10, -24, -4), (0, 0, 6, 6), (20, 9, 26, 15))
        sdata = scene().sdata() if kind == "labels" else make_sdata(squares, scene().points)
        message = r"median area of the nuclei '\w+' is {}.* nuclei have 5 to 500.* from .* um\), such as um_per_unit="
        on = {"check_alignment": True, "resolution": 1.0}
        raises(sdata, ValueError, message.format(r"1.\d+e\+03 um\^2"), call, um_per_unit=6.0, **on)
        raises(sdata, ValueError, message.format(r"[2-4](\.\d+)? um\^2"), call, um_per_unit=0.28, **on)

    def test_an_impossible_size_is_a_warning_if_nothing_is_to_be_checked(self, caplog):
        sdata = scene().sdata()
        prepare(sdata, find_source(sdata, um_per_unit=6.0), check_alignment=False)
        assert "cannot be 6 um" in caplog.text

    def test_fusing_nuclei_whose_cells_are_not_known(self, sdata):
        message = r"fuse_nuclei=True needs the cell of each nucleus: a column 'cell_id' .* Looked at: none"
        raises(sdata, ValueError, message, fuse_nuclei=True)

    def test_negative_ids(self):
        nuclei = np.where(scene().nuclei == 3, -3, scene().nuclei)
        sdata = make_sdata(nuclei, scene().points, labels_to_um=scene().to_um)
        raises(sdata, ValueError, r"negative ids \(lowest -3\)")
        sdata = make_sdata(boxes((-30, 0, -20, 9), (0, 0, 9, 9), index=[1, -2]), scene().points)
        raises(sdata, ValueError, r"shapes\['nucleus_boundaries'\] has negative ids \(-2\)")

    def test_nuclei_without_a_pixel_are_named_and_left_out(self, caplog):
        """A warning, not an error."""
        squares = boxes((-30, 0, -20, 9), (5.1, 5.1, 5.3, 5.3), (0, 10, 9, 19), index=["a", "tiny", "c"])
        sdata = make_sdata(GeoDataFrame(squares), scene().points)
        assert prepare(sdata, find_source(sdata), check_alignment=False).nuclei.ids.tolist() == ["a", "c"]
        assert "1 nuclei have no pixel (too small for the resolution, or covered by others)" in caplog.text
        assert "'tiny'" in caplog.text


class TestNumbers:
    @STEPS
    @pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "1"])
    def test_a_resolution_that_is_not_positive(self, sdata, call, value):
        raises(sdata, ValueError, r"resolution=.* must be a positive number", call, resolution=value)

    @STEPS
    def test_a_resolution_finer_than_memory_allows(self, sdata, call):
        message = r"resolution=1e-06 um gives a grid of .*, which needs about .* GiB; .* finest resolution that fits is"
        raises(sdata, MemoryError, message, call, resolution=1e-6)

    @STEPS
    def test_a_unit_that_is_not_positive(self, sdata, call):
        raises(sdata, ValueError, r"read\['um_per_unit'\]=-1 must be a positive number", call, um_per_unit=-1)

    @pytest.mark.parametrize("value", [0, -3, 1.5, "1024", None, np.nan])
    def test_a_tile_size_that_is_none(self, sdata, value):
        message = r"compute\['tile_size'\]=.* must be (a whole number, )?at least 1"
        raises(sdata, (TypeError, ValueError), message, tile_size=value)

    @pytest.mark.parametrize("value", [-1, 0.5, "3", None])
    def test_min_transcripts_that_is_none(self, sdata, value):
        message = r"key_added\['min_transcripts'\]=.* must be (a whole number, )?at least 0"
        raises(sdata, (TypeError, ValueError), message, min_transcripts=value)

    @STEPS
    @pytest.mark.parametrize("value", [-1, 0.5, "3"])
    def test_a_seed_that_is_none(self, sdata, call, value):
        raises(sdata, ValueError, r"seed=.* must be a whole number, 0 or above", call, seed=value)

    @STEPS
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (-2, r"params\['background'\]=-2 must be a positive number"),
            (np.nan, r"params\['background'\]=nan must be a positive number"),
            ("far", r"params\['background'\]='far' is unknown; valid are 'auto', 'paper' or a distance in um"),
        ],
    )
    def test_a_background_that_is_none(self, sdata, call, value, message):
        raises(sdata, ValueError, message, call, method="paper", params={"background": value})


class TestOptions:
    @STEPS
    @pytest.mark.parametrize("device", ["tpu", "cuda:99", "gpu"])
    def test_a_device_that_is_not_there(self, sdata, call, device):
        raises(sdata, ValueError, rf"device='{device}' is not .*available here: cpu", call, device=device)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="here is one")
    def test_no_cuda(self, sdata):
        raises(sdata, ValueError, r"device='cuda' is not there; available here: cpu", device="cuda")

    @STEPS
    @pytest.mark.parametrize(
        ("genes", "message"),
        [
            (["GENE0001", "EPCAM"], r"genes lists 1 names that the data does not have: 'EPCAM'"),
            ([], r"genes is an empty list; pass 'all' or at least one gene"),
            ("EPCAM", r"genes='EPCAM' "),
            (["NegControlProbe_00001"], r"genes lists 1 names that the data does not have"),
        ],
    )
    def test_genes_that_are_not_there(self, sdata, call, genes, message):
        raises(sdata, ValueError, message, call, genes=genes)

    @STEPS
    def test_unknown_parameters_of_the_training(self, sdata, call):
        message = r"params has unknown fields: 'epochs'; DensityParams has: 'shape_exponent', 'reach', "
        raises(sdata, ValueError, message, call, params={**TINY, "epochs": 3})
        raises(sdata, TypeError, r"params=3 must be DensityParams, a mapping of its fields, or None", call, params=3)

    def test_a_model_that_is_not_there(self, sdata, tmp_path):
        raises(sdata, FileNotFoundError, r"holds no model: model.json is missing", model=tmp_path / "nothing")
