"""Every option of the library is one of the commands, and arrives as it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spatialdata as sd
from scenes import PAPER_TINY, TINY, boxes, labels_of, make_sdata, model, scene
from typer.testing import CliRunner, Result

from ucs._utils.options import option_fields
from ucs.cli import app
from ucs.methods import DensityParams, PaperParams
from ucs.options import ComputeOptions, OutputKeys, ReadOptions

# A value of each field that differs from its default, as words of the command line and as the library gets it.
GIVEN: dict[type, dict[str, tuple[list[str], Any]]] = {
    ReadOptions: {
        "coordinate_system": (["--coordinate-system", "slide"], "slide"),
        "um_per_unit": (["--um-per-unit", "0.5"], 0.5),
        "gene_key": (["--gene-key", "target"], "target"),
        "genes": (["--genes", "A,B"], ["A", "B"]),
        "genes_per_region": (["--genes-per-region"], True),
        "z_planes": (["--z-planes", "1", "--z-planes", "2.5"], [1, 2.5]),
        "outlier_um": (["--outlier-um", "100"], 100.0),
        "stain_keys": (["--stain-keys", "image/boundary", "--stain-keys", "he"], ["image/boundary", "he"]),
        "fuse_nuclei": (["--fuse-nuclei"], True),
        "check_alignment": (["--no-check-alignment"], False),
    },
    ComputeOptions: {
        "device": (["--device", "cpu"], "cpu"),
        "tile_size": (["--tile-size", "96"], 96),
        "memory_limit": (["--memory-limit", "6 GiB"], "6 GiB"),
        "scratch": (["--scratch", "some,where"], "some,where"),
        "resume": (["--resume"], True),
    },
    OutputKeys: {
        "labels": (["--labels-key", "12"], "12"),
        "shapes": (["--shapes-key", "b"], "b"),
        "table": (["--table-key", "c"], "c"),
        "points_column": (["--points-column", "d"], "d"),
        "confidence_column": (["--confidence-column", "e"], "e"),
        "foreground": (["--foreground-key", "f"], "f"),
        "missing_nuclei": (["--missing-nuclei-key", "g"], "g"),
        "outlines": (["--outlines", "pixels"], "pixels"),
        "min_transcripts": (["--min-transcripts", "7"], 7),
    },
}
FIELDS = [(of, one.name) for of in GIVEN for one in option_fields(of)]
METHODS = {"density": DensityParams, "paper": PaperParams}
PARAMS = [(method, one) for method, of in METHODS.items() for one in option_fields(of)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The least that is a store; not to be written to."""
    path = tmp_path_factory.mktemp("store") / "sample.zarr"
    make_sdata(boxes((-30, 0, -20, 9)), scene().points.iloc[:9]).write(path)
    return path


