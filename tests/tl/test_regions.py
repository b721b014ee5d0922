"""One model for each region: which nuclei it judges, that borders do not show, and that one region is no region."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import spatialdata as sd
import torch
from spatialdata.models import ShapesModel
from spatialdata.transformations import Identity

import scenes
import ucs
from fields import cut_fields
from helpers import cheap_copy
from invariants import assert_invariants, assert_same_cells
from scenes import TINY, boxes, labels_of, model, scene
from ucs.nn import RegionModels

QUIET = {"progress": False, "check_alignment": False, "device": "cpu", "inplace": False}
LEARN = {"train": {**TINY, "min_nuclei": 1}, "background": 5.0, "seed": 3}
BOTH_METHODS = {"density": "auto", "published": 5.0}  # by the background that they are told
X0, Y0 = scenes.X0, scenes.Y0


def segment(sdata, **options):
    return ucs.tl.segment(sdata, **{**LEARN, **QUIET, **options})


def train(sdata, **options):
    return ucs.tl.train(sdata, **{**LEARN, **{key: QUIET[key] for key in QUIET if key != "inplace"}, **options})


def weights(of):
    return torch.cat([v.ravel() for net in (of.foreground, of.cell) for v in net.state_dict().values()])


def scene_with(*polygons, index=None):
    """The scene with polygons (x0, y0, x1, y1) in pixels."""
    sdata = scene().sdata()
    frame = boxes(*[(X0 + a, Y0 + b, X0 + c, Y0 + d) for a, b, c, d in polygons], index=index)
    sdata["areas"] = ShapesModel.parse(frame, transformations={"global": Identity()})
    return sdata


def shifted(of, shift):
    """The model with larger cells (shift above 0) or smaller ones."""
    cell = deepcopy(of.cell)
    with torch.no_grad():
        cell.scalar_net[-1].bias += shift
    return replace(of, cell=cell)


def assert_same_but_for_the_column(result, without):
    """Equal, once the column that tells of regions is gone."""
    plain = cheap_copy(result)
    table = result["ucs_table"].copy()
    del table.obs["model_region"]
    del plain["ucs_table"]
    plain["ucs_table"] = table
    assert_same_cells(plain, without)


@pytest.fixture(scope="module", params=BOTH_METHODS.values(), ids=BOTH_METHODS.keys())
def background(request):
    return request.param


@pytest.fixture(scope="module")
def without(background):
    return segment(scene().sdata(), background=background)


class TestOneRegion:
    """It is no region, bit by bit."""

    @pytest.mark.parametrize("warm_start", [False, True])
    def test_one_block(self, without, background, warm_start):
        result = segment(scene().sdata(), regions=1200, warm_start=warm_start, background=background)
        assert_same_but_for_the_column(result, without)
        assert (result["ucs_table"].obs["model_region"] == "r0c0").all()

    def test_one_value(self, without, background):
        sdata = scene().with_points(scene().points.assign(part="x")).sdata()
        assert_same_but_for_the_column(segment(sdata, regions="part", background=background), without)

    def test_one_polygon(self, without, background):
        sdata = scene_with((-5, -5, 100, 100))
        result = segment(sdata, regions="areas", background=background)
        assert_same_but_for_the_column(result, without)
        table = result["ucs_table"]
        np.testing.assert_equal(table.uns["ucs"]["model"]["0"], without["ucs_table"].uns["ucs"]["model"])
        assert "model_region" not in without["ucs_table"].obs

    def test_its_model_is_that_of_the_whole(self):
        models = train(scene().sdata(), regions=1200)
        assert isinstance(models, RegionModels)
        assert models.shared is None
        assert torch.equal(weights(models["r0c0"]), weights(train(scene().sdata())))


@pytest.fixture(scope="module")
def models(simulated, background):
    return train(simulated, regions=100, background=background)


@pytest.fixture(scope="module")
def one_tile(simulated, models):
    return ucs.tl.predict(simulated, models, regions=100, tile_size=10**6, **QUIET)


class TestInvariances:
    def test_regions_matter(self, simulated, one_tile, background):
        assert len(np.unique(one_tile["ucs_table"].obs["model_region"])) == 4
        assert (labels_of(one_tile) != labels_of(segment(simulated, background=background))).any()
        assert_invariants(one_tile)

    @pytest.mark.parametrize("tile_size", [96])
    def test_tiles_have_no_say(self, simulated, models, one_tile, tile_size):
        assert_same_cells(ucs.tl.predict(simulated, models, regions=100, tile_size=tile_size, **QUIET), one_tile)

    @pytest.mark.parametrize("threads", [3])
    def test_threads_have_no_say(self, simulated, models, one_tile, threads, monkeypatch):
        monkeypatch.setattr("ucs._core.parallel.n_threads", lambda: threads)
        assert_same_cells(ucs.tl.predict(simulated, models, regions=100, **QUIET), one_tile)

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


def share_of_border(labels, line):
    """The share of cell borders among neighbours across one row and one column."""
    pairs = [np.stack([matrix[line - 1], matrix[line]]) for matrix in (labels, labels.T)]
    above, below = np.concatenate(pairs, axis=1)
    return ((above != below) & ((above > 0) | (below > 0))).mean()


@pytest.fixture(scope="module")
def far_and_near():
    return shifted(model(), 4.0), shifted(model(), -4.0)


@pytest.fixture(scope="module")
def blocks(far_and_near):
    far, near = far_and_near
    return RegionModels({"r0c0": far, "r0c1": near, "r1c0": near, "r1c1": far})


def shifted_density(of, factor):
    """The model that expects more transcripts everywhere, and so more of the tissue in cells, or fewer."""
    net = deepcopy(of.foreground)
    with torch.no_grad():
        net.head[-1].bias += np.log(factor)
    return replace(of, foreground=net)


def assert_no_edges(tissue, far, near, *, sides):
    """Of two models in 2 x 2 blocks: the lines between the blocks are no more borders of cells than those beside."""
    blocks = RegionModels({"r0c0": far, "r0c1": near, "r1c0": near, "r1c1": far})
    alone = [labels_of(ucs.tl.predict(tissue, each, **QUIET)) for each in (far, near)]
    on, beside, of_a_cut = [], [], []
    for side in sides:
        labels = labels_of(ucs.tl.predict(tissue, blocks, regions=side, **QUIET))
        on.append(share_of_border(labels, side))
        beside += [share_of_border(labels, side + k) for k in range(-8, 9) if k != 0]
        beyond = np.arange(max(labels.shape)) >= side
        cut = np.where((beyond[:, None] == beyond)[: labels.shape[0], : labels.shape[1]], *alone)
        of_a_cut.append(share_of_border(cut, side))
    assert np.mean(on) <= 1.15 * np.mean(beside)  # of some thousand pairs along a few lines: the noise of the share
    # What is looked for can be found: labels that change at the line have an edge there.
    assert np.mean(of_a_cut) > 2 * np.mean(beside)


class TestBordersOfRegions:
    """Models that could hardly differ more: cells of one end at their nuclei, those of the other go far."""

    def test_leave_no_straight_edges(self, far_and_near):
        tissue = ucs.datasets.simulate(width_um=200, height_um=200, n_genes=40, seed=0)
        assert_no_edges(tissue, *far_and_near, sides=(92, 100, 108))

    def test_nor_with_the_density_net(self):
        tissue = ucs.datasets.simulate(width_um=200, height_um=200, n_genes=40, seed=0)
        of = train(tissue, background="auto", train={"max_steps": 20})
        assert_no_edges(tissue, shifted_density(of, 2.0), shifted_density(of, 1 / 2), sides=range(84, 117, 4))

    def test_nuclei_keep_their_models_across_them(self, simulated, far_and_near, blocks):
        """Far from the border all is as with one model; cells themselves reach across it."""
        result = ucs.tl.predict(simulated, blocks, regions=100, **QUIET)
        labels, table = labels_of(result), result["ucs_table"]
        region = dict(zip(table.obs["cell_id"], table.obs["model_region"], strict=True))
        alone = {id(one): labels_of(ucs.tl.predict(simulated, one, **QUIET)) for one in far_and_near}
        rows, columns = np.indices(labels.shape)
        checked, across = 0, 0
        for c, name in region.items():
            own = labels == c
            row, column = rows[own], columns[own]
            if min(np.abs(row - 100).min(), np.abs(column - 100).min()) > 2 * model().params.reach + 8:
                np.testing.assert_array_equal(own, alone[id(blocks[name])] == c)
                checked += 1
            across += (row < 100).any() and (row >= 100).any()
        assert checked > 10
        assert across > 3

    def test_a_nucleus_belongs_to_the_region_of_most_of_its_pixels(self, simulated, blocks):
        result = ucs.tl.predict(simulated, blocks, regions=100, **QUIET)
        table, (x, y) = result["ucs_table"], result["ucs_table"].obsm["spatial"].T
        origin = table.uns["ucs"]["qc"]["grid_origin"]
        row, column = (y - origin[1]) // 100, (x - origin[0]) // 100
        expected = np.array([f"r{int(min(r, 1))}c{int(min(c, 1))}" for r, c in zip(row, column, strict=True)])
        far = (np.abs(x - origin[0] - 100) > 20) & (np.abs(y - origin[1] - 100) > 20)
        np.testing.assert_array_equal(table.obs["model_region"].to_numpy().astype(str)[far], expected[far])


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
            models = train(sdata, regions="areas", train={**TINY, "min_nuclei": 10})
        assert models["small"] is models.shared
        assert models["large"] is not models.shared
        n = (caplog.records[-1].getMessage()).split("small (")[1].split(" nuclei")[0]
        assert 0 < int(n) < 10
        assert "1 of 2 regions are too poor to learn from and have a model of the whole tissue: 'small (" in caplog.text
        assert torch.equal(weights(models.shared), weights(train(sdata, train={**TINY, "min_nuclei": 10})))

    def test_if_all_have_it_there_are_no_regions(self, without, background):
        result = segment(scene().sdata(), regions=48, train=TINY, background=background)
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
        models = train(scene().sdata(), regions=48, background=30.0)
        without = [name for name in models if models[name] is models.shared]
        assert 0 < len(without) < 4
        assert all(f"{name} (no background)" in caplog.text for name in without)

    def test_nuclei_in_no_region_have_it(self):
        sdata = scene_with((0, 0, 40, 72), index=["left"])
        models = train(sdata, regions="areas")
        assert list(models) == ["left"]
        assert models.shared is not models["left"]
        result = ucs.tl.predict(sdata, models, regions="areas", **QUIET)
        assert_invariants(result, nuclei=scene().nuclei)
        region = result["ucs_table"].obs["model_region"]
        assert 0 < region.isna().sum() < 31
        record = result["ucs_table"].uns["ucs"]["regions"]
        assert record["n_nuclei_outside"] == region.isna().sum()
        assert record["n_nuclei"].tolist() == [(region == "left").sum()]
        # On the far side of the tissue all is as with the shared model alone.
        alone = ucs.tl.predict(sdata, models.shared, **QUIET)
        np.testing.assert_array_equal(labels_of(result)[:, 92:], labels_of(alone)[:, 92:])

    def test_warm_start_begins_with_it(self):
        models = train(scene().sdata(), regions=48, warm_start=True)
        assert models.shared is not None
        assert torch.equal(weights(models.shared), weights(train(scene().sdata())))
        for name in models:
            assert models[name] is not models.shared
            assert models[name].history["warm_start"]
            assert models[name].params.max_steps < TINY["max_steps"]
            distance = (weights(models[name]) - weights(models.shared)).abs().mean()
            assert distance < (weights(models[name]) - weights(train(scene().sdata(), seed=9))).abs().mean() / 10


@pytest.fixture(scope="module")
def two_halves():
    """Half of the genes occur on the left only, the others on the right only."""
    points = scene().points
    odd = points["feature_name"].astype(str).str[-1].isin(list("13579"))
    left = points["x"] < X0 + 48
    keep = (odd == left) | (points.index >= len(points) - 2)
    return scene().with_points(points[keep].reset_index(drop=True)).sdata()


class TestGenes:
    def test_are_chosen_in_all_of_the_tissue(self, two_halves):
        models = train(two_halves, regions=48, genes=15)
        assert len({each.genes for each in models.values()}) == 1

    @pytest.mark.parametrize("warm_start", [False, True])
    def test_or_in_each_region(self, two_halves, warm_start):
        pytest.importorskip("scanpy")
        options = {"regions": 48, "genes": 15, "genes_per_region": True, "warm_start": warm_start}
        models = train(two_halves, **options)
        for name in models:
            assert len(models[name].genes) == 15
        assert len(set(models["r0c0"].genes) & set(models["r0c1"].genes)) < 5
        if warm_start:
            assert models.shared.genes == tuple(sorted(set().union(*(models[name].genes for name in models))))
        result = segment(two_halves, **options)
        assert result["ucs_table"].n_vars > 30
        assert_same_cells(ucs.tl.predict(two_halves, models, regions=48, **QUIET), result)


@pytest.fixture(scope="module")
def trained():
    return train(scene().sdata(), regions=48)


@pytest.fixture(scope="module")
def predicted(trained):
    return ucs.tl.predict(scene().sdata(), trained, regions=48, **QUIET)


class TestModelsOfRegions:
    def test_the_one_call_is_the_sum_of_its_steps(self, predicted):
        at_once = segment(scene().sdata(), regions=48)
        assert_same_cells(at_once, predicted)
        records = [each["ucs_table"].uns["ucs"] for each in (at_once, predicted)]
        for key in ("parameters", "model", "regions", "qc"):
            np.testing.assert_equal(records[0][key], records[1][key])

    def test_saved_and_loaded_they_are_the_same(self, trained, predicted, tmp_path):
        trained.save(tmp_path / "models")
        assert_same_cells(ucs.tl.predict(scene().sdata(), tmp_path / "models", regions=48, **QUIET), predicted)

    def test_a_mapping_of_models_or_paths(self, trained, predicted, tmp_path):
        mapping = dict(trained)
        mapping["r0c1"].save(tmp_path / "one")
        mapping["r0c1"] = str(tmp_path / "one")
        assert_same_cells(ucs.tl.predict(scene().sdata(), mapping, regions=48, **QUIET), predicted)

    def test_the_record(self, predicted, tmp_path):
        result = cheap_copy(predicted)
        result.write(tmp_path / "store.zarr")
        for sdata in (result, sd.read_zarr(tmp_path / "store.zarr")):
            table = sdata["ucs_table"]
            record = table.uns["ucs"]["regions"]
            assert record["by"] == "blocks of 48 px"
            assert list(record["names"]) == ["r0c0", "r0c1", "r1c0", "r1c1"]
            assert np.sum(record["n_nuclei"]) == 31
            assert np.all(record["has_own_model"])
            counts = table.obs["model_region"].value_counts()
            assert counts.reindex(record["names"]).tolist() == list(record["n_nuclei"])
            assert table.obs["model_region"].dtype == "category"
            assert (table.obs["region"] == "ucs_boundaries").all()  # the element that the table annotates
            of_first = table.uns["ucs"]["model"]["0"]
            assert of_first["seed"] == 3
            assert of_first["background"]["distance_um"] == 5.0

    def test_without_regions(self, trained):
        with pytest.raises(ValueError, match="one model for each of the regions 'r0c0', .*: say with regions= where"):
            ucs.tl.predict(scene().sdata(), trained, **QUIET)

    def test_regions_without_models_of_them(self, trained):
        with pytest.raises(ValueError, match="regions=48 needs one model for each region, but model= is a single one"):
            ucs.tl.predict(scene().sdata(), trained["r0c0"], regions=48, **QUIET)
        few = {"r0c0": trained["r0c0"], "r1c1": trained["r1c1"]}
        with pytest.raises(ValueError, match="no model for the regions 'r0c1', 'r1c0'; it has: 'r0c0', 'r1c1'"):
            ucs.tl.predict(scene().sdata(), few, regions=48, **QUIET)

    def test_nuclei_outside_without_a_shared_model(self, trained):
        sdata = scene_with((0, 0, 40, 72), index=["left"])
        with pytest.raises(ValueError, match=r"lie in no region \(shapes 'areas'\), and there is no shared model"):
            ucs.tl.predict(sdata, {"left": trained["r0c0"]}, regions="areas", **QUIET)
        assert "ucs_cells" not in sdata

    def test_models_of_models(self, trained):
        with pytest.raises(TypeError, match="models of regions for 'a'; a region has one model"):
            ucs.tl.predict(scene().sdata(), {"a": trained}, regions=48, **QUIET)
        with pytest.raises(TypeError, match="must be a UCSModel or the path of one, or a mapping"):
            ucs.tl.predict(scene().sdata(), {"a": 3}, regions=48, **QUIET)


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
def test_bad_regions_fail_before_anything_is_read(regions, error, match, call, monkeypatch):
    def fail(*_args, **_options):
        raise AssertionError("reading began")

    monkeypatch.setattr("ucs.tl._segment.prepare", fail)
    monkeypatch.setattr("ucs.tl._train.prepare", fail)
    sdata = scene().sdata()
    with pytest.raises(error, match=match):
        call(sdata, regions=regions, progress=False)
    assert "ucs_cells" not in sdata


def test_genes_per_region_without_regions():
    with pytest.raises(ValueError, match="genes_per_region=True needs regions="):
        segment(scene().sdata(), genes_per_region=True)
