"""The real sample that comes with the package, against the crop that it was made of."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import spatialdata as sd
from helpers import require_data
from spatialdata import SpatialData
from spatialdata.transformations import get_transformation

import ucs


def matrix(sdata: SpatialData, key: str) -> np.ndarray:
    element = sdata[key]
    if hasattr(element, "children"):
        element = element["scale0"]["image"]
    return get_transformation(element, "global").to_affine_matrix(("x", "y"), ("x", "y"))


def test_it_is_the_crop():
    ours, crop = ucs.datasets.xenium_breast(), sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr"))
    points, given = ours["transcripts"].compute(), crop["transcripts"].compute()
    assert len(points) == len(given) == 23_691
    np.testing.assert_allclose(points[["x", "y"]], given[["x", "y"]], atol=0.006)
    assert (points["feature_name"].astype(str).to_numpy() == given["feature_name"].astype(str).to_numpy()).all()
    assert ((points["qv"] >= 20).to_numpy() == (given["qv"] >= 20).to_numpy()).all()
    np.testing.assert_array_equal(ours["nucleus_labels"], crop["nucleus_labels"]["scale0"]["image"])
    stain = np.asarray(crop["morphology_focus"]["scale0"]["image"]).astype(int)
    assert (stain - np.asarray(ours["morphology_focus"]).astype(int)).min() >= 0
    assert (stain - np.asarray(ours["morphology_focus"]).astype(int)).max() < 16
    for key in ("transcripts", "nucleus_labels", "morphology_focus", "he_image", "cell_boundaries"):
        np.testing.assert_allclose(matrix(ours, key), matrix(crop, key))
    assert len(ours["cell_boundaries"]) == 158


def test_it_is_small_and_says_whose_it_is():
    folder = files("ucs.datasets") / "breast"
    assert sum(len(path.read_bytes()) for path in folder.iterdir()) < 1_500_000
    words = (folder / "SOURCE.md").read_text()
    assert all(word in words for word in ("10x Genomics", "CC BY 4.0", "Changes"))
