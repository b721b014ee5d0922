from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasters import random_nuclei
from scipy.ndimage import binary_erosion

from ucs._kernels.distances import nucleus_axes
from ucs._kernels.lattice import bounding_boxes
from ucs.methods.pretrained.candidates import REACH_UM, find_candidates, net_factor


def oracle(nuclei, axes, factor, um_per_px):
    """Two nearest nuclei of each net pixel by looking at every border pixel of every nucleus."""
    h, w = -(-nuclei.shape[0] // factor), -(-nuclei.shape[1] // factor)
    owner, distance = np.zeros((2, h, w), dtype=int), np.full((2, h, w), np.inf)
    for i in range(h):
        for j in range(w):
            y, x = i * factor + (factor - 1) / 2, j * factor + (factor - 1) / 2
            found = []
            for c in np.unique(nuclei[nuclei > 0]):
                mask = nuclei == c
                rows, columns = np.nonzero(mask & ~binary_erosion(mask))
                dy, dx = rows - y, columns - x
                if np.hypot(dy, dx).min() * um_per_px > REACH_UM:
                    continue
                cosine, sine, k = axes[c]
                stretched = np.hypot((dx * cosine + dy * sine) * k, (dy * cosine - dx * sine) / k).min() - 0.5
                row, column = min(int(y), nuclei.shape[0] - 1), min(int(x), nuclei.shape[1] - 1)
                found.append((0.0 if nuclei[row, column] == c else max(stretched, 0.0), c))
            for number, (d, c) in enumerate(sorted(found)[:2]):
                owner[number, i, j], distance[number, i, j] = c, d * um_per_px
    return owner, distance


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.sampled_from([1, 2, 3]), um_per_px=st.sampled_from([0.5, 1.0, 4.0]))
def test_they_are_the_two_nearest(seed, factor, um_per_px):
    nuclei = random_nuclei(seed, (23, 31), 6)
    n = int(nuclei.max(initial=0))
    axes = nucleus_axes(nuclei, n, strength=0.3)
    found = find_candidates(nuclei, bounding_boxes(nuclei, n), axes, factor=factor, um_per_px=um_per_px)
    owner, distance = oracle(nuclei, axes, factor, um_per_px)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-5)
    apart = distance[1] > distance[0] + 1e-4  # rounding may decide between equal distances
    apart |= np.isinf(distance[0])
    np.testing.assert_array_equal(found.owner[:, apart], owner[:, apart])


def test_ties_go_to_the_lower_id():
    nuclei = np.zeros((3, 9), dtype=np.int32)
    nuclei[1, 1], nuclei[1, 7] = 2, 1
    axes = nucleus_axes(nuclei, 2, strength=0)
    found = find_candidates(nuclei, bounding_boxes(nuclei, 2), axes, factor=1, um_per_px=1.0)
    assert found.owner[:, 1, 4].tolist() == [1, 2]


@pytest.mark.parametrize(("um_per_px", "factor"), [(1.0, 1), (2.0, 1), (0.5, 2), (0.35, 3), (0.2125, 4), (0.1, 6)])
def test_net_pixels_are_near_to_1_um(um_per_px, factor):
    assert net_factor(um_per_px) == factor
