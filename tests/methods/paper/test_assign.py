from __future__ import annotations

import numpy as np
import pytest
from rasters import block_values, random_nuclei, squared_distances
from scipy.special import expit, log_expit
from scipy.special import logit as logit_of

from ucs._kernels.distances import nucleus_axes
from ucs._kernels.lattice import BLOCK, bounding_boxes
from ucs.methods.paper.assign import assign_pixels
from ucs.methods.paper.inference import BlockValues

TAU, REACH = 5.0, 12
log_sum = np.logaddexp.reduce


def assign(nuclei, scalar, *, weight=1.0, bias=0.0, tau=TAU, reach=REACH, threshold=0.5, strength=0.0, temperature=1.0):
    n = int(nuclei.max())
    return assign_pixels(
        nuclei,
        bounding_boxes(nuclei, n),
        nucleus_axes(nuclei, n, strength=strength),
        block_values(scalar),
        model=np.zeros(n + 1, dtype=int),
        weight=[weight],
        bias=[bias],
        temperature=[temperature],
        tau=tau,
        reach=reach,
        threshold=threshold,
    )


def plain_axes(nuclei):
    return nucleus_axes(nuclei, int(nuclei.max()), strength=0.0)


def candidates_by_pixel(nuclei, reach):
    """For each pixel outside nuclei its candidates: (squared distance, id), by id."""
    ids = np.setdiff1d(nuclei, 0)
    squared = [squared_distances(nuclei == c) for c in ids]
    return {
        (int(i), int(j)): [(int(d[i, j]), int(c)) for c, d in zip(ids, squared, strict=True) if d[i, j] <= reach**2]
        for i, j in np.argwhere(nuclei == 0)
    }


def assign_oracle(nuclei, scalar, *, weight=1.0, bias=0.0, tau=TAU, reach=REACH, threshold=0.5, temperature=1.0):
    """METHOD 4, pixel by pixel and candidate by candidate, in logarithms of probabilities, which do not saturate."""
    labels, probability = nuclei.copy(), np.where(nuclei > 0, 1.0, 0.0)
    for pixel, candidates in candidates_by_pixel(nuclei, reach).items():
        if not candidates:
            continue
        ranked = []
        for squared, c in candidates:
            s = expit((0.5 - np.sqrt(squared)) / tau)
            ranked.append((weight * float(scalar[pixel]) * s + bias, -squared, -c))
        logits = np.array([logit for logit, _, _ in ranked])
        # Background: the mean of 1 - q; its logit is log(mean(1 - q) / mean(q)).
        background = log_sum(log_expit(-logits)) - log_sum(log_expit(logits))
        logit, _, negative_id = max(ranked)
        if not logit > background:
            logit, _, negative_id = max(ranked, key=lambda one: one[1:])
        if logit > background + temperature * logit_of(threshold):
            labels[pixel] = -negative_id
            probability[pixel] = expit(logit)
    return labels, np.rint(255 * probability).astype(np.uint8)


@pytest.mark.parametrize(
    ("weight", "bias", "scale"),
    [
        (1.0, -0.5, 3.0),
        (2.0, -3.0, 10.0),
        (-1.5, 1.0, 5.0),  # w f below 0 half of the time: then the farther nucleus has the larger q
        (1.0, 0.3, 1e3),  # saturates: q rounds to 1 for several nuclei
        (1.0, -400.0, 1e3),
        (3.0, 0.0, 1e5),
        (0.0, 0.2, 1.0),  # all logits equal: the nearest wins
        (0.0, -0.2, 1.0),
        (1.0, 0.0, 0.0),
    ],
)
def test_equals_the_oracle(weight, bias, scale):
    for seed in range(2):
        nuclei = random_nuclei(seed, (40, 45), 14, radius=(1, 4))
        scalar = (scale * np.random.default_rng(seed).normal(size=nuclei.shape)).astype(np.float32)
        labels, probability = assign(nuclei, scalar, weight=weight, bias=bias)
        expected_labels, expected_probability = assign_oracle(nuclei, scalar, weight=weight, bias=bias)
        np.testing.assert_array_equal(labels, expected_labels)
        np.testing.assert_allclose(probability.astype(int), expected_probability, atol=1)  # atol: rounding of .5
        assert (labels.dtype, probability.dtype) == (np.int32, np.uint8)


