"""What would be used and why, what would fail, and that the segmentation agrees."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scenes
import torch
from calls import check, segment
from rich.console import Console
from scenes import PAPER_TINY, TINY, boxes, make_sdata, scene, translation
from spatialdata import SpatialData
from stains import UM_PER_PX, dapi, image_element

from ucs._read.platforms import XENIUM
from ucs._read.sample import find_source, prepare
from ucs._run.check.report import Check
from ucs.methods import DensityMethod, PaperMethod


@pytest.fixture
def sdata():
    return scene().sdata()


def with_points(change):
    return scene().with_points(change(scene().points.copy())).sdata()


def messages(found):
    return [problem["message"] for problem in found["problems"]]


class TestFound:
    def test_everything(self, sdata):
        sample = prepare(sdata, find_source(sdata), check_alignment=False)
        found = check(sdata)
        assert found.ok
        assert found["ok"]
        assert found["problems"] == []
        assert found["platform"]["name"] == "xenium"
        assert found["platform"]["because"] == "points 'transcripts' have the columns 'feature_name', 'qv'"
        assert (found["source"]["elements"], found["source"]["because"]) == (["transcripts"], "by its name")
        assert {k: v for k, v in found["source"]["columns"].items() if v} == {"gene": "feature_name", "quality": "qv"}
        assert (found["source"]["um_per_unit"], found["source"]["um_per_unit_because"]) == (1, "that of xenium")
        assert found["grid"] == {"shape": [72, 96], "resolution_um": 1, "origin": [scenes.X0, scenes.Y0]}
        assert found["transcripts"]["genes"] == found["transcripts"]["genes_seen"] == len(sample.transcripts.genes)
        assert found["transcripts"]["controls"] == len(sample.transcripts.controls)
        assert found["transcripts"]["kept"] == sample.transcripts.map.n_transcripts
        areas = np.unique(sample.nuclei.labels, return_counts=True)[1][1:]
        assert found["nuclei"] == {
            "element": "nucleus_labels",
            "source": "labels 'nucleus_labels'",
            "because": "by its name",
            "count": len(areas),
            "median_area_um2": np.median(areas),
            "outside": 0,
        }
        assert found["alignment"] == {"verdict": "unchecked"}

    def test_is_plain(self, sdata):
        found = check(sdata, regions=48, params=TINY, estimate=True)
        assert json.loads(json.dumps(found)) == found
        assert isinstance(found, dict)

    def test_what_is_given_is_used_and_called_given(self, sdata):
        sdata["spots"], sdata["nuclei"] = sdata["transcripts"], sdata["nucleus_labels"]
        found = check(sdata, "spots", "nuclei", platform="generic", um_per_unit=0.5, resolution=0.25)
        assert found["platform"] == {"name": "generic", "because": "given"}
        assert (found["source"]["elements"], found["source"]["because"]) == (["spots"], "given")
        assert (found["source"]["um_per_unit"], found["source"]["um_per_unit_because"]) == (0.5, "given")
        assert (found["nuclei"]["element"], found["nuclei"]["because"]) == ("nuclei", "given")
        assert found["grid"]["resolution_um"] == 0.25
        assert check(sdata, "spots")["platform"]["because"] == "points 'spots' have the columns 'feature_name', 'qv'"

    def test_the_signature_of_a_reader(self, sdata):
        sdata.attrs["spatialdata_io_reader"] = "xenium"
        assert check(sdata)["platform"]["because"] == (
            "its reader has signed: attrs['spatialdata_io_reader'] is 'xenium'"
        )

    def test_rows_left_out_by_reason(self):
        """Those and what is kept add up."""
        n = len(scene().points)
        k = np.arange(n)
        points = scene().points.assign(z=k % 3, count=np.where(k % 5 == 0, 0, 1), qv=np.where(k % 7 == 0, 5.0, 30.0))
        own = replace(XENIUM, plane_columns=("z",), count_columns=("count",))
        found = check(scene().with_points(points).sdata(), platform=own, z_planes=[0, 1])["transcripts"]
        dropped = found["dropped"]
        low = points["qv"] < 20
        elsewhere = ~low & (points["z"] == 2)
        assert dropped == {
            "of low quality": low.sum(),
            "in other z planes": elsewhere.sum(),
            "with a count of 0": (~low & ~elsewhere & (points["count"] == 0)).sum(),
            "seen in two fields of view": 0,
            "far from all others": 0,
        }
        assert min(dropped[reason] for reason in list(dropped)[:3]) > 0
        assert found["rows"] == n == found["kept"] + sum(dropped.values())
        controls = points["feature_name"].astype(str).str.match("NegControl|BLANK") & ~low & ~elsewhere
        assert found["control_transcripts"] == (controls & (points["count"] > 0)).sum()

    def test_genes_that_the_nets_see(self, sdata):
        names = sorted(set(scene().points["feature_name"].astype(str)) - {"x"})
        genes = [name for name in names if name.startswith("GENE")]
        for option, seen in (("all", len(genes)), ("hvg", len(genes)), (7, 7), (genes[:3], 3), ("GENE000.", 9)):
            assert check(sdata, genes=option)["transcripts"]["genes_seen"] == seen
        assert check(sdata, model=scenes.model())["transcripts"]["genes_seen"] == len(genes)

    def test_regions(self, sdata):
        regions = check(sdata, regions=48)["regions"]
        assert regions["rule"] == "blocks of 48 px"
        assert regions["count"] == 4
        assert regions["fewest_nuclei"] >= 1

    def test_warnings_and_notes_are_in_the_result_and_nowhere_else(self, caplog):
        squares = boxes((-30, 0, -20, 9), (5.1, 5.1, 5.3, 5.3), (0, 10, 9, 19), index=["a", "tiny", "c"])
        found = check(make_sdata(squares, scene().points))
        assert "1 nuclei have no pixel" in found["warnings"][0]
        assert caplog.text == ""
        assert found.ok

    def test_breast(self, breast):
        found = check(breast, check_alignment=True)
        assert found.ok
        assert found["nuclei"]["count"] > 120
        assert found["alignment"]["verdict"] in ("aligned", "undecided")
        assert found["transcripts"]["rows"] == len(breast["transcripts"])

    def test_the_object_stays_as_it_was(self, sdata):
        before = {name: element for _, name, element in sdata.gen_elements()}
        check(sdata, params=TINY, estimate=True)
        after = {name: element for _, name, element in sdata.gen_elements()}
        assert list(after) == list(before)
        assert all(after[name] is before[name] for name in before)


class TestNucleiInImages:
    @pytest.fixture
    def with_image(self, monkeypatch):
        """Transcripts, and the image of a stain with pixels of another size."""

        def fail(*_, **__):
            raise AssertionError("nuclei are looked for")

        monkeypatch.setattr("ucs._read.nuclei.from_image.find_in_image", fail)
        step = 1 / UM_PER_PX
        image, _ = dapi(0, 100)
        to_global = scenes.scaling(step) @ translation(-scenes.X0, -scenes.Y0)
        points = scenes.make_points(scene().points, {"global": scenes.affine(to_global)})
        stain = image_element(np.stack([image, image]), ("PolyT", "DAPI"))
        return SpatialData(points={"transcripts": points}, images={"morphology_focus": stain})

    def test_are_announced(self, with_image):
        found = check(with_image)
        assert found.ok
        assert found["nuclei"]["source"] == "image 'morphology_focus', channel 'DAPI', 0.2125 um per px"
        assert found["nuclei"]["because"] == "no labels or shapes hold nuclei"
        assert found["nuclei"]["image_pixels"] == np.prod(with_image["morphology_focus"].shape[1:])
        assert "alignment" not in found
        assert "'DAPI'" in str(found)

    def test_are_reckoned_with(self, with_image):
        found = check(with_image, params=TINY, estimate=True)
        assert found["estimate"]["stages"]["nuclei"] > 0

    def test_cannot_be_found(self, with_image):
        del with_image["morphology_focus"]
        found = check(with_image)
        assert "No image shows a nuclear stain" in messages(found)[0]
        assert found["transcripts"]["kept"] > 0  # the rest is told all the same


def changed(**columns):
    return with_points(lambda points: points.assign(**columns))


def null_gene(points):
    points.loc[3, "feature_name"] = None
    return points


BAD = {
    "no points": (lambda: scene().sdata(), {"points_key": "spots"}),
    "no nuclei": (lambda: scene().sdata(), {"nuclei_key": "dapi"}),
    "no gene column": (lambda: scene().sdata(), {"gene_key": "symbol"}),
    "no coordinate system": (lambda: scene().sdata(), {"coordinate_system": "slide"}),
    "taken": (lambda: scenes.cells(), {}),
    "no such planes": (lambda: scene().sdata(), {"z_planes": 3}),
    "nan": (lambda: changed(x=np.nan), {}),
    "null genes": (lambda: with_points(null_gene), {}),
    "quality as text": (lambda: changed(qv="good"), {}),
    "low quality": (lambda: changed(qv=np.float32(3)), {}),
    "controls only": (lambda: changed(feature_name=pd.Categorical(["BLANK_1"] * len(scene().points))), {}),
    "too fine": (lambda: scene().sdata(), {"resolution": 1e-6}),
    "nuclei elsewhere": (lambda: scene().sdata(labels_to_um=translation(5000, 0)), {}),
    "too large": (lambda: scene().sdata(), {"um_per_unit": 50.0, "resolution": 50.0, "check_alignment": True}),
    "unknown genes": (lambda: scene().sdata(), {"genes": ["EPCAM"]}),
    "no cell types": (lambda: scene().sdata(), {"cell_type_key": "kind"}),
    "no such region": (lambda: scene().sdata(), {"regions": "lobe"}),
    "another resolution": (lambda: scene().sdata(), {"model": scenes.model, "resolution": 2.0}),
    "another panel": (lambda: changed(feature_name=pd.Categorical(["A", "B"] * 2100 + ["A"])), {"model": scenes.model}),
}


class TestProblems:
    @pytest.mark.parametrize("case", BAD)
    def test_are_those_of_segment(self, case, monkeypatch):
        """The same type, the same text, and no error of the check's own."""

        def fail(*_, **__):
            raise AssertionError("training began")

        make, options = BAD[case]
        options = {k: v() if k == "model" else v for k, v in options.items()}
        sdata = make()
        for method in (DensityMethod, PaperMethod):
            monkeypatch.setattr(method, "survey", fail)
            monkeypatch.setattr(method, "learn_shared", fail)
        found = check(sdata, **options)
        assert not found.ok
        with pytest.raises((KeyError, TypeError, ValueError, MemoryError)) as raised:
            segment(sdata, inplace=True, **options)
        first = found["problems"][0]
        assert first == {"error": type(raised.value).__name__, "message": str(raised.value.args[0])}
        assert first["message"] in str(found)

    def test_scanpy_is_missed_where_it_is_needed(self, sdata, monkeypatch):
        monkeypatch.setitem(sys.modules, "scanpy", None)  # as if it were not installed
        assert check(sdata, genes="hvg").ok  # there are fewer genes than it would choose
        assert "Highly variable genes need scanpy" in messages(check(sdata, genes=7))[0]

    def test_all_are_listed(self, sdata):
        sdata["ucs_cells"] = scenes.cells()["ucs_cells"]
        found = check(sdata, genes=["EPCAM"], um_per_unit=50.0, resolution=50.0, check_alignment=True)
        said = messages(found)
        assert "labels['ucs_cells'] exists; pass overwrite=True" in said[0]
        assert any("genes lists 1 names" in message for message in said)
        assert any("median area of the nuclei" in message for message in said)
        assert "estimate" not in found
        assert check(sdata, overwrite=True).ok

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"resolution": -1}, ValueError, "resolution=-1 must be a positive number"),
            ({"um_per_unit": 0}, ValueError, r"read\['um_per_unit'\]=0 must be a positive number"),
            ({"platform": "merfish"}, ValueError, "platform='merfish' is unknown"),
            ({"device": "tpu"}, ValueError, "device='tpu' is not"),
            ({"tile_size": 0}, ValueError, r"compute\['tile_size'\]=0 must be at least 1"),
            ({"z_planes": "top"}, ValueError, "z_planes='top' must be a number"),
            ({"params": {"epochs": 3}}, ValueError, "params has unknown fields: 'epochs'"),
            ({"method": "published"}, ValueError, "method='published' is unknown; known are 'density', 'paper'"),
            ({"threshold": 1}, ValueError, "threshold=1 must lie between 0 and 1"),
            ({"model": 3}, TypeError, "model=3 must be"),
            ({"model": "nowhere"}, FileNotFoundError, "holds no model"),
            ({"regions": 1.5}, TypeError, "regions=1.5 must be"),
            ({"regions": 48, "model": scenes.model}, ValueError, "regions=48 needs one model for each region"),
            ({"params": {"ownership": "near"}}, ValueError, r"params\['ownership'\]='near' is unknown"),
            ({"method": "paper", "params": {"background": "far"}}, ValueError, r"\['background'\]='far' is unknown"),
        ],
    )
    def test_wrong_arguments_are_errors(self, sdata, options, error, message):
        options = {name: value() if callable(value) else value for name, value in options.items()}
        with pytest.raises(error, match=message):
            check(sdata, **options)


