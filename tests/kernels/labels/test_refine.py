from __future__ import annotations

import numpy as np
import pytest
from rasters import random_nuclei, squared_distances
from scipy import ndimage

from ucs._kernels.labels.refine import CLOSINGS, ELLIPSE, refine_cells
from ucs._kernels.lattice import bounding_boxes

SHAPE = (48, 52)
PAD = 12
SEEDS = range(6)


def refine(labels, nuclei, n=None):
    n = int(nuclei.max()) if n is None else n
    return refine_cells(labels, nuclei, bounding_boxes(labels, n))


def random_decisions(seed, shape=SHAPE, n=14):
    """Nuclei, and cells around them that are ragged, torn, with holes and stray parts, up to the raster's border."""
    rng = np.random.default_rng(seed)
    nuclei = random_nuclei(seed, shape, n, radius=(1, 4))
    ids = np.setdiff1d(nuclei, 0)
    distance = np.array([np.sqrt(squared_distances(nuclei == c)) for c in ids])
    distance += ndimage.gaussian_filter(rng.normal(size=distance.shape), (0, 1, 1)) * 6
    labels = np.where(distance.min(axis=0) < 5, ids[distance.argmin(axis=0)], 0)
    labels[rng.random(shape) < 0.12] = 0
    stray = rng.random(shape) < 0.01
    labels[stray] = rng.choice(ids, stray.sum())
    labels[nuclei > 0] = nuclei[nuclei > 0]
    return labels.astype(np.int32), nuclei


def close_oracle(mask):
    """Closing on a plane without border."""
    padded = np.pad(mask, PAD)
    dilated = ndimage.binary_dilation(padded, ELLIPSE, iterations=CLOSINGS)
    return ndimage.binary_erosion(dilated, ELLIPSE, iterations=CLOSINGS)[PAD:-PAD, PAD:-PAD]


def claims_of(labels, nuclei):
    """For each background pixel that closings claim: (squared distance to the nucleus, id), nearest first."""
    claims = {}
    for c in np.setdiff1d(labels, 0):
        squared = squared_distances(nuclei == c)
        for i, j in np.argwhere(close_oracle(labels == c) & (labels == 0)):
            claims.setdefault((int(i), int(j)), []).append((int(squared[i, j]), int(c)))
    return {pixel: sorted(claimants) for pixel, claimants in claims.items()}


def refine_oracle(labels, nuclei):
    refined = labels.copy()
    for pixel, claimants in claims_of(labels, nuclei).items():
        refined[pixel] = claimants[0][1]
    for c in np.setdiff1d(refined, 0):
        parts, n_parts = ndimage.label(refined == c)
        for part in range(1, n_parts + 1):
            if not (nuclei[parts == part] == c).any():
                refined[parts == part] = 0
    for c in np.setdiff1d(refined, 0):
        mask = np.pad(refined == c, 1)
        holes, n_holes = ndimage.label((ndimage.binary_fill_holes(mask) & ~mask)[1:-1, 1:-1])
        for hole in range(1, n_holes + 1):
            if not refined[holes == hole].any():
                refined[holes == hole] = c
    return refined


def with_tied_claims(labels, nuclei):
    """Cells for which only the id decides who gets a pixel."""
    return {
        c
        for claimants in claims_of(labels, nuclei).values()
        if len(claimants) > 1 and claimants[0][0] == claimants[1][0]
        for _, c in claimants
    }


def test_the_ellipse():
    rows, columns = np.mgrid[-2:3, -2:3]
    np.testing.assert_array_equal(ELLIPSE, np.where(np.abs(rows) == 2, columns == 0, True))
    np.testing.assert_array_equal(ELLIPSE, ELLIPSE[::-1, ::-1])


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_the_oracle(seed):
    labels, nuclei = random_decisions(seed)
    before = labels.copy()
    refined = refine(labels, nuclei)
    np.testing.assert_array_equal(refined, refine_oracle(labels, nuclei))
    np.testing.assert_array_equal(labels, before)
    assert refined.dtype == np.int32
    assert (refined != labels).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_properties(seed):
    labels, nuclei = random_decisions(seed)
    refined = refine(labels, nuclei)
    n = int(nuclei.max())
    np.testing.assert_array_equal(refined[nuclei > 0], nuclei[nuclei > 0])
    np.testing.assert_array_equal(np.unique(refined), np.unique(labels))
    for i, j in np.argwhere((refined != labels) & (labels != 0) & (refined != 0)):
        # What another cell gets is a stray part in its hole, never of a part with a nucleus.
        parts = ndimage.label(labels == labels[i, j])[0]
        assert not (nuclei[parts == parts[i, j]] == labels[i, j]).any()
    before, after = bounding_boxes(labels, n), bounding_boxes(refined, n)
    for c in range(1, n + 1):
        mask = refined == c
        n_parts = ndimage.label(mask)[1]
        assert n_parts <= ndimage.label(nuclei == c)[1]  # in one piece if the nucleus is
        parts = ndimage.label(mask)[0]
        assert set(range(1, n_parts + 1)) == set(parts[nuclei == c])
        padded = np.pad(mask, 1)
        holes, n_holes = ndimage.label((ndimage.binary_fill_holes(padded) & ~padded)[1:-1, 1:-1])
        assert all(refined[holes == hole].any() for hole in range(1, n_holes + 1))
        # A closing stays within the box of what is closed.
        assert (after[c, :2] >= before[c, :2]).all()
        assert (after[c, 2:] <= before[c, 2:]).all()


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_ids_has_no_say(seed):
    labels, nuclei = random_decisions(seed)
    order = np.random.default_rng(seed).permutation(int(nuclei.max())) + 1
    renumber, back = np.concatenate([[0], order]).astype(np.int32), np.zeros(len(order) + 1, dtype=np.int32)
    back[order] = np.arange(1, len(order) + 1)
    refined = refine(labels, nuclei)
    other = back[refine(renumber[labels], renumber[nuclei])]
    # Where two nuclei are at the same distance the lower id wins: only such cells may differ.
    differ = refined != other
    tied = with_tied_claims(labels, nuclei)
    assert set(refined[differ]) | set(other[differ]) <= tied | {0}
    if not tied:
        np.testing.assert_array_equal(refined, other)


