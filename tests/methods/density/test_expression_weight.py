from __future__ import annotations

import numpy as np
import pytest
import zarr
from rasters import grid_of_discs, random_map, random_nuclei
from scipy import ndimage, optimize, sparse
from scipy.special import log_expit

from ucs._files.scratch import Scratch
from ucs._kernels import transcripts as maps
from ucs._kernels.count import count_in_labels
from ucs._kernels.lattice import bounding_boxes
from ucs._kernels.transcripts import TranscriptMap
from ucs.methods.clusters.cores import count_in_cores
from ucs.methods.density import expression_weight as module
from ucs.methods.density.expression_weight import LabelledTissue, learn_kinds

N_GENES = 20
SHAPE = (160, 176)


@pytest.fixture(params=[None, 100])
def entries_at_once(request, monkeypatch):
    """All in one go, and band by band."""
    if request.param is not None:
        monkeypatch.setattr(maps, "ENTRIES_AT_ONCE", request.param)


def tissue(*, informative=True, depth=0.8, seed=0, um_per_px=1.0, shape=SHAPE):
    """Nuclei 16 pixels apart, of two kinds at random; their transcripts follow the kind, or are any genes at all."""
    random = np.random.default_rng(seed)
    nuclei = grid_of_discs(shape, 16, 4)
    kind = random.integers(0, 2, int(nuclei.max()) + 1)
    totals = random.poisson(np.where(nuclei > 0, depth, 0))
    row, column = np.nonzero(totals)
    count = totals[row, column]
    row, column = np.repeat(row, count), np.repeat(column, count)
    gene = random.integers(0, N_GENES, len(row))
    if informative:  # four of five transcripts are of the kind's own half of the genes
        own = random.random(len(row)) < 0.8
        half = N_GENES // 2
        gene = np.where(own, kind[nuclei[row, column]] * half + gene % half, gene)
    transcripts = TranscriptMap.from_positions(row, column, gene, None, shape=shape, n_features=N_GENES)
    return LabelledTissue(transcripts, nuclei, bounding_boxes(nuclei, int(nuclei.max())), um_per_px)


def test_counts_in_nuclei(entries_at_once):
    nuclei = random_nuclei(0, (40, 50), 9)
    transcripts = random_map(0, nuclei.shape, 5, 900)
    n = int(nuclei.max()) + 1  # one id more than there is
    made = count_in_labels(transcripts, nuclei, n)
    assert made.dtype == np.int32
    dense = transcripts.dense()
    expected = [dense[:, nuclei == c].sum(axis=1) for c in range(1, n + 1)]
    np.testing.assert_array_equal(made.toarray(), expected)
    assert count_in_labels(transcripts, 0 * nuclei, 0).shape == (0, 5)
    assert count_in_labels(transcripts, 0 * nuclei, 3).nnz == 0


def test_counts_in_nuclei_are_the_same_matrix_as_scipy_makes(entries_at_once):
    nuclei = random_nuclei(1, (60, 50), 9)
    nuclei[:, ::7] = 3  # in many bands
    transcripts = random_map(1, nuclei.shape, 5, 9000)
    transcripts.count[::11] = 0
    n = int(nuclei.max())
    at = nuclei[transcripts.rows(), transcripts.column]
    entries = (transcripts.count[at > 0], (at[at > 0] - 1, transcripts.feature[at > 0]))
    expected = sparse.coo_matrix(entries, shape=(n, 5), dtype=np.int32).tocsr()
    made = count_in_labels(transcripts, nuclei, n)
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(made, name), getattr(expected, name))
        assert getattr(made, name).dtype == getattr(expected, name).dtype
    assert made.has_canonical_format


def test_counts_in_nuclei_of_zarr(entries_at_once):
    nuclei = random_nuclei(1, (60, 50), 9)
    transcripts, n = random_map(1, nuclei.shape, 5, 900), int(nuclei.max())
    stored = zarr.array(nuclei, chunks=(16, 16))
    assert (count_in_labels(transcripts, stored, n) != count_in_labels(transcripts, nuclei, n)).nnz == 0


@pytest.mark.parametrize("um_per_px", [0.5, 1.0])
def test_cores_reach_2_um_and_belong_to_the_nearest_nucleus(um_per_px):
    nuclei = random_nuclei(1, (40, 50), 9)
    transcripts, n = random_map(1, nuclei.shape, 5, 900), int(nuclei.max())
    made = count_in_cores(transcripts, nuclei, n, um_per_px=um_per_px)
    distance = np.stack([ndimage.distance_transform_edt(nuclei != c) for c in range(1, n + 1)])
    core = np.where(distance.min(axis=0) * um_per_px <= 2, distance.argmin(axis=0) + 1, 0)
    np.testing.assert_array_equal(made.toarray(), count_in_labels(transcripts, core.astype(np.int32), n).toarray())