class TestEstimate:
    @pytest.mark.parametrize("method", ["density", "paper"])
    def test_time_and_memory(self, sdata, method):
        params = {"density": TINY, "paper": PAPER_TINY}[method]
        found = check(sdata, method=method, params=params, estimate=True)["estimate"]
        assert found["device"] == "cpu"
        assert {"read", "train", "predict", "cells"} <= set(found["stages"])
        assert all(seconds > 0 for seconds in found["stages"].values())
        assert found["seconds"] == pytest.approx(sum(found["stages"].values()))
        assert 0.1 < found["memory_gib"] < 20

    def test_grows_with_the_work(self, sdata):
        few, many = ({**TINY, "max_steps": n} for n in (10, 1000))
        seconds = [check(sdata, params=p, estimate=True)["estimate"]["stages"]["train"] for p in (few, many)]
        assert seconds[1] > 10 * seconds[0]
        assert "train" not in check(sdata, model=scenes.model(), estimate=True)["estimate"]["stages"]

    def test_nothing_is_timed_if_not_asked_for(self, sdata, monkeypatch):
        def fail(*_, **__):
            raise AssertionError("timed")

        monkeypatch.setattr("ucs._run.check.estimate.rehearse", fail)
        found = check(sdata)["estimate"]
        assert found["seconds"] is None
        assert found["memory_gib"] > 0

    def test_random_numbers_of_the_user_stay_as_they_are(self, sdata):
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        check(sdata, params=TINY, estimate=True)
        assert torch.equal(torch.rand(4), expected)


