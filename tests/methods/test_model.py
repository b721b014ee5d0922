from __future__ import annotations

import json
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from rasters import grid_of_discs, random_map, random_nuclei
from scipy.sparse import csr_matrix

from ucs._kernels.count import count_in_labels
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import Window
from ucs.methods.model import MINIMUM_OVERLAP, Selection, UCSModel, match_genes
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import HALO, ForegroundNet
from ucs.methods.paper.inference import PixelScores, score_pixels
from ucs.methods.paper.model import PaperModel
from ucs.methods.paper.params import PaperParams
from ucs.methods.paper.patches import read_transcripts

GENES = ("ACTB", "CD3E", "EPCAM", "KRT8", "µ-gene")
SHAPE = (40, 45)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    foreground = ForegroundNet(len(GENES)).to(memory_format=torch.channels_last).eval()
    history = {"seed": 3, "background": {"method": "auto", "distance_um": 5.5}, "curve": [1.0, 0.5]}
    params = PaperParams(tau=4.0, betas=(0.8, 0.9))
    return PaperModel(
        foreground=foreground, cell=CellNet().eval(), genes=GENES, params=params, um_per_px=0.5, history=history
    )


@pytest.fixture(scope="module")
def transcripts():
    return random_map(0, SHAPE, len(GENES), 2000)


def test_round_trip(model, transcripts, tmp_path):
    model.save(tmp_path / "folder" / "model")
    loaded = UCSModel.load(str(tmp_path / "folder" / "model"))
    assert (loaded.genes, loaded.params, loaded.um_per_px, loaded.history) == (
        model.genes,
        model.params,
        model.um_per_px,
        model.history,
    )
    batch = read_transcripts(transcripts, [Window(0, 0, 20, 24).grown(HALO)])
    with torch.inference_mode():
        features = model.foreground.features(batch)
        assert torch.equal(loaded.foreground.features(batch), features)
        assert torch.equal(loaded.foreground(batch), model.foreground(batch))
        assert torch.equal(loaded.cell.scalar(features), model.cell.scalar(features))
    assert not loaded.foreground.training
    assert not loaded.cell.training
    boxes = bounding_boxes(grid_of_discs(SHAPE, 20, 4), 6)
    one, other = (PixelScores.empty(SHAPE, boxes, np.zeros(len(boxes), dtype=int), reach=24) for _ in range(2))
    for scores, m in ((one, model), (other, loaded)):
        score_pixels(scores, transcripts, m.foreground, m.cell, device=torch.device("cpu"))
    np.testing.assert_array_equal(one.foreground.blocks, other.foreground.blocks)
    np.testing.assert_array_equal(one.scalar.blocks, other.scalar.blocks)


def test_files_are_safetensors_and_json(model, tmp_path):
    model.save(tmp_path)
    (weights,) = tmp_path.glob("weights-*.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"model.json", weights.name}
    raw = weights.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    n_values = sum(int(np.prod(entry["shape"])) for name, entry in header.items() if name != "__metadata__")
    assert len(raw) == 8 + length + 4 * n_values  # a header of JSON and float32 numbers, nothing else
    description = json.loads((tmp_path / "model.json").read_text())
    assert (description["format"], description["method"]) == (3, "paper")
    assert description["genes"] == list(GENES)
    assert PaperParams.resolve(description["params"]) == model.params


def test_loading_never_unpickles(model, tmp_path, monkeypatch):
    def forbidden(*_args, **_kwargs):
        raise AssertionError("unpickled")

    model.save(tmp_path)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    UCSModel.load(tmp_path)
    torch.save(model.foreground.state_dict(), next(tmp_path.glob("weights-*")))
    with pytest.raises(ValueError, match="is not what was saved"):
        UCSModel.load(tmp_path)


@pytest.mark.parametrize("missing", ["model.json", "weights-*"])
def test_missing_files(model, tmp_path, missing):
    model.save(tmp_path)
    (file,) = tmp_path.glob(missing)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"holds no model: {file.name} is missing"):
        UCSModel.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere holds no model"):
        UCSModel.load(tmp_path / "nowhere")


@pytest.mark.parametrize("version", [1, None, "2"])
def test_unknown_format(model, tmp_path, version):
    model.save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(description | {"format": version}))
    with pytest.raises(ValueError, match=f"model format {version!r}; this version reads format 3"):
        UCSModel.load(tmp_path)


def test_unknown_method(model, tmp_path):
    model.save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(description | {"method": "voronoi"}))
    with pytest.raises(ValueError, match=r"method='voronoi' is unknown; known are .*'density', 'paper'"):
        UCSModel.load(tmp_path)


