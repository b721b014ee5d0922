from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import spatialdata as sd
import zarr
from spatialdata import SpatialData
from typer.testing import CliRunner, Result

import ucs
from ucs._files.new_store import write_new_store
from ucs._utils.checks import reading_option
from ucs.cli import app
from ucs.cli import demo as _demo
from ucs.cli.terminal import in_options

ADDED = {"ucs_cells", "ucs_boundaries", "ucs_table"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a small store, a model trained on it, and the store with cells in it; not to be written to."""
    folder = tmp_path_factory.mktemp("made")
    sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=60, seed=1)
    sdata.write(folder / "sample.zarr")
    model = ucs.tl.train(sdata, progress=False)
    model.save(folder / "model")
    shutil.copytree(folder / "sample.zarr", folder / "segmented.zarr")
    ucs.tl.segment(sd.read_zarr(folder / "segmented.zarr"), model=model, write=True, progress=False)
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A store of the test's own, alone in its folder."""
    return Path(shutil.copytree(made / "sample.zarr", tmp_path / "data" / "sample.zarr"))


@pytest.fixture
def segmented(made: Path, tmp_path: Path) -> Path:
    """The same with cells in it."""
    return Path(shutil.copytree(made / "segmented.zarr", tmp_path / "data" / "sample.zarr"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder, hidden files too."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_bad_input(result: Result, *words: str) -> None:
    assert result.exit_code == 2
    complaint = result.stderr.strip().splitlines()[-1]
    assert complaint.startswith("ucs: ")
    assert "Traceback" not in result.output
    assert sum(line.startswith("ucs: ") for line in result.stderr.splitlines()) == 1
    for word in words:
        assert word in complaint


def test_command_line_is_light():
    heavy = ["dask", "matplotlib", "numpy", "spatialdata", "torch"]
    code = f"import sys, ucs.cli; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert loaded == "[]"


def test_help_and_version():
    assert "segment" in call("--help").stdout
    assert "demo" in call("--help").stdout
    assert call("--version").stdout.strip() == f"ucs {ucs.__version__}"
    assert call("--version").exit_code == 0


def test_segment_adds_cells_to_the_store(made: Path, store: Path):
    before = tree(store)
    result = call("segment", store, "--model", made / "model")
    assert result.exit_code == 0, result.stderr
    sdata = sd.read_zarr(store)
    table = sdata.tables["ucs_table"]
    assert table.n_obs > 5
    assert set(np.unique(sdata.labels["ucs_cells"])) - {0} == set(table.obs["cell_id"])
    assert set(sdata.shapes["ucs_boundaries"].index) == set(table.obs["cell_id"])
    stages = ("survey", "cells", "refine", "write", "total")
    for word in ("cells", "transcripts assigned", "median area", "pretrained", *stages, str(store)):
        assert word in result.stdout.replace("\n", "")
    # Nothing of the user's is touched, but for the lists of what is there, and the column that the points get.
    after = tree(store)
    changed = {path for path, content in before.items() if after.get(path, "gone") != content}
    lists = {path for path in changed if not path.startswith("points/transcripts/")}
    assert {Path(path).name for path in lists} <= {"zarr.json"}
    assert {Path(path).parent.as_posix() for path in lists} <= {".", "labels", "points", "shapes", "tables"}
    assert "ucs_cell_id" in sdata.points["transcripts"].columns
    listed = zarr.open_group(store, mode="r").metadata.consolidated_metadata.metadata
    assert set(map(Path, after)) >= {Path(path) for path in listed}


def test_segment_writes_a_new_store(made: Path, store: Path, tmp_path: Path):
    before, output = tree(store), tmp_path / "results" / "cells.zarr"
    result = call("segment", store, "--output", output, "--model", made / "model", "--min-transcripts", 30)
    assert result.exit_code == 0, result.stderr
    assert tree(store) == before
    assert [path.name for path in output.parent.iterdir()] == ["cells.zarr"]
    sdata = sd.read_zarr(output)
    assert {"morphology_focus", "true_cells", *ADDED} <= {name for _, name, _ in sdata.gen_elements()}
    assert sdata.tables["ucs_table"].obs["n_transcripts"].min() >= 30
    in_cells = sdata.points["transcripts"][["ucs_cell_id", "qv"]].compute().query("ucs_cell_id > 0 and qv >= 20")
    table = sdata.tables["ucs_table"]
    assert len(in_cells) == table.X.sum() + table.obsm["controls"].sum()


def test_segment_replaces_only_what_it_may(made: Path, segmented: Path, tmp_path: Path):
    before = tree(segmented)
    assert_bad_input(call("segment", segmented, "--model", made / "model"), "ucs_cells", "pass --overwrite to replace")
    assert tree(segmented) == before
    result = call("segment", segmented, "--model", made / "model", "--overwrite", "--quiet")
    assert (result.exit_code, result.stdout) == (0, "")
    assert sd.read_zarr(segmented).tables["ucs_table"].n_obs > 5

    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "letter.txt").write_text("dear")
    to = partial(call, "segment", segmented, "--model", made / "model", "--overwrite", "--output")
    assert_bad_input(to(documents), "no Zarr store")
    assert_bad_input(to(segmented), "must lie apart")
    assert_bad_input(to(segmented / "inside.zarr"), "must lie apart")
    assert_bad_input(to(documents / "letter.txt" / "cells.zarr"), "letter.txt is a file")
    assert (documents / "letter.txt").read_text() == "dear"

    output = Path(shutil.copytree(made / "sample.zarr", tmp_path / "earlier.zarr"))
    without_overwrite = call("segment", segmented, "--model", made / "model", "--output", output)
    assert_bad_input(without_overwrite, "earlier.zarr exists", "--overwrite")
    assert to(output).exit_code == 0
    assert "ucs_cell_id" in sd.read_zarr(output).points["transcripts"].columns
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "documents", "earlier.zarr"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--points-key", "spots"], ["--points-key", "'spots'", "there are: 'transcripts'"]),
        (["--nuclei-key", "nuclei"], ["'nuclei'", "'nucleus_labels'"]),
        (["--gene-key", "target"], ["'target'", "'feature_name'"]),
        (["--platform", "visium"], ["'visium'", "'xenium'"]),
        (["--coordinate-system", "local"], ["'local'", "'global'"]),
        (["--method", "paper", "--param", "background=near"], ["--param background='near'", "'auto'"]),
        (["--method", "published"], ["--method 'published'", "'density', 'paper'"]),
        (["--method", "density", "--param", "steps=3"], ["'steps'", "'max_steps'"]),
        (["--param", "max_steps"], ["--param max_steps must be NAME=VALUE"]),
        (["--threshold", "1.5"], ["--threshold 1.5", "between 0 and 1"]),
        (["--genes", "EPCAM"], ["--genes 'EPCAM'"]),
        (["--tile-size", "0"], ["--tile-size 0 must be at least 1"]),
        (["--missing-rule", "paper"], ["--missing-rule has no effect without --find-missing"]),
        (["--missing-rule", "both"], ["--missing-rule both is unknown"]),
        (["--missing-nuclei-key", "m"], ["--missing-nuclei-key has no effect without --find-missing"]),
        (["--resolution", "-1"], ["resolution", "positive"]),
        (["--resolution", "1e-5"], ["GiB"]),
        (["--device", "cuda:99"], ["cuda:99"]),
        (["--model", "nowhere"], ["nowhere"]),
    ],
)
def test_bad_options_end_in_one_line(store: Path, options: list[str], words: list[str]):
    before = tree(store)
    result = call("segment", store, "--quiet", *options)
    assert_bad_input(result, *words)
    assert len(result.stderr.strip().splitlines()) == 1
    assert tree(store) == before


