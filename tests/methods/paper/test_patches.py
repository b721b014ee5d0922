from __future__ import annotations

import numpy as np
import pytest
import torch
from rasters import grid_of_discs, map_from_dense, random_map, random_nuclei

from ucs._kernels.transcripts import Window
from ucs.methods.paper.background import beyond_distance
from ucs.methods.paper.foreground import HALO
from ucs.methods.paper.patches import IGNORED, Patch, PatchSource, TrainingData, read_transcripts

SIZE = 16
SHAPE = (70, 90)


@pytest.fixture(scope="module")
def data():
    nuclei = random_nuclei(0, SHAPE, 25, radius=(1, 4))
    return TrainingData(random_map(0, SHAPE, 8, 4000), nuclei, beyond_distance(nuclei, 4))


def source(data, *, seed=0, held_out=0.3, size=SIZE):
    return PatchSource([data], size=size, held_out=held_out, seed=seed)


def patches_of(windows, sample=0):
    return [Patch(sample, window) for window in windows]


def on_the_raster(window):
    """Pixels of the raster in a window, as a mask of the window."""
    return window.read(np.ones(SHAPE, dtype=bool)).astype(bool)


def labels_oracle(data):
    """Equations 7 and 8 on the whole raster."""
    totals = data.transcripts.dense().sum(axis=0)
    mean = totals[data.far].mean()
    out = np.full(SHAPE, IGNORED)
    out[data.far & (totals < mean)] = 0
    out[data.nuclei > 0] = 1
    return out


def test_mean_far_count(data):
    assert data.mean_far_count() == pytest.approx(data.transcripts.dense().sum(axis=0)[data.far].mean(), rel=1e-12)
    tall = TrainingData(random_map(1, (2500, 3), 2, 5000), np.zeros((2500, 3), np.int32), np.ones((2500, 3), bool))
    assert tall.mean_far_count() == tall.transcripts.n_transcripts / 7500  # in strips
    assert TrainingData(data.transcripts, data.nuclei, np.zeros(SHAPE, dtype=bool)).mean_far_count() == 0


def test_labels_are_nuclei_and_far_pixels_with_few_transcripts(data):
    windows = [Window(r, c, r + SIZE, c + SIZE) for r in range(-8, 70, 13) for c in range(-9, 90, 14)]
    labels = source(data).labels(patches_of(windows), training=False).numpy()
    assert (labels.shape, labels.dtype) == ((len(windows), SIZE, SIZE), np.int8)
    expected = labels_oracle(data)
    assert set(np.unique(expected)) == {IGNORED, 0, 1}
    for label, window in zip(labels, windows, strict=True):
        np.testing.assert_array_equal(label, window.read(expected, fill=IGNORED))


def test_background_without_any_transcript():
    """None lies below a mean of 0, and yet there are negatives."""
    nuclei = grid_of_discs((40, 40), 20, 4)
    data = TrainingData(map_from_dense((nuclei > 0)[None].astype(int)), nuclei, beyond_distance(nuclei, 3))
    (label,) = source(data, size=40).labels(patches_of([Window(0, 0, 40, 40)]), training=False).numpy()
    np.testing.assert_array_equal(label == 0, data.far)