def test_a_model_is_shown_on_a_line(model):
    shown = "PaperModel(5 genes, 0.5 um per px, seed 3, PaperParams(betas=(0.8, 0.9), tau=4.0))"
    assert repr(model) == shown


def test_overwrite(model, tmp_path):
    model.save(tmp_path)
    other = replace(model, um_per_px=1.0)
    with pytest.raises(FileExistsError, match="holds a model already; pass overwrite=True"):
        other.save(tmp_path)
    assert UCSModel.load(tmp_path).um_per_px == 0.5
    other.save(tmp_path, overwrite=True)
    assert UCSModel.load(tmp_path).um_per_px == 1.0


def test_what_json_does_not_know_is_refused_before_anything_is_written(model, tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        replace(model, history={"net": object()}).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_genes_are_matched_by_name(model, transcripts):
    """Data in another order, with further features and without one of the genes."""
    features = ["KRT8", "control_1", "ACTB", "EPCAM", "CD8A", "CD3E"]
    data = random_map(1, SHAPE, len(features), 3000)
    selected = model.select_genes(data, features)
    dense, expected = data.dense(), np.zeros((len(GENES), *SHAPE), dtype=int)
    for k, gene in enumerate(GENES):
        if gene in features:
            expected[k] = dense[features.index(gene)]
    np.testing.assert_array_equal(selected.dense(), expected)
    assert selected.n_features == len(GENES)
    # And in the model's own order nothing changes.
    same = model.select_genes(transcripts, GENES)
    for name in ("row_start", "column", "feature", "count"):
        np.testing.assert_array_equal(getattr(same, name), getattr(transcripts, name))


def test_the_order_of_features_has_no_say(model, transcripts):
    order = np.random.default_rng(0).permutation(len(GENES))
    shuffled = transcripts.select(np.ones(len(GENES), dtype=bool), np.argsort(order), len(GENES))
    again = model.select_genes(shuffled, [GENES[k] for k in order])
    for name in ("row_start", "column", "feature", "count"):
        np.testing.assert_array_equal(getattr(again, name), getattr(transcripts, name))


def test_too_little_overlap(model):
    data = random_map(0, SHAPE, 4, 100)
    message = r"model knows 5 genes, of which the data \(4 features\) has 2 \(40%\); at least 50% are needed"
    with pytest.raises(ValueError, match=message):
        model.select_genes(data, ["ACTB", "EPCAM", "X", "Y"])
    with pytest.raises(ValueError, match=r"has 1 \(20%\)"):  # a name that occurs twice is one gene
        model.select_genes(data, ["ACTB", "ACTB", "ACTB", "Y"])
    assert model.select_genes(data, ["ACTB", "EPCAM", "KRT8", "Y"]).n_features == 5
    assert MINIMUM_OVERLAP == 0.5


def test_nets_for_some_of_the_genes(model, transcripts):
    """They see of those genes what the model sees of them."""
    chosen = ("KRT8", "ACTB", "EPCAM")
    foreground, cell = model.nets_for(chosen)
    assert cell is model.cell
    assert model.nets_for(GENES) == (model.foreground, model.cell)
    keep, index = match_genes(chosen, GENES)
    few = transcripts.select(keep, index, 3)
    others = transcripts.select(keep, np.arange(len(GENES)), len(GENES))
    window = [Window(0, 0, 20, 24).grown(HALO)]
    with torch.inference_mode():
        expected = model.foreground(read_transcripts(others, window))
        made = foreground(read_transcripts(few, window))
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="does not know 1 of 2 genes"):
        model.nets_for(["ACTB", "CD8A"])


def test_match_genes():
    keep, index = match_genes(("b", "a", "c"), ["x", "a", "c", "b", "y"])
    assert keep.tolist() == [False, True, True, True, False]
    assert index[keep].tolist() == [1, 2, 0]
    assert [part.tolist() for part in match_genes((), [])] == [[], []]


def test_selected_columns_are_the_counts_of_selected_features():
    selection = Selection(np.array([True, False, True, True, False]), np.array([2, 0, 0, 1, 0]), 3)
    nuclei, transcripts = random_nuclei(0, (90, 80), 20), random_map(0, (90, 80), 5, 6000)
    n = int(nuclei.max())
    counts = count_in_labels(transcripts, nuclei, n)
    made = selection.of_columns(counts)
    assert isinstance(made, csr_matrix)
    np.testing.assert_array_equal(made.toarray(), count_in_labels(selection.of(transcripts), nuclei, n).toarray())
    np.testing.assert_array_equal(made.toarray(), counts.toarray()[:, [2, 3, 0]])
    nothing = replace(selection, keep=np.zeros(5, dtype=bool))
    assert nothing.of_columns(counts).nnz == 0
