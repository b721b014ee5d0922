"""A raster seen tile by tile against the same raster seen as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasters import random_map, random_nuclei

from ucs._kernels.distances import nearest_nuclei
from ucs._kernels.labels.ids import renumber
from ucs._kernels.lattice import BLOCK, bounding_boxes, tiles_of
from ucs._kernels.transcripts import Window
from ucs.methods.density.levels import distance_bins, measure_levels
from ucs.methods.density.ownership import choose_owners, evidence_reach
from ucs.methods.density.statistics import MARGIN, look_over
from ucs.methods.density.surroundings import survey
from ucs.methods.model import Selection

REACH, N_FEATURES = 20, 5
SHAPE = (230, 310)  # of which tiles of 96 px leave rests
SOME = Selection(np.array([True, False, True, True, False]), np.array([2, 0, 0, 1, 0]), 3)
SIDES = [1, 96, 100, 200, 10_000]


def seen(shape=SHAPE, *, seed=0, n=60, n_transcripts=40_000, strength=0.5, um_per_px=1.0, **options):
    """Transcripts, nuclei and the overview of them."""
    nuclei = random_nuclei(seed, shape, n, radius=(2, 9))
    transcripts = random_map(seed, shape, N_FEATURES, n_transcripts)
    settings = {"reach": REACH, "strength": strength, "um_per_px": um_per_px}
    return transcripts, nuclei, look_over(transcripts, SOME, nuclei, **settings, **options)


def whole(transcripts, nuclei, *, strength=0.5, um_per_px=1.0):
    """The oracle: all is held."""
    boxes = bounding_boxes(nuclei, int(nuclei.max(initial=0)))
    totals = SOME.of(transcripts).totals()
    return survey(totals, nuclei, boxes, reach=REACH, strength=strength, um_per_px=um_per_px)


def assert_same(overview, around):
    """The figures of an overview against those of the whole."""
    nearest = around.nearest
    np.testing.assert_array_equal(overview.boxes, around.boxes)
    np.testing.assert_array_equal(overview.axes, around.axes)
    np.testing.assert_array_equal(overview.richness, around.richness)
    bins = distance_bins(nearest.distance, around.nuclei > 0, around.um_per_px)
    np.testing.assert_array_equal(overview.bins, bins)
    near = (around.nuclei == 0) & np.isfinite(nearest.distance)
    n = len(around.boxes)
    np.testing.assert_array_equal(overview.near_pixels, np.bincount(nearest.owner[near], minlength=n))
    counts = np.bincount(nearest.owner[near], weights=around.totals[near], minlength=n)
    np.testing.assert_array_equal(overview.near_counts, counts)


# Figures of the whole


@pytest.mark.parametrize("tile", SIDES)
def test_figures_are_those_of_the_whole(tile):
    transcripts, nuclei, overview = seen(tile=tile)
    assert overview.shape == SHAPE
    assert overview.group is None
    assert_same(overview, whole(transcripts, nuclei))


@pytest.mark.parametrize(("strength", "um_per_px"), [(0.0, 1.0), (1.0, 0.5), (0.5, 2.0)])
def test_of_other_shapes_and_pixels(strength, um_per_px):
    transcripts, nuclei, overview = seen(tile=96, strength=strength, um_per_px=um_per_px)
    around = whole(transcripts, nuclei, strength=strength, um_per_px=um_per_px)
    assert_same(overview, around)
    expected = measure_levels(around.totals, nuclei, around.nearest.distance, um_per_px=um_per_px)
    assert overview.levels() == expected


@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 220), st.integers(1, 220)),
    st.integers(0, 20),
    st.integers(1, 250),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_of_any_raster(seed, shape, n, tile, strength):
    transcripts, nuclei, overview = seen(shape, seed=seed, n=n, n_transcripts=500, tile=tile, strength=strength)
    assert_same(overview, whole(transcripts, nuclei, strength=strength))


def test_of_long_nuclei_across_tiles():
    """By the stretched distance the nearest pixel of a nucleus may lie much farther off than its nearest one."""
    nuclei = np.zeros((200, 300), dtype=np.int32)
    nuclei[90:93, 40:160], nuclei[40:150, 200:203], nuclei[180:183, 94:98] = 1, 2, 3
    transcripts = random_map(0, nuclei.shape, N_FEATURES, 20_000)
    overview = look_over(transcripts, SOME, nuclei, reach=REACH, strength=1.0, um_per_px=1.0, tile=96)
    around = whole(transcripts, nuclei, strength=1.0)
    assert_same(overview, around)
    for core in tiles_of(nuclei.shape, 96):
        made, expected = overview.look(core), around.look(core)
        np.testing.assert_array_equal(made.distance, expected.distance)


def test_what_lies_far_off_is_not_held_whatever_the_nuclei_are():
    """An id that is used twice, far from each other, or a nucleus across the raster."""
    nuclei = np.zeros((100, 700), dtype=np.int32)
    nuclei[5:15, 5:15] = nuclei[80:90, 640:650] = 1
    nuclei[60:70, 100:450], nuclei[30:36, 40:45] = 2, 3
    transcripts = random_map(0, nuclei.shape, N_FEATURES, 5_000)
    for strength in (0.0, 0.2, 0.5):
        overview = look_over(transcripts, SOME, nuclei, reach=REACH, strength=strength, um_per_px=1.0, tile=96)
        around = whole(transcripts, nuclei, strength=strength)
        assert_same(overview, around)
        for core in (Window(0, 0, 96, 96), Window(0, 480, 96, 576)):
            made, expected = overview.look(core), around.look(core)
            np.testing.assert_array_equal(made.distance, expected.distance)
            np.testing.assert_array_equal(made.second, expected.second)
    assert overview.extract(Window(0, 0, 96, 96)).window.shape[1] < 700
    plain = look_over(transcripts, SOME, nuclei, reach=REACH, strength=0.0, um_per_px=1.0)
    assert plain.extract(Window(0, 0, 96, 96)).window.shape[1] <= 96 + REACH + MARGIN


def test_progress():
    told = []
    seen(tile=96, update=lambda done, total: told.append((done, total)))
    assert told == [(k, 12) for k in range(1, 13)]


def test_without_nuclei_or_transcripts():
    transcripts, nuclei, overview = seen((40, 50), n=0, n_transcripts=0)
    assert nuclei.max() == 0
    assert overview.mean_count(np.ones(1, dtype=bool)) > 0
    assert (overview.bins == 24).all()
    levels = overview.levels()
    assert not levels.calibrated
    assert levels == measure_levels(
        transcripts.totals(), nuclei, np.full((40, 50), np.inf, dtype=np.float32), um_per_px=1.0
    )


# Mean counts and levels


@pytest.mark.parametrize("tile", [96, 10_000])
def test_mean_counts_of_some_nuclei(tile):
    transcripts, nuclei, overview = seen(tile=tile)
    around = whole(transcripts, nuclei)
    near = (nuclei == 0) & np.isfinite(around.nearest.distance)
    mine = np.random.default_rng(1).random(len(around.boxes)) < 0.4
    mine[0] = False
    assert overview.mean_count(mine) == around.totals[near & mine[around.nearest.owner]].mean()
    assert overview.mean_count(np.zeros_like(mine)) == 1e-6


@pytest.mark.parametrize("tile", SIDES)
def test_levels_are_those_of_the_whole(tile):
    transcripts, nuclei, overview = seen(tile=tile)
    around = whole(transcripts, nuclei)
    assert overview.levels() == measure_levels(around.totals, nuclei, around.nearest.distance, um_per_px=1.0)


def test_levels_of_a_group_are_those_on_its_pixels_and_on_far_ones():
    random = np.random.default_rng(0)
    n = int(random_nuclei(0, SHAPE, 60, radius=(2, 9)).max())
    groups = random.integers(1, 4, n + 1)
    transcripts, nuclei, overview = seen(tile=96, groups=groups)
    around = whole(transcripts, nuclei)
    owner = around.nearest.owner
    expected = np.where(owner > 0, groups[owner], 0)
    np.testing.assert_array_equal(overview.group, expected)
    assert overview.group.dtype == np.uint8
    for group in (1, 2, 3):
        inside = (expected == group) | (owner == 0)
        made = overview.levels(group)
        assert made == measure_levels(around.totals, nuclei, around.nearest.distance, um_per_px=1.0, inside=inside)
    assert overview.levels() == measure_levels(around.totals, nuclei, around.nearest.distance, um_per_px=1.0)


# Parts


def cores():
    """At corners, at borders, within, beyond, and the whole."""
    return [
        Window(0, 0, 96, 96),
        Window(96, 96, 192, 192),
        Window(192, 288, 288, 384),
        Window(100, 30, 101, 31),
        Window(0, 200, 230, 230),
        Window(-10, -10, 40, 50),
        Window(0, 0, *SHAPE),
    ]


@pytest.mark.parametrize("core", cores())
def test_a_part_holds_all_that_its_core_depends_on(core):
    transcripts, nuclei, overview = seen()
    around, part = whole(transcripts, nuclei), overview.extract(core)
    core = core.clipped(SHAPE)
    assert part.core == core
    halo = max(REACH + MARGIN, evidence_reach(1.0))
    least = core.grown(halo).clipped(SHAPE)
    assert least.meet(part.window) == least
    assert part.nuclei.shape == part.window.shape == part.transcripts.shape
    np.testing.assert_array_equal(part.ids[part.nuclei], nuclei[part.window.slices])
    np.testing.assert_array_equal(part.ids[1:], np.setdiff1d(nuclei[part.window.slices], 0))
    np.testing.assert_array_equal(part.richness, around.richness[part.ids])
    np.testing.assert_array_equal(part.axes, around.axes[part.ids])
    np.testing.assert_array_equal(part.transcripts.dense(), transcripts.dense()[(slice(None), *part.window.slices)])
    # Distances are right in the core, and as far around as the nets look.
    held = part.surroundings(SOME.of(part.transcripts))
    right = core.grown(MARGIN - 1).clipped(SHAPE)
    here, there = right.seen_from(part.window).slices, right.slices
    np.testing.assert_array_equal(held.nearest.distance[here], around.nearest.distance[there])
    np.testing.assert_array_equal(held.nearest.second[here], around.nearest.second[there])
    np.testing.assert_array_equal(part.ids[held.nearest.owner][here], around.nearest.owner[there])
    np.testing.assert_array_equal(held.totals[here], around.totals[there])
    assert part.inner.shape == core.shape


@pytest.mark.parametrize("core", cores())
def test_owners_in_a_core_are_those_of_the_whole(core):
    """By distance; with evidence they are compared in the tests of tiles."""
    transcripts, nuclei, overview = seen()
    around, part = whole(transcripts, nuclei), overview.extract(core)
    options = {"reach": REACH, "um_per_px": 1.0, "evidence": None}
    owner, certainty = choose_owners(nuclei, around.boxes, around.axes, **options)
    boxes = bounding_boxes(part.nuclei, len(part.ids) - 1)
    made, sure = choose_owners(part.nuclei, boxes, part.axes, **options)
    inner, outer = part.inner.slices, core.clipped(SHAPE).slices
    np.testing.assert_array_equal(part.ids[made[inner]], owner[outer])
    np.testing.assert_array_equal(sure[inner], certainty[outer])


def test_surroundings_of_all_features():
    transcripts, nuclei, overview = seen()
    part = overview.extract(Window(0, 0, *SHAPE))
    np.testing.assert_array_equal(part.surroundings().totals, transcripts.totals())
    boxes = bounding_boxes(nuclei, int(nuclei.max()))
    nearest = nearest_nuclei(nuclei, boxes, overview.axes, reach=REACH)
    np.testing.assert_array_equal(part.surroundings().nearest.owner, nearest.owner)


@pytest.mark.parametrize("window", [*cores(), Window(-40, 250, 60, 420), Window(215, -8, 260, 12)])
def test_looks_are_those_of_the_whole(window):
    transcripts, nuclei, overview = seen()
    made, expected = overview.look(window), whole(transcripts, nuclei).look(window)
    for name in ("totals", "distance", "second", "richness"):
        np.testing.assert_array_equal(getattr(made, name), getattr(expected, name), err_msg=name)
        assert getattr(made, name).shape == window.shape


def test_a_window_beyond_the_raster_holds_nothing():
    _, _, overview = seen((60, 70), n=8)
    made = overview.look(Window(200, 200, 230, 220))
    assert made.totals.shape == (30, 20)
    assert not made.totals.any()
    assert np.isinf(made.distance).all()


# Tiles and ids


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 900))
def test_tiles_cover_every_pixel_once_and_begin_on_the_lattice(height, width, side):
    covered = np.zeros((height, width), dtype=int)
    for tile in tiles_of((height, width), side):
        assert tile.row0 % BLOCK == tile.column0 % BLOCK == 0
        assert min(tile.shape) > 0
        assert max(tile.shape) <= -(-side // BLOCK) * BLOCK
        covered[tile.slices] += 1
    assert (covered == 1).all()


@given(st.integers(0, 10**6), st.integers(1, 50))
def test_new_numbers_keep_the_order(seed, n):
    labels = np.random.default_rng(seed).integers(0, n + 1, (7, 9), dtype=np.int32)
    labels[labels % 3 == 1] = 0
    ids, local = renumber(labels, n)
    np.testing.assert_array_equal(ids[local], labels)
    assert ids[0] == 0
    assert (np.diff(ids) > 0).all()
    np.testing.assert_array_equal(np.unique(np.append(local, 0)), np.arange(len(ids)))
    assert ids.dtype == local.dtype == np.int32
