"""Localization against known truth: half of the genes have no preference, a quarter each prefers a side."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import ucs
from ucs._evaluation.localization import adjusted, localization_of

N_CELLS, N_GENES = 300, 240


def cells(fold: float, *, seed: int, clump: int = 1) -> tuple[AnnData, np.ndarray]:
    """Cells whose nuclei take a share of their own; transcripts in clumps that lie in the nucleus together or not."""
    rng = np.random.default_rng(seed)
    side = rng.permutation(np.repeat([-1, 0, 0, 1], N_GENES // 4))
    share = rng.beta(4, 8, N_CELLS)[:, None]
    clumps = rng.poisson(rng.lognormal(0, 0.5, (N_CELLS, 1)) * rng.lognormal(-1.2, 0.7, N_GENES))
    odds = share / (1 - share) * fold ** side.astype(float)
    nuclear = clump * rng.binomial(clumps, odds / (1 + odds))
    table = AnnData(csr_matrix(clump * clumps), var=pd.DataFrame(index=[f"G{k}" for k in range(N_GENES)]))
    table.layers["nucleus"] = csr_matrix(nuclear)
    return table, side


def outcome(fold: float, **options: int) -> tuple[float, float, float]:
    """Return the share of false discoveries, the power, and the share of p values below 5 % without preference."""
    called = wrong = right = there = 0
    low: list[np.ndarray] = []
    for seed in range(3):
        table, side = cells(fold, seed=seed, **options)
        found = ucs.tl.localization(table)
        sign = found["localization"].map({"nuclear": 1, "cytoplasmic": -1, "none": 0}).to_numpy(int)
        tested = found["p_value"].notna().to_numpy()
        called += (sign != 0).sum()
        wrong += ((sign != 0) & (sign != side)).sum()
        right += ((sign == side) & (side != 0)).sum()
        there += ((side != 0) & tested).sum()
        low.append(found["p_value"].to_numpy()[tested & (side == 0)] < 0.05)
    return wrong / max(called, 1), right / there, float(np.concatenate(low).mean())


@pytest.mark.parametrize("clump", [1, 2])
def test_false_discoveries_are_held_and_power_is_there(clump: int):
    fdr, power, low = outcome(2.0, clump=clump)
    assert fdr <= 0.05
    assert power >= 0.6
    assert low == pytest.approx(0.05, abs=0.02)


def test_nothing_is_called_where_nothing_is():
    found = pd.concat([ucs.tl.localization(cells(1.0, seed=k)[0]) for k in range(3)])
    assert (found["localization"] != "none").sum() <= 1
    assert (found["p_value"] < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_the_effect_is_the_ratio_of_the_densities():
    table, side = cells(2.0, seed=3)
    found = ucs.tl.localization(table)
    effect = found["log2_ratio"].to_numpy()
    assert [np.nanmedian(effect[side == k]) for k in (-1, 0, 1)] == pytest.approx([-1, 0, 1], abs=0.12)
    assert found["nuclear_share"].to_numpy()[side == 1].mean() > found["nuclear_share"].to_numpy()[side == -1].mean()


def test_it_is_the_statistic_of_mantel_and_haenszel():
    """Against the formula written out for one gene, all others compared with it."""
    table, _ = cells(1.0, seed=0)
    k, n = table.layers["nucleus"].toarray().astype(float), table.X.toarray().astype(float)
    found = localization_of(csr_matrix(k), csr_matrix(n), fewest=1, alpha=1e-12)
    used = ((n - k).sum(1) > 0) & (k.sum(1) > 0)
    k, n = k[used], n[used]
    K, N, own_k, own_n = k.sum(1), n.sum(1), k[:, 7], n[:, 7]
    difference = own_k - own_n * K / N
    variance = own_n * (N - own_n) * K * (N - K) / (N**2 * (N - 1))
    assert found.z[7] == pytest.approx(difference.sum() / np.sqrt(max(variance.sum(), (difference**2).sum())))
    up, down = own_k * (N - own_n - (K - own_k)) / N, (own_n - own_k) * (K - own_k) / N
    assert found.log2_ratio[7] == pytest.approx(np.log2((up.sum() + 0.5) / (down.sum() + 0.5)))


def test_types_are_tested_apart_and_corrected_together():
    table, _ = cells(2.0, seed=1)
    table.obs["kind"] = pd.Categorical(np.where(np.arange(N_CELLS) < 200, "many", "few"))
    found = ucs.tl.localization(table, by="kind", min_transcripts=5)
    assert found.index.names == ["kind", "gene"]
    alone = ucs.tl.localization(table[:200], min_transcripts=5)
    np.testing.assert_allclose(found.loc["many", "z"], alone["z"])
    np.testing.assert_allclose(found["q_value"], adjusted(found["p_value"].to_numpy()))
    ax = ucs.pl.localization(found)
    assert sum(len(drawn.get_offsets()) for drawn in ax.collections) == found["q_value"].notna().sum()
    plt.close("all")


def test_bad_input():
    table, _ = cells(1.0, seed=0)
    with pytest.raises(KeyError, match="by='kind'"):
        ucs.tl.localization(table, by="kind")
    with pytest.raises(ValueError, match="alpha=5"):
        ucs.tl.localization(table, alpha=5)
    with pytest.raises(ValueError, match="min_transcripts=0"):
        ucs.tl.localization(table, min_transcripts=0)
    empty = table.copy()
    empty.layers["nucleus"] = empty.X.copy()
    with pytest.raises(ValueError, match="nothing to test"):
        ucs.tl.localization(empty)
    del empty.layers["nucleus"]
    with pytest.raises(KeyError, match=r"no layers\['nucleus'\]"):
        ucs.tl.localization(empty)
    with pytest.raises(KeyError, match="no column 'log2_ratio'"):
        ucs.pl.localization(pd.DataFrame({"q_value": [1.0], "localization": ["none"]}))
