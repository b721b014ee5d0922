"""Markers, references, and the types and correlations that follow from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from ucs._evaluation.reference import as_reference
from ucs.methods.markers import marker_matrix
from ucs.metrics import markers_from_reference, reference_correlation, transfer_types

GENES = [f"G{k}" for k in range(12)]


@pytest.fixture
def profiles():
    """Three types: each has three genes of its own; the last three are everybody's."""
    values = np.full((3, 12), 0.05)
    for k in range(3):
        values[k, 3 * k : 3 * k + 3] = [8, 4, 2]
    values[:, 9:] = 20
    return pd.DataFrame(values, index=["a", "b", "c"], columns=GENES)


def cells_of(profiles, n, seed=0, depth=1.0):
    rng = np.random.default_rng(seed)
    types = np.repeat(profiles.index.to_numpy(), n)
    counts = rng.poisson(depth * np.repeat(profiles.to_numpy(), n, axis=0))
    obs = pd.DataFrame({"type": types}, index=[f"c{k}" for k in range(len(types))])
    return AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=profiles.columns))


def test_single_cells_become_profiles(profiles):
    cells = cells_of(profiles, 5)
    found = as_reference(cells, type_key="type")
    dense = cells.to_df().groupby(cells.obs["type"].to_numpy())
    np.testing.assert_allclose(found.profiles, dense.mean())
    np.testing.assert_allclose(found.detected, (cells.to_df() > 0).groupby(cells.obs["type"].to_numpy()).mean())
    assert found.n_cells.tolist() == [5, 5, 5]


def test_profiles_of_one_type_are_averaged_and_text_is_left_out(profiles):
    frame = pd.concat([profiles, 3 * profiles]).assign(cell_type=list("abcabc"), atlas="some")
    found = as_reference(frame.reset_index(drop=True), type_key="cell_type")
    pd.testing.assert_frame_equal(found.profiles, 2 * profiles, check_names=False)
    assert found.detected is None
    assert found.n_cells.tolist() == [2, 2, 2]


def test_logarithms_are_refused_unless_said_and_then_undone(profiles):
    logged = np.log1p(profiles)
    with pytest.raises(ValueError, match=r"look like logarithms \(none is above 3.04, and they are not whole\)"):
        as_reference(logged)
    pd.testing.assert_frame_equal(as_reference(logged, scale="log1p").profiles, profiles)
    pd.testing.assert_frame_equal(as_reference(logged, scale="linear").profiles, logged)
    cells = cells_of(profiles, 5)
    expected = as_reference(cells, type_key="type")
    cells.X = cells.X.log1p()
    cells.uns["log1p"] = {}
    with pytest.raises(ValueError, match="its uns says so"):
        as_reference(cells, type_key="type")
    found = as_reference(cells, type_key="type", scale="log1p")
    np.testing.assert_allclose(found.profiles, expected.profiles)
    assert cells.X.max() < 5  # undone in a copy


def test_other_linear_scales_pass(profiles):
    as_reference(profiles.div(profiles.sum(axis=1), axis=0))  # proportions
    as_reference(1e4 * profiles.div(profiles.sum(axis=1), axis=0))
    as_reference((10 * profiles).round())  # whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: -f, "36 negative values .* scaled or centred"),
        (lambda f: f.where(f > 1), "NaN or infinite"),
        (lambda f: f.set_axis(["A", *GENES[:0], "A", *GENES[2:]], axis=1), "genes more than once: 'A'"),
        (lambda f: f.astype(str), "has no numbers"),
        (lambda f: f.set_axis(["a", None, "c"]), "1 of 3 rows of the reference have no type"),
    ],
)
def test_bad_references(profiles, change, message):
    with pytest.raises(ValueError, match=message):
        as_reference(change(profiles))


