from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rasters import random_map, random_nuclei, squared_distances
from scipy.special import softmax

from ucs._kernels.distances import nearest_nuclei, nucleus_axes, stretched_distance
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import TranscriptMap
from ucs._utils import parallel
from ucs.methods.density import ownership as module
from ucs.methods.density.ownership import SHARPNESS_PER_UM, SIGMA_UM, Evidence, choose_owners, local_fit

SHAPE = (40, 46)
REACH = 9


def make_evidence(nuclei, *, seed=0, n=2500, kinds=3, n_genes=6, weight_um=0.5):
    random = np.random.default_rng(seed)
    membership = random.dirichlet(np.ones(kinds), int(nuclei.max(initial=0)) + 1).astype(np.float32)
    membership[0] = 0
    log_ratio = random.normal(0, 0.7, (kinds, n_genes)).astype(np.float32)
    return Evidence(random_map(seed, nuclei.shape, n_genes, n), log_ratio, membership, weight_um)


def choose(nuclei, evidence=None, *, strength=0.5, reach=REACH, um_per_px=1.0):
    n = int(nuclei.max(initial=0))
    boxes, axes = bounding_boxes(nuclei, n), nucleus_axes(nuclei, n, strength=strength)
    return choose_owners(nuclei, boxes, axes, reach=reach, um_per_px=um_per_px, evidence=evidence)


def distances(nuclei, *, strength=0.5, reach=REACH):
    """Stretched distance of every pixel to every nucleus, ``(n + 1, h, w)``; tested by itself."""
    n = int(nuclei.max(initial=0))
    boxes, axes = bounding_boxes(nuclei, n), nucleus_axes(nuclei, n, strength=strength)
    out = np.full((n + 1, *nuclei.shape), np.inf, dtype=np.float32)
    for c in range(1, n + 1):
        if boxes[c, 2]:
            stretched_distance(nuclei, boxes[c], c, axes[c], 0, 0, out[c], reach)
    return out


def fit_oracle(transcripts, log_ratio, um_per_px):
    """Sum over all transcripts within three standard deviations along each axis: ``(h, w, kinds)``."""
    sigma = SIGMA_UM / um_per_px
    farthest = np.ceil(3 * sigma)
    rows, columns = np.mgrid[: transcripts.shape[0], : transcripts.shape[1]]
    out = np.zeros((*transcripts.shape, len(log_ratio)))
    for i, j, g, n in zip(transcripts.rows(), transcripts.column, transcripts.feature, transcripts.count, strict=True):
        dy, dx = rows - i, columns - j
        near = (np.abs(dy) <= farthest) & (np.abs(dx) <= farthest)
        weight = np.where(near, 2 * np.exp(-(dy**2 + dx**2) / (2 * sigma**2)), 0)
        out += n * weight[..., None] * log_ratio[:, g]
    return out


def choose_oracle(nuclei, evidence, *, reach=REACH, um_per_px=1.0):
    """Scores of all nuclei at all pixels, the best of them, and a softmax over those in reach."""
    far = distances(nuclei, reach=reach).astype(np.float64)
    fit = fit_oracle(evidence.transcripts, evidence.log_ratio, um_per_px)
    score = -far * um_per_px + evidence.expression_weight_um * np.einsum("ck,ijk->cij", evidence.membership, fit)
    seen = np.isfinite(far).any(axis=0)
    owner = np.where(seen, np.argmax(score, axis=0), 0)
    with np.errstate(invalid="ignore"):
        probability = np.where(seen, softmax(SHARPNESS_PER_UM * score, axis=0).max(axis=0), 0)
    inside = nuclei > 0
    return np.where(inside, nuclei, owner), np.where(inside, 255, 255 * probability), np.sort(score, axis=0)


# Transcripts around a pixel