class TestShown:
    def test_as_text(self, sdata):
        text = str(check(sdata))
        assert text == repr(check(sdata))
        for line in ("transcripts  points 'transcripts' (by its name)", "verdict      ready", "72 x 96 px of 1 um"):
            assert line in text

    def test_by_rich_with_brackets_as_they_are(self, sdata):
        sdata["ucs_cells"] = scenes.cells()["ucs_cells"]
        console = Console(file=io.StringIO(), width=400)
        console.print(check(sdata))
        shown = console.file.getvalue()
        assert "labels['ucs_cells'] exists" in shown
        assert "segment would stop at the first problem" in shown

    def test_in_notebooks(self):
        found = Check(ok=False, problems=[{"error": "KeyError", "message": "<b> & c"}], warnings=[], notes=[])
        assert "KeyError: &lt;b&gt; &amp; c" in found._repr_html_()

    def test_segment_logs_the_short_form(self, caplog):
        sdata = changed(qv=np.where(np.arange(len(scene().points)) % 7 == 0, 5.0, 30.0))
        found = check(sdata)
        scenes.segmented(sdata)
        said = [record.getMessage() for record in caplog.records]
        transcripts, nuclei = found["transcripts"], found["nuclei"]
        assert said[0] == (
            f"Input: xenium, points 'transcripts': {transcripts['kept']:,} transcripts of {transcripts['rows']:,} rows "
            f"(left out: {transcripts['dropped']['of low quality']:,} of low quality), {transcripts['genes']} genes, "
            f"{transcripts['controls']} controls."
        )
        assert said[1] == (
            f"Nuclei 'nucleus_labels': {nuclei['count']}, median {nuclei['median_area_um2']:.0f} um2, unchecked; grid "
            "72 x 96 at 1 um."
        )