def test_equals_the_argmax_of_probabilities_where_none_saturates():
    nuclei = random_nuclei(3, (40, 40), 14, radius=(1, 4))
    scalar = np.random.default_rng(3).normal(scale=4, size=nuclei.shape).astype(np.float32)
    labels, _ = assign(nuclei, scalar, weight=1.2, bias=-0.4)
    for pixel, candidates in candidates_by_pixel(nuclei, REACH).items():
        q = [expit(1.2 * scalar[pixel] * expit((0.5 - np.sqrt(d)) / TAU) - 0.4) for d, _ in candidates]
        classes = [np.mean(1 - np.array(q)), *q] if candidates else [1.0]
        best = int(np.argmax(classes))
        assert labels[pixel] == (0 if best == 0 else candidates[best - 1][1])


def test_saturated_pixels_go_to_the_nearest_nucleus():
    nuclei = random_nuclei(4, (50, 50), 20, radius=(1, 3))
    labels, _ = assign(nuclei, np.full(nuclei.shape, 1e3, dtype=np.float32))
    for pixel, candidates in candidates_by_pixel(nuclei, REACH).items():
        assert labels[pixel] == (min(candidates)[1] if candidates else 0)


def test_ties_go_to_the_nearer_nucleus_then_to_the_lower_id():
    nuclei = np.zeros((1, 9), dtype=np.int32)
    nuclei[0, 0], nuclei[0, 8] = 2, 1
    scalar = np.full(nuclei.shape, 4.0, dtype=np.float32)
    assert assign(nuclei, scalar)[0].tolist() == [[2, 2, 2, 2, 1, 1, 1, 1, 1]]
    # Equal logits everywhere: w = 0.
    assert assign(nuclei, scalar, weight=0.0, bias=1.0)[0].tolist() == [[2, 2, 2, 2, 1, 1, 1, 1, 1]]
    assert assign(nuclei, scalar, weight=0.0, bias=0.0)[0].tolist() == [[2, 0, 0, 0, 0, 0, 0, 0, 1]]  # q = background


