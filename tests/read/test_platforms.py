from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scenes import boxes, make_points, make_sdata

import ucs
from ucs._read.platforms import (
    GENERIC,
    PLATFORMS,
    XENIUM,
    Platform,
    resolve_gene_key,
    resolve_nuclei_key,
    resolve_platform,
    resolve_points_key,
)
from ucs._read.sample import find_source

POINTS = pd.DataFrame({"x": [0.5, 1.5], "y": [0.5, 2.5], "feature_name": pd.Categorical(["A", "B"])})
NUCLEI = np.array([[1, 0], [0, 2]], dtype=np.int32)


@pytest.fixture
def sdata():
    return make_sdata(NUCLEI, POINTS)


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_platform_is_found_by_its_name(sdata, name):
    assert resolve_platform(sdata, name, None) is PLATFORMS[name]
    assert PLATFORMS[name].name == name


def test_a_platform_of_ones_own_is_taken_as_it_is(sdata):
    own = Platform("own", 0.5, 1.0, ("transcripts",), ("nucleus_labels",), ("feature_name",))
    assert resolve_platform(sdata, own, None) is own
    assert not own.is_control("NegControlProbe_1")
    assert find_source(sdata, platform=own).um_per_unit == 0.5


def test_an_unknown_platform_is_an_error_that_lists_the_known(sdata):
    with pytest.raises(ValueError, match=r"platform='visium' is unknown; known are 'auto', 'xenium', 'merscope'"):
        resolve_platform(sdata, "visium", None)


def test_xenium_is_recognised(breast, simulated):
    assert resolve_platform(breast, "auto", None) is XENIUM
    assert resolve_platform(simulated, "auto", None) is XENIUM


def test_merscope_is_recognised_by_its_reader_or_by_names(sdata):
    genes = POINTS.rename(columns={"feature_name": "gene"})
    sdata["slide_region_transcripts"] = make_points(genes)
    del sdata["transcripts"]
    assert resolve_platform(sdata, "auto", None) is PLATFORMS["merscope"]
    assert resolve_points_key(sdata, PLATFORMS["merscope"], None) == "slide_region_transcripts"
    sdata["spots"] = make_points(genes)
    assert resolve_platform(sdata, "auto", "spots") is GENERIC
    sdata.attrs["spatialdata_io_reader"] = "merscope"
    assert resolve_platform(sdata, "auto", "spots") is PLATFORMS["merscope"]


def test_stereoseq_states_its_unit_and_the_weights_of_the_paper(sdata):
    genes = POINTS.rename(columns={"feature_name": "gene"}).assign(count=2)
    sdata["bin1_genes"] = make_points(genes)
    del sdata["transcripts"]
    source = find_source(sdata)
    assert source.platform is PLATFORMS["stereoseq"]
    assert (source.columns.count, source.um_per_unit, source.resolution) == ("count", 0.5, 0.5)
    sdata.attrs["stereoseq"] = {"um_per_unit": 0.715}
    assert find_source(sdata).um_per_unit == 0.715
    with pytest.raises(ValueError, match=r"1 um as given, but 0\.715 um by the object's attrs\['stereoseq'\]"):
        find_source(sdata, um_per_unit=1.0)
    assert source.platform.params == {"paper": {"foreground_weights": (5.0, 1.0), "cell_weights": (5.0, 1.0)}}


def test_platforms_are_listed():
    table = ucs.platforms()
    assert list(table.index) == list(PLATFORMS)
    assert table.loc["xenium", "quality"] == "qv >= 20"
    assert table.loc["cosmx", "transcripts"] == "{fov}_points"
    assert not table.astype(str).apply(lambda column: column.str.contains(r"\\|\(\?", regex=True)).to_numpy().any()


def test_anything_else_is_generic(sdata):
    assert resolve_platform(sdata, "auto", None) is GENERIC
    sdata["other"] = make_points(POINTS.assign(qv=np.float32(30)))
    assert resolve_platform(sdata, "auto", None) is GENERIC
    assert resolve_platform(sdata, "auto", "other") is XENIUM


@pytest.mark.parametrize(
    "name",
    [
        "NegControlProbe_00042",
        "NegControlCodeword_0500",
        "antisense_PROKR2",
        "BLANK_0006",
        "Blank-12",
        "UnassignedCodeword_0001",
        "DeprecatedCodeword_1",
        "Intergenic_Region_5",
        "SystemControl1",
        "FalseCode2",
        "Negative3",
        "NegPrb4",
    ],
)
def test_controls_are_told_from_genes(name):
    assert XENIUM.is_control(name)
    assert GENERIC.is_control(name)


@pytest.mark.parametrize("name", ["EPCAM", "NEGR1", "BLNK", "Neg", "ACTB", "INTS1", "xBLANK_0006"])
def test_genes_are_no_controls(name):
    assert not XENIUM.is_control(name)
    assert not GENERIC.is_control(name)


