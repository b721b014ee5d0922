from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rasters import grid_of_discs
from scipy import sparse

from ucs._kernels.lattice import bounding_boxes
from ucs.methods.clusters.expression import ExpressionProfiles
from ucs.methods.clusters.profiles import Profiles
from ucs.methods.density.model import DensityModel
from ucs.methods.density.params import DensityParams
from ucs.methods.density.surroundings import survey
from ucs.methods.density.training import DensityData, new_density_net, predict_density
from ucs.methods.model import UCSModel

GENES = ("ACTB", "CD3E", "EPCAM", "KRT8")
COUNTS = sparse.csr_matrix(np.random.default_rng(1).poisson(2, (9, len(GENES))).astype(np.int32))


@pytest.fixture(scope="module")
def profiles():
    random = np.random.default_rng(0)
    return Profiles(random.normal(size=(3, len(GENES))).astype(np.float32), np.log(random.dirichlet(np.ones(3))))


@pytest.fixture(scope="module")
def model(profiles):
    params = DensityParams(width=8, shape_exponent=0.25, max_steps=3)
    net = new_density_net(params, 0).to(memory_format=torch.channels_last).eval()
    torch.nn.init.normal_(net.head[-1].weight, generator=torch.Generator().manual_seed(0))
    clusters = ExpressionProfiles.of(profiles, 0.37, len(GENES))
    return DensityModel(net=net, clusters=clusters, genes=GENES, params=params, um_per_px=1.0, history={"seed": 3})


def same(one, other):
    np.testing.assert_array_equal(one.log_ratio, other.log_ratio)
    np.testing.assert_array_equal(one.log_share, other.log_share)
    assert (one.log_ratio.dtype, one.log_share.dtype) == (other.log_ratio.dtype, other.log_share.dtype)


def test_of_profiles_and_back(profiles):
    net = ExpressionProfiles.of(profiles, 0.1, len(GENES))
    same(net.profiles, profiles)
    assert float(net.expression_weight_um) == 0.1  # not rounded to float32
    net.log_ratio.zero_()
    assert profiles.log_ratio.any()  # a copy


def test_membership_by_id(profiles):
    net = ExpressionProfiles.of(profiles, 0.1, len(GENES))
    made = net.membership(COUNTS)
    assert (made.shape, made.dtype) == ((10, 3), np.float32)
    assert not made[0].any()
    np.testing.assert_array_equal(made[1:], profiles.membership(COUNTS))
    np.testing.assert_allclose(made[1:].sum(axis=1), 1, rtol=1e-6)


def test_no_clusters():
    net = ExpressionProfiles.of(None, 0.4, len(GENES))
    assert net.profiles is None
    assert float(net.expression_weight_um) == 0
    assert net.membership(COUNTS).shape == (10, 0)


def test_nothing_to_learn_by_gradients(profiles):
    assert not list(ExpressionProfiles.of(profiles, 0.1, len(GENES)).parameters())


def test_some_genes(profiles):
    few = ExpressionProfiles.of(profiles, 0.1, len(GENES)).of_columns([3, 1])
    same(few.profiles, Profiles(profiles.log_ratio[:, [3, 1]], profiles.log_share))
    assert float(few.expression_weight_um) == 0.1


# As part of a model


def predict(model):
    nuclei = grid_of_discs((60, 70), 20, 4)
    totals = np.random.default_rng(0).poisson(0.4, nuclei.shape).astype(np.int32)
    around = survey(totals, nuclei, bounding_boxes(nuclei, 12), reach=20, strength=0.5, um_per_px=1.0)
    out = np.zeros(nuclei.shape, dtype=np.float32)
    predict_density(DensityData.of(around), model.net, out, device=torch.device("cpu"))
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
    assert isinstance(loaded, DensityModel)
    assert loaded.net.width == 8
    assert not loaded.net.training
    assert not loaded.clusters.training
    expected = predict(model)
    assert expected.std() > 0
    np.testing.assert_array_equal(predict(loaded), expected)
    same(loaded.clusters.profiles, model.clusters.profiles)
    assert float(loaded.clusters.expression_weight_um) == 0.37
    np.testing.assert_array_equal(loaded.clusters.membership(COUNTS), model.clusters.membership(COUNTS))


def test_round_trip_without_clusters(model, tmp_path):
    without = replace(model, clusters=ExpressionProfiles(0, len(GENES)))
    without.save(tmp_path)
    assert UCSModel.load(tmp_path).expression is None
