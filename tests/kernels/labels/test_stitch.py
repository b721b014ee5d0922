"""Objects of several fields: halves put together, what was seen twice kept once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import ucs
from ucs._kernels.labels.ids import densify
from ucs._kernels.labels.resample import sample_labels
from ucs._kernels.labels.stitch import Sightings, contacts, stitch

CHIP = 20


def stitched(views: list[NDArray], field: NDArray) -> NDArray:
    """What `views` (what each field sees of the whole raster, 0 where nothing, -1 where it cannot) make together."""
    labels = np.zeros(field.shape, dtype=np.int64)
    full, field_of, seen, n = [0], [0], [], 0
    for k, view in enumerate(views, start=1):
        dense, ids = densify(np.maximum(view, 0))
        dense = np.where(dense > 0, dense + n, 0)
        labels[field == k] = dense[field == k]
        full += np.bincount(dense.ravel(), minlength=n + len(ids) + 1)[n + 1 :].tolist()
        field_of += [k] * len(ids)
        n += len(ids)
        seen.append((dense, (view >= 0) & (field != k) & (field > 0), k))
    twice = Sightings.of(
        *(
            np.concatenate(side)
            for side in zip(*((of[at], labels[at], np.full(at.sum(), k), field[at]) for of, at, k in seen), strict=True)
        )
    )
    area = np.bincount(labels.ravel(), minlength=n + 1)
    return stitch(
        np.array(field_of), contact=contacts(labels, field), seen_twice=twice, area=area, full_area=np.array(full),
        chip=CHIP,
    )[labels]  # fmt: skip


def cut(labels: NDArray, boxes: list[tuple[int, int, int, int]]) -> tuple[list[NDArray], NDArray]:
    """Views through windows (x0, y0, x1, y1), and a raster that gives each pixel to the window it lies deepest in."""
    y, x = np.indices(labels.shape) + 0.5
    sides = [(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y)) for x0, y0, x1, y1 in boxes]
    depth = np.stack([np.maximum(along_x, 0) * np.maximum(along_y, 0) for along_x, along_y in sides])
    field = np.where(depth.max(axis=0) > 0, depth.argmax(axis=0) + 1, 0)
    return [np.where(of > 0, labels, -1) for of in depth], field


def disk(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    """The pixels within a radius of a centre (row, column)."""
    row, column = np.indices(shape)
    return (row - centre[0]) ** 2 + (column - centre[1]) ** 2 <= radius**2


def same_objects(a: NDArray, b: NDArray) -> bool:
    """Whether two label rasters are the same but for the numbers."""
    n = int(b.max()) + 1
    pairs = np.unique(a.ravel().astype(np.int64) * n + b.ravel())
    return len(np.unique(pairs // n)) == len(pairs) == len(np.unique(pairs % n)) and ((a > 0) == (b > 0)).all()


@pytest.fixture(scope="module")
def tissue() -> NDArray:
    """Nuclei of simulated tissue, 200 x 200 um with pixels of 0.5 um."""
    simulated = ucs.datasets.simulate(width_um=200, height_um=200, seed=1)
    labels = np.asarray(simulated["nucleus_labels"]["scale0"]["image"]).astype(np.int32)
    return sample_labels(labels, np.diag([0.5 / 0.2125, 0.5 / 0.2125, 1]), (400, 400))


@pytest.mark.parametrize("overlap", [0, 1, 2, 7, 24])
@pytest.mark.parametrize("at", [(200, 187), (63, 311), (118, 250)])
def test_tissue_in_four_fields_is_that_in_one(tissue, overlap, at):
    x, y = at
    boxes = [
        (0, 0, x + overlap, y + overlap), (x, 0, 400, y + overlap), (0, y, x + overlap, 400), (x, y, 400, 400)
    ]  # fmt: skip
    assert same_objects(stitched(*cut(tissue, boxes)), tissue)


@settings(max_examples=15)
@given(x=st.integers(1, 399), down=st.booleans())
def test_tissue_in_two_fields_is_that_in_one(tissue, x, down):
    labels = tissue.T if down else tissue
    assert same_objects(stitched(*cut(labels, [(0, 0, x, 400), (x, 0, 400, 400)])), labels)


def test_whole_objects_that_touch_at_a_border_stay_apart():
    labels = disk((40, 60), (20, 19.5), 10.4).astype(int) + 2 * disk((40, 60), (20, 39.5), 10.4)
    views, field = cut(labels, [(0, 0, 30, 40), (30, 0, 60, 40)])
    assert (labels[:, 29] > 0).any()
    assert (labels[:, 30] > 0).any()
    assert same_objects(stitched(views, field), labels)


def test_an_object_cut_into_four_is_one():
    labels = disk((60, 60), (31, 28), 12).astype(int)
    boxes = [(0, 0, 30, 30), (30, 0, 60, 30), (0, 30, 30, 60), (30, 30, 60, 60)]
    assert same_objects(stitched(*cut(labels, boxes)), labels)


def test_a_chip_joins_what_it_lies_against():
    labels = disk((40, 60), (20, 30), 9).astype(int)
    x = int(np.nonzero(labels.any(axis=0))[0].max())
    views, field = cut(labels, [(0, 0, x, 40), (x, 0, 60, 40)])
    assert 0 < (labels[:, x:] > 0).sum() < CHIP
    assert same_objects(stitched(views, field), labels)


def test_what_two_fields_see_a_little_differently_is_one():
    views, field = cut(np.zeros((40, 80), dtype=int), [(0, 0, 50, 40), (30, 0, 80, 40)])
    for view, shift in zip(views, (0, 2), strict=True):
        view[disk((40, 80), (20, 38 + shift), 9) & (view == 0)] = 1
    assert len(np.unique(stitched(views, field))) == 2


def test_what_only_one_field_sees_stays_with_the_field_that_has_most_of_it():
    """The border between the two shares is at 40."""
    for centre, stays in ((34, True), (46, False)):
        views, field = cut(np.zeros((40, 80), dtype=int), [(0, 0, 60, 40), (20, 0, 80, 40)])
        views[0][disk((40, 80), (20, centre), 9) & (views[0] == 0)] = 1
        out = stitched(views, field)
        assert out.any() == stays
        assert not out[:, 40:].any()


def test_nothing_to_put_together():
    views, field = cut(np.zeros((8, 8), dtype=int), [(0, 0, 4, 8), (4, 0, 8, 8)])
    assert not stitched(views, field).any()
    labels = np.zeros((8, 8), dtype=int)
    labels[2:4, 1:3] = 5
    assert same_objects(stitched(*cut(labels, [(0, 0, 4, 8), (4, 0, 8, 8)])), labels)