def test_bad_calls(profiles):
    cells = cells_of(profiles, 2)
    with pytest.raises(KeyError, match="type_key='kind' must be a column .* 'type'"):
        as_reference(cells, type_key="kind")
    with pytest.raises(KeyError, match="type_key=None"):
        as_reference(cells)
    with pytest.raises(KeyError, match="is no column of the reference"):
        as_reference(profiles, type_key="kind")
    with pytest.raises(TypeError, match="reference is of type ndarray"):
        as_reference(profiles.to_numpy())
    with pytest.raises(ValueError, match="scale='log2' is unknown"):
        as_reference(profiles, scale="log2")


def test_markers_of_single_cells_by_hand():
    """Found in more than a quarter of its type's cells and in fewer than a hundredth of all others."""
    n = 200
    types = np.repeat(["a", "b"], n)
    counts = np.zeros((2 * n, 4), int)
    counts[: int(0.3 * n), 0] = 1  # a marker of a
    counts[: int(0.2 * n), 1] = 1  # too rare
    counts[: n // 2, 2] = counts[n : n + 3, 2] = 1  # 1.5 % elsewhere
    counts[n:, 3] = counts[0, 3] = 1  # a marker of b: 0.5 % elsewhere
    cells = AnnData(counts, obs=pd.DataFrame({"t": types}, index=[str(k) for k in range(2 * n)]))
    cells.var_names = list("ABCD")
    assert markers_from_reference(cells, type_key="t") == {"a": ["A"], "b": ["D"]}
    assert markers_from_reference(cells, type_key="t", min_share=0.1, max_share=0.02) == {
        "a": ["A", "B", "C"],
        "b": ["D"],
    }


def test_markers_of_profiles(profiles):
    found = markers_from_reference(profiles, scale="linear")
    assert found == {"a": ["G0", "G1", "G2"], "b": ["G3", "G4", "G5"], "c": ["G6", "G7", "G8"]}
    assert markers_from_reference(profiles, scale="linear", genes=["G0", "G4", "G11"]) == {"a": ["G0"], "b": ["G4"]}
    with pytest.raises(ValueError, match="has 1 type"):
        markers_from_reference(profiles[:1], scale="linear")


def test_markers_in_all_forms():
    genes = pd.Index(list("ABCD"))
    expected = pd.DataFrame([[True, False, True], [False, True, True]], index=["x", "y"], columns=list("ABD"))
    long = pd.DataFrame({"Gene": ["A", "D", "B", "D", None], "cluster": ["x", "x", "y", "y", "y"]})
    wide = pd.DataFrame([[1, 0, 0, 1], [0, 1, 0, 1]], index=["x", "y"], columns=list("ABCD"))
    for markers in ({"x": ["A", "D"], "y": ("B", "D")}, long, wide, wide > 0):
        pd.testing.assert_frame_equal(marker_matrix(markers, genes), expected)


def test_bad_markers():
    genes = pd.Index(list("ABCD"))
    with pytest.raises(TypeError, match="markers\\['x'\\] is the text 'AB'"):
        marker_matrix({"x": "AB"}, genes)
    with pytest.raises(TypeError, match="markers is a list"):
        marker_matrix(["A"], genes)
    with pytest.raises(ValueError, match="a long table needs one of"):
        marker_matrix(pd.DataFrame({"A": [0, 2]}), genes)
    with pytest.raises(ValueError, match="a long table needs one of"):
        marker_matrix(pd.DataFrame({"gene": ["A"], "weight": [1.0]}), genes)
    with pytest.raises(ValueError, match="rows of the same type: 'x'"):
        marker_matrix(pd.DataFrame([[1, 0], [0, 1]], index=["x", "x"], columns=["A", "B"]), genes)


def test_types_are_transferred_to_cells_drawn_from_the_profiles(profiles):
    cells = cells_of(profiles, 40, seed=3)
    found = transfer_types(cells, profiles, scale="linear")
    assert (found["type"].astype(str).to_numpy() == cells.obs["type"].to_numpy()).mean() > 0.97
    assert found.index.equals(cells.obs_names)
    assert found["probability"].between(1 / 3, 1).all()
    # With four transcripts a cell it is less sure.
    thin = transfer_types(cells_of(profiles, 40, seed=3, depth=0.05), profiles, scale="linear")
    assert thin["probability"].mean() < found["probability"].mean()


def test_the_likeliest_type_by_hand(profiles):
    cell = pd.DataFrame([[0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0], [0] * 12], columns=GENES)
    found = transfer_types(cell, profiles, scale="linear")
    assert found["type"].tolist()[0] == "b"
    assert pd.isna(found["type"].iloc[1])
    assert np.isnan(found["probability"].iloc[1])
    share = profiles.to_numpy() / profiles.to_numpy().sum(axis=1, keepdims=True)
    share = 0.9 * share + 0.1 * share.mean(axis=0)
    share = 0.999 * share + 0.001 / 12
    likelihood = share[:, 3] * share[:, 9] ** 3
    assert found["probability"].iloc[0] == pytest.approx(likelihood[1] / likelihood.sum())


def test_correlation_equals_numpys_on_dense_means(profiles):
    cells = cells_of(profiles, 20, seed=1)
    found = reference_correlation(cells, profiles, "type", scale="linear")
    dense = cells.to_df().groupby(cells.obs["type"].to_numpy()).mean()
    for name, row in found.per_type.iterrows():
        a, b = (np.log1p(1e4 * x.loc[name] / x.loc[name].sum()) for x in (dense, profiles))
        assert row["pcc"] == pytest.approx(np.corrcoef(a, b)[0, 1])
        assert row["n_cells"] == 20
    assert found.mean == pytest.approx(found.per_type["pcc"].mean())
    assert found.mean > 0.9


def test_contamination_lowers_the_correlation(profiles):
    cells = cells_of(profiles, 20, seed=1)
    mixed = cells.copy()
    mixed.X = cells.X + 2 * cells.X[::-1]
    found = [reference_correlation(c, profiles, cells.obs["type"], scale="linear").mean for c in (cells, mixed)]
    assert found[1] < found[0] - 0.05


def test_types_may_be_given_transferred_or_partly_missing(profiles):
    cells = cells_of(profiles, 20)
    by_column = reference_correlation(cells, profiles, "type", scale="linear")
    assert reference_correlation(cells, profiles, scale="linear").mean == pytest.approx(by_column.mean, abs=0.05)
    partly = cells.obs["type"].astype(object).where(cells.obs["type"] != "b", None)
    found = reference_correlation(cells, profiles, partly, scale="linear")
    assert found.per_type.index.tolist() == ["a", "c"]
    few = reference_correlation(cells[:25], profiles, "type", scale="linear")
    assert few.per_type.index.tolist() == ["a"]  # five cells of b are too few


def test_what_does_not_fit(profiles, caplog):
    cells = cells_of(profiles, 20)
    with pytest.raises(ValueError, match="shares 0 genes with the table, 10 are needed.*transpose"):
        reference_correlation(cells, profiles.T, scale="linear")
    with pytest.raises(ValueError, match="shares 3 genes"):
        reference_correlation(cells, profiles[GENES[:3]], scale="linear")
    caplog.clear()
    reference_correlation(cells, profiles[GENES[:11]], scale="linear")
    assert "The reference lacks 1 of 12 genes of the table, left out: 'G11'" in caplog.text
    with pytest.raises(ValueError, match="No type has 30 cells or more .* 'a \\(20\\)'"):
        reference_correlation(cells, profiles, "type", scale="linear", min_cells=30)
    with pytest.raises(KeyError, match="types='kind' is no column"):
        reference_correlation(cells, profiles, "kind", scale="linear")
    with pytest.raises(ValueError, match="types has 2 entries"):
        reference_correlation(cells, profiles, ["a", "b"], scale="linear")
    empty = profiles.assign(**dict.fromkeys(GENES, 0.0))[:1].set_axis(["none"])
    with pytest.raises(ValueError, match="no expression in the 12 shared genes: 'none'"):
        transfer_types(cells, pd.concat([profiles, empty]), scale="linear")
