from __future__ import annotations

import itertools
import time

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ucs._evaluation import contingency as _contingency
from ucs.metrics import IOU_THRESHOLDS, Tissue, match, matched_pairs, transcript_assignment


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
        assert row["ap"] == pytest.approx(len(matched) / (n_true + n_predicted - len(matched)))


@settings(max_examples=25, deadline=None)
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


def best_matching(truth, predicted, threshold):
    """Try all ways to pair cells up: the largest number of pairs, and the largest summed IoU with that number."""
    true_ids, predicted_ids = (sorted(set(np.unique(labels)) - {0}) for labels in (truth, predicted))
    iou = np.array(
        [
            [np.sum((truth == t) & (predicted == p)) / np.sum((truth == t) | (predicted == p)) for p in predicted_ids]
            for t in true_ids
        ]
    ).reshape(len(true_ids), len(predicted_ids))
    best = (0, 0.0)
    options = [[-1, *np.flatnonzero(row >= threshold)] for row in iou]
    for choice in itertools.product(*options):
        taken = [(i, j) for i, j in enumerate(choice) if j >= 0]
        if len({j for _, j in taken}) == len(taken):
            best = max(best, (len(taken), sum(iou[i, j] for i, j in taken)))
    return best


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.int64, (5, 5), elements=st.integers(0, 5)),
    hnp.arrays(np.int64, (5, 5), elements=st.integers(0, 5)),
    st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.45]),
)
def test_below_a_half_no_other_matching_has_more_pairs_or_a_larger_iou(truth, predicted, threshold):
    n_matched, summed = best_matching(truth, predicted, threshold)
    row = match(truth, predicted, thresholds=[threshold]).iloc[0]
    assert row["n_matched"] == n_matched
    if n_matched:
        assert row["mean_iou"] == pytest.approx(summed / n_matched)
    pairs = matched_pairs(truth, predicted, threshold=threshold)
    assert pairs["true_id"].is_unique
    assert pairs["predicted_id"].is_unique
    assert (pairs["iou"] >= threshold).all()


def test_a_lower_threshold_by_hand():
    """One true cell of 10 pixels cut into 4, 3 and 3: the largest part is its match, from IoU 0.4 down."""
    truth = np.ones((1, 10), int)
    predicted = np.array([[1, 1, 1, 1, 2, 2, 2, 3, 3, 3]])
    table = match(truth, predicted, thresholds=[0.5, 0.41, 0.4, 0.1])
    assert table["n_matched"].tolist() == [0, 0, 1, 1]
    assert table.loc[0.4, "mean_iou"] == pytest.approx(0.4)
    assert table.loc[0.4, "ap"] == pytest.approx(1 / 3)
    pairs = matched_pairs(truth * 7, predicted + 10, threshold=0.1)
    assert pairs.to_dict("records") == [{"true_id": 7, "predicted_id": 11, "iou": 0.4}]


def test_more_pairs_come_before_a_larger_iou():
    """t1 overlaps p1 (0.4) and p2 (0.2), t2 overlaps p1 only: both find a partner if t1 leaves p1 to t2."""
    truth = np.array([[1] * 6 + [2] * 3 + [0] * 3])
    predicted = np.array([[2, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]])
    pairs = matched_pairs(truth, predicted, threshold=0.3)
    assert pairs[["true_id", "predicted_id"]].to_numpy().tolist() == [[1, 2], [2, 1]]


def test_dask_arrays_are_read_some_rows_at_a_time(monkeypatch):
    truth, predicted = noisy_pair(1)
    expected = match(truth, predicted)
    monkeypatch.setattr(_contingency, "_PIECE", 100)
    lazy = [da.from_array(labels, chunks=(5, 7)) for labels in (truth, predicted)]
    pd.testing.assert_frame_equal(match(*lazy), expected)
    pd.testing.assert_frame_equal(match(truth, predicted), expected)
    lazy[1] = -lazy[1]
    with pytest.raises(ValueError, match="predicted holds the negative id"):
        match(*lazy)


def test_the_thresholds_of_the_paper():
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@pytest.mark.parametrize("threshold", [-0.1, 0.0, 1.01, float("nan")])
def test_thresholds_outside_the_valid_range(threshold):
    with pytest.raises(ValueError, match=r"each must lie in \(0, 1\]"):
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


@pytest.mark.slow
def test_170k_cells_are_matched_in_half_a_minute():
    blocks = np.arange(1, 412 * 413 + 1, dtype=np.int32).reshape(412, 413)
    truth = np.kron(blocks, np.ones((16, 16), np.int32))
    start = time.perf_counter()
    table = match(truth, np.roll(truth, (2, 3), (0, 1)), thresholds=(0.1, 0.5, 0.7))
    assert time.perf_counter() - start < 30
    assert table["n_matched"].tolist() == [412 * 413, 412 * 413, 0]


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


def test_transcripts_of_an_object(simulated):
    """Against reading the points, and the label under each, by hand."""
    tissue = Tissue(simulated, resolution=1.0)
    nuclei = tissue.cells("nucleus_labels")
    points = simulated["transcripts"].compute()
    control = points["feature_name"].astype(str).str.match("NegControl|BLANK|Unassigned|antisense")
    points = points[(points["qv"] >= 20) & ~control]
    row, column = tissue.grid.rows_columns(points["x"], points["y"])
    ids = np.concatenate([[0], nuclei.ids])[nuclei.labels[row, column]]
    for matching in ("overlap", "id"):
        expected = transcript_assignment(points["true_cell_id"].to_numpy(), ids, matching=matching)
        found = transcript_assignment("true_cell_id", "nucleus_labels", matching=matching, sdata=tissue)
        assert found == expected
    assert found["precision"] > 0.8 > found["recall"]
    with pytest.raises(KeyError, match="no column 'cell'; there are: 'x'"):
        transcript_assignment("cell", "nucleus_labels", sdata=tissue)
    with pytest.raises(TypeError, match="is the key of an element"):
        transcript_assignment("true_cell_id", "nucleus_labels")