@pytest.mark.parametrize("value", [-1e6, 0.0, 1e6, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("weight", [-1.0, 0.0, 1.0])
def test_nuclei_keep_their_pixels(value, weight):
    nuclei = random_nuclei(6, (30, 30), 12, radius=(1, 5))
    scalar = np.full(nuclei.shape, value, dtype=np.float32)
    labels, probability = assign(nuclei, scalar, weight=weight, bias=-1.0)
    np.testing.assert_array_equal(labels[nuclei > 0], nuclei[nuclei > 0])
    assert (probability[nuclei > 0] == 255).all()
    assert (probability[labels == 0] == 0).all()


@pytest.mark.parametrize("reach", [1, 5, 13, 24])
def test_reach_is_the_distance_between_pixel_centres(reach):
    nuclei = np.zeros((60, 70), dtype=np.int32)
    nuclei[30, 33] = 1
    labels, _ = assign(nuclei, np.full(nuclei.shape, 50.0, dtype=np.float32), reach=reach)
    np.testing.assert_array_equal(labels == 1, squared_distances(nuclei == 1) <= reach**2)


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_threshold_makes_cells_smaller(strength):
    nuclei = random_nuclei(7, (40, 40), 10, radius=(1, 4))
    scalar = np.random.default_rng(7).normal(2, 3, size=nuclei.shape).astype(np.float32)
    previous, areas = None, []
    for threshold in (1e-9, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9, 0.99, 1 - 1e-12):
        options = {"bias": -1.0, "threshold": threshold, "temperature": 2.5}
        labels, _ = assign(nuclei, scalar, strength=strength, **options)
        if strength == 0:
            np.testing.assert_array_equal(labels, assign_oracle(nuclei, scalar, **options)[0])
        if previous is not None:
            assert (labels[labels > 0] == previous[labels > 0]).all()
        previous = labels
        areas.append(int((labels > 0).sum()))
    assert (np.diff(areas) <= 0).all()
    assert len(set(areas)) > 7
    np.testing.assert_array_equal(previous, nuclei)


def test_what_a_low_threshold_adds_goes_to_the_nearest_nucleus():
    """Where w f < 0 the farthest has the largest q."""
    nuclei = np.zeros((1, 12), dtype=np.int32)
    nuclei[0, 0], nuclei[0, 11] = 1, 2
    scalar = np.full(nuclei.shape, -3.0, dtype=np.float32)
    assert not assign(nuclei, scalar, bias=-1.0)[0][0, 1:-1].any()
    labels, _ = assign(nuclei, scalar, bias=-1.0, threshold=0.001)
    assert labels.tolist() == [[1] * 6 + [2] * 6]


def test_half_is_the_decision_of_the_paper():
    nuclei = random_nuclei(7, (40, 40), 10, radius=(1, 4))
    scalar = np.random.default_rng(7).normal(2, 3, size=nuclei.shape).astype(np.float32)
    for one, other in zip(assign(nuclei, scalar), assign(nuclei, scalar, threshold=0.5), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.2, 1.5, np.nan])
def test_threshold_out_of_bounds(threshold):
    nuclei = np.ones((3, 3), dtype=np.int32)
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        assign(nuclei, np.ones((3, 3), dtype=np.float32), threshold=threshold)


def test_long_nuclei_reach_farther_along_their_axis():
    """Two nuclei at equal plain distance: the pixel goes to the one whose tip points at it."""
    nuclei = np.zeros((25, 41), dtype=np.int32)
    nuclei[11:14, 2:17] = 2  # its tip is 5 pixels from (12, 21)
    nuclei[4:21, 26:29] = 1  # its flank is 5 pixels from (12, 21)
    scalar = np.full(nuclei.shape, 4.0, dtype=np.float32)
    assert assign(nuclei, scalar, bias=-1.0)[0][12, 21] == 1  # a tie
    assert assign(nuclei, scalar, bias=-1.0, strength=0.3)[0][12, 21] == 2


def test_borders_of_blocks_do_not_show():
    """The same tissue at another place on the lattice of blocks; nuclei and cells lie across block borders."""
    shape = (BLOCK + 30, BLOCK + 45)
    nuclei = random_nuclei(8, shape, 120, radius=(1, 6))
    assert (nuclei[BLOCK - 1] * nuclei[BLOCK]).any()
    scalar = np.random.default_rng(8).normal(2, 6, size=shape).astype(np.float32)
    labels, probability = assign(nuclei, scalar, bias=-1.0)
    for shift in ((37, 61), (90, 5)):
        pad = [(s, 3) for s in shift]
        moved = assign(np.pad(nuclei, pad), np.pad(scalar, pad, constant_values=-1e3), bias=-1.0)
        inside = tuple(slice(s, s + n) for s, n in zip(shift, shape, strict=True))
        np.testing.assert_array_equal(moved[0][inside], labels)
        np.testing.assert_array_equal(moved[1][inside], probability)


def test_raster_larger_than_a_block_equals_the_oracle():
    nuclei = random_nuclei(9, (BLOCK + 6, 30), 25, radius=(1, 4))
    scalar = np.random.default_rng(9).normal(1, 6, size=nuclei.shape).astype(np.float32)
    np.testing.assert_array_equal(assign(nuclei, scalar, bias=-1.0)[0], assign_oracle(nuclei, scalar, bias=-1.0)[0])


def test_threads_have_no_say(monkeypatch):
    nuclei = random_nuclei(10, (300, 280), 300, radius=(1, 6))
    scalar = np.random.default_rng(10).normal(1, 6, size=nuclei.shape).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr("ucs._utils.parallel.n_threads", lambda threads=threads: threads)
        results.append(assign(nuclei, scalar, bias=-1.0))
    for labels, probability in results[1:]:
        np.testing.assert_array_equal(labels, results[0][0])
        np.testing.assert_array_equal(probability, results[0][1])


def test_nothing_to_assign():
    labels, probability = assign(np.zeros((5, 7), dtype=np.int32), np.ones((5, 7), dtype=np.float32))
    assert not labels.any()
    assert not probability.any()
    assert assign(np.ones((1, 1), dtype=np.int32), np.zeros((1, 1), dtype=np.float32))[0].tolist() == [[1]]


class TestSeveralModels:
    """Each nucleus by its own model: nuclei of several models compete for a pixel."""

    WEIGHTS, BIASES = [1.0, 2.5, -0.7], [-0.5, 0.2, 0.4]

    def scene(self, seed, shape=(60, 70)):
        nuclei = random_nuclei(seed, shape, 25, radius=(1, 4))
        rng = np.random.default_rng(seed)
        scalars = rng.normal(1, 4, size=(3, *shape)).astype(np.float32)
        return nuclei, scalars, rng.integers(0, 3, int(nuclei.max()) + 1)

    def assign(self, nuclei, scalars, model, *, weight=None, bias=None):
        rasters = [block_values(scalar) for scalar in scalars]
        offsets = np.cumsum([0, *(len(values.blocks) for values in rasters)])
        values = BlockValues(
            nuclei.shape,
            np.concatenate([values.index + first for values, first in zip(rasters, offsets, strict=False)]),
            np.concatenate([values.blocks for values in rasters]),
        )
        return assign_pixels(
            nuclei,
            bounding_boxes(nuclei, int(nuclei.max())),
            plain_axes(nuclei),
            values,
            model=model,
            weight=weight or self.WEIGHTS,
            bias=bias or self.BIASES,
            temperature=[1.0, 2.0, 3.0],
            tau=TAU,
            reach=REACH,
        )

    @pytest.mark.parametrize("seed", range(3))
    def test_equals_the_oracle(self, seed):
        nuclei, scalars, model = self.scene(seed)
        labels, probability = self.assign(nuclei, scalars, model)
        for pixel, candidates in candidates_by_pixel(nuclei, REACH).items():
            ranked = []
            for squared, c in candidates:
                m = model[c]
                softmask = expit((0.5 - np.sqrt(squared)) / TAU)
                ranked.append((self.WEIGHTS[m] * float(scalars[m][pixel]) * softmask + self.BIASES[m], -squared, -c))
            expected, q = 0, 0.0
            if ranked:
                logits = np.array([logit for logit, _, _ in ranked])
                background = log_sum(log_expit(-logits)) - log_sum(log_expit(logits))
                if max(ranked)[0] > background:
                    expected, q = -max(ranked)[2], expit(max(ranked)[0])
            assert labels[pixel] == expected
            assert abs(int(probability[pixel]) - 255 * q) <= 0.5 + 1e-6

    def test_which_is_one_model_if_all_say_the_same(self):
        nuclei, scalars, model = self.scene(5, (BLOCK + 20, BLOCK + 9))
        one = assign(nuclei, scalars[0], weight=1.3, bias=-0.2)
        several = self.assign(nuclei, [scalars[0]] * 3, model, weight=[1.3] * 3, bias=[-0.2] * 3)
        for a, b in zip(one, several, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_scores_that_are_missing_are_an_error(self):
        nuclei, scalars, model = self.scene(1)
        values = block_values(scalars[0])
        with pytest.raises(IndexError):
            assign_pixels(
                nuclei, bounding_boxes(nuclei, int(nuclei.max())), plain_axes(nuclei), values, model=model + 1,
                weight=[1.0], bias=[0.0], temperature=[1.0], tau=TAU, reach=REACH,
            )  # fmt: skip
        missing = BlockValues(values.shape, np.full_like(values.index, -1), values.blocks)
        with pytest.raises(ValueError, match="Scores are missing on 1 blocks that nuclei reach"):
            assign_pixels(
                nuclei, bounding_boxes(nuclei, int(nuclei.max())), plain_axes(nuclei), missing, model=0 * model,
                weight=[1.0], bias=[0.0], temperature=[1.0], tau=TAU, reach=REACH,
            )  # fmt: skip
