from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ucs.metrics import match, transcript_assignment


def slow_match(truth, predicted, threshold):
    """Compare every true with every predicted cell; return the IoUs of the matches and the numbers of cells."""
    true_ids, predicted_ids = set(np.unique(truth)) - {0}, set(np.unique(predicted)) - {0}
    matched = []
    for t in true_ids:
        for p in predicted_ids:
            both = np.sum((truth == t) & (predicted == p))
            either = np.sum((truth == t) | (predicted == p))
            if both / either >= threshold and 2 * both > either:
                matched.append(both / either)
    return matched, len(true_ids), len(predicted_ids)


def noisy_pair(seed, *, n=12, size=24):
    """Return blocks of labels and the same blocks shifted, cut and permuted."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.permutation(n * n).reshape(n, n), np.ones((size // n * 2, size // n * 2), np.int64))
    predicted = np.roll(truth, rng.integers(0, 2, 2), (0, 1))
    predicted = np.append(0, rng.permutation(n * n - 1) + 1)[predicted]
    predicted[rng.random(predicted.shape) < 0.1] = 0
    return truth, predicted


@pytest.mark.parametrize("seed", range(3))
def test_match_equals_the_comparison_of_all_pairs(seed):
    truth, predicted = noisy_pair(seed)
    table = match(truth, predicted, thresholds=(0.5, 0.6, 0.75, 1.0))
    assert list(table.index) == [0.5, 0.6, 0.75, 1.0]
    for threshold, row in table.iterrows():
        matched, n_true, n_predicted = slow_match(truth, predicted, threshold)
        assert row["n_matched"] == len(matched)
        assert (row["n_true"], row["n_predicted"]) == (n_true, n_predicted)
        assert row["precision"] == pytest.approx(len(matched) / n_predicted)
        assert row["recall"] == pytest.approx(len(matched) / n_true)
        assert row["f1"] == pytest.approx(2 * len(matched) / (n_true + n_predicted))
        if matched:
            assert row["mean_iou"] == pytest.approx(np.mean(matched))
        assert row["pq"] == pytest.approx(sum(matched) / (0.5 * (n_true + n_predicted)))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int64, (5, 6), elements=st.integers(0, 4)),
    hnp.arrays(np.int64, (5, 6), elements=st.integers(0, 4)),
)
def test_match_on_arbitrary_labels(truth, predicted):
    row = match(truth, predicted, thresholds=[0.5]).iloc[0]
    matched, n_true, n_predicted = slow_match(truth, predicted, 0.5)
    assert (row["n_matched"], row["n_true"], row["n_predicted"]) == (len(matched), n_true, n_predicted)
    assert row["n_matched"] <= min(n_true, n_predicted)


def test_identical_labels_score_one_and_ids_do_not_matter():
    truth, _ = noisy_pair(0)
    renamed = np.where(truth > 0, truth.astype(np.uint64) * 3 + 2**40, 0).astype(np.uint64)
    table = match(truth, renamed)
    assert (table[["f1", "precision", "recall", "mean_iou", "pq"]] == 1).all(axis=None)


def test_ids_that_agree_in_their_lower_32_bits_stay_apart():
    truth = np.array([[5, 5, 5 + 2**32, 5 + 2**32, 5 + 2**33]])
    assert match(truth, truth, thresholds=[1.0])["n_matched"].item() == 3


def test_half_a_cell_is_no_match_so_that_matches_are_unique():
    truth, halves = np.array([[1, 1]]), np.array([[1, 2]])
    assert match(truth, halves, thresholds=[0.5])["n_matched"].item() == 0


def test_empty_sides():
    some, none = np.array([[1, 0]]), np.zeros((1, 2), int)
    row = match(some, none).loc[0.5]
    assert row["f1"] == row["recall"] == row["pq"] == 0
    assert np.isnan(row["precision"])
    assert np.isnan(match(none, none).loc[0.5, "f1"])


@pytest.mark.parametrize("threshold", [0.49, 0.0, 1.01, float("nan")])
def test_thresholds_outside_the_valid_range(threshold):
    with pytest.raises(ValueError, match=r"each must lie in \[0.5, 1\]"):
        match(np.ones((1, 1), int), np.ones((1, 1), int), thresholds=[0.5, threshold])


def test_bad_labels():
    labels = np.ones((2, 2), int)
    with pytest.raises(ValueError, match=r"shape \(2, 2\) and predicted \(2, 1\)"):
        match(labels, labels[:, :1])
    with pytest.raises(ValueError, match="float64 values"):
        match(labels.astype(float), labels)
    with pytest.raises(ValueError, match="negative id -1"):
        match(labels, -labels)
    with pytest.raises(ValueError, match="one is needed"):
        match(labels, labels, thresholds=[])


def test_many_cells_take_little_time():
    blocks = np.arange(1, 40_001).reshape(200, 200)
    truth = np.kron(blocks, np.ones((10, 10), np.int64))
    table = match(truth, np.roll(truth, 1, axis=1))
    assert table["n_true"].iloc[0] == 40_000
    assert table.loc[0.7, "f1"] == 1


def slow_assignment(true, predicted):
    """Match each predicted cell by counting, then look at each transcript."""
    stands_for = {}
    for p in set(predicted[predicted > 0]):
        inside = true[(predicted == p) & (true > 0)]
        stands_for[p] = np.bincount(inside).argmax() if inside.size else -1
    right = sum(p > 0 and t > 0 and stands_for[p] == t for t, p in zip(true, predicted, strict=True))
    return right / max((predicted > 0).sum(), 1), right / max((true > 0).sum(), 1)


@pytest.mark.parametrize("seed", range(3))
def test_transcript_assignment_equals_counting_one_by_one(seed):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 15, 500)
    predicted = np.where(rng.random(500) < 0.6, (true + 3) % 15, rng.integers(0, 20, 500))
    scores = transcript_assignment(true, predicted)
    precision, recall = slow_assignment(true, predicted)
    assert scores["precision"] == pytest.approx(precision)
    assert scores["recall"] == pytest.approx(recall)
    assert scores["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    in_both = (true > 0) & (predicted > 0)
    expected = sklearn_metrics.adjusted_rand_score(true[in_both], predicted[in_both])
    assert scores["ari"] == pytest.approx(expected)


def test_matching_by_id_counts_equal_ids():
    true, predicted = np.array([1, 1, 2, 2, 0, 3]), np.array([1, 2, 1, 2, 2, 0])
    scores = transcript_assignment(true, predicted, matching="id")
    assert (scores["n_right"], scores["n_assigned"], scores["n_true"]) == (2, 5, 5)
    assert scores["precision"] == scores["recall"] == scores["f1"] == pytest.approx(0.4)


def test_overlap_forgives_other_ids_and_cut_cells_but_ari_does_not():
    true = np.repeat([1, 2], 10)
    assert transcript_assignment(true, true + 2**33)["f1"] == 1
    cut = np.arange(20) // 5 + 1
    scores = transcript_assignment(true, cut)
    assert scores["f1"] == 1
    assert scores["ari"] < 0.7


def test_transcripts_without_cells():
    none = np.zeros(3, int)
    scores = transcript_assignment(none, none)
    assert np.isnan([scores["precision"], scores["recall"], scores["f1"], scores["ari"]]).all()
    assert transcript_assignment(none, np.ones(3, int))["precision"] == 0
    assert transcript_assignment(np.ones(3, int), none)["recall"] == 0


def test_bad_transcripts():
    with pytest.raises(ValueError, match="one id per transcript"):
        transcript_assignment([1, 2], [1])
    with pytest.raises(ValueError, match="use 'overlap' or 'id'"):
        transcript_assignment([1], [1], matching="name")
    with pytest.raises(ValueError, match="predicted_id holds float64"):
        transcript_assignment([1], [1.0])