@pytest.mark.parametrize("um_per_px", [1.0, 0.5, 1.7])
def test_local_fit_is_a_sum_over_a_gaussian(um_per_px):
    transcripts = random_map(3, (21, 26), 5, 400)
    log_ratio = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    expected = fit_oracle(transcripts, log_ratio, um_per_px)
    pixels = np.argwhere(np.ones(transcripts.shape, dtype=bool))
    pixels = np.random.default_rng(1).permutation(pixels)  # in any order
    made = local_fit(transcripts, log_ratio, pixels, um_per_px=um_per_px)
    assert (made.shape, made.dtype) == ((len(pixels), 4), np.float32)
    np.testing.assert_allclose(made, expected[pixels[:, 0], pixels[:, 1]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("block", [(0, 0, 21, 26), (5, 7, 3, 4), (15, 20, 6, 6), (0, 25, 1, 1)])
def test_blocks_hold_what_single_pixels_do(block):
    transcripts = random_map(4, (21, 26), 5, 400)
    log_ratio = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    top, left, a, b = block
    out = np.full((a, b, 4), np.nan, dtype=np.float32)
    of = transcripts
    module._block_fit(
        of.row_start, of.column, of.feature, of.count, np.ascontiguousarray(log_ratio.T), module._gaussian(1.0),
        top, left, out,
    )  # fmt: skip
    pixels = np.argwhere(np.ones((a, b), dtype=bool)) + [top, left]
    single = local_fit(transcripts, log_ratio, pixels, um_per_px=1.0).reshape(a, b, 4)
    np.testing.assert_allclose(out, single, atol=1e-4, rtol=1e-4)


def test_weights_of_the_gaussian():
    for um_per_px in (0.25, 0.5, 1.0):
        half = module._gaussian(um_per_px).astype(float)
        full = np.concatenate([half[:0:-1], half])
        sigma = SIGMA_UM / um_per_px
        assert len(half) == np.ceil(3 * sigma) + 1
        assert np.outer(full, full).sum() == pytest.approx(4 * np.pi * sigma**2, rel=0.02)


def test_fit_far_from_transcripts_is_nothing():
    one = TranscriptMap.from_positions(*np.zeros((3, 1), dtype=int), None, shape=(30, 30), n_features=1)
    fit = local_fit(one, np.ones((2, 1), dtype=np.float32), np.array([[0, 0], [0, 6], [29, 29]]), um_per_px=1.0)
    np.testing.assert_allclose(fit, [[2, 2], [0, 0], [0, 0]])
    assert local_fit(one, np.ones((2, 1), dtype=np.float32), np.zeros((0, 2), int), um_per_px=1.0).shape == (0, 2)


# Owners by distance alone


@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_without_evidence_it_is_the_nearest(seed, strength):
    nuclei = random_nuclei(seed, (150, 140), 90, radius=(1, 6))
    n = int(nuclei.max())
    boxes, axes = bounding_boxes(nuclei, n), nucleus_axes(nuclei, n, strength=strength)
    owner, probability = choose(nuclei, strength=strength)
    np.testing.assert_array_equal(owner, nearest_nuclei(nuclei, boxes, axes, reach=REACH).owner)
    assert (owner.dtype, probability.dtype) == (np.int32, np.uint8)
    np.testing.assert_array_equal(probability == 0, owner == 0)


@pytest.mark.parametrize(
    "change",
    [
        {"expression_weight_um": 0.0},
        {"log_ratio": np.zeros((3, 6), dtype=np.float32)},
        {"log_ratio": np.zeros((0, 6), dtype=np.float32), "membership": np.zeros((200, 0), dtype=np.float32)},
        {"membership": np.full((200, 3), 1 / 3, dtype=np.float32)},  # all nuclei of one kind
        {"transcripts": random_map(0, SHAPE, 6, 0)},
    ],
)
def test_evidence_that_says_nothing(change):
    nuclei = random_nuclei(1, SHAPE, 14, radius=(1, 5))
    expected = choose(nuclei)
    made = choose(nuclei, replace(make_evidence(nuclei), **change))
    first, second = np.sort(distances(nuclei), axis=0)[:2]
    clear = (second > first + 1e-3) | np.isinf(second)
    np.testing.assert_array_equal(made[0][clear], expected[0][clear])
    assert np.abs(made[1].astype(int) - expected[1].astype(int)).max() <= 1


def test_ties_go_to_the_lower_id():
    nuclei = np.zeros((1, 9), dtype=np.int32)
    nuclei[0, 0], nuclei[0, 8] = 2, 1
    owner, probability = choose(nuclei)
    assert owner.tolist() == [[2, 2, 2, 2, 1, 1, 1, 1, 1]]
    assert probability[0, 4] == 128  # one of two


# Owners by distance and transcripts


@pytest.mark.parametrize("um_per_px", [1.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_equals_scoring_all_nuclei(seed, um_per_px):
    nuclei = random_nuclei(seed, SHAPE, 14, radius=(1, 5))
    evidence = make_evidence(nuclei, seed=seed)
    owner, probability = choose(nuclei, evidence, um_per_px=um_per_px)
    expected, expected_probability, ranked = choose_oracle(nuclei, evidence, um_per_px=um_per_px)
    with np.errstate(invalid="ignore"):
        clear = ~(ranked[-1] - ranked[-2] < 1e-3)
    np.testing.assert_array_equal(owner[clear], expected[clear])
    assert np.abs(probability - expected_probability).max() <= 0.51
    assert (owner != choose(nuclei)[0]).mean() > 0.05  # it does have a say


def test_transcripts_move_the_border():
    """Two nuclei of different kinds, and transcripts of the first kind up to two thirds of the way to the second."""
    nuclei = np.zeros((21, 31), dtype=np.int32)
    nuclei[9:12, 4:7], nuclei[9:12, 24:27] = 1, 2
    column = np.tile(np.arange(31), 21)
    transcripts = TranscriptMap.from_positions(
        np.repeat(np.arange(21), 31), column, (column >= 20).astype(int), None, shape=nuclei.shape, n_features=2
    )
    log_ratio = np.array([[0.5, -0.5], [-0.5, 0.5]], dtype=np.float32)
    membership = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32)
    by_distance = choose(nuclei, strength=0, reach=24)[0]
    evidence = Evidence(transcripts, log_ratio, membership, 5.0)
    by_both = choose(nuclei, evidence, strength=0, reach=24)[0]
    assert np.flatnonzero(np.diff(by_distance[10])).tolist() == [15]
    assert np.flatnonzero(np.diff(by_both[10])).tolist() == [19]
    swapped = choose(nuclei, replace(evidence, membership=membership[[0, 2, 1]]), strength=0, reach=24)[0]
    assert swapped[10, 13] == 2
    # Never a pixel of a nucleus, and none beyond reach.
    for owner in (by_both, swapped):
        np.testing.assert_array_equal(owner[nuclei > 0], nuclei[nuclei > 0])
    near = choose(nuclei, evidence, strength=0, reach=4)[0]
    for c in (1, 2):
        assert not near[squared_distances(nuclei == c) > 16][near[squared_distances(nuclei == c) > 16] == c].any()


def test_strong_evidence_does_not_overflow():
    nuclei = random_nuclei(1, SHAPE, 14, radius=(1, 5))
    evidence = make_evidence(nuclei, n=20_000)
    owner, probability = choose(nuclei, replace(evidence, log_ratio=1000 * evidence.log_ratio))
    assert ((owner > 0) == (probability > 0)).all()
    assert probability[owner > 0].min() >= 1


def test_neither_blocks_nor_threads_have_a_say(monkeypatch):
    nuclei = random_nuclei(7, (150, 200), 100, radius=(1, 6))
    evidence = make_evidence(nuclei, n=20_000)
    whole = choose(nuclei, evidence)
    for threads in (1, 5):
        monkeypatch.setattr(parallel, "n_threads", lambda threads=threads: threads)
        for one, other in zip(choose(nuclei, evidence), whole, strict=True):
            np.testing.assert_array_equal(one, other)
    of, down, right = evidence.transcripts, 60, 13
    moved = TranscriptMap.from_positions(
        of.rows() + down, of.column + right, of.feature, of.count, shape=(210, 213), n_features=of.n_features
    )
    shifted = choose(np.pad(nuclei, ((down, 0), (right, 0))), replace(evidence, transcripts=moved))
    for one, other in zip(shifted, whole, strict=True):
        np.testing.assert_array_equal(one[down:, right:], other)


@pytest.mark.parametrize("nuclei", [np.zeros((3, 4)), np.ones((1, 1)), np.ones((2, 3))])
def test_nothing_to_choose(nuclei):
    nuclei = nuclei.astype(np.int32)
    for evidence in (None, make_evidence(nuclei, n=10)):
        owner, probability = choose(nuclei, evidence)
        np.testing.assert_array_equal(owner, nuclei)
        np.testing.assert_array_equal(probability, 255 * nuclei)
