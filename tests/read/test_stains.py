"""Images of stains on the grid: any placement and size of pixels, any part of the tissue, and what is refused."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from scenes import affine, rotation, scaling, scene, translation
from spatialdata.models import Image2DModel

from ucs._read import stains
from ucs._read.sample import find_source, prepare
from ucs._read.stains import find_stains, read_stains


def image(pixels, to_um, channels=("membrane",), **options):
    pixels = np.asarray(pixels)
    lazy = da.from_array(pixels if pixels.ndim == 3 else pixels[None], chunks=(1, 40, 50))
    return Image2DModel.parse(
        lazy, dims=("c", "y", "x"), c_coords=list(channels), transformations={"global": affine(to_um)}, **options
    )


@pytest.fixture(scope="module")
def read():
    """The scene's source and grid, and a function that measures a stain on it."""
    sdata = scene().sdata()
    source = find_source(sdata)
    grid = prepare(sdata, source).transcripts.grid

    def measured(element, keys=("stain",), **others):
        sdata = scene().sdata()
        sdata["stain"] = element
        for name, other in others.items():
            sdata[name] = other
        return read_stains(sdata, source, keys, grid)

    return source, grid, measured


def smooth(x, y):
    """Something that is the same however it is sampled."""
    return 1000 + 400 * np.sin(x / 4) * np.cos(y / 5)


def drawn(to_um, shape):
    """An image ``(h, w)`` of :func:`smooth`."""
    row, column = np.indices(shape)
    x, y, _ = np.tensordot(to_um, np.stack([column + 0.5, row + 0.5, np.ones(shape)]), axes=1)
    return smooth(x, y)


COARSE, FINE = translation(-50, -30) @ scaling(0.5), translation(-50, -30) @ scaling(0.2)
TURNED = translation(11, 23) @ rotation(200) @ scaling(0.5, -0.5) @ translation(-210, -210)


@pytest.mark.parametrize(
    ("to_um", "shape", "options"),
    [
        (FINE, (600, 700), {}),
        (FINE, (600, 700), {"scale_factors": [2, 2]}),
        (TURNED, (420, 420), {}),
    ],
    ids=["finer", "levels", "turned and mirrored"],
)
def test_it_is_the_same_however_it_was_taken(read, to_um, shape, options):
    source, grid, measured = read
    expected = measured(image(drawn(COARSE, (240, 280)), COARSE)).measures.astype(int)
    found = measured(image(drawn(to_um, shape), to_um, **options)).measures.astype(int)
    both = (expected > 0) & (found > 0)
    assert both.mean() > 0.9
    assert np.abs(expected - found)[both].max() <= 1  # a step between two codes
    assert (expected == found)[both].mean() > 0.85


def test_there_is_none_where_there_is_no_image(read):
    source, grid, measured = read
    x0, y0 = grid.origin
    half = translation(x0, y0) @ scaling(0.5)
    element = image(drawn(half, (2 * grid.shape[0], grid.shape[1])), half)  # as high as the grid, half as wide
    found = measured(element).measures
    column = (np.arange(grid.shape[1]) + 0.5) * grid.um_per_px
    assert ((found > 0) == (column < grid.shape[1] / 2)[None, None]).all()


def test_parts_of_any_size_give_the_same(read, monkeypatch):
    source, grid, measured = read
    element = image(drawn(TURNED, (420, 420)), TURNED)
    whole = measured(element).measures
    monkeypatch.setattr(stains, "_CHUNK", 24)
    assert (measured(element).measures == whole).all()


def test_channels_are_named_and_chosen(read):
    source, grid, measured = read
    pixels = np.stack([drawn(COARSE, (240, 280)), np.full((240, 280), 7.0)])
    element = image(pixels, COARSE, channels=["A/B", "C"])
    both = measured(element)
    assert both.names == ("stain/A/B", "stain/C")
    one = measured(element, keys=["stain/A/B"])
    assert one.names == ("stain/A/B",)
    assert (one.measures == both.measures[:2]).all()
    assert len(np.unique(both.measures[3])) == 1  # of an even channel


@pytest.mark.parametrize(
    ("keys", "error", "said"),
    [
        (["nothing"], KeyError, "there is no image 'nothing'"),
        (["stain/other"], KeyError, "other"),
        (["stain", "stain/membrane"], ValueError, "twice"),
        (["{fov}_image"], KeyError, "there is no image"),
    ],
)
def test_what_is_not_there_is_refused(read, keys, error, said):
    source, _, _ = read
    sdata = scene().sdata()
    sdata["stain"] = image(drawn(COARSE, (240, 280)), COARSE)
    with pytest.raises(error, match=said):
        find_stains(sdata, source, keys)
