"""Models of regions: the genes they are trained on, and what is predicted with them, saved or given one by one."""

from __future__ import annotations

import numpy as np
import pytest
import spatialdata as sd
from calls import predict
from helpers import cheap_copy
from invariants import assert_same_cells
from region_runs import scene_with, segment, train
from scenes import X0, scene


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
        options = {"regions": 48, "genes": 15, "genes_per_region": True, "params": {"warm_start": warm_start}}
        models = train(two_halves, **options)
        for name in models:
            assert len(models[name].genes) == 15
        assert len(set(models["r0c0"].genes) & set(models["r0c1"].genes)) < 5
        if warm_start:
            assert models.shared.genes == tuple(sorted(set().union(*(models[name].genes for name in models))))
        result = segment(two_halves, **options)
        assert result["ucs_table"].n_vars > 30
        assert_same_cells(predict(two_halves, models, regions=48), result)


@pytest.fixture(scope="module")
def trained():
    return train(scene().sdata(), regions=48)


@pytest.fixture(scope="module")
def predicted(trained):
    return predict(scene().sdata(), trained, regions=48)


class TestModelsOfRegions:
    def test_the_one_call_is_the_sum_of_its_steps(self, predicted):
        at_once = segment(scene().sdata(), regions=48)
        assert_same_cells(at_once, predicted)
        records = [each["ucs_table"].uns["ucs"] for each in (at_once, predicted)]
        for key in ("parameters", "model", "regions", "qc"):
            np.testing.assert_equal(records[0][key], records[1][key])

    def test_saved_and_loaded_they_are_the_same(self, trained, predicted, tmp_path):
        trained.save(tmp_path / "models")
        assert_same_cells(predict(scene().sdata(), tmp_path / "models", regions=48), predicted)

    def test_a_mapping_of_models_or_paths(self, trained, predicted, tmp_path):
        mapping = dict(trained)
        mapping["r0c1"].save(tmp_path / "one")
        mapping["r0c1"] = str(tmp_path / "one")
        assert_same_cells(predict(scene().sdata(), mapping, regions=48), predicted)

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
            assert set(of_first["curves"]) == {"density"}

    def test_without_regions(self, trained):
        with pytest.raises(ValueError, match="one model for each of the regions 'r0c0', .*: say with regions= where"):
            predict(scene().sdata(), trained)

    def test_regions_without_models_of_them(self, trained):
        with pytest.raises(ValueError, match="regions=48 needs one model for each region, but model= is a single one"):
            predict(scene().sdata(), trained["r0c0"], regions=48)
        few = {"r0c0": trained["r0c0"], "r1c1": trained["r1c1"]}
        with pytest.raises(ValueError, match="no model for the regions 'r0c1', 'r1c0'; it has: 'r0c0', 'r1c1'"):
            predict(scene().sdata(), few, regions=48)

    def test_nuclei_outside_without_a_shared_model(self, trained):
        sdata = scene_with((0, 0, 40, 72), index=["left"])
        with pytest.raises(ValueError, match=r"lie in no region \(shapes 'areas'\), and there is no shared model"):
            predict(sdata, {"left": trained["r0c0"]}, regions="areas", inplace=True)
        assert "ucs_cells" not in sdata

    def test_models_of_models(self, trained):
        with pytest.raises(TypeError, match="models of regions for 'a'; a region has one model"):
            predict(scene().sdata(), {"a": trained}, regions=48)
        with pytest.raises(TypeError, match="must be a UCSModel or the path of one, or a mapping"):
            predict(scene().sdata(), {"a": 3}, regions=48)
