from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from rasters import grid_of_discs
from scipy import sparse

from ucs._kernels.lattice import bounding_boxes
from ucs.methods.density.expression import KindNet
from ucs.methods.density.net import DensityNet
from ucs.methods.density.profiles import Profiles
from ucs.methods.density.surroundings import survey
from ucs.methods.density.training import DensityData, new_density_net, predict_density
from ucs.methods.model import UCSModel
from ucs.methods.paper.cell import CellNet
from ucs.methods.paper.foreground import ForegroundNet
from ucs.methods.params import TrainParams

GENES = ("ACTB", "CD3E", "EPCAM", "KRT8")
COUNTS = sparse.csr_matrix(np.random.default_rng(1).poisson(2, (9, len(GENES))).astype(np.int32))


@pytest.fixture(scope="module")
def profiles():
    random = np.random.default_rng(0)
    return Profiles(random.normal(size=(3, len(GENES))).astype(np.float32), np.log(random.dirichlet(np.ones(3))))


@pytest.fixture(scope="module")
def model(profiles):
    params = TrainParams(density_width=8, stretch=0.25, max_steps=3)
    net = new_density_net(params, 0).to(memory_format=torch.channels_last).eval()
    torch.nn.init.normal_(net.head[-1].weight, generator=torch.Generator().manual_seed(0))
    return UCSModel(net, KindNet.of(profiles, 0.37, len(GENES)), GENES, params, 1.0, {"seed": 3})


def same(one, other):
    np.testing.assert_array_equal(one.log_ratio, other.log_ratio)
    np.testing.assert_array_equal(one.log_share, other.log_share)
    assert (one.log_ratio.dtype, one.log_share.dtype) == (other.log_ratio.dtype, other.log_share.dtype)


def test_of_profiles_and_back(profiles):
    net = KindNet.of(profiles, 0.1, len(GENES))
    same(net.profiles, profiles)
    assert float(net.trust_um) == 0.1  # not rounded to float32
    net.log_ratio.zero_()
    assert profiles.log_ratio.any()  # a copy


def test_membership_by_id(profiles):
    net = KindNet.of(profiles, 0.1, len(GENES))
    made = net.membership(COUNTS)
    assert (made.shape, made.dtype) == ((10, 3), np.float32)
    assert not made[0].any()
    np.testing.assert_array_equal(made[1:], profiles.membership(COUNTS))
    np.testing.assert_allclose(made[1:].sum(axis=1), 1, rtol=1e-6)


def test_no_kinds():
    net = KindNet.of(None, 0.4, len(GENES))
    assert net.profiles is None
    assert float(net.trust_um) == 0
    assert net.membership(COUNTS).shape == (10, 0)


def test_nothing_to_learn_by_gradients(profiles):
    assert not list(KindNet.of(profiles, 0.1, len(GENES)).parameters())


# As part of a model


def predict(model):
    nuclei = grid_of_discs((60, 70), 20, 4)
    totals = np.random.default_rng(0).poisson(0.4, nuclei.shape).astype(np.int32)
    around = survey(totals, nuclei, bounding_boxes(nuclei, 12), reach=20, strength=0.5, um_per_px=1.0)
    out = np.zeros(nuclei.shape, dtype=np.float32)
    predict_density(DensityData.of(around), model.density_nets()[0], out, device=torch.device("cpu"))
    return out


def test_round_trip(model, tmp_path):
    model.save(tmp_path)
    loaded = UCSModel.load(tmp_path)
    assert (loaded.genes, loaded.params, loaded.um_per_px, loaded.history) == (
        model.genes,
        model.params,
        model.um_per_px,
        model.history,
    )
    assert not loaded.is_published
    assert loaded.density_nets()[0].width == 8
    assert not loaded.foreground.training
    assert not loaded.cell.training
    expected = predict(model)
    assert expected.std() > 0
    np.testing.assert_array_equal(predict(loaded), expected)
    same(loaded.density_nets()[1].profiles, model.density_nets()[1].profiles)
    assert float(loaded.density_nets()[1].trust_um) == 0.37
    np.testing.assert_array_equal(loaded.density_nets()[1].membership(COUNTS), model.cell.membership(COUNTS))


def test_round_trip_without_kinds(model, tmp_path):
    without = UCSModel(model.foreground, KindNet(0, len(GENES)), GENES, model.params, 1.0)
    without.save(tmp_path)
    assert UCSModel.load(tmp_path).density_nets()[1].profiles is None


def test_a_model_knows_its_nets(model):
    published = UCSModel(ForegroundNet(4), CellNet(), GENES, TrainParams(), 1.0)
    assert published.is_published
    assert published.published_nets() == (published.foreground, published.cell)
    assert model.density_nets() == (model.foreground, model.cell)
    with pytest.raises(TypeError, match="does not have the published nets"):
        model.published_nets()
    with pytest.raises(TypeError, match="does not have the published nets"):
        model.nets_for(GENES)
    with pytest.raises(TypeError, match="has the published nets"):
        published.density_nets()
    mixed = UCSModel(DensityNet(4), CellNet(), GENES, TrainParams(), 1.0)
    for nets in (mixed.published_nets, mixed.density_nets):
        with pytest.raises(TypeError):
            nets()


def test_models_of_before_there_was_a_choice_are_published(tmp_path):
    published = UCSModel(ForegroundNet(4), CellNet(), GENES, TrainParams(), 1.0)
    published.save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    assert description.pop("nets") == "published"
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert UCSModel.load(tmp_path).is_published
