from __future__ import annotations

import numpy as np
import pytest
import zarr
from rasters import random_nuclei
from skimage.measure import regionprops

from ucs._kernels.labels.measure import centroids, eccentricities, measure, moments
from ucs._kernels.lattice import bounding_boxes


@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_image(seed):
    labels = random_nuclei(seed, (80, 90), 30, radius=(1, 9))
    found = moments(labels, int(labels.max()))
    for region in regionprops(labels):
        k = region.label - 1
        rows, columns = region.coords.T
        assert found[k].tolist() == [
            region.area,
            columns.sum(),
            rows.sum(),
            (columns**2).sum(),
            (rows**2).sum(),
            (rows * columns).sum(),
        ]
        np.testing.assert_allclose(centroids(found)[k], np.array(region.centroid)[::-1] + 0.5)
        # scikit-image takes pixels for points; unit squares have a second moment of 1/12.
        minor, major = np.linalg.eigvalsh(region.inertia_tensor + np.eye(2) / 12)
        np.testing.assert_allclose(eccentricities(found)[k], np.sqrt(1 - minor / major), atol=1e-6)
    assert found.dtype == np.int64


def test_absent_ids_have_no_centroid():
    labels = np.zeros((5, 6), dtype=np.int32)
    labels[1, 2] = 2
    found = moments(labels, 3)
    assert found[:, 0].tolist() == [0, 1, 0]
    np.testing.assert_array_equal(centroids(found), [[np.nan] * 2, [2.5, 1.5], [np.nan] * 2])
    np.testing.assert_array_equal(eccentricities(found), [np.nan, 0, np.nan])
    np.testing.assert_array_equal(measure(labels, 3, np.full((5, 6), 51, dtype=np.uint8)).mean(), [np.nan, 0.2, np.nan])


def test_eccentricity_of_known_shapes():
    labels = np.zeros((40, 400), dtype=np.int32)
    labels[0, :300] = 1  # a line
    labels[10:20, 10:20] = 2  # a square: the moments of a circle
    labels[25:35, 10:30] = 3  # a rectangle 1 : 2
    found = eccentricities(moments(labels, 3))
    np.testing.assert_allclose(found, [np.sqrt(1 - 1 / 300**2), 0, np.sqrt(0.75)], atol=1e-6)


def test_sums_are_exact_far_from_the_origin():
    """32-bit sums of squares would overflow; the same cell elsewhere has the same shape."""
    near, far = np.zeros((30, 30), dtype=np.int32), np.zeros((30, 60_000), dtype=np.int32)
    near[5:12, 3:21] = 1
    far[5:12, 59_003:59_021] = 1
    np.testing.assert_allclose(eccentricities(moments(far, 1)), eccentricities(moments(near, 1)), atol=1e-6)
    np.testing.assert_allclose(centroids(moments(far, 1)) - centroids(moments(near, 1)), [[59_000, 0]])
    assert moments(far, 1)[0, 3] == 7 * (np.arange(59_003, 59_021, dtype=np.int64) ** 2).sum()


def test_mean_probabilities():
    labels = random_nuclei(1, (50, 60), 12)
    probability = np.random.default_rng(0).integers(0, 256, labels.shape).astype(np.uint8)
    n = int(labels.max())
    expected = [probability[labels == c].mean() / 255 for c in range(1, n + 1)]
    np.testing.assert_allclose(measure(labels, n, probability).mean(), expected)
    labels = np.ones((3000, 20), dtype=np.int32)
    assert measure(labels, 1, np.full(labels.shape, 255, dtype=np.uint8)).mean().tolist() == [1.0]


def test_no_cells():
    assert moments(np.zeros((3, 3), dtype=np.int32), 0).shape == (0, 6)
    assert len(eccentricities(moments(np.zeros((3, 3), dtype=np.int32), 0))) == 0


@pytest.mark.parametrize("chunk", [7, 32, 200])
def test_in_bands_of_a_raster_on_disk(chunk, monkeypatch):
    labels = random_nuclei(3, (150, 70), 40, radius=(1, 12))
    values = np.random.default_rng(0).integers(0, 256, labels.shape).astype(np.uint8)
    n = int(labels.max()) + 1
    whole = measure(labels, n, values)
    on_disk = [zarr.create_array({}, data=raster, chunks=(chunk, chunk)) for raster in (labels, values)]
    monkeypatch.setattr("ucs._kernels.bands._ROWS", chunk)
    for made in (measure(labels, n, values), measure(on_disk[0], n, on_disk[1])):
        for name in ("moments", "boxes", "total"):
            np.testing.assert_array_equal(getattr(made, name), getattr(whole, name))
    np.testing.assert_array_equal(whole.boxes, bounding_boxes(labels, n))
    np.testing.assert_array_equal(measure(on_disk[0], n).moments, whole.moments)
    assert not measure(labels, n).total.any()


def test_labels_that_are_not_there():
    labels = np.array([[0, 3]])
    for n in (2, 0):
        with pytest.raises(ValueError, match=f"within 0 and n = {n}, but there are some from 0 to 3"):
            measure(labels, n)
    with pytest.raises(ValueError, match="from -3 to 0"):
        measure(-labels, 3)
    with pytest.raises(ValueError, match="2-D integer raster, not 2-D float64"):
        measure(labels.astype(float), 3)
