"""The samples that other tests rely on are what they say they are."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import cheap_copy, require_data
from spatialdata.models import get_table_keys
from spatialdata.transformations import Identity, get_transformation, set_transformation


def test_missing_data_skips_unless_required(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UCS_TEST_DATA", "nowhere")
    monkeypatch.delenv("UCS_REQUIRE_DATA", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no real data at nowhere"):
        require_data("sample")
    monkeypatch.setenv("UCS_REQUIRE_DATA", "1")
    with pytest.raises(pytest.fail.Exception, match="no real data at nowhere"):
        require_data("sample")


def test_prostate_is_laid_out_as_the_xenium_reader_does(prostate):
    points = prostate["transcripts"]
    assert {"x", "y", "feature_name", "qv", "cell_id", "overlaps_nucleus"} <= set(points.columns)
    assert len(points) == 170_359
    nuclei = prostate["nucleus_boundaries"]
    assert nuclei.index.is_unique
    assert nuclei["cell_id"].duplicated().any()
    assert nuclei.geometry.area.gt(0).all()
    matrix = get_transformation(points, "global").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(matrix, np.diag([1 / 0.2125, 1 / 0.2125, 1]))


def test_prostate_table_counts_the_vendors_cells(prostate):
    table = prostate["table"]
    assert get_table_keys(table) == ("cell_boundaries", "region", "cell_id")
    assert table.shape[0] == 429
    reported = table.obs["transcript_counts"].to_numpy()
    # Cells that the crop cut off reach their reported counts only in part; none may exceed it.
    counted = np.asarray(table.X.sum(axis=1)).ravel()
    assert (counted <= reported).all()
    assert np.median(counted / np.maximum(reported, 1)) > 0.99


def test_cheap_copy_leaves_the_original_alone(breast):
    copied = cheap_copy(breast)
    for name in ("transcripts", "nucleus_labels", "nucleus_boundaries", "morphology_focus"):
        set_transformation(copied[name], Identity(), "elsewhere")
        assert "elsewhere" not in get_transformation(breast[name], get_all=True)
    copied["transcripts"]["new"] = 1
    copied["table"].obs["new"] = 1
    copied["nucleus_boundaries"]["new"] = 1
    for name in ("transcripts", "nucleus_boundaries"):
        assert "new" not in breast[name].columns
    assert "new" not in breast["table"].obs
    del copied.labels["nucleus_labels"]
    assert "nucleus_labels" in breast.labels


def test_copies_of_simulated_tissue_are_independent(simulated, simulated_copy):
    first, second = simulated_copy(), simulated_copy()
    first["transcripts"]["new"] = 1
    for other in (simulated, second):
        assert "new" not in other["transcripts"].columns
    assert set(simulated.labels) == set(second.labels)
    assert first.attrs == simulated.attrs
