from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from ucs.metrics import summary


def table(counts, **obs):
    counts = np.asarray(counts)
    var = pd.DataFrame(index=[f"G{k}" for k in range(counts.shape[1])])
    frame = pd.DataFrame(obs, index=[f"c{k}" for k in range(len(counts))])
    return AnnData(sparse.csr_matrix(counts), obs=frame, var=var)


def test_the_six_characteristics_by_hand():
    found = summary(table([[1, 0, 3], [0, 0, 2], [5, 5, 0]], area_um2=[10.0, 4.0, 20.0]))
    assert found["n_cells"] == 3
    assert found["n_transcripts"] == 16
    assert found["area_um2"] == 10
    assert found["transcripts_per_cell"] == 4
    assert found["transcripts_per_um2"] == 0.5  # of 0.4, 0.5, 0.5
    assert found["genes_per_cell"] == 2
    assert found["mean_transcripts_per_cell"] == pytest.approx(16 / 3)
    assert found["mean_genes_per_cell"] == pytest.approx(5 / 3)
    assert found["mean_area_um2"] == pytest.approx(34 / 3)


def test_areas_come_from_the_argument_or_obs_or_not_at_all():
    counts = table([[1, 1], [2, 0]])
    assert np.isnan(summary(counts)["area_um2"])
    assert np.isnan(summary(counts)["transcripts_per_um2"])
    assert summary(counts, area_um2=[1.0, 3.0])["area_um2"] == 2
    assert summary(counts.to_df(), area_um2=[1.0, 3.0])["mean_transcripts_per_um2"] == pytest.approx((2 + 2 / 3) / 2)


def test_explicit_zeros_are_no_genes():
    counts = table([[1, 1], [2, 1]])
    counts.X.data[0] = 0
    assert summary(counts)["mean_genes_per_cell"] == 1.5
    assert counts.X.nnz == 4  # the input is as it was


def test_bad_input():
    counts = table([[1, 1], [2, 0]])
    with pytest.raises(ValueError, match=r"area_um2 has shape \(3,\): one area for each of the 2 cells"):
        summary(counts, area_um2=[1, 2, 3])
    with pytest.raises(ValueError, match="1 values of 0 or below"):
        summary(counts, area_um2=[1, 0])
    with pytest.raises(ValueError, match="no counts"):
        summary(counts[:0])
    with pytest.raises(ValueError, match=r"1 negative values \(lowest -2\): it has been scaled"):
        summary(pd.DataFrame({"A": [1, -2]}))
    with pytest.raises(ValueError, match="1 NaN or infinite"):
        summary(pd.DataFrame({"A": [1, np.nan]}))
    with pytest.raises(ValueError, match="genes more than once: 'A'"):
        summary(pd.DataFrame([[1, 2]], columns=["A", "A"]))
    with pytest.raises(TypeError, match="table is a ndarray: pass an AnnData"):
        summary(np.ones((2, 2)))
    with pytest.raises(TypeError, match="table='x' is the key of an element"):
        summary("x")
