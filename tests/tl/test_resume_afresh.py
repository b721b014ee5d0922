"""Runs that are called again with something that decides the cells changed: they begin afresh and say why."""

from __future__ import annotations

import numpy as np
import pytest
import resumed
from calls import train
from resumed import N_TILES, PARAMS, assert_same, counted, cut_short, other_transcripts, run, without_some_nuclei

from ucs._run import resume as _resume
from ucs.methods import DensityMethod, PaperMethod


@pytest.fixture(scope="module")
def tissue():
    return resumed.tissue()


@pytest.fixture(scope="module")
def model():
    return resumed.model()


@pytest.mark.parametrize(
    ("said", "change", "options"),
    [
        ("transcripts", other_transcripts, {}),
        ("training", None, {"seed": 1}),
    ],
)
def test_what_differs_is_said_and_all_is_made_anew(tissue, tmp_path, monkeypatch, caplog, said, change, options):
    cut_short(tissue, monkeypatch, resume=True, scratch=tmp_path)
    other = tissue if change is None else change(tissue)
    made, tiles, steps = counted(other, monkeypatch, resume=True, scratch=tmp_path, **options)
    assert "is not continued but begun afresh, as these differ: " in caplog.text
    assert said in differences(caplog)
    assert tiles == N_TILES
    assert steps >= 5
    assert_same(made, run(other, **options))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def begun(tissue, tmp_path, monkeypatch):
    """Call it to begin a run that ends when it would train; returns what is in its folder."""

    def learn(*_, **__):
        (folder,) = tmp_path.iterdir()
        found.extend(sorted(path.name for path in folder.iterdir()))
        (folder / "rasters-0").mkdir(exist_ok=True)
        raise KeyboardInterrupt

    def begin(sdata=tissue, **options):
        found.clear()
        with pytest.raises(KeyboardInterrupt):
            run(sdata, resume=True, scratch=tmp_path, **options)
        return list(found)

    found: list[str] = []
    for method in (DensityMethod, PaperMethod):
        monkeypatch.setattr(method, "learn_shared", learn)
    return begin


NEW = ["generation.json", "lock", "manifest.json", "tiles.json"]


def test_all_that_decides_the_cells_is_compared(begun, tissue, caplog):
    assert begun() == NEW
    assert begun() == [*NEW[:3], "rasters-0", NEW[3]]
    genes = names_of(tissue)
    for said, options in (
        ("training", {"params": {"max_steps": 6}}),
        ("training", {"params": {"ownership": "distance"}}),
        ("training", {"params": {"shape_exponent": 0.0}}),
        ("training", {"method": "paper"}),
        ("training", {"genes": genes[:9]}),
        ("training", {"markers": {"a": genes[:2], "b": genes[2:4]}}),
        ("threshold", {"threshold": 0.4}),
        ("find_missing", {"find_missing": True}),
        ("grid", {"resolution": 2.0}),
        ("regions", {"regions": 80}),
        ("nuclei", {"sdata": without_some_nuclei(tissue)}),
    ):
        caplog.clear()
        assert begun(**options) == NEW, options
        assert said in differences(caplog)
        assert begun(**options) != NEW  # and the same goes on
    caplog.clear()
    assert begun() == NEW


def differences(caplog):
    """What the log says differs."""
    return caplog.text.rpartition("as these differ: ")[2].splitlines()[0]


def test_another_version_begins_afresh(tissue, model, tmp_path, monkeypatch, caplog):
    options = {"model": model, "resume": True, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, **options)
    others = {**_resume.versions(), "numba": "0.0.1"}
    monkeypatch.setattr(_resume, "versions", lambda: others)
    _, tiles, _ = counted(tissue, monkeypatch, **options)
    assert tiles == N_TILES
    assert "numba" in differences(caplog)


def test_another_precision_begins_afresh(tissue, model, tmp_path, monkeypatch, caplog):
    options = {"model": model, "resume": True, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, **options)
    monkeypatch.setattr(_resume, "precision", lambda _: "another")
    _, tiles, _ = counted(tissue, monkeypatch, **options)
    assert tiles == N_TILES
    assert "device" in differences(caplog)


def test_another_model_begins_afresh(tissue, model, tmp_path, monkeypatch, caplog):
    options = {"resume": True, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, model=model, **options)
    other = train(tissue, params=PARAMS, seed=3)
    made, tiles, _ = counted(tissue, monkeypatch, model=other, **options)
    assert tiles == N_TILES
    assert "model" in differences(caplog)
    assert_same(made, run(tissue, model=other))


def test_lists_of_genes_are_compared_as_a_whole(begun, tissue, caplog):
    """Also those that are not shown as a whole when they are printed."""
    genes = np.array(names_of(tissue)[:20])
    other = genes.copy()
    other[9] = names_of(tissue)[25]
    with np.printoptions(threshold=5):
        assert begun(genes=genes) == NEW
        assert begun(genes=other) == NEW
        assert "training" in differences(caplog)
        assert begun(genes=other) != NEW


def names_of(tissue):
    names = tissue["transcripts"]["feature_name"].compute().astype(str).unique()
    return sorted(name for name in names if name.startswith("GENE"))


def test_a_broken_manifest_is_another_run(tissue, model, tmp_path, monkeypatch):
    options = {"model": model, "resume": True, "scratch": tmp_path}
    cut_short(tissue, monkeypatch, **options)
    (folder,) = tmp_path.iterdir()
    (folder / "tiles.json").unlink()
    made, tiles, _ = counted(tissue, monkeypatch, **options)
    assert tiles == N_TILES
    assert_same(made, run(tissue, model=model))