def test_bad_stores_end_in_one_line(tmp_path: Path):
    assert_bad_input(call("segment", tmp_path / "missing.zarr"), "missing.zarr does not exist")
    (tmp_path / "notes.txt").write_text("text")
    assert_bad_input(call("segment", tmp_path / "notes.txt"), "not a SpatialData Zarr store", "spatialdata_io")
    assert_bad_input(call("segment", tmp_path), "not a SpatialData Zarr store")
    zarr.open_group(tmp_path / "other.zarr", mode="w").create_array("a", shape=(3,), dtype="i4")
    assert_bad_input(call("segment", tmp_path / "other.zarr"), "without SpatialData elements")


def test_bad_input_of_the_installed_command(tmp_path: Path):
    command = [sys.executable, "-c", "from ucs.cli import app; app()", "segment", str(tmp_path / "missing.zarr")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == f"ucs: {tmp_path / 'missing.zarr'} does not exist.\n"


def test_verbose_shows_where(store: Path):
    result = call("segment", store, "--points-key", "spots", "--verbose")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "choose_one" in result.stderr


def test_errors_of_others_are_named(store: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise KeyError("first line\nsecond line")

    monkeypatch.setattr("ucs.tl.segment", fail)
    result = call("segment", store)
    assert_bad_input(result, "KeyError: first line second line (--verbose shows where)")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "'a' exists; pass overwrite=True to replace it, or another key_added['shapes'].",
            "'a' exists; pass --overwrite to replace it, or another --shapes-key.",
        ),
        (f"Name it: {reading_option('gene_key', 'symbol')}.", "Name it: --gene-key 'symbol'."),
        (f"Pass {reading_option('check_alignment', example=False)} to go on.", "Pass --no-check-alignment to go on."),
        ("compute={'resume': True} needs one: compute={'scratch': ...}.", "--resume needs one: --scratch ...."),
        ("read['um_per_unit']=-1 must be a positive number.", "--um-per-unit -1 must be a positive number."),
        ("coordinate_system='slide' is not one of both.", "--coordinate-system 'slide' is not one of both."),
        ("fuse_nuclei=True needs the cell of each nucleus.", "--fuse-nuclei needs the cell of each nucleus."),
        ("No cell has min_transcripts=9 or more.", "No cell has --min-transcripts 9 or more."),
        ("Or params['reach'], params={'background': 5.0}.", "Or --param reach, --param background=5.0."),
        ("resolution=0.5, or pass resolution= for all; seed=3 (x=1).",
         "--resolution 0.5, or pass --resolution for all; --seed 3 (x=1)."),
    ],
)  # fmt: skip
def test_library_messages_speak_of_options(said: str, expected: str):
    assert in_options(said, ["seed", "resolution"]) == expected


