from __future__ import annotations

import numpy as np
import pytest
from rasters import random_nuclei
from scipy import ndimage
from skimage.morphology import disk

from ucs._nuclei.clean import clean_labels


def slow(labels, radius):
    out = np.zeros_like(labels)
    for k in np.unique(labels[labels > 0]):
        part = np.pad(labels == k, radius + 1)
        if radius:
            part = ndimage.binary_opening(part, disk(radius))
        pieces, n = ndimage.label(part)
        if n == 0:
            continue
        part = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
        part = ndimage.binary_fill_holes(part)[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
        out[part & ((labels == k) | (labels == 0))] = k
    return out


@pytest.mark.parametrize("radius", [0, 1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_equals_scipy(seed, radius):
    labels = random_nuclei(seed, (70, 80), 35, radius=(1, 9))
    labels[np.random.default_rng(seed).uniform(size=labels.shape) < 0.04] = 0  # holes, and notches
    found = clean_labels(labels, radius)
    assert found.dtype == labels.dtype
    np.testing.assert_array_equal(found, slow(labels, radius))


def test_a_nucleus_in_a_hole_stays():
    labels = np.full((9, 9), 5, dtype=np.uint32)
    labels[2:7, 2:7] = 0
    labels[4, 4] = 9
    expected = np.full((9, 9), 5, dtype=np.uint32)
    expected[4, 4] = 9
    np.testing.assert_array_equal(clean_labels(labels, 0), expected)


def test_ids_may_be_large_and_absent():
    labels = np.zeros((4, 4), dtype=np.uint64)
    np.testing.assert_array_equal(clean_labels(labels, 1), labels)
    labels[1:3, 1:3] = 2**40
    np.testing.assert_array_equal(clean_labels(labels, 0), labels)