def test_informative_kinds_are_trusted():
    profiles, weight_um = learn_kinds([tissue()], seed=0)
    assert len(profiles.log_share) == 5
    assert 0.1 < weight_um <= 1


@pytest.mark.parametrize("seed", range(3))
def test_genes_that_say_nothing_are_not(seed):
    _, weight_um = learn_kinds([tissue(informative=False, seed=seed)], seed=seed)
    assert weight_um < 0.05


def test_nuclei_do_not_read_themselves(monkeypatch):
    """Without the split each nucleus would recognise its own noise."""
    noise = tissue(informative=False, depth=0.4)
    monkeypatch.setattr(module, "_halves", lambda transcripts, _: (transcripts, transcripts))
    assert learn_kinds([noise], seed=0)[1] > 0.2
    monkeypatch.undo()
    assert learn_kinds([noise], seed=0)[1] < 0.05


def test_kinds_are_of_all_transcripts_though():
    one = tissue()
    profiles, _ = learn_kinds([one], seed=0)
    expected = module.fit_profiles(one.counts(), seed=0, prior_counts=module.PRIORS)
    assert any(np.array_equal(profiles.log_ratio, one.log_ratio) for one in expected)


def test_the_seed_decides():
    one, again, other = (learn_kinds([tissue(informative=False)], seed=seed) for seed in (0, 0, 1))
    assert one[1] == again[1]
    assert not np.array_equal(one[0].log_ratio, other[0].log_ratio)
    np.testing.assert_array_equal(one[0].log_ratio, again[0].log_ratio)


def test_several_samples():
    """Each too small to tell kinds apart, all together are not."""
    samples = [tissue(seed=seed, shape=(64, 80)) for seed in range(4)]
    assert learn_kinds(samples[:1], seed=0) == (None, 0.0)
    profiles, weight_um = learn_kinds(samples, seed=0)
    assert len(profiles.log_share) == 4
    assert weight_um > 0.1


def test_too_little_to_learn_from():
    one = tissue(depth=0)
    assert learn_kinds([one], seed=0) == (None, 0.0)
    single = grid_of_discs((20, 20), 20, 5)
    of_one = LabelledTissue(random_map(0, single.shape, 4, 100), single, bounding_boxes(single, 1), 1.0)
    assert learn_kinds([of_one], seed=0) == (None, 0.0)
    # Enough nuclei with transcripts, but not in half of them.
    poor = tissue()
    rows, column = poor.transcripts.rows(), poor.transcripts.column
    first = np.unique(poor.nuclei[rows, column], return_index=True)[1]
    few = TranscriptMap.from_positions(
        rows[first], column[first], poor.transcripts.feature[first], None, shape=SHAPE, n_features=N_GENES
    ).where(poor.nuclei <= 45)
    assert learn_kinds([LabelledTissue(few, poor.nuclei, poor.boxes, 1.0)], seed=0) == (None, 0.0)


def test_one_gene():
    one = tissue()
    of = one.transcripts
    single = TranscriptMap.from_positions(of.rows(), of.column, 0 * of.feature, of.count, shape=SHAPE, n_features=1)
    profiles, weight_um = learn_kinds([LabelledTissue(single, one.nuclei, one.boxes, 1.0)], seed=0)
    assert profiles.log_ratio.shape[1] == 1
    assert weight_um < 0.05


def test_halves_are_a_partition(entries_at_once):
    transcripts = random_map(2, (30, 40), 5, 3000)
    one, other = module._halves(transcripts, np.random.default_rng(0))
    np.testing.assert_array_equal(one.dense() + other.dense(), transcripts.dense())
    assert abs(one.n_transcripts - other.n_transcripts) < 5 * np.sqrt(transcripts.n_transcripts)
    assert one.count.min() > 0
    assert one.count.dtype == other.count.dtype == np.int32