def interrupt(monkeypatch: pytest.MonkeyPatch, method: str, at: int, *, done: bool) -> None:
    """Let Ctrl-C come just before or just after the given call of a method of SpatialData."""
    original, calls = getattr(SpatialData, method), []

    def interrupted(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) == at and not done:
            raise KeyboardInterrupt
        result = original(*args, **kwargs)
        if len(calls) == at:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(SpatialData, method, interrupted)


@pytest.mark.parametrize(("earlier", "at", "done"), [(False, 3, True), (True, 2, False)], ids=["first", "overwrite"])
def test_interrupt_while_writing_leaves_the_store(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool, at: int, done: bool
):
    name = "segmented.zarr" if earlier else "sample.zarr"
    store = Path(shutil.copytree(made / name, tmp_path / "data" / "sample.zarr"))
    before = tree(store.parent)
    interrupt(monkeypatch, "_write_element", at, done=done)
    result = call("segment", store, "--model", made / "model", "--overwrite")
    assert result.exit_code == 130
    assert result.stderr.strip().splitlines()[-1] == f"ucs: interrupted; {store} is as it was."
    assert tree(store.parent) == before


def test_interrupt_when_all_is_written(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Path(shutil.copytree(made / "sample.zarr", tmp_path / "sample.zarr"))

    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ucs._run.run.log_result", interrupted)
    result = call("segment", store, "--model", made / "model")
    assert result.exit_code == 130
    assert result.stderr.strip().splitlines()[-1].startswith("ucs: interrupted when all was done: ucs_cells, ")
    assert "ucs_table" in sd.read_zarr(store)


def test_interrupt_of_a_new_store_leaves_the_old_one(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    output = Path(shutil.copytree(made / "sample.zarr", tmp_path / "new" / "cells.zarr"))
    before = tree(output.parent)
    sdata = sd.read_zarr(made / "segmented.zarr")
    with monkeypatch.context() as patch:
        interrupt(patch, "_write_element", 2, done=True)
        with pytest.raises(KeyboardInterrupt):
            write_new_store(sdata, output)
    assert tree(output.parent) == before

    rename = Path.rename
    calls = []

    def interrupted_rename(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:  # the old one is out of the way, the new one not yet in its place
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted_rename)
    with pytest.raises(KeyboardInterrupt):
        write_new_store(sd.read_zarr(made / "segmented.zarr"), output)
    assert tree(output.parent) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_in_the_middle(store: Path):
    before = tree(store.parent)
    command = [sys.executable, "-c", "from ucs.cli import app; app()", "segment", str(store), "--method", "density"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = ""
        while "INFO     Input" not in said:  # then the input has been read, and training begins
            said += (line := process.stderr.readline())
            assert line, said
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1].endswith(f"ucs: interrupted; {store} is as it was.")  # maybe amid a line of the log
    assert stdout == ""
    assert tree(store.parent) == before


def test_a_report_is_written_if_it_is_asked_for(store: Path, made: Path, monkeypatch: pytest.MonkeyPatch):
    path, asked = store.parent / "report.html", []

    def write(sdata: SpatialData, target: Path, **options: object) -> None:
        asked.append((sdata.tables["ucs_table"].n_obs > 0, target, options))

    monkeypatch.setattr("ucs._report.report.report", write)
    result = call("segment", store, "--model", made / "model", "--report", path)
    assert result.exit_code == 0, result.stderr
    assert asked == [(True, path, {"table_key": "ucs_table", "overwrite": False})]
    assert "report.html" in result.stdout.replace("\n", "")
    path.write_text("mine")
    # Told before any work.
    assert_bad_input(call("segment", store, "--report", path), "report.html exists", "--overwrite")
    assert path.read_text() == "mine"


@pytest.mark.slow  # .ci/run runs it as users do
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_demo, "run", partial(_demo.run, size_um=60))
    result = call("demo", "--output", tmp_path / "demo", "--seed", 1)
    assert result.exit_code == 0, result.stderr
    made = sorted(path.name for path in (tmp_path / "demo").iterdir())
    assert made == ["breast.png", "breast.zarr", "cells.png", "tissue.zarr"]
    assert (tmp_path / "demo" / "cells.png").stat().st_size > 50_000
    assert (tmp_path / "demo" / "breast.png").stat().st_size > 50_000
    assert sd.read_zarr(tmp_path / "demo" / "breast.zarr").tables["ucs_table"].n_obs > 100
    sdata = sd.read_zarr(tmp_path / "demo" / "tissue.zarr")
    assert {"true_cells", *ADDED} <= {name for _, name, _ in sdata.gen_elements()}
    assert "ucs_cell_id" in sdata.points["transcripts"].columns
    for word in ("F1 against the true cells", "IoU 0.7", "best nuclear expansion", "tissue.zarr", "cells.png"):
        assert word in result.stdout.replace("\n", "")
    assert_bad_input(call("demo", "--output", tmp_path / "demo"), "tissue.zarr exists", "--overwrite")


def test_demo_scores_the_truth_with_one():
    sdata = ucs.datasets.simulate(width_um=120, height_um=120, seed=1)
    sdata.labels["ucs_cells"] = sdata.labels["true_cells"]
    scores = _demo.agreement(sdata)
    assert scores.loc["ucs"].tolist() == [1.0, 1.0]
    assert (scores.loc["best nuclear expansion"] < 1).all()
    assert (scores.loc["best nuclear expansion"] > 0.2).all()
    assert scores.loc["its radius in um"].between(1, 8).all()


def test_check_tells_what_segment_would_use(store: Path):
    before = tree(store)
    result = call("check", store, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    for word in ("xenium", "'transcripts'", "'nucleus_labels'", "left out", "aligned", "memory", "time", "ready"):
        assert word in result.stdout
    assert tree(store) == before
    found = json.loads(call("check", store, "--json", "--no-estimate", "--genes", 5, "--resolution", 0.5).stdout)
    assert found["ok"]
    assert found["transcripts"]["genes_seen"] == 5
    assert found["grid"]["resolution_um"] == 0.5
    assert found["estimate"]["seconds"] is None


def test_check_fails_where_segment_would(segmented: Path):
    result = call("check", segmented, "--no-estimate")
    assert result.exit_code == 1
    shown = " ".join(result.stdout.replace("│", "").split())
    assert "labels['ucs_cells'] exists; pass --overwrite to replace it" in shown
    assert "Traceback" not in result.output
    assert call("check", segmented, "--no-estimate", "--overwrite").exit_code == 0
    result = call("check", segmented, "--no-estimate", "--points-key", "spots", "--json")
    assert result.exit_code == 1
    assert "--points-key 'spots' is not in this SpatialData" in json.loads(result.stdout)["problems"][0]["message"]


def test_check_of_bad_options_and_stores(store: Path, tmp_path: Path):
    assert_bad_input(call("check", store, "--platform", "visium"), "'visium'", "'xenium'")
    assert_bad_input(call("check", store, "--resolution", -1), "--resolution", "positive")
    assert_bad_input(call("check", tmp_path / "missing.zarr"), "missing.zarr does not exist")
