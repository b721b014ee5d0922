from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scenes import make_points, make_sdata

import ucs
from ucs._read.columns import TranscriptColumns
from ucs._read.platforms import GENERIC, MERSCOPE, XENIUM
from ucs._read.sample import find_source
from ucs._read.transcripts import read_transcripts

FRAME = pd.DataFrame(
    {
        "x": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5],
        "y": 0.5,
        "z": [0.0, 1.0, 2.0, 0.0, 1.0, 2.0],
        "feature_name": pd.Categorical(["A", "A", "B", "B", "C", "NegControlProbe_1"]),
        "qv": [30.0, 10.0, 30.0, 20.0, np.nan, 40.0],
        "is_gene": [True, True, False, False, True, False],
        "codeword_category": [
            *["predesigned_gene"] * 2,
            *["unassigned_codeword"] * 2,
            "custom_gene",
            "negative_control_probe",
        ],
    }
)
NUCLEI = np.array([[1, 1, 1, 2, 2, 2]], dtype=np.int32)


def of(platform, frame=FRAME, **options):
    return TranscriptColumns.of(make_points(frame), "feature_name", platform, **options)


def votes(columns, *frames):
    said: dict[str, int] = {}
    for frame in frames:
        columns.add_votes(frame, said)
    return said


class TestRows:
    def test_quality_and_planes_cut_together(self):
        columns = of(replace(XENIUM, plane_columns=("z",)), z_planes=[0, 2])
        assert columns.good(FRAME).tolist() == [True, False, True, True, False, True]
        assert columns.in_planes(FRAME).tolist() == [True, False, True, True, False, True]
        assert columns.kept(FRAME.assign(z=1.0)).tolist() == [False] * 6
        assert columns.kept(FRAME).sum() == 4

    @pytest.mark.parametrize("z_planes", [1, 1.0, [1], (1,), np.array([1]), pd.Series([1.0])])
    def test_planes_are_numbers_in_any_form(self, z_planes):
        columns = of(GENERIC, z_planes=z_planes)
        assert columns.planes == (1.0,)
        assert columns.kept(FRAME).tolist() == [False, True, False, False, True, False]

    def test_planes_as_whole_numbers_or_not_are_the_same(self):
        assert of(MERSCOPE, z_planes=2).kept(FRAME.astype({"z": int})).sum() == 2

    def test_no_planes_are_all_and_their_column_is_not_read(self):
        columns = of(MERSCOPE)
        assert columns.kept(FRAME).all()
        assert "z" not in columns.names()

    def test_columns_are_read_once(self):
        names = of(replace(XENIUM, plane_columns=("qv",)), z_planes=30).names()
        assert len(set(names)) == len(names)
        assert set(names) == {"x", "y", "feature_name", "qv", "is_gene", "codeword_category"}


class TestControls:
    def test_each_row_has_a_voice(self):
        assert votes(of(XENIUM), FRAME) == {"A": 2, "B": -2, "C": 1, "NegControlProbe_1": -1}
        assert votes(of(XENIUM), FRAME, FRAME) == {"A": 4, "B": -4, "C": 2, "NegControlProbe_1": -2}

    @pytest.mark.parametrize("column", ["is_gene", "codeword_category"])
    def test_either_column_will_do(self, column):
        frame = FRAME.drop(columns=column)
        assert votes(of(XENIUM, frame), frame) == votes(of(XENIUM), FRAME)

    def test_missing_values_say_nothing_and_the_category_stands_in(self):
        frame = FRAME.assign(is_gene=pd.array([None, True, None, None, False, None], dtype="boolean"))
        assert votes(of(XENIUM, frame), frame) == {"A": 2, "B": -2, "C": -1, "NegControlProbe_1": -1}
        frame = frame.assign(codeword_category=None)
        assert votes(of(XENIUM, frame), frame) == {"A": 1, "C": -1}

    def test_categories_may_be_categorical_with_missing_values(self):
        frame = FRAME.assign(codeword_category=FRAME["codeword_category"].astype("category").where(FRAME["x"] > 1))
        frame = frame.drop(columns="is_gene")
        assert votes(of(XENIUM, frame), frame)["A"] == 1

    def test_other_platforms_do_not_ask(self):
        assert votes(of(MERSCOPE), FRAME) == {}

    def test_the_majority_decides_and_a_name_is_enough(self):
        """However the rows are partitioned, and whatever their quality is."""
        frame = pd.concat([FRAME, FRAME.assign(is_gene=[False, True, True, False, None, True])], ignore_index=True)
        frame["is_gene"] = frame["is_gene"].astype("boolean")
        for npartitions in (1, 3, 12):
            sdata = make_sdata(NUCLEI, frame, npartitions=npartitions)
            source = find_source(sdata)
            transcripts = read_transcripts(sdata, source.elements, XENIUM, resolution=1.0, um_per_unit=1.0)
            assert transcripts.genes == ("A",)  # C has no row of good quality
            assert transcripts.controls == ("B", "NegControlProbe_1")

    def test_planes_in_maps_and_in_tables(self):
        sdata = make_sdata(NUCLEI, FRAME.drop(columns=["qv", "is_gene", "codeword_category"]))
        assert int(ucs.pp.rasterize(sdata, read={"z_planes": 2}).sum()) == 1  # the other is a control
        ucs.tl.aggregate(sdata, "nucleus_labels", read={"z_planes": [0, 1]}, points_column_added="label")
        assert sdata["nucleus_labels_table"].obs["n_transcripts"].tolist() == [2, 2]
        assert sdata["transcripts"]["label"].compute().tolist() == [1, 1, 0, 2, 2, 0]

    def test_in_maps_and_in_tables_of_any_labels(self):
        sdata = make_sdata(NUCLEI, FRAME)
        assert ucs.pp.rasterize(sdata).coords["c"].to_numpy().tolist() == ["A"]
        table = ucs.tl.aggregate(sdata, "nucleus_labels", inplace=False)["nucleus_labels_table"]
        assert table.var_names.tolist() == ["A", "C"]
        assert list(table.uns["ucs"]["controls"]) == ["B", "NegControlProbe_1"]
        assert table.obsm["controls"].toarray().tolist() == [[1, 0], [1, 1]]
