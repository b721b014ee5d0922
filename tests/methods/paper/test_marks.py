from __future__ import annotations

import numpy as np
import pytest
from rasters import block_values, random_map

from ucs._kernels.distances import nucleus_axes
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import TranscriptMap, Window
from ucs.methods.paper.assign import assign_pixels
from ucs.methods.paper.marks import Marks, mark_pixels


@pytest.mark.parametrize(("n_types", "dtype"), [(3, np.uint8), (9, np.uint16), (20, np.uint32), (64, np.uint64)])
def test_bits_are_those_of_a_dense_mask(n_types, dtype):
    transcripts = random_map(0, (20, 30), 12, 300)
    is_marker = np.random.default_rng(1).random((n_types, 12)) < 0.2
    bits = mark_pixels(transcripts, is_marker, [])
    assert bits.dtype == dtype
    dense = transcripts.dense() > 0  # (features, h, w)
    for k in range(n_types):
        expected = dense[is_marker[k]].any(axis=0)
        np.testing.assert_array_equal((bits >> np.array(k, dtype)) & np.array(1, dtype), expected)


def test_too_many_types():
    with pytest.raises(ValueError, match="markers has 65 types"):
        mark_pixels(random_map(0, (5, 5), 2, 10), np.zeros((65, 2), dtype=bool), ["a"] * 65)


def test_of_pairs():
    transcripts = random_map(2, (12, 12), 6, 80)
    is_marker = np.eye(2, 6, dtype=bool)
    marks = Marks(mark_pixels(transcripts, is_marker, "ab"), np.array([-1, 1, 0, -1], dtype=np.int16))
    window = Window(3, 2, 9, 10)
    pixel, nucleus = np.arange(48), np.arange(48) % 3 + 1
    found = marks.of_pairs(window, pixel, nucleus)
    dense = transcripts.dense(window).reshape(6, -1) > 0
    expected = np.where(nucleus == 3, -1, np.where(nucleus == 1, dense[1], dense[0]))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(marks.crop(window).of_pairs(Window(0, 0, 6, 8), pixel, nucleus), expected)


def empty(shape, n_features, row, column, feature):
    return TranscriptMap.from_positions(
        np.array(row), np.array(column), np.array(feature), None, shape=shape, n_features=n_features
    )


class TestAssign:
    """Two nuclei, and pixels halfway between them with a marker of either type."""

    def assign(self, types, weight=3.0):
        nuclei = np.zeros((9, 15), dtype=np.int32)
        nuclei[3:6, 2:4], nuclei[3:6, 11:13] = 1, 2
        transcripts = empty(nuclei.shape, 2, [3, 5], [7, 7], [0, 1])
        marks = Marks(mark_pixels(transcripts, np.eye(2, dtype=bool), "ab"), np.array([-1, *types], dtype=np.int16))
        f = block_values(np.ones(nuclei.shape, dtype=np.float32))
        options = {"model": np.zeros(3, dtype=int), "weight": np.ones(1), "bias": np.zeros(1), "tau": 5.0, "reach": 12}
        given = nuclei, bounding_boxes(nuclei, 2), nucleus_axes(nuclei, 2, strength=0.0), f
        options["temperature"] = np.ones(1)
        plain, _ = assign_pixels(*given, **options)
        options |= {"marks": marks, "mark_weight": np.array([weight])}
        return plain, assign_pixels(*given, **options)[0]

    def test_markers_decide_where_distance_does_not(self):
        plain, labels = self.assign((0, 1))
        assert labels[3, 7] == 1
        assert labels[5, 7] == 2
        _, swapped = self.assign((1, 0))
        assert (swapped[3, 7], swapped[5, 7]) == (2, 1)
        elsewhere = np.ones(labels.shape, dtype=bool)
        elsewhere[[3, 5], 7] = False
        np.testing.assert_array_equal(labels[elsewhere], plain[elsewhere])

    @pytest.mark.parametrize(("types", "weight"), [((-1, -1), 3.0), ((0, 1), 0.0)])
    def test_without_types_or_weight_nothing_changes(self, types, weight):
        plain, labels = self.assign(types, weight)
        np.testing.assert_array_equal(labels, plain)
