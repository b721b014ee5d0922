from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from ucs.methods.clusters.expression import ExpressionProfiles
from ucs.methods.density.model import DensityModel
from ucs.methods.density.net import DensityNet
from ucs.methods.density.params import DensityParams
from ucs.methods.model import UCSModel
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.paper.model import PaperModel
from ucs.methods.paper.params import PaperParams
from ucs.methods.region_models import RegionModels, load_model


def make_model(seed):
    torch.manual_seed(seed)
    foreground = ForegroundNet(3).to(memory_format=torch.channels_last).eval()
    return PaperModel(
        foreground=foreground,
        cell=CellNet().eval(),
        genes=("a", "b", "c"),
        params=PaperParams(),
        um_per_px=1.0,
        history={"seed": seed},
    )


def density_model():
    return DensityModel(
        net=DensityNet(4),
        clusters=ExpressionProfiles(0, 3),
        genes=("a", "b", "c"),
        params=DensityParams(),
        um_per_px=1.0,
    )


@pytest.fixture(scope="module")
def models():
    shared, one, other = (make_model(seed) for seed in range(3))
    return RegionModels({"tumour": one, "a/b c": other, "poor": shared}, shared)


def weights(model):
    return torch.cat([v.ravel() for net in (model.foreground, model.cell) for v in net.state_dict().values()])


def test_is_a_mapping_of_regions(models):
    assert list(models) == ["tumour", "a/b c", "poor"]
    assert len(models) == 3
    assert models["poor"] is models.shared
    assert "stroma" not in models
    with pytest.raises(KeyError):
        models["stroma"]
    assert models.distinct() == [models.shared, models["tumour"], models["a/b c"]]
    assert models.params == PaperParams()
    assert models.method == "paper"
    assert not models.uses_markers


def test_history_tells_of_each_model_once(models):
    assert models.history == {
        "regions": ["tumour", "a/b c", "poor"],
        "shared": {"seed": 0},
        "0": {"seed": 1},
        "1": {"seed": 2},
    }


def test_round_trip(models, tmp_path):
    models.save(tmp_path / "folder" / "models")
    for loaded in (RegionModels.load(tmp_path / "folder" / "models"), load_model(str(tmp_path / "folder" / "models"))):
        assert list(loaded) == list(models)
        assert loaded["poor"] is loaded.shared
        for name in models:
            assert torch.equal(weights(loaded[name]), weights(models[name]))
            assert loaded[name].history == models[name].history
    names = sorted(path.name for path in (tmp_path / "folder" / "models").iterdir())
    assert (names[0], len(names)) == ("regions.json", 4)


def test_round_trip_without_a_shared_model(tmp_path):
    models = RegionModels({"x": make_model(4)})
    models.save(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.shared is None
    assert torch.equal(weights(loaded["x"]), weights(models["x"]))


def test_a_single_model_is_loaded_too(models, tmp_path):
    models["tumour"].save(tmp_path)
    assert torch.equal(weights(load_model(tmp_path)), weights(models["tumour"]))
    with pytest.raises(FileNotFoundError, match="no models of regions: regions.json is missing"):
        RegionModels.load(tmp_path)


def test_one_folder_holds_one_kind(models, tmp_path):
    one = models["tumour"]
    one.save(tmp_path)
    with pytest.raises(FileExistsError, match="holds a model already; pass overwrite=True"):
        models.save(tmp_path)
    models.save(tmp_path, overwrite=True)
    assert isinstance(load_model(tmp_path), RegionModels)
    with pytest.raises(FileExistsError, match="holds a model already; pass overwrite=True"):
        one.save(tmp_path)
    with pytest.raises(FileExistsError, match="holds a model already"):
        models.save(tmp_path)
    one.save(tmp_path, overwrite=True)
    assert isinstance(load_model(tmp_path), UCSModel)


def test_unknown_format(models, tmp_path):
    models.save(tmp_path)
    description = json.loads((tmp_path / "regions.json").read_text())
    (tmp_path / "regions.json").write_text(json.dumps(description | {"format": 9}))
    with pytest.raises(ValueError, match="model format 9; this version reads format 3"):
        load_model(tmp_path)


def test_models_must_fit_together(models):
    with pytest.raises(ValueError, match="no model for any region"):
        RegionModels({})
    for other in (
        replace(models["tumour"], um_per_px=0.5),
        replace(models["tumour"], params=PaperParams(tau=3.0)),
        replace(models["tumour"], params=PaperParams(reach=20)),
        replace(models["tumour"], params=PaperParams(shape_exponent=0.0)),
        density_model(),
    ):
        with pytest.raises(ValueError, match="must agree in method, resolution and reach, shape_exponent, tau"):
            RegionModels({"a": models["tumour"], "b": other})
    RegionModels({"a": models["tumour"], "b": replace(models["tumour"], params=PaperParams(max_steps=3))})
