"""Refinement of rasters on disk, tile by tile, against that in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rasters import random_nuclei
from scipy import ndimage

from ucs._files.workspace import Workspace, in_memory
from ucs._kernels.labels.refine import influence, refine_cells
from ucs._kernels.lattice import bounding_boxes, tiles_of
from ucs._kernels.transcripts import Window
from ucs._run import output as module
from ucs._run.output import TileOutput, put_from_elsewhere, refine_output
from ucs.methods.base import TileCells

SHAPE = (210, 300)


def decisions(seed, shape=SHAPE, n=60, *, longest=12):
    """Nuclei and ragged cells around them: torn, with holes and stray parts, some long ones that run along."""
    random = np.random.default_rng(seed)
    nuclei = random_nuclei(seed, shape, n, radius=(1, 5))
    _, (row, column) = ndimage.distance_transform_edt(nuclei == 0, return_indices=True)
    wobble = ndimage.gaussian_filter(random.normal(size=(2, *shape)), (0, 2, 2)) * 12
    at = [
        np.clip(np.rint(x + w).astype(int), 0, side - 1)
        for x, w, side in zip((row, column), wobble, shape, strict=True)
    ]
    distance = ndimage.distance_transform_edt(nuclei == 0)
    labels = np.where(distance < random.uniform(3, longest), nuclei[row[tuple(at)], column[tuple(at)]], 0)
    for c in random.permutation(np.setdiff1d(nuclei, 0))[:6]:  # arms, with gaps that closings bridge
        i, j = np.argwhere(nuclei == c)[0]
        reach = int(random.integers(5, 4 * longest))
        along, across = random.permutation([reach, 2])
        labels[i : i + along, j : j + across] = c
    labels[random.random(shape) < 0.15] = 0
    stray = random.random(shape) < 0.004
    near = labels > 0
    labels[stray & near] = np.roll(labels, 3, axis=1)[stray & near]
    labels[nuclei > 0] = nuclei[nuclei > 0]
    return labels.astype(np.int32), nuclei


def sure(seed, shape=SHAPE):
    """Confidence and foreground."""
    return np.random.default_rng(seed + 1).integers(0, 256, (2, *shape), dtype=np.uint8)


def cut(core, labels, seed=0):
    """The tile of a core."""
    here = core.slices
    return TileCells(labels[here], *(raster[here] for raster in sure(seed, labels.shape)))


def filled(workspace, labels, tile, seed=0, *, foreground=False):
    """An output with all tiles in it."""
    output = TileOutput.open(workspace, labels.shape, tile, foreground=foreground)
    for number, core in enumerate(tiles_of(labels.shape, tile)):
        output.put(number, core, cut(core, labels, seed))
    return output


def quiet(_done, _total):
    pass


def whole(labels, nuclei, seed=0):
    """The oracle: cells, confidence and foreground."""
    refined = refine_cells(labels.copy(), nuclei, bounding_boxes(labels, int(nuclei.max())))
    confidence, foreground = sure(seed, labels.shape)
    return {"labels": refined, "confidence": np.where(refined > 0, confidence, 0), "foreground": foreground}


def assert_same(made, expected, *, plain):
    for name, raster in made.items():
        assert isinstance(raster, np.ndarray) is plain
        assert raster.dtype == expected[name].dtype
        np.testing.assert_array_equal(in_memory(raster), expected[name], err_msg=name)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tile", [96, 150])
def test_on_disk_it_is_as_in_memory(tmp_path, seed, tile):
    labels, nuclei = decisions(seed, longest=3 + 2 * seed)
    expected = whole(labels, nuclei, seed)
    assert (expected["labels"] != labels).sum() > 500
    workspace = Workspace(tmp_path)
    workspace.use_folder()
    told = []
    output = filled(workspace, labels, tile, seed, foreground=True)
    refine_output(output, nuclei, int(nuclei.max()), lambda *done: told.append(done))
    assert list(output.rasters) == ["labels", "confidence", "foreground"]
    assert_same(output.rasters, expected, plain=False)
    n_tiles = len(list(tiles_of(SHAPE, tile)))
    assert told == [(k, n_tiles) for k in range(1, n_tiles + 1)]
    workspace.close()


def test_in_memory_it_is_the_whole():
    labels, nuclei = decisions(3)
    output = filled(Workspace(), labels, 96)
    refine_output(output, nuclei, int(nuclei.max()), quiet)
    assert list(output.rasters) == ["labels", "confidence"]  # the foreground is not wanted
    assert_same(output.rasters, whole(labels, nuclei), plain=True)


@pytest.mark.parametrize("rows_at_once", [7, 1024])
def test_the_largest_cell(monkeypatch, rows_at_once):
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", rows_at_once)
    labels, nuclei = decisions(0)
    boxes = bounding_boxes(labels, int(nuclei.max()))
    longest = (boxes[:, 2:] - boxes[:, :2]).max()
    assert module._largest_cell(labels, int(nuclei.max())) == longest
    assert module._largest_cell(np.zeros((20, 30), dtype=np.int32), 5) == 0
    labels[:] = 0
    labels[3, 1] = labels[190, 2] = 4
    assert module._largest_cell(labels, 7) == 188


def test_what_is_on_disk_is_found_again(tmp_path):
    labels, nuclei = decisions(1)
    workspace = Workspace(tmp_path, resumable="it")
    tiles = list(tiles_of(SHAPE, 96))

    def opened():
        return TileOutput.open(workspace, SHAPE, 96, foreground=True)

    output = opened()
    assert output.done == frozenset()
    for number in (0, 5):
        output.put(number, tiles[number], cut(tiles[number], labels))
    assert opened().done == {0, 5}
    # Another process writes to the same folder.
    put_from_elsewhere(workspace.raster_folder, list(output.rasters), 7, tiles[7], cut(tiles[7], labels))
    again = opened()
    assert again.done == {0, 5, 7}
    for number in (0, 5, 7):
        here = tiles[number].slices
        for name, raster in zip(("labels", "confidence", "foreground"), (labels, *sure(0)), strict=True):
            np.testing.assert_array_equal(again.rasters[name][here], raster[here])
    workspace.forget_rasters()
    assert opened().done == frozenset()
    workspace.close()


def test_a_tile_that_could_not_be_written_does_not_count_as_done(tmp_path, monkeypatch):
    labels, _ = decisions(1)
    workspace = Workspace(tmp_path)
    workspace.use_folder()
    output, core = TileOutput.open(workspace, SHAPE, 96, foreground=False), Window(0, 0, 96, 96)
    full = lambda *_: (_ for _ in ()).throw(OSError(28, "full"))  # noqa: E731
    monkeypatch.setattr(type(output.rasters["confidence"]), "__setitem__", full)
    with pytest.raises(OSError, match="full"):
        output.put(0, core, cut(core, labels))
    assert TileOutput.open(workspace, SHAPE, 96, foreground=False).done == frozenset()
    workspace.close()


def test_chunks_are_those_of_tiles(tmp_path):
    """Two tiles never write to one chunk."""
    workspace = Workspace(tmp_path)
    workspace.use_folder()
    for tile, chunk in ((1, 96), (96, 96), (100, 192), (2048, 2112)):
        output = TileOutput.open(workspace, SHAPE, tile, foreground=True)
        assert output.chunk == chunk
        assert [raster.chunks for raster in output.rasters.values()] == 3 * [(chunk, chunk)]
        workspace.forget_rasters()
    workspace.close()


def test_a_folder_that_is_gone_is_not_made_again_by_a_worker_that_is_late(tmp_path):
    cells = TileCells(*(np.zeros((4, 4), dtype=dtype) for dtype in (np.int32, np.uint8, np.uint8)))
    with pytest.raises(FileNotFoundError):
        put_from_elsewhere(tmp_path / "gone", ["labels", "confidence"], 0, Window(0, 0, 4, 4), cells)
    assert not list(tmp_path.iterdir())


# How far refinement reaches


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(3, 14), st.tuples(st.integers(0, 119), st.integers(0, 139)))
def test_no_pixel_depends_on_what_lies_beyond_the_influence(seed, longest, pixel):
    """A window cut out around a pixel, of the influence, gives the same there."""
    shape = (120, 140)
    labels, nuclei = decisions(seed, shape, 40, longest=longest)
    n = int(nuclei.max())
    boxes = bounding_boxes(labels, n)
    halo = influence(int((boxes[:, 2:] - boxes[:, :2]).max()))
    core = Window(*pixel, pixel[0] + 24, pixel[1] + 24).clipped(shape)
    window = core.grown(halo).clipped(shape)
    assume(window.shape != shape)
    expected = refine_cells(labels, nuclei, boxes)[core.slices]
    here = labels[window.slices].copy()
    made = refine_cells(here, nuclei[window.slices].copy(), bounding_boxes(here, n))
    np.testing.assert_array_equal(made[core.seen_from(window).slices], expected)


def crowded(seed, shape, side):
    """Small cells of all shapes side by side, each within a box of ``side``: what is done to one depends on others."""
    random = np.random.default_rng(seed)
    nuclei, labels = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    noise, threshold = ndimage.gaussian_filter(random.normal(size=shape), 0.7), random.normal(size=shape[0] * shape[1])
    threshold, n = threshold * 0.1, 0
    for i in range(0, shape[0] - side, side - 1):
        for j in range(0, shape[1] - side, side - 1):
            n += 1
            box = slice(i, i + side), slice(j, j + side)
            wanted = noise[box] > threshold[n]
            labels[box] = np.where(wanted & (labels[box] == 0), n, labels[box])
            at = i + int(random.integers(1, side)), j + int(random.integers(1, side))
            labels[at] = nuclei[at] = n
    return labels, nuclei


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(3, 7), st.integers(20, 80), st.integers(20, 80))
def test_nor_where_cells_are_crowded(seed, side, row, column):
    shape = (120, 120)
    labels, nuclei = crowded(seed, shape, side)
    n = int(nuclei.max())
    boxes = bounding_boxes(labels, n)
    halo = influence(int((boxes[:, 2:] - boxes[:, :2]).max()))
    core = Window(row, column, row + 8, column + 8)
    window = core.grown(halo).clipped(shape)
    expected = refine_cells(labels, nuclei, boxes)[core.slices]
    here = labels[window.slices].copy()
    made = refine_cells(here, nuclei[window.slices].copy(), bounding_boxes(here, n))
    np.testing.assert_array_equal(made[core.seen_from(window).slices], expected)