def test_held_out_squares(data):
    patches = source(data)
    windows = [patch.window for patch in patches.held_out_patches(100)]
    assert 4 <= len(windows) == len(patches.samples[0].held_out) == len({(w.row0, w.column0) for w in windows})
    for window in windows:
        assert window.shape == (SIZE, SIZE)
        assert window.row0 % SIZE == window.column0 % SIZE == 0
    # Squares that hold the middle of a nucleus, and about as many as asked for.
    squares = {tuple(square) for square in (patches.samples[0].centre // SIZE).tolist()}
    assert {(w.row0 // SIZE, w.column0 // SIZE) for w in windows} <= squares
    assert len(windows) == round(0.3 * len(squares))
    assert len(patches.held_out_patches(2)) == 2


def test_held_out_squares_are_never_labelled_in_training(data):
    patches = source(data)
    held_out = np.zeros(SHAPE, dtype=bool)
    for patch in patches.held_out_patches(100):
        held_out[patch.window.clipped(SHAPE).slices] = True
    expected = np.where(held_out, IGNORED, labels_oracle(data))
    corners = [Window(r, c, r + SIZE, c + SIZE) for r in (-9, 60) for c in (-7, 80)]
    drawn = patches.draw(200) + patches_of(corners)
    labels = patches.labels(drawn, training=True).numpy()
    for label, window in zip(labels, [patch.window for patch in drawn], strict=True):
        np.testing.assert_array_equal(label, window.read(expected, fill=IGNORED))
        inside = on_the_raster(window)
        np.testing.assert_array_equal(patches.samples[0].is_held_out(window)[inside], window.read(held_out)[inside])
    assert (labels >= 0).any()


@pytest.mark.parametrize("held_out", [0.0, 0.01, 0.5])
def test_share_of_held_out_squares(data, held_out):
    n = len(source(data, held_out=held_out).samples[0].held_out)
    assert (n == 0) == (held_out == 0)
    assert n <= 13


def test_nothing_is_held_out_of_a_small_sample():
    nuclei = grid_of_discs((20, 60), 20, 4)  # three squares
    data = TrainingData(random_map(0, nuclei.shape, 2, 50), nuclei, nuclei == 0)
    patches = source(data, size=20, held_out=0.5)
    assert (len(patches.samples[0].held_out), patches.held_out_patches(6)) == (0, [])


def test_windows_are_drawn_around_nuclei(data):
    patches = source(data)
    windows = [patch.window for patch in patches.draw(500)]
    middles = patches.samples[0].centre
    seen = set()
    for window in windows:
        assert window.shape == (SIZE, SIZE)
        low, high = (window.row0, window.column0), (window.row1, window.column1)
        held = (middles >= low).all(axis=1) & (middles < high).all(axis=1)
        assert held.any()
        seen |= set(np.flatnonzero(held))
    assert len(seen) == len(middles)


def test_the_seed_decides(data):
    one, same, other = source(data, seed=1), source(data, seed=1), source(data, seed=2)
    np.testing.assert_array_equal(one.samples[0].held_out, same.samples[0].held_out)
    windows = one.draw(20)
    assert windows == same.draw(20)
    assert windows != other.draw(20)
    assert windows != one.draw(20)


def test_transcripts_have_the_halo(data):
    patches = source(data)
    drawn = patches.draw(3)
    batch = patches.transcripts(drawn)
    assert batch.shape == (3, SIZE + 2 * HALO, SIZE + 2 * HALO)
    dense = np.stack([data.transcripts.dense(patch.window.grown(HALO)) for patch in drawn])
    n_pixels = np.prod(batch.shape)
    pixel = np.repeat(np.arange(n_pixels), np.diff(batch.pixel_start.numpy()))
    made = np.zeros((data.transcripts.n_features, n_pixels))
    made[batch.gene.numpy(), pixel] = batch.count.numpy()
    np.testing.assert_array_equal(made.reshape(-1, *batch.shape).swapaxes(0, 1), dense)
    assert (batch.pixel_start.dtype, batch.gene.dtype, batch.count.dtype) == (torch.int64, torch.int64, torch.float32)


def test_the_order_of_transcripts_has_no_say(data):
    made = data.transcripts
    order = np.random.default_rng(0).permutation(len(made.count))
    again = type(made).from_positions(
        made.rows()[order],
        made.column[order],
        made.feature[order],
        made.count[order],
        shape=made.shape,
        n_features=made.n_features,
    )
    window = [Window(-3, 4, 30, 60)]
    for name in ("pixel_start", "gene", "count"):
        assert torch.equal(
            getattr(read_transcripts(again, window), name), getattr(read_transcripts(made, window), name)
        )


@pytest.fixture(scope="module")
def several(data):
    """The sample, one with three times its nuclei on another raster, and one with four nuclei in one square."""
    others = grid_of_discs((60, 320), 16, 3), grid_of_discs((16, 16), 8, 2)
    return [data, *(TrainingData(random_map(1, n.shape, 8, 3000), n, beyond_distance(n, 3)) for n in others)]


@pytest.fixture(scope="module")
def patches(several):
    return PatchSource(several, size=SIZE, held_out=0.3, seed=0)


class TestSeveralSamples:
    def test_one_of_them_is_drawn_as_if_alone(self, data):
        """Of a list of one, the numbers drawn are those of the sample by itself."""
        alone, again = source(data), PatchSource((data,), size=SIZE, held_out=0.3, seed=0)
        assert alone.held_out_patches(3) == again.held_out_patches(3)
        assert alone.draw(40) == again.draw(40)

    def test_patches_are_drawn_in_proportion_to_nuclei(self, several, patches):
        drawn = patches.draw(4000)
        nuclei = np.array([len(np.unique(one.nuclei)) - 1 for one in several])
        of_each = np.bincount([patch.sample for patch in drawn], minlength=3)
        np.testing.assert_allclose(of_each, 4000 * nuclei / nuclei.sum(), rtol=0.15, atol=20)

    def test_each_patch_holds_a_nucleus_of_its_sample(self, patches):
        for patch in patches.draw(200):
            middles = patches.samples[patch.sample].centre
            low, high = (patch.window.row0, patch.window.column0), (patch.window.row1, patch.window.column1)
            assert ((middles >= low) & (middles < high)).all(axis=1).any()

    def test_every_sample_holds_out_squares_if_it_has_enough(self, patches):
        n = [len(sample.held_out) for sample in patches.samples]
        assert n[0] > 0
        assert n[1] > 0
        assert n[2] == 0
        held_out = patches.held_out_patches(6)
        assert [sum(patch.sample == k for patch in held_out) for k in range(3)] == [2, 2, 0]

    def test_what_is_read_is_of_the_sample(self, several, patches):
        drawn = [Patch(k, Window(3, -2, 3 + SIZE, SIZE - 2)) for k in (2, 0, 1)]
        batch, labels = patches.transcripts(drawn), patches.labels(drawn, training=False).numpy()
        for k, (patch, label) in enumerate(zip(drawn, labels, strict=True)):
            alone = PatchSource([several[patch.sample]], size=SIZE, held_out=0.3, seed=0)
            expected = alone.labels(patches_of([patch.window]), training=False).numpy()[0]
            np.testing.assert_array_equal(label, expected)
            single = alone.transcripts(patches_of([patch.window]))
            n = single.shape[1] * single.shape[2]
            start = batch.pixel_start[k * n : (k + 1) * n + 1]
            assert torch.equal(start - start[0], single.pixel_start)
            assert torch.equal(batch.gene[start[0] : start[-1]], single.gene)
            assert torch.equal(batch.count[start[0] : start[-1]], single.count)