class TestPointsKey:
    def test_the_only_one_is_taken(self, sdata):
        assert resolve_points_key(sdata, GENERIC, None) == "transcripts"
        del sdata["transcripts"]
        sdata["spots"] = make_points(POINTS)
        assert resolve_points_key(sdata, GENERIC, None) == "spots"

    def test_a_better_name_wins(self, sdata):
        sdata["spots"] = make_points(POINTS)
        sdata["all_transcripts_2"] = make_points(POINTS)
        assert resolve_points_key(sdata, GENERIC, None) == "transcripts"
        del sdata["transcripts"]
        assert resolve_points_key(sdata, GENERIC, None) == "all_transcripts_2"

    def test_several_alike_are_an_error(self, sdata):
        del sdata["transcripts"]
        sdata["a"], sdata["b"] = make_points(POINTS), make_points(POINTS)
        with pytest.raises(ValueError, match=r"Several elements .* points element: 'a', 'b'.*points_key="):
            resolve_points_key(sdata, GENERIC, None)

    def test_a_key_that_is_not_there_is_an_error_that_lists_those_that_are(self, sdata):
        with pytest.raises(KeyError, match=r"points_key='spots' is not in this SpatialData; there are: 'transcripts'"):
            resolve_points_key(sdata, GENERIC, "spots")

    def test_none_is_an_error(self, sdata):
        del sdata["transcripts"]
        with pytest.raises(KeyError, match=r"Found no points element: .*there are: none. Name it with points_key="):
            resolve_points_key(sdata, XENIUM, None)


class TestNucleiKey:
    @pytest.mark.parametrize("platform", [XENIUM, GENERIC], ids=["xenium", "generic"])
    def test_labels_come_before_shapes(self, sdata, platform):
        shapes = make_sdata(boxes((0, 0, 1, 1)), POINTS)
        assert resolve_nuclei_key(shapes, platform, None) == "nucleus_boundaries"
        shapes["nucleus_labels"] = sdata["nucleus_labels"]
        assert resolve_nuclei_key(shapes, platform, None) == "nucleus_labels"

    @pytest.mark.parametrize("name", ["nuclei", "nuclei_polygons", "DAPI_Nuclei_cellpose"])
    def test_names_of_nuclei_are_recognised(self, name):
        sdata = make_sdata(boxes((0, 0, 1, 1)), POINTS)
        sdata[name], sdata["cells"] = sdata["nucleus_boundaries"], sdata["nucleus_boundaries"].copy()
        del sdata["nucleus_boundaries"]
        assert resolve_nuclei_key(sdata, GENERIC, None) == name

    def test_a_key_of_another_kind_is_an_error(self, sdata):
        with pytest.raises(KeyError, match=r"nuclei_key='transcripts' is not in .*there are: 'nucleus_labels'"):
            resolve_nuclei_key(sdata, GENERIC, "transcripts")

    def test_none_is_an_error(self, sdata):
        del sdata["nucleus_labels"]
        with pytest.raises(KeyError, match=r"Found no labels or shapes element with nuclei.*nuclei_key="):
            resolve_nuclei_key(sdata, GENERIC, None)


class TestGeneKey:
    def test_the_one_given_is_taken(self):
        points = make_points(POINTS.assign(gene=["C", "D"]))
        assert resolve_gene_key(points, GENERIC, "gene", "transcripts") == "gene"

    def test_the_one_that_the_element_names_comes_before_the_platforms(self):
        points = make_points(POINTS.assign(target=["C", "D"]))
        points.attrs["spatialdata_attrs"]["feature_key"] = "target"
        assert resolve_gene_key(points, XENIUM, None, "transcripts") == "target"
        points.attrs["spatialdata_attrs"].pop("feature_key")
        assert resolve_gene_key(points, XENIUM, None, "transcripts") == "feature_name"

    def test_none_is_an_error_that_lists_the_columns(self):
        points = make_points(POINTS)
        with pytest.raises(KeyError, match=r"No gene column in points\['tx'\]: looked for 'symbol', found .*'x', 'y'"):
            resolve_gene_key(points, GENERIC, "symbol", "tx")


@pytest.mark.parametrize(("argument", "value"), [("resolution", 0), ("resolution", -1.0), ("resolution", np.nan)])
def test_resolution_must_be_positive(sdata, argument, value):
    with pytest.raises(ValueError, match=rf"{argument}={value!r} must be a positive number"):
        find_source(sdata, **{argument: value})


@pytest.mark.parametrize("value", [0, -0.5, np.inf, "1", None, True])
def test_the_unit_must_be_positive(sdata, value):
    if value is None:
        assert find_source(sdata, um_per_unit=None).um_per_unit == 1.0
        return
    with pytest.raises(ValueError, match=r"um_per_unit=.* must be a positive number"):
        find_source(sdata, um_per_unit=value)


def test_quality_and_count_columns_are_used_where_they_are_there(sdata):
    columns = find_source(sdata, platform="xenium").columns
    assert (columns.quality, columns.count) == (None, None)
    sdata["transcripts"] = make_points(POINTS.assign(qv=np.float32(30), counts=1))
    assert find_source(sdata, platform="xenium").columns.quality == "qv"
    generic = find_source(sdata, platform=replace(GENERIC)).columns
    assert (generic.quality, generic.count) == (None, "counts")
    assert generic.names() == ["x", "y", "feature_name", "counts"]
