"""The density method through the public functions: regions, several samples, saved models, what options change."""

from __future__ import annotations

import calls
import numpy as np
import pytest
from calls import predict
from helpers import cheap_copy
from invariants import assert_invariants, assert_same_cells
from scenes import labels_of, model

import ucs
from ucs.methods import RegionModels

FAST = {"max_steps": 30}


def segment(sdata, **options):
    return calls.segment(sdata, **_with_params(options))


def train(sdata, **options):
    return calls.train(sdata, **_with_params(options))


def _with_params(options):
    of_regions = {"min_nuclei": 1} if "regions" in options else {}
    return {**options, "params": {**FAST, **of_regions, **options.get("params", {})}}


@pytest.fixture(scope="module")
def tissue():
    return ucs.datasets.simulate(width_um=150, height_um=130, seed=4)


@pytest.fixture(scope="module")
def result(tissue):
    return segment(tissue)


@pytest.fixture(scope="module")
def regional(tissue):
    return segment(tissue, regions=70)


def without_regions(result):
    plain, table = cheap_copy(result), result["ucs_table"].copy()
    del table.obs["model_region"]
    del plain["ucs_table"]
    plain["ucs_table"] = table
    return plain


def border_share(labels, line):
    """Share of the pixels along a line that differ from those across it."""
    above, below = labels[line - 1], labels[line]
    return ((above != below) & ((above > 0) | (below > 0))).mean()


def test_result(result):
    assert_invariants(result)
    record = result["ucs_table"].uns["ucs"]
    assert record["parameters"]["method"] == "density"
    assert record["model"]["expression_weight_um"] > 0
    confidence = result["ucs_table"].obs["confidence"]
    assert confidence.between(0, 1).all()
    assert confidence.std() > 0


class TestRegions:
    def test_one_is_none(self, tissue, result):
        assert_same_cells(without_regions(segment(tissue, regions=1200)), result)

    @pytest.mark.slow
    @pytest.mark.parametrize("tile_size", [96, 333])
    def test_tiles_have_no_say(self, tissue, regional, tile_size):
        assert_same_cells(regional, segment(tissue, regions=70, tile_size=tile_size))

    def test_they_matter(self, regional, result):
        assert (labels_of(regional) != labels_of(result)).any()
        assert regional["ucs_table"].obs["model_region"].nunique() == 4
        assert_invariants(regional)

    @pytest.mark.slow
    def test_leave_no_straight_edges(self):
        """On the lines between regions cell borders are no more frequent than with one model on the same lines."""
        more = []
        for seed in range(2):
            tissue = ucs.datasets.simulate(width_um=200, height_um=200, seed=seed)
            models = train(tissue, regions=100)
            alone = labels_of(predict(tissue, train(tissue)))
            for side in (92, 100, 108):
                labels = labels_of(predict(tissue, models, regions=side))
                more += [
                    border_share(labels, side) - border_share(alone, side),
                    border_share(labels.T, side) - border_share(alone.T, side),
                ]
        assert np.mean(more) <= 2 * np.std(more) / np.sqrt(len(more))

    @pytest.mark.slow
    def test_steps_and_store(self, tissue, tmp_path):
        models = train(tissue, regions=70, params={"warm_start": True})
        assert isinstance(models, RegionModels)
        models.save(tmp_path / "models")
        again = predict(tissue, tmp_path / "models", regions=70)
        assert_same_cells(again, segment(tissue, regions=70, params={"warm_start": True}))

    def test_expression_clusters_are_those_of_the_tissue(self, tissue):
        models = list(train(tissue, regions=70, params={"max_steps": 2}).values())
        shares = [one.clusters.log_share.numpy() for one in models]
        for share in shares[1:]:
            np.testing.assert_array_equal(share, shares[0])

    def test_models_of_both_methods_do_not_mix(self):
        with pytest.raises(ValueError, match="must agree in method, resolution and reach"):
            RegionModels({"a": model("density"), "b": model("paper")})


class TestSeveralSamples:
    def test_one_in_a_list_is_one(self, tissue):
        one, listed = train(tissue), train([tissue])
        for name, tensor in one.tensors().items():
            np.testing.assert_array_equal(tensor, listed.tensors()[name])

    def test_two(self, tissue):
        other = ucs.datasets.simulate(width_um=120, height_um=120, seed=5, transcripts_per_cell=60)
        of_both = train([tissue, other])
        assert of_both.history["n_samples"] == 2
        for sdata in (tissue, other):
            assert_invariants(predict(sdata, of_both))


class TestOptions:
    def test_ownership(self, tissue, result):
        by_distance = segment(tissue, params={"ownership": "distance"})
        assert (labels_of(by_distance) != labels_of(result)).any()
        assert_same_cells(predict(tissue, train(tissue)), result)

    def test_shape_exponent(self, tissue, result):
        plain = segment(tissue, params={"shape_exponent": 0.0})
        assert (labels_of(plain) != labels_of(result)).any()
        assert plain["ucs_table"].uns["ucs"]["parameters"]["params"]["shape_exponent"] == 0

    def test_threshold(self, tissue, result):
        small = labels_of(segment(tissue, threshold=0.8))
        assert (small > 0).sum() < (labels_of(result) > 0).sum()

    @pytest.mark.parametrize(
        ("params", "match"),
        [
            ({"ownership": "near"}, r"params\['ownership'\]='near' is unknown"),
            ({"shape_exponent": 1.5}, r"params\['shape_exponent'\]=1.5 must be at least 0 and at most 1"),
        ],
    )
    def test_unknown(self, tissue, params, match):
        with pytest.raises(ValueError, match=match):
            segment(tissue, params=params, inplace=True)
        assert "ucs_cells" not in tissue


class TestConfidence:
    @pytest.fixture(scope="class")
    def confident(self, tissue):
        return segment(tissue, confidence_column="confidence", min_transcripts=60)

    def test_of_transcripts(self, confident, result):
        points = confident["transcripts"].compute()
        confidence, inside = points["confidence"], points["ucs_cell_id"] > 0
        assert confidence.dtype == np.float32
        assert confidence[inside].between(0, 1).all()
        assert (confidence[~inside] == 0).all()
        assert "confidence" not in result["transcripts"].columns
        right = (
            points["true_cell_id"].to_numpy()[inside]
            == confident["ucs_table"]
            .obs.set_index("cell_id")["nucleus_id"]
            .loc[points["ucs_cell_id"][inside]]
            .to_numpy()
        )
        assert confidence[inside].mean() == pytest.approx(right.mean(), abs=0.05)
        assert right[confidence[inside] > 0.85].mean() > right[confidence[inside] < 0.6].mean() + 0.2

    def test_of_partitions(self, confident):
        points = confident["transcripts"]
        assert points.get_partition(0)["confidence"].compute().dtype == np.float32

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("ucs_cell_id", "must differ"),
            ("qv", r"key_added\['confidence_column'\]='qv' is a column of the data itself"),
            ("a b", r"key_added\['confidence_column'\]='a b' is no valid name"),
        ],
    )
    def test_names(self, tissue, name, message):
        with pytest.raises(ValueError, match=message):
            segment(tissue, confidence_column=name)

    def test_taken(self, confident):
        with pytest.raises(ValueError, match=r"has a column 'confidence'; pass overwrite=True"):
            segment(confident, confidence_column="confidence", key_added={"prefix": "other"})
