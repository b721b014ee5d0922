from __future__ import annotations

import numpy as np
import pytest
from rasters import grid_of_discs, random_map
from scipy import ndimage

from ucs._kernels.count import count_in_labels
from ucs.methods.clusters.cores import CORE_UM, Cores

SHAPE = (70, 90)


def oracle(nuclei, um_per_px):
    """The nearest nucleus of each pixel by its distance to every one, the lower id first, if it is near enough."""
    n = int(nuclei.max())
    distances = np.stack([ndimage.distance_transform_edt(nuclei != c) * um_per_px for c in range(1, n + 1)])
    return np.where(distances.min(axis=0) <= CORE_UM + 1e-6, distances.argmin(axis=0) + 1, 0)


@pytest.mark.parametrize("um_per_px", [1.0, 0.5, 2.0, 0.3])
@pytest.mark.parametrize("rows", [1, 7, 32, 1000])
def test_cores_read_in_any_bands(um_per_px, rows):
    nuclei = grid_of_discs(SHAPE, 9, 3)
    expected = oracle(nuclei, um_per_px)
    cores = Cores(nuclei, int(nuclei.max()), um_per_px)
    made = np.concatenate([cores[row0 : row0 + rows] for row0 in range(0, SHAPE[0], rows)])
    assert made.dtype == np.int32
    np.testing.assert_array_equal(made, expected)
    assert (made > 0).sum() > (nuclei > 0).sum() or um_per_px == 2.0


def test_transcripts_in_cores():
    nuclei = grid_of_discs(SHAPE, 20, 3)
    n = int(nuclei.max())
    transcripts = random_map(0, SHAPE, 5, 3000)
    made = count_in_labels(transcripts, Cores(nuclei, n, 1.0), n).toarray()
    cores, dense = oracle(nuclei, 1.0), transcripts.dense()
    np.testing.assert_array_equal(made, [dense[:, cores == c].sum(axis=1) for c in range(1, n + 1)])
