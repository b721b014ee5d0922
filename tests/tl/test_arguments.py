"""Arguments and options: what would have no effect is refused by name; thresholds, names of results, options."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import calls
import numpy as np
import pytest
import spatialdata as sd
from calls import check, find_missing, predict, segment, train
from region_runs import train as train_regions
from scenes import TINY, labels_of, model, scene, segmented
from spatialdata import SpatialData

import ucs
from ucs._read.platforms import XENIUM
from ucs._utils.options import option_fields
from ucs.methods import DensityMethod, DensityParams, PaperMethod, PaperParams
from ucs.options import ComputeOptions, OutputKeys, ReadOptions

BOTH_METHODS = pytest.mark.parametrize("method", ["density", "paper"])
MARKERS = {"a": ["GENE0001", "GENE0002"], "b": ["GENE0003"]}
ALL_OPTIONS = (ReadOptions, ComputeOptions, OutputKeys, DensityParams, PaperParams)


@pytest.fixture
def sdata() -> SpatialData:
    return scene().sdata()


@pytest.fixture
def _unread(sdata, monkeypatch):
    """Whoever reads a partition or begins a method fails."""
    model(), model("paper")

    def fail(*_args, **_options):
        raise AssertionError("work began")

    points = sdata["transcripts"]
    unread = points.map_partitions(fail, meta=points._meta)
    unread.attrs.update(points.attrs)
    sdata.points["transcripts"] = unread
    for method in (DensityMethod, PaperMethod):
        monkeypatch.setattr(method, "survey", fail)


@pytest.mark.usefixtures("_unread")
class TestWithoutEffect:
    """Before anything is read."""

    @pytest.mark.parametrize("call", [segment, check, train])
    def test_work_would_begin_without_them(self, sdata, call):
        with pytest.raises(AssertionError, match="work began"):
            call(sdata)

    @pytest.mark.parametrize("call", [segment, check])
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("params=", {"params": {"max_steps": 4}}),
            ("params=", {"params": {}}),
            ("params=", {"params": DensityParams()}),
            ("markers=", {"markers": MARKERS}),
            ("seed=", {"seed": 0}),
            ("read['genes']", {"genes": ["GENE0001"]}),
            ("read['genes']", {"genes": "all"}),
            ("cell_type_key=", {"cell_type_key": "kind"}),
        ],
    )
    def test_with_a_model(self, sdata, call, name, options):
        message = f"^{re.escape(name)} has no effect with model=, which is trained already. Leave it out.$"
        with pytest.raises(ValueError, match=message):
            call(sdata, model=model(), **options)

    def test_with_a_model_and_instances(self, sdata):
        for read in (ReadOptions(genes="hvg"), {"genes": "hvg"}):
            with pytest.raises(ValueError, match=r"^read\['genes'\] has no effect with model="):
                ucs.tl.segment(sdata, model=model(), read=read)

    def test_all_that_are_given_are_named(self, sdata):
        with pytest.raises(ValueError, match=r"^params=, seed=, read\['genes'\] have no effect with .* Leave them out"):
            segment(sdata, model=model(), params=TINY, seed=3, genes="hvg")

    def test_cell_types_with_a_model_that_knows_no_markers(self, sdata):
        for method in ("density", "paper"):
            with pytest.raises(ValueError, match="^cell_type_key= has no effect with model="):
                predict(sdata, model(method), cell_type_key="kind")

    @pytest.mark.parametrize("call", [segment, check])
    def test_another_method_than_the_models(self, sdata, call):
        message = "method='paper', but the model is of the method 'density'. Leave method= out with model="
        with pytest.raises(ValueError, match=message):
            call(sdata, model=model(), method="paper")

    def test_genes_of_each_region_with_models(self, sdata):
        models = ucs.methods.RegionModels({"r0c0": model()})
        with pytest.raises(ValueError, match=r"^read\['genes_per_region'\] has no effect with model="):
            predict(sdata, models, regions=48, genes_per_region=True)

    @pytest.mark.parametrize("call", [segment, check, train])
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("params['warm_start']", {"params": {"warm_start": True}}),
            ("params['min_nuclei']", {"params": {"min_nuclei": 3}}),
            ("params['min_nuclei']", {"method": "paper", "params": PaperParams(min_nuclei=3)}),
            ("read['genes_per_region']", {"genes_per_region": True}),
        ],
    )
    def test_without_regions(self, sdata, call, name, options):
        message = f"^{re.escape(name)} has no effect without regions=. Leave it out.$"
        with pytest.raises(ValueError, match=message):
            call(sdata, **options)

    @pytest.mark.parametrize("call", [segment, check, train])
    @pytest.mark.parametrize(
        ("method", "other"), [("density", PaperParams), ("paper", DensityParams)], ids=["density", "paper"]
    )
    def test_parameters_of_the_other_method(self, sdata, call, method, other):
        own = {one.name for one in option_fields({"density": DensityParams, "paper": PaperParams}[method])}
        foreign = [one for one in option_fields(other) if one.name not in own]
        assert foreign
        for one in foreign:
            with pytest.raises(ValueError, match=f"params has unknown fields: '{one.name}'; "):
                call(sdata, method=method, params={one.name: one.default})
        with pytest.raises(TypeError, match="must be (Density|Paper)Params, a mapping of its fields, or None"):
            call(sdata, method=method, params=other())

    @pytest.mark.parametrize("call", [segment, check, train])
    @pytest.mark.parametrize("options", [{"markers": MARKERS}, {"cell_type_key": "kind"}], ids=["markers", "types"])
    def test_types_where_distance_decides(self, sdata, call, options):
        (name,) = options
        message = rf"^{name}= has no effect with method='density' and .*DensityParams\(ownership='distance'\)"
        with pytest.raises(ValueError, match=message):
            call(sdata, params={"ownership": "distance"}, **options)

    @pytest.mark.parametrize("call", [segment, check, train])
    def test_types_without_markers_with_the_papers_method(self, sdata, call):
        with pytest.raises(ValueError, match="^cell_type_key= has no effect without markers= with method='paper'"):
            call(sdata, method="paper", cell_type_key="kind")

    @pytest.mark.parametrize("call", [segment, check])
    def test_the_key_of_missing_nuclei_without_a_search(self, sdata, call):
        with pytest.raises(ValueError, match=r"^key_added\['missing_nuclei'\] has no effect without find_missing="):
            call(sdata, missing_nuclei="mine")

    @pytest.mark.parametrize("call", [predict, find_missing])
    def test_of_predict_and_find_missing(self, sdata, call):
        with pytest.raises(ValueError, match=r"^read\['genes'\] has no effect with model="):
            call(sdata, model(), genes="hvg")
        for name in ("params", "seed", "markers", "method"):
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
                call(sdata, model(), **{name: 1})

    @pytest.mark.parametrize("name", ["genes", "genes_per_region", "fuse_nuclei", "check_alignment"])
    def test_of_counts_maps_and_annotations(self, sdata, name):
        value = "hvg" if name == "genes" else not getattr(ReadOptions(), name)
        calls = {
            "ucs.pp.rasterize": (lambda read: ucs.pp.rasterize(sdata, read=read), ["genes"]),
            "ucs.tl.aggregate": (lambda read: ucs.tl.aggregate(sdata, "nucleus_labels", read=read), []),
            "ucs.tl.annotate_nuclei": (
                lambda read: ucs.tl.annotate_nuclei(sdata, markers=MARKERS, read=read),
                ["check_alignment"],
            ),
        }
        for where, (call, used) in calls.items():
            message = "work began" if name in used else rf"^read\['{name}'\] has no effect in {where}. Leave it out.$"
            for read in ({name: value}, ReadOptions(**{name: value})):
                with pytest.raises(AssertionError if name in used else ValueError, match=message):
                    call(read)


class TestThreshold:
    @BOTH_METHODS
    def test_a_larger_one_gives_smaller_cells_without_training(self, sdata, method, tmp_path, monkeypatch):
        model(method).save(tmp_path / "model")
        for known in (DensityMethod, PaperMethod):
            monkeypatch.setattr(known, "prepare", lambda *_, **__: pytest.fail("trained"))
        sizes = []
        for threshold in (0.05, 0.4, 0.999):
            result = predict(sdata, tmp_path / "model", threshold=threshold)
            assert result["ucs_table"].uns["ucs"]["parameters"]["threshold"] == threshold
            sizes.append((labels_of(result) > 0).sum())
        assert sizes[0] > sizes[1] > sizes[2] >= (scene().nuclei > 0).sum()

    @BOTH_METHODS
    def test_the_default_is_the_methods(self, sdata, method):
        default = {"density": 0.35, "paper": 0.5}[method]
        one, other = segmented(sdata, method=method), segmented(sdata, method=method, threshold=default)
        np.testing.assert_array_equal(labels_of(one), labels_of(other))
        assert one["ucs_table"].uns["ucs"]["parameters"]["threshold"] == default

    def test_or_the_platforms(self, sdata):
        strict = replace(XENIUM, thresholds={"density": 0.8})
        result = segmented(sdata, platform=strict)
        assert result["ucs_table"].uns["ucs"]["parameters"]["threshold"] == 0.8
        np.testing.assert_array_equal(labels_of(result), labels_of(segmented(sdata, threshold=0.8)))
        given = segmented(sdata, platform=strict, threshold=0.35)
        np.testing.assert_array_equal(labels_of(given), labels_of(segmented(sdata)))
        of_paper = segmented(sdata, method="paper", platform=strict)
        assert of_paper["ucs_table"].uns["ucs"]["parameters"]["threshold"] == 0.5

    def test_of_models_of_regions(self, sdata):
        models = train_regions(sdata, regions=48)
        areas = [(labels_of(predict(sdata, models, regions=48, threshold=t)) > 0).sum() for t in (0.2, 0.8)]
        assert areas[0] > areas[1]

    @pytest.mark.parametrize("call", [segment, check])
    @pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, float("nan"), "0.5", True])
    def test_bounds(self, sdata, call, value):
        with pytest.raises(ValueError, match=r"^threshold=.* must lie between 0 and 1: lower values give larger cells"):
            call(sdata, threshold=value)


class TestKeyAdded:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("my", ["my_cells", "my_boundaries", "my_table", "my_missing_nuclei"]),
            ({"table": "other"}, ["ucs_cells", "ucs_boundaries", "other", "ucs_missing_nuclei"]),
            ({"prefix": "my", "table": "other"}, ["my_cells", "my_boundaries", "other", "my_missing_nuclei"]),
            (OutputKeys(labels="a"), ["a", "ucs_boundaries", "ucs_table", "ucs_missing_nuclei"]),
        ],
        ids=["prefix", "mapping", "both", "instance"],
    )
    def test_forms(self, sdata, given, expected):
        keys = OutputKeys.resolve(given)
        assert [keys.labels, keys.shapes, keys.table, keys.missing_nuclei] == expected
        result = segmented(sdata, key_added=given)
        new = {name for _, name, _ in result.gen_elements()} - {name for _, name, _ in sdata.gen_elements()}
        assert new == set(expected[:3])
        assert keys.points_column == ("my_cell_id" if "my_cells" in expected else "ucs_cell_id")
        assert keys.points_column in result["transcripts"].columns
        recorded = result[keys.table].uns["ucs"]["parameters"]["key_added"]
        recorded["outlines"] = keys.outlines  # which the tests' calls choose
        assert recorded == {name: key for name, key in keys.as_dict().items() if key is not None}

    def test_several_runs_lie_beside_each_other(self, sdata):
        for method in ("density", "paper"):
            segmented(sdata, method=method, key_added=method, inplace=True)
        assert {"density_cells", "paper_cells"} < {*sdata.labels}
        assert {*sdata.tables} == {"density_table", "paper_table"}
        assert {"density_cell_id", "paper_cell_id"} < {*sdata["transcripts"].columns}

    @BOTH_METHODS
    def test_the_probability_of_lying_in_a_cell(self, sdata, method):
        result = segmented(sdata, method=method, foreground="p_fg")
        image, labels = result["p_fg"], labels_of(result)
        assert image.shape == (1, *labels.shape)
        assert image.dtype == np.float32
        probability = np.asarray(image)[0]
        assert 0 <= probability.min() < probability.max() <= 1
        assert probability[scene().nuclei > 0].mean() > probability[labels == 0].mean() + 0.2

    @pytest.mark.parametrize("call", [segment, check])
    def test_what_is_no_name(self, sdata, call):
        for given, error, message in (
            ("my cells", ValueError, "key_added='my cells' is no valid name"),
            ({"prefix": ""}, ValueError, "key_added='' is no valid name"),
            ({"tables": "a"}, ValueError, "key_added has unknown fields: 'tables'; OutputKeys has: 'labels', "),
            (3, TypeError, "key_added=3 must be OutputKeys, a mapping of its fields, or None"),
        ):
            with pytest.raises(error, match=message):
                call(sdata, key_added=given)


class TestOptions:
    @pytest.mark.parametrize("of", ALL_OPTIONS)
    def test_forms(self, of):
        first, second = option_fields(of)[-2:]
        values = {first.name: first.default, second.name: second.default}
        assert of.resolve(None) == of() == of.resolve({}) == of.resolve(of()) == of.resolve(values)
        with pytest.raises(TypeError, match=f"{of.argument}=3 must be {of.__name__}, a mapping of its fields, or None"):
            of.resolve(3)

    @pytest.mark.parametrize("of", ALL_OPTIONS)
    def test_unknown_names_are_listed_with_those_that_are_known(self, of):
        message = f"{of.argument} has unknown fields: 'a', 'b'; {of.__name__} has: .*'{option_fields(of)[0].name}'"
        with pytest.raises(ValueError, match=message):
            of.resolve({"a": 1, "b": 2})

    @pytest.mark.parametrize("of", ALL_OPTIONS)
    def test_they_cannot_be_changed(self, of):
        options = of()
        with pytest.raises(FrozenInstanceError):
            setattr(options, option_fields(of)[0].name, 1)

    @pytest.mark.parametrize("of", ALL_OPTIONS)
    def test_each_field_is_documented(self, of):
        for one in option_fields(of):
            assert f"{one.name} : default {one.default!r}\n    {one.metadata['text']}" in of.__doc__

    @pytest.mark.parametrize(
        ("of", "field", "value", "error", "message"),
        [
            (ReadOptions, "um_per_unit", 0, ValueError, r"read\['um_per_unit'\]=0 must be a positive number"),
            (ReadOptions, "genes", 0, ValueError, r"read\['genes'\]=0 must be a whole number, 1 or above"),
            (ReadOptions, "genes", 1.5, TypeError, r"read\['genes'\]=1.5 must be 'all', 'hvg', a number"),
            (ReadOptions, "fuse_nuclei", 1, TypeError, r"read\['fuse_nuclei'\]=1 must be True or False"),
            (ReadOptions, "z_planes", "top", ValueError, r"z_planes='top' must be a number"),
            (ComputeOptions, "tile_size", 0, ValueError, r"compute\['tile_size'\]=0 must be at least 1"),
            (ComputeOptions, "tile_size", 9.5, ValueError, r"compute\['tile_size'\]=9.5 must be a whole number"),
            (ComputeOptions, "tile_size", "9", TypeError, r"compute\['tile_size'\]='9' must be a whole number"),
            (ComputeOptions, "memory_limit", "much", ValueError, r"memory_limit='much' is not understood"),
            (ComputeOptions, "scratch", 3, TypeError, r"compute\['scratch'\]=3 must be the path of a folder"),
            (ComputeOptions, "resume", "yes", TypeError, r"compute\['resume'\]='yes' must be True or False"),
            (ComputeOptions, "device", 1, TypeError, r"compute\['device'\]=1 must be a string"),
            (OutputKeys, "labels", "a b", ValueError, r"key_added\['labels'\]='a b' is no valid name"),
            (OutputKeys, "min_transcripts", -1, ValueError, r"key_added\['min_transcripts'\]=-1 must be at least 0"),
        ],
    )
    def test_bounds(self, of, field, value, error, message):
        with pytest.raises(error, match=message):
            of(**{field: value})
        with pytest.raises(error, match=message):
            of.resolve({field: value})

    @pytest.mark.parametrize("of", ALL_OPTIONS)
    def test_shown_is_what_differs_from_the_default(self, of):
        assert repr(of()) == f"{of.__name__}()"

    def test_shown_on_a_line(self):
        genes = [f"GENE{k:04d}" for k in range(5000)]
        options = [
            ReadOptions(genes=genes, z_planes=[0, 1], um_per_unit=0.2125, gene_key="target", check_alignment=False),
            ComputeOptions(scratch="/data/" + "folder/" * 40, tile_size=96, memory_limit="6 GiB", resume=True),
            OutputKeys.of_prefix("sample_1"),
            PaperParams(background=5.0, betas=(0.5, 0.9)),
        ]
        assert all(len(repr(one)) < 300 and "\n" not in repr(one) for one in options)
        assert "'GENE0000', " in repr(options[0])
        assert repr(options[3]) == "PaperParams(background=5.0, betas=(0.5, 0.9))"

    @BOTH_METHODS
    def test_models_are_shown_on_a_line(self, method):
        shown = repr(model(method))
        assert len(shown) < 300
        assert "\n" not in shown
        assert "40 genes, 1 um per px, seed 0" in shown

    @pytest.mark.parametrize("many", [list, tuple, np.array, iter], ids=["list", "tuple", "array", "iterator"])
    def test_several_values_in_any_form(self, many):
        assert ReadOptions(genes=many(["A", "B"])) == ReadOptions(genes=("A", "B"))
        assert ReadOptions(z_planes=many([0, 1])).z_planes == (0, 1)

    def test_a_record_may_be_passed_again(self, sdata, tmp_path):
        result = segment(sdata, params=TINY, threshold=0.4, min_transcripts=100)
        result.write(tmp_path / "store.zarr")
        for made in (result, sd.read_zarr(tmp_path / "store.zarr")):
            record = made["ucs_table"].uns["ucs"]["parameters"]
            again = segment(sdata, **{name: record[name] for name in ("method", "threshold", "params", "key_added")})
            np.testing.assert_array_equal(labels_of(again), labels_of(result))


class TestInstances:
    def test_give_the_same_as_mappings(self, sdata):
        options: dict[str, Any] = {"model": model(), "inplace": False, "progress": False}
        read, compute = ReadOptions(check_alignment=False), ComputeOptions(device="cpu", tile_size=40)
        result = ucs.tl.segment(sdata, read=read, compute=compute, key_added=OutputKeys(), **options)
        np.testing.assert_array_equal(labels_of(result), labels_of(segmented(sdata, tile_size=40)))

    def test_of_the_method_itself(self, sdata):
        one, other = (segment(sdata, method=m, params=TINY) for m in (DensityMethod(), "density"))
        np.testing.assert_array_equal(labels_of(one), labels_of(other))

    def test_fields_are_grouped_by_the_tests_helper(self):
        made = calls.grouped(tile_size=3, read={"genes": "hvg"}, gene_key="g", seed=1, labels="a")
        read = {"gene_key": "g", "genes": "hvg"}
        assert made == {"compute": {"tile_size": 3}, "read": read, "key_added": {"labels": "a"}, "seed": 1}


@pytest.mark.parametrize("given", [3, None, [1]])
def test_what_is_no_spatialdata(given):
    with pytest.raises(TypeError, match=r"sdata must be one SpatialData, not \w+"):
        ucs.tl.segment(given)


def test_a_path_is_to_be_read_first():
    for call in (ucs.tl.segment, ucs.tl.train, ucs.pp.check):
        with pytest.raises(TypeError, match=r"spatialdata.read_zarr\('x.zarr'\)"):
            call("x.zarr")
