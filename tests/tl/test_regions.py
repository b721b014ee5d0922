"""One model for each region: that one region is no region, what has no say, and who shares a model."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import resumed
import scenes
import torch
from calls import predict
from fields import cut_fields
from helpers import cheap_copy
from invariants import assert_invariants, assert_same_cells
from region_runs import scene_with, segment, train
from scenes import TINY, X0, labels_of, scene

import ucs
from ucs.methods import RegionModels


def weights(of):
    """Of the nets, not the expression clusters."""
    return torch.cat([value.ravel() for name, value in of.tensors().items() if not name.startswith("clusters")])


def assert_same_but_for_the_column(result, without):
    """Equal, once the column that tells of regions is gone."""
    plain = cheap_copy(result)
    table = result["ucs_table"].copy()
    del table.obs["model_region"]
    del plain["ucs_table"]
    plain["ucs_table"] = table
    assert_same_cells(plain, without)


@pytest.fixture(scope="module", params=["density", "paper"])
def method(request):
    return request.param


@pytest.fixture(scope="module")
def without(method):
    return segment(scene().sdata(), method=method)


class TestOneRegion:
    """It is no region, bit by bit."""

    @pytest.mark.parametrize("warm_start", [False, True])
    def test_one_block(self, without, method, warm_start):
        result = segment(scene().sdata(), regions=1200, method=method, params={"warm_start": warm_start})
        assert_same_but_for_the_column(result, without)
        assert (result["ucs_table"].obs["model_region"] == "r0c0").all()

    def test_one_value(self, without, method):
        sdata = scene().with_points(scene().points.assign(part="x")).sdata()
        assert_same_but_for_the_column(segment(sdata, regions="part", method=method), without)

    def test_one_polygon(self, without, method):
        sdata = scene_with((-5, -5, 100, 100))
        result = segment(sdata, regions="areas", method=method)
        assert_same_but_for_the_column(result, without)
        table = result["ucs_table"]
        np.testing.assert_equal(table.uns["ucs"]["model"]["0"], without["ucs_table"].uns["ucs"]["model"])
        assert "model_region" not in without["ucs_table"].obs

    def test_its_model_is_that_of_the_whole(self, method):
        models = train(scene().sdata(), regions=1200, method=method)
        assert isinstance(models, RegionModels)
        assert models.shared is None
        assert torch.equal(weights(models["r0c0"]), weights(train(scene().sdata(), method=method)))


@pytest.fixture(scope="module")
def tissue():
    """Four tiles of 96 px, and four regions of 75."""
    return resumed.tissue()


@pytest.fixture(scope="module")
def models(tissue, method):
    return train(tissue, regions=75, method=method)


@pytest.fixture(scope="module")
def one_tile(tissue, models):
    return predict(tissue, models, regions=75, tile_size=10**6)


class TestInvariances:
    def test_regions_matter(self, tissue, one_tile, method):
        assert len(np.unique(one_tile["ucs_table"].obs["model_region"])) == 4
        if method == "density":  # the paper's networks have so few steps here that all of them label the nuclei alone
            assert (labels_of(one_tile) != labels_of(segment(tissue, method=method))).any()
        assert_invariants(one_tile)

    def test_tiles_have_no_say(self, tissue, models, one_tile):
        assert_same_cells(predict(tissue, models, regions=75, tile_size=96), one_tile)

    def test_threads_have_no_say(self, tissue, models, one_tile, monkeypatch):
        monkeypatch.setattr("ucs._utils.parallel.n_threads", lambda: 3)
        assert_same_cells(predict(tissue, models, regions=75), one_tile)

    def test_partitions_and_order_have_no_say(self):
        points = scene().points.assign(part=np.where(scene().points["x"] < X0 + 45, "left", "right"))
        results = [
            segment(scene().with_points(frame).sdata(npartitions=npartitions), regions="part")
            for frame, npartitions in ((points, 1), (points.sample(frac=1, random_state=1), 4))
        ]
        assert_same_cells(*results)

    def test_the_order_of_polygons_has_no_say(self):
        areas, names = [(0, 0, 40, 72), (40, 0, 96, 72)], ["b", "a"]
        one = segment(scene_with(*areas, index=names), regions="areas")
        assert_same_cells(one, segment(scene_with(*areas[::-1], index=names[::-1]), regions="areas"))


class TestFieldsOfView:
    COSMX = {"platform": "cosmx", "um_per_unit": 1.0, "resolution": 1.0}

    @pytest.mark.parametrize("flip", [False, True], ids=["upright", "flipped"])
    def test_have_a_model_each(self, flip):
        sdata = cut_fields(scene(), [(0, 0, 48, 72), (48, 0, 96, 72)], flip=flip)
        result = segment(sdata, regions="fov", **self.COSMX)
        table = result["ucs_table"]
        assert list(table.uns["ucs"]["regions"]["names"]) == ["2", "3"]
        assert table.uns["ucs"]["regions"]["by"] == "field of view"
        np.testing.assert_array_equal(table.obs["model_region"].astype(str), table.obs["fov"].astype(str))
        labels = labels_of(result)
        assert np.intersect1d(labels[:, 47], labels[:, 48]).any()  # cells lie across their border

    def test_are_no_regions_if_there_is_one(self):
        sdata = cut_fields(scene(), [(0, 0, 96, 72)])
        one, without = (segment(sdata, regions=regions, **self.COSMX) for regions in ("fov", None))
        assert_same_but_for_the_column(one, without)

    def test_or_what_a_column_calls_so(self):
        points = scene().points.assign(fov=np.where(scene().points["x"] < X0 + 40, 7, 11))
        models = train(scene().with_points(points).sdata(), regions="fov")
        assert list(models) == ["7", "11"]


class TestSharedModel:
    def test_regions_with_few_nuclei_have_it(self, caplog):
        sdata = scene_with((0, 0, 80, 72), (80, 0, 96, 72), index=["large", "small"])
        with caplog.at_level(logging.WARNING):
            models = train(sdata, regions="areas", params={"min_nuclei": 10})
        assert models["small"] is models.shared
        assert models["large"] is not models.shared
        n = (caplog.records[-1].getMessage()).split("small (")[1].split(" nuclei")[0]
        assert 0 < int(n) < 10
        assert "1 of 2 regions are too poor to learn from and have a model of the whole tissue: 'small (" in caplog.text
        assert torch.equal(weights(models.shared), weights(train(sdata)))

    def test_if_all_have_it_there_are_no_regions(self, without, method):
        result = segment(scene().sdata(), regions=48, method=method, params={"min_nuclei": 50})
        assert_same_but_for_the_column(result, without)
        record = result["ucs_table"].uns["ucs"]
        assert not np.any(record["regions"]["has_own_model"])
        assert set(record["model"]) == {"regions", "shared"}

    def test_regions_without_transcripts_have_it(self, caplog):
        points = scene().points
        kept = (points["x"] < X0 + 50) | (points.index >= len(points) - 2)  # those two span the grid
        sdata = scene_with((0, 0, 50, 72), (50, 0, 96, 72), index=["full", "empty"])
        sdata["transcripts"] = scenes.make_points(points[kept])
        models = train(sdata, regions="areas")
        assert models["empty"] is models.shared
        assert "transcripts for" in caplog.text

    def test_regions_without_background_have_it(self, caplog):
        models = train(scene().sdata(), regions=48, method="paper", params={"background": 30.0})
        without = [name for name in models if models[name] is models.shared]
        assert 0 < len(without) < 4
        assert all(f"{name} (no background)" in caplog.text for name in without)

    def test_nuclei_in_no_region_have_it(self):
        sdata = scene_with((0, 0, 40, 72), index=["left"])
        models = train(sdata, regions="areas", method="paper")
        assert list(models) == ["left"]
        assert models.shared is not models["left"]
        result = predict(sdata, models, regions="areas")
        assert_invariants(result, nuclei=scene().nuclei)
        region = result["ucs_table"].obs["model_region"]
        assert 0 < region.isna().sum() < 31
        record = result["ucs_table"].uns["ucs"]["regions"]
        assert result["ucs_table"].uns["ucs"]["model"]["0"]["background"]["distance_um"] == 5.0
        assert record["n_nuclei_outside"] == region.isna().sum()
        assert record["n_nuclei"].tolist() == [(region == "left").sum()]
        # On the far side of the tissue all is as with the shared model alone.
        alone = predict(sdata, models.shared)
        np.testing.assert_array_equal(labels_of(result)[:, 92:], labels_of(alone)[:, 92:])

    def test_warm_start_begins_with_it(self, method):
        models = train(scene().sdata(), regions=48, method=method, params={"warm_start": True})
        assert models.shared is not None
        assert torch.equal(weights(models.shared), weights(train(scene().sdata(), method=method)))
        other = train(scene().sdata(), method=method, seed=9)
        for name in models:
            assert models[name] is not models.shared
            assert models[name].history["warm_start"]
            if method == "density":
                assert models[name].params.max_steps < TINY["max_steps"]
            distance = (weights(models[name]) - weights(models.shared)).abs().mean()
            assert distance < (weights(models[name]) - weights(other)).abs().mean() / 10


@pytest.mark.parametrize(
    ("regions", "error", "match"),
    [
        (12, ValueError, "must be 48 or above"),
        ("fovs", KeyError, "regions='fovs' is not there"),
        (("transcripts", "part"), KeyError, "'transcripts' has no column 'part'"),
        (1.5, TypeError, "must be None, the side"),
    ],
)
@pytest.mark.parametrize("call", [ucs.tl.segment, ucs.tl.train])
def test_bad_regions_fail_before_anything_is_read(regions, error, match, call):
    def fail(_part):
        raise AssertionError("reading began")

    sdata = scene().sdata()
    points = sdata["transcripts"]
    unread = points.map_partitions(fail, meta=points._meta)
    unread.attrs.update(points.attrs)
    sdata.points["transcripts"] = unread
    with pytest.raises(error, match=match):
        call(sdata, regions=regions, method="density", progress=False)
    assert "ucs_cells" not in sdata