@pytest.mark.parametrize("where", ["in memory", "on disk"])
def test_halves_draw_the_same_numbers_however_they_are_drawn(entries_at_once, tmp_path, where):
    transcripts = random_map(2, (30, 40), 5, 3000)
    transcripts.count[::5] = 40  # drawn in another way than small ones
    part = np.random.default_rng(7).binomial(transcripts.count, 0.5)
    if where == "on disk":
        writer = maps.MapWriter(transcripts.shape, 5, storage=Scratch(tmp_path))
        writer.append_map(transcripts)
        transcripts = writer.finish()
    random = np.random.default_rng(7)
    for made, count in zip(module._halves(transcripts, random), (part, transcripts.count - part), strict=True):
        some = count > 0
        expected = TranscriptMap.from_positions(
            transcripts.rows()[some], transcripts.column[some], transcripts.feature[some], count[some],
            shape=transcripts.shape, n_features=5,
        )  # fmt: skip
        for name in ("row_start", "column", "feature", "count"):
            np.testing.assert_array_equal(getattr(made, name), getattr(expected, name))
        assert made.storage is transcripts.storage
    again = np.random.default_rng(7)
    again.binomial(transcripts.count, 0.5)
    assert random.random() == again.random()


def test_pixels_of_nuclei(monkeypatch):
    nuclei = random_nuclei(1, (40, 50), 9)
    pixels = module._pixels_of_nuclei(nuclei, np.random.default_rng(0))
    np.testing.assert_array_equal(pixels, np.argwhere(nuclei))
    monkeypatch.setattr(module, "_MOST_PIXELS", 20)
    some = module._pixels_of_nuclei(nuclei, np.random.default_rng(0))
    assert len(np.unique(some, axis=0)) == len(some) == 20
    assert (nuclei[some[:, 0], some[:, 1]] > 0).all()


def test_neighbours_are_the_nearest_others():
    nuclei = random_nuclei(3, (60, 60), 12, radius=(2, 4))
    nuclei[nuclei == 4] = 0  # an absent id is nobody's neighbour
    n = int(nuclei.max())
    boxes = bounding_boxes(nuclei, n)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    present = [c for c in range(1, n + 1) if (nuclei == c).any()]
    own = np.array([c for c in present for _ in range(2)], dtype=np.int32)
    made = np.stack(module._neighbours(boxes, own), axis=1)
    assert made.shape == (len(own), 3)
    for c, others in zip(own, made, strict=True):
        squared = {k: ((centres[k] - centres[c]) ** 2).sum() for k in present if k != c}
        np.testing.assert_allclose([squared[k] for k in others], sorted(squared.values())[:3])


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_neighbours(n):
    nuclei = grid_of_discs((20, 20 * max(n, 1)), 20, 5) if n else np.zeros((20, 20), dtype=np.int32)
    made = module._neighbours(bounding_boxes(nuclei, n), np.arange(1, n + 1, dtype=np.int32))
    assert len(made) == max(n - 1, 0)


@pytest.mark.parametrize(("mean", "spread"), [(0.5, 2.0), (2.0, 4.0), (0.05, 1.0), (30.0, 60.0)])
def test_slope_is_the_likeliest(mean, spread):
    evidence = np.random.default_rng(0).normal(mean, spread, 5000)
    best = optimize.minimize_scalar(lambda slope: -log_expit(slope * evidence).sum(), bounds=(-1, 3), method="bounded")
    assert module._slope(evidence) == pytest.approx(np.clip(best.x, 0, 1), abs=1e-4)


def test_slope_stays_within_bounds():
    assert module._slope(np.zeros(0)) == module._slope(np.zeros(9)) == 0
    assert module._slope(np.full(100, 5.0)) == 1  # nothing speaks against
    assert module._slope(np.full(100, -5.0)) == 0
    assert module._slope(np.array([1e6, 1e6, -1e5])) == pytest.approx(0, abs=1e-3)


def test_gain_is_that_of_the_regression():
    random = np.random.default_rng(0)
    evidence, own = random.normal(0.5, 1.0, (3, 500)), random.integers(1, 60, 500).astype(np.int32)
    gain, slope = module._gain_and_slope([(evidence, own)])
    assert slope == module._slope(evidence.ravel())
    assert gain == pytest.approx(np.log(2) + log_expit(slope * evidence).mean())
    halves = [(evidence[:, :200], own[:200]), (evidence[:, 200:], own[200:])]
    assert module._gain_and_slope(halves) == pytest.approx((gain, slope))


def test_pixels_of_one_nucleus_err_together():
    """What would be no chance in a thousand pixels may be in the three nuclei that they belong to."""
    evidence = np.repeat([2.0, 2.0, -3.0], 300)[None]
    one_each, of_three = np.arange(1, 901, dtype=np.int32), np.repeat([1, 2, 3], 300).astype(np.int32)
    assert module._gain_and_slope([(evidence, one_each)])[0] > 0
    assert module._gain_and_slope([(evidence, of_three)]) == (0, 0)
    assert module._gain_and_slope([(np.zeros((0, 5)), of_three[:5])]) == (0, 0)
    assert module._gain_and_slope([(np.zeros((3, 0)), of_three[:0])]) == (0, 0)
