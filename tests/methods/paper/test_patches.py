from __future__ import annotations

import numpy as np
import pytest
import torch
from rasters import grid_of_discs, map_from_dense, random_map, random_nuclei

from ucs._kernels.transcripts import Window
from ucs.methods.paper.background import beyond_distance
from ucs.methods.paper.patches import (
    IGNORED,
    MOST_HELD_OUT,
    Patch,
    PatchSource,
    Squares,
    TrainingData,
    read_transcripts,
)

SIZE, HALO = 16, 4
SHAPE = (70, 90)


@pytest.fixture(scope="module")
def data():
    nuclei = random_nuclei(0, SHAPE, 25, radius=(1, 4))
    return TrainingData(random_map(0, SHAPE, 8, 4000), nuclei, beyond_distance(nuclei, 4))


def source(data, *, seed=0, held_out=0.3, size=SIZE):
    return PatchSource([data], size=size, halo=HALO, held_out=held_out, seed=seed)


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


def test_squares_are_counted(data):
    squares = Squares.of(data, SIZE)
    totals = data.transcripts.dense().sum(axis=0)
    assert squares.pixels.shape == (5, 6)
    for k in range(5):
        for m in range(6):
            part = slice(k * SIZE, (k + 1) * SIZE), slice(m * SIZE, (m + 1) * SIZE)
            far = data.far[part]
            expected = far.size, (data.nuclei[part] > 0).sum(), far.sum(), totals[part].sum(), totals[part][far].sum()
            found = (squares.pixels, squares.nucleus, squares.far, squares.transcripts, squares.far_transcripts)
            assert tuple(int(values[k, m]) for values in found) == tuple(int(x) for x in expected)
    assert squares.mean_far_count == pytest.approx(totals[data.far].mean(), rel=1e-12)
    nowhere = TrainingData(data.transcripts, data.nuclei, np.zeros(SHAPE, dtype=bool))
    assert Squares.of(nowhere, SIZE).mean_far_count == 0