@pytest.mark.parametrize("group", [1, 3, 5])
def test_the_size_of_groups_has_no_say(group, monkeypatch):
    labels, nuclei = random_decisions(1)
    refined = refine(labels, nuclei)
    monkeypatch.setattr("ucs._kernels.labels.refine._CELLS_AT_ONCE", group)
    np.testing.assert_array_equal(refine(labels, nuclei), refined)


def test_threads_have_no_say(monkeypatch):
    labels, nuclei = random_decisions(2, (150, 160), 120)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr("ucs._utils.parallel.n_threads", lambda threads=threads: threads)
        results.append(refine(labels, nuclei))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


def test_place_on_the_raster_has_no_say():
    """Beyond the border is background like any other."""
    labels, nuclei = random_decisions(3)
    assert labels[0].any()
    assert labels[:, -1].any()
    moved = refine(np.pad(labels, PAD), np.pad(nuclei, PAD))[PAD:-PAD, PAD:-PAD]
    np.testing.assert_array_equal(refine(labels, nuclei), moved)


def parse(*rows):
    return np.array([[int(character) for character in row.replace(".", "0")] for row in rows], dtype=np.int32)


def test_convex_cells_stay_as_they_are():
    labels = np.zeros((40, 60), dtype=np.int32)
    labels[10:20, 5:45] = 1
    labels[25, 3:50] = 2
    labels[30:, :9] = 3
    nuclei = np.zeros_like(labels)
    nuclei[14, 20], nuclei[25, 9], nuclei[39, 0] = 1, 2, 3
    np.testing.assert_array_equal(refine(labels, nuclei), labels)


def test_one_pixel_cells_stay():
    labels = parse("1...", "....", "...2")
    np.testing.assert_array_equal(refine(labels, labels), labels)


def test_gaps_close_and_strays_go():
    labels = parse(
        "...................",
        ".111.1111..........",
        ".111.1111..........",
        ".111.1111..........",
        "...................",
        "..................1",
        "...................",
    )
    nuclei = np.zeros_like(labels)
    nuclei[2, 2] = 1
    expected = parse(
        "...................",
        ".111.1111..........",
        ".11111111..........",
        ".111.1111..........",
        "...................",
        "...................",
        "...................",
    )
    np.testing.assert_array_equal(refine(labels, nuclei), expected)


def test_holes_are_filled_unless_they_hold_a_cell():
    labels = np.pad(np.ones((30, 30), dtype=np.int32), 3)
    labels[6:18, 6:18] = 0  # too wide to be closed
    labels[20:32, 20:32] = 0
    nuclei = np.zeros_like(labels)
    nuclei[19, 4] = 1
    island = labels.copy()
    island[25:27, 25:27] = 2
    assert (refine(labels, nuclei)[3:33, 3:33] == 1).all()

    nuclei[25:27, 25:27] = 2
    refined = refine(island, nuclei)
    assert (refined[6:18, 6:18] == 1).all()
    assert (refined[25:27, 25:27] == 2).all()
    assert (refined[23:29, 23:29] == 0).sum() == 6 * 6 - 4
    np.testing.assert_array_equal(refined, refine_oracle(island, nuclei))


def test_a_bay_at_the_border_is_no_hole():
    labels = np.zeros((20, 30), dtype=np.int32)
    labels[:14] = 1
    labels[:10, 8:22] = 0
    nuclei = np.zeros_like(labels)
    nuclei[12, 2] = 1
    refined = refine(labels, nuclei)
    assert refined[0, 15] == 0
    np.testing.assert_array_equal(refined, refine_oracle(labels, nuclei))


@pytest.mark.parametrize(("row_of_1", "column_of_2", "owner"), [(2, 1, 1), (1, 2, 2), (1, 1, 1), (6, 3, 2)])
def test_contested_pixels_go_to_the_nearer_nucleus_then_to_the_lower_id(row_of_1, column_of_2, owner):
    labels = np.zeros((9, 9), dtype=np.int32)
    labels[:, 4] = 1
    labels[3:6, :] = 2
    labels[3:6, 4] = 0  # the gap of both
    nuclei = np.zeros_like(labels)
    nuclei[row_of_1, 4], nuclei[4, column_of_2] = 1, 2
    refined = refine(labels, nuclei)
    assert refined[4, 4] == owner
    np.testing.assert_array_equal(refined, refine_oracle(labels, nuclei))


def test_a_nucleus_in_parts_keeps_its_parts():
    labels = np.zeros((20, 40), dtype=np.int32)
    labels[5:9, 3:8] = labels[5:9, 30:36] = labels[14:16, 18:20] = 1
    nuclei = np.zeros_like(labels)
    nuclei[6, 4] = nuclei[6, 33] = 1
    refined = refine(labels, nuclei)
    assert (refined[5:9, 3:8] == 1).all()
    assert (refined[5:9, 30:36] == 1).all()
    assert not refined[14:16, 18:20].any()


def test_absent_ids_and_no_cells():
    labels = parse("..5..", "..5..")
    np.testing.assert_array_equal(refine(labels, labels, n=9), labels)
    empty = np.zeros((4, 5), dtype=np.int32)
    np.testing.assert_array_equal(refine(empty, empty), empty)
    np.testing.assert_array_equal(refine(empty, empty, n=3), empty)