@pytest.fixture(params=["segment", "check"])
def calling(request: pytest.FixtureRequest, store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it with options of a command; returns the arguments that the library gets."""
    got: dict[str, Any] = {}

    def called(_sdata: object, points_key: object, nuclei_key: object, **options: Any) -> None:
        got.update(options, points_key=points_key, nuclei_key=nuclei_key)
        raise ValueError("enough")

    where = "ucs.tl.segment" if request.param == "segment" else "ucs.pp.check"
    monkeypatch.setattr(where, called)

    def call(*options: str) -> dict[str, Any]:
        got.clear()
        result = run(request.param, store, *options)
        assert result.exit_code == 2
        assert "enough" in result.stderr, result.output
        return dict(got)

    return call


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("of", "name"), FIELDS, ids=[f"{of.argument}-{name}" for of, name in FIELDS])
def test_each_field_of_the_options(calling: Any, of: type, name: str):
    words, expected = GIVEN[of][name]
    got = calling(*words)
    assert got[of.argument] == {name: expected}
    assert all(got[other.argument] == {} for other in GIVEN if other is not of)
    (changed,) = of.resolve(got[of.argument]).changed()
    assert changed == name


@pytest.mark.parametrize(("method", "one"), PARAMS, ids=[f"{method}-{one.name}" for method, one in PARAMS])
def test_each_field_of_the_parameters(calling: Any, method: str, one: Any):
    """The default is given: whatever its type, it must be read back from text."""
    shown = ",".join(map(str, one.default)) if isinstance(one.default, tuple) else str(one.default)
    dashed = one.name.replace("_", "-")
    for name in (one.name, dashed):
        got = calling("--method", method, "--param", f"{name}={shown}")
        assert got["method"] == method
        assert list(got["params"]) == [one.name]
        assert METHODS[method].resolve(got["params"]) == METHODS[method]()


def test_further_arguments(calling: Any, tmp_path: Path):
    (tmp_path / "markers.csv").write_text("type,gene\na,A\nb,B\n")
    got = calling(
        "--points-key", "a", "--points-key", "b", "--nuclei-key", "n", "--platform", "cosmx", "--resolution", "0.5",
        "--regions", "1200", "--model", "somewhere", "--markers", str(tmp_path / "markers.csv"), "--overwrite",
        "--cell-type-key", "kind", "--find-missing", "--missing-rule", "paper", "--threshold", "0.6", "--seed", "3",
        "--key-added", "my",
    )  # fmt: skip
    assert got.pop("markers").to_dict("list") == {"type": ["a", "b"], "gene": ["A", "B"]}
    expected = {
        "points_key": ["a", "b"], "nuclei_key": "n", "platform": "cosmx", "resolution": 0.5, "regions": 1200,
        "model": Path("somewhere"), "cell_type_key": "kind", "find_missing": "paper", "threshold": 0.6, "seed": 3,
        "overwrite": True, "key_added": {"prefix": "my"}, "method": None, "params": None,
    }  # fmt: skip
    assert {name: got[name] for name in expected} == expected
    assert calling("--find-missing")["find_missing"] is True
    assert calling("--regions", "fov", "--points-key", "a")["regions"] == "fov"


def test_nothing_given_is_nothing_passed(calling: Any):
    got = calling()
    assert (got["read"], got["compute"], got["key_added"]) == ({}, {}, {})
    given = [got[name] for name in ("points_key", "method", "regions", "model", "threshold", "params", "seed")]
    assert given == [None] * 7


@pytest.mark.parametrize("command", ["segment", "check"])
def test_help_names_every_option(command: str):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "400"}).stdout
    for fields in GIVEN.values():
        for words, _ in fields.values():
            assert words[0] in shown


@pytest.mark.parametrize("method", ["density", pytest.param("paper", marks=pytest.mark.slow)])
def test_a_saved_model_takes_another_threshold(tmp_path: Path, method: str):
    model(method).save(tmp_path / "model")
    areas = []
    for threshold in ("0.2", "0.8"):
        scene().sdata().write(tmp_path / f"{threshold}.zarr")
        options = ["--threshold", threshold, "--no-check-alignment", "--device", "cpu", "--key-added", "my", "-q"]
        result = run("segment", tmp_path / f"{threshold}.zarr", "--model", tmp_path / "model", *options)
        assert (result.exit_code, result.stdout) == (0, ""), result.stderr
        written = sd.read_zarr(tmp_path / f"{threshold}.zarr")
        assert written["my_table"].uns["ucs"]["parameters"]["threshold"] == float(threshold)
        areas.append((labels_of(written, "my_cells") > 0).sum())
    assert areas[1] < areas[0]


def test_both_methods_from_the_command_line(tmp_path: Path):
    for method, params in (("density", TINY), ("paper", PAPER_TINY)):
        scene().sdata().write(tmp_path / f"{method}.zarr")
        given = [word for name, value in params.items() for word in ("--param", f"{name}={value}")]
        result = run("segment", tmp_path / f"{method}.zarr", "--method", method, *given, "--no-check-alignment")
        assert result.exit_code == 0, result.stderr
        record = sd.read_zarr(tmp_path / f"{method}.zarr")["ucs_table"].uns["ucs"]["parameters"]
        assert record["method"] == method
        assert record["params"]["max_steps"] == params["max_steps"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "MODEL", "--param", "max_steps=3"], "--param has no effect with --model"),
        (["--model", "MODEL", "--genes", "hvg"], "--genes has no effect with --model"),
        (["--model", "MODEL", "--seed", "1"], "--seed has no effect with --model"),
        (["--model", "MODEL", "--method", "paper"], "the model is of the method 'density'"),
        (["--genes-per-region"], "--genes-per-region has no effect without --regions"),
        (["--method", "density", "--param", "warm_start=true"], "--param warm_start has no effect without --regions"),
        (["--param", "background=5"], "params has unknown fields: 'background'"),
        (["--method", "paper", "--param", "ownership=distance"], "params has unknown fields: 'ownership'"),
    ],
)
@pytest.mark.parametrize("command", ["segment", "check"])
def test_options_without_effect_are_refused(store: Path, tmp_path: Path, command: str, options: list[str], said: str):
    model().save(tmp_path / "model")
    given = [str(tmp_path / "model") if word == "MODEL" else word for word in options]
    result = run(command, store, *given)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