def test_glass_is_not_learned_from():
    """Squares without nuclei count if they have transcripts, as stroma does; what lies beyond the tissue does not."""
    nuclei = np.zeros((SIZE, 4 * SIZE), dtype=np.int32)
    nuclei[4:8, 4:8] = 1
    dense = np.zeros((1, SIZE, 4 * SIZE), dtype=int)
    dense[:, :, :SIZE], dense[:, ::2, SIZE : 2 * SIZE], dense[:, 3, 2 * SIZE] = 2, 1, 1
    far = beyond_distance(nuclei, 5)
    squares = Squares.of(TrainingData(map_from_dense(dense), nuclei, far), SIZE)
    np.testing.assert_array_equal(squares.to_learn_from(), [[True, True, False, False]])
    far[:, SIZE : 2 * SIZE] = False  # of another region, say
    squares = Squares.of(TrainingData(map_from_dense(dense), nuclei, far), SIZE)
    np.testing.assert_array_equal(squares.to_learn_from(), [[True, False, False, False]])


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
    assert len(windows) == round(0.3 * Squares.of(data, SIZE).to_learn_from().sum())
    assert len(patches.held_out_patches(2)) == 2
    drawn_about = {divmod(int(square), 6) for square in patches.samples[0].learned}
    assert drawn_about.isdisjoint({(w.row0 // SIZE, w.column0 // SIZE) for w in windows})


@pytest.mark.parametrize("seed", range(8))
def test_held_out_squares_hold_both_classes(data, seed):
    """Also where background is rare, or never in a square with nuclei."""
    rare = data.far.copy()
    rare[:, SIZE : 5 * SIZE] = False
    apart = np.zeros((4 * SIZE, 5 * SIZE), dtype=np.int32)
    apart[2::SIZE, 2 : 3 * SIZE : SIZE] = np.arange(1, 13).reshape(4, 3)
    elsewhere = np.zeros(apart.shape, dtype=bool)
    elsewhere[:, 3 * SIZE :] = True
    for one in (
        data,
        TrainingData(data.transcripts, data.nuclei, rare),
        TrainingData(random_map(0, apart.shape, 8, 9000), apart, elsewhere),
    ):
        for held_out in (0.01, 0.3):
            patches = source(one, seed=seed, held_out=held_out)
            labels = patches.labels(patches.held_out_patches(MOST_HELD_OUT), training=False)
            assert (labels == 0).any()
            assert (labels == 1).any()


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
    assert n <= MOST_HELD_OUT


def test_nothing_is_held_out_of_a_small_sample():
    nuclei = grid_of_discs((20, 60), 20, 4)  # three squares with nuclei
    data = TrainingData(random_map(0, nuclei.shape, 2, 50), nuclei, nuclei == 0)
    patches = source(data, size=20, held_out=0.5)
    assert (len(patches.samples[0].held_out), patches.held_out_patches(6)) == (0, [])


def test_patches_are_drawn_from_all_of_the_tissue(data):
    """Each pixel is about as likely as any other, with nuclei near or not, but for held-out squares and the border."""
    patches = source(data, held_out=0)
    times = np.zeros(SHAPE)
    drawn = [patch.window for patch in patches.draw(4000)]
    for window in drawn:
        assert window.shape == (SIZE, SIZE)
        assert window.clipped(SHAPE) == window
        times[window.slices] += 1
    inner = times[SIZE:-SIZE, SIZE:-SIZE]
    assert inner.mean() == pytest.approx(times.mean(), rel=0.15)
    assert inner.std() < 0.15 * inner.mean()
    assert len(patches) == len(patches.samples[0].learned) == 30
    assert len({(w.row0 % SIZE, w.column0 % SIZE) for w in drawn}) > 0.9 * SIZE**2


def test_patches_with_nuclei(data):
    alone = np.where(data.nuclei == 5, 5, 0).astype(np.int32)
    patches = source(TrainingData(data.transcripts, alone, data.far), held_out=0)
    row, column = np.argwhere(alone).mean(axis=0)
    for patch in patches.draw(100, with_nuclei=True):
        assert abs((patch.window.row0 + patch.window.row1) / 2 - row) < 1.6 * SIZE
        assert abs((patch.window.column0 + patch.window.column1) / 2 - column) < 1.6 * SIZE


def test_a_raster_smaller_than_a_patch():
    nuclei = grid_of_discs((9, 11), 20, 4)
    patches = source(TrainingData(random_map(0, (9, 11), 2, 50), nuclei, nuclei == 0))
    assert patches.draw(3) == patches_of([Window(0, 0, SIZE, SIZE)] * 3)


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
    return PatchSource(several, size=SIZE, halo=HALO, held_out=0.3, seed=0)


class TestSeveralSamples:
    def test_one_of_them_is_drawn_as_if_alone(self, data):
        """Of a list of one, the numbers drawn are those of the sample by itself."""
        alone, again = source(data), PatchSource((data,), size=SIZE, halo=HALO, held_out=0.3, seed=0)
        assert alone.held_out_patches(3) == again.held_out_patches(3)
        assert alone.draw(40) == again.draw(40)

    def test_patches_are_drawn_in_proportion_to_the_tissue(self, patches):
        drawn = patches.draw(4000)
        area = np.array([sample.squares.pixels.ravel()[sample.learned].sum() for sample in patches.samples])
        of_each = np.bincount([patch.sample for patch in drawn], minlength=3)
        np.testing.assert_allclose(of_each, 4000 * area / area.sum(), rtol=0.15, atol=20)

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
            alone = PatchSource([several[patch.sample]], size=SIZE, halo=HALO, held_out=0.3, seed=0)
            expected = alone.labels(patches_of([patch.window]), training=False).numpy()[0]
            np.testing.assert_array_equal(label, expected)
            single = alone.transcripts(patches_of([patch.window]))
            n = single.shape[1] * single.shape[2]
            start = batch.pixel_start[k * n : (k + 1) * n + 1]
            assert torch.equal(start - start[0], single.pixel_start)
            assert torch.equal(batch.gene[start[0] : start[-1]], single.gene)
            assert torch.equal(batch.count[start[0] : start[-1]], single.count)
