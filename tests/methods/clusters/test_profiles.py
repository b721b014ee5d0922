from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.special import softmax
from scipy.stats import multinomial

from ucs.methods.clusters import profiles as module
from ucs.methods.clusters.profiles import PRIOR_COUNTS, Profiles

N_GENES = 30


def fit_profiles(counts, **options):
    """The kinds under one prior."""
    return module.fit_profiles(counts, **options)[0]


def two_kinds(n=200, *, depth=60, contrast=6.0, seed=0):
    """Counts of nuclei of two kinds, each rich in one half of the genes, and which kind each is."""
    random = np.random.default_rng(seed)
    shares = np.ones((2, N_GENES))
    shares[0, : N_GENES // 2] = shares[1, N_GENES // 2 :] = contrast
    shares /= shares.sum(axis=1, keepdims=True)
    kind = random.integers(0, 2, n)
    counts = np.stack([random.multinomial(random.poisson(depth), shares[k]) for k in kind])
    return sparse.csr_matrix(counts.astype(np.int32)), kind, shares


def purity(membership, kind):
    """Share of the nuclei whose kind is told by the fitted kind they most likely are of."""
    best = membership.argmax(axis=1)
    return sum(np.bincount(kind[best == k]).max() for k in np.unique(best)) / len(kind)


def test_clearly_different_kinds_are_told_apart():
    counts, kind, shares = two_kinds()
    profiles = fit_profiles(counts, seed=0)
    assert profiles.log_ratio.shape == (10, N_GENES)
    assert (profiles.log_ratio.dtype, profiles.log_share.dtype) == (np.float32, np.float64)
    membership = profiles.membership(counts)
    assert purity(membership, kind) > 0.98
    fresh, fresh_kind, _ = two_kinds(seed=1)
    assert purity(profiles.membership(fresh), fresh_kind) > 0.95
    # What the kinds say of a gene follows what is true of it.
    truth = np.log(shares / shares.mean(axis=0))
    best = membership.argmax(axis=1)
    for k in np.unique(best):
        assert np.corrcoef(profiles.log_ratio[k], truth[np.bincount(kind[best == k]).argmax()])[0, 1] > 0.5


def test_log_ratios_are_of_shares():
    counts, _, _ = two_kinds()
    profiles = fit_profiles(counts, seed=3)
    total = np.asarray(counts.sum(axis=0)).ravel() + 1
    overall = total / total.sum()
    np.testing.assert_allclose((np.exp(profiles.log_ratio) * overall).sum(axis=1), 1, rtol=1e-5)
    assert np.exp(profiles.log_share).sum() == pytest.approx(1)


def test_membership_is_the_posterior_of_a_mixture_of_multinomials():
    counts, _, _ = two_kinds(50)
    profiles = fit_profiles(counts, seed=0)
    total = np.asarray(counts.sum(axis=0)).ravel() + 1
    shares = np.exp(profiles.log_ratio.astype(float)) * (total / total.sum())
    shares /= shares.sum(axis=1, keepdims=True)
    rows = counts.toarray()
    log_likelihood = np.stack([multinomial.logpmf(rows, rows.sum(axis=1), share) for share in shares], axis=1)
    expected = softmax(log_likelihood + profiles.log_share, axis=1)
    np.testing.assert_allclose(profiles.membership(counts), expected, atol=1e-3)


def test_expectation_maximisation_does_not_lose_likelihood():
    """More rounds fit the nuclei no worse, prior included: the definition of the algorithm."""
    counts, _, _ = two_kinds(100, contrast=2.0)

    def penalised(profiles):
        total = np.asarray(counts.sum(axis=0)).ravel() + 1
        overall = total / total.sum()
        fit = counts @ profiles.log_ratio.T.astype(float) + profiles.log_share
        top = fit.max(axis=1)
        likelihood = (top + np.log(np.exp(fit - top[:, None]).sum(axis=1))).sum()
        prior = PRIOR_COUNTS * (profiles.log_ratio @ overall).sum() + profiles.log_share.sum()
        return likelihood + prior

    scores = []
    for rounds in (1, 2, 5, 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_ITERATIONS", rounds)
            scores.append(penalised(fit_profiles(counts, seed=0)))
    assert scores == sorted(scores)


def test_the_seed_decides():
    counts, _, _ = two_kinds()
    one, again, other = (fit_profiles(counts, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.log_ratio, again.log_ratio)
    np.testing.assert_array_equal(one.log_share, again.log_share)
    assert not np.array_equal(one.log_ratio, other.log_ratio)


@pytest.mark.parametrize(("n", "n_kinds"), [(40, 2), (79, 3), (319, 15), (400, 16)])
def test_number_of_kinds(n, n_kinds):
    assert len(fit_profiles(two_kinds(n, depth=30)[0] + 0, seed=0).log_share) == n_kinds


def test_only_some_of_many_nuclei_are_looked_at(monkeypatch):
    monkeypatch.setattr(module, "_MOST_NUCLEI", 100)
    counts, kind, _ = two_kinds(300)
    profiles = fit_profiles(counts, seed=0)
    assert len(profiles.log_share) == 15  # as many as all of them allow
    assert purity(profiles.membership(counts), kind) > 0.95


@pytest.mark.parametrize("counts", [np.ones((39, 4)), np.zeros((100, 4)), np.zeros((0, 4)), np.zeros((100, 0))])
def test_too_few_nuclei_with_transcripts(counts):
    assert module.fit_profiles(sparse.csr_matrix(counts.astype(np.int32)), seed=0) == []


def test_nuclei_without_transcripts():
    """They have no say in the fit, and are of any kind as often as it occurs."""
    counts, _, _ = two_kinds(100)
    empty = sparse.csr_matrix((20, N_GENES), dtype=np.int32)
    one, other = fit_profiles(counts, seed=0), fit_profiles(sparse.vstack([counts, empty]).tocsr(), seed=0)
    np.testing.assert_array_equal(one.log_ratio, other.log_ratio)
    np.testing.assert_allclose(one.membership(empty), np.exp(one.log_share)[None].repeat(20, axis=0), rtol=1e-5)


def test_one_gene_says_nothing():
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(5, (100, 1)).astype(np.int32) + 1)
    profiles = fit_profiles(counts, seed=0)
    np.testing.assert_allclose(profiles.log_ratio, 0, atol=1e-6)
    assert np.isfinite(profiles.membership(counts)).all()


def test_large_counts_do_not_overflow():
    profiles = Profiles(np.array([[2.0, -2.0], [-2.0, 2.0]], dtype=np.float32), np.log([0.5, 0.5]))
    made = profiles.membership(sparse.csr_matrix(np.array([[10**6, 0], [0, 10**6], [3, 3]])))
    np.testing.assert_allclose(made, [[1, 0], [0, 1], [0.5, 0.5]])
    assert made.dtype == np.float32


def test_the_larger_the_prior_the_less_is_made_of_genes():
    counts, _, _ = two_kinds()
    priors = (10.0, 300.0, 3000.0)
    found = module.fit_profiles(counts, seed=0, prior_counts=priors)
    spread = [np.abs(profiles.log_ratio).mean() for profiles in found]
    assert spread == sorted(spread, reverse=True)
    assert spread[0] > 2 * spread[-1]
    one = fit_profiles(counts, seed=0, prior_counts=priors[1:2])
    np.testing.assert_array_equal(one.log_ratio, found[1].log_ratio)
