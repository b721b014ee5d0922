from __future__ import annotations

import doctest

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from scenes import AFFINES, affine, make_points, scene
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation

import ucs
from ucs._read.platforms import XENIUM


def expected_map(sdata, genes, *, key="transcripts", step=1.0, weights=None):
    """The map by NumPy's histogram, (gene, y, x), from the lowest pixel on."""
    points = sdata.points[key].compute()
    points = points[points["feature_name"].isin(genes)]
    edges = [
        np.arange(np.floor(points[axis].min() / step), np.floor(points[axis].max() / step) + 2) * step for axis in "yx"
    ]
    return np.stack(
        [
            np.histogram2d(
                of_gene["y"], of_gene["x"], bins=edges, weights=None if weights is None else of_gene[weights]
            )[0]
            for of_gene in (points[points["feature_name"] == gene] for gene in genes)
        ]
    )


@pytest.fixture
def sdata():
    return scene().sdata()


@pytest.mark.parametrize("resolution", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("tile_size", [17, 1000])
def test_it_is_the_histogram_of_each_gene(sdata, resolution, tile_size):
    image = ucs.pp.rasterize(sdata, resolution=resolution, tile_size=tile_size)
    assert image.dims == ("c", "y", "x")
    assert image.dtype == np.int32
    genes = image.coords["c"].to_numpy().tolist()
    assert genes == sorted(genes)
    assert not any(XENIUM.is_control(gene) for gene in genes)
    # The corners of the scene are genes, so controls do not widen the grid.
    np.testing.assert_array_equal(image, expected_map(sdata, genes, step=resolution))


def test_the_sum_is_the_number_of_kept_transcripts_of_genes(simulated):
    image = ucs.pp.rasterize(simulated)
    points = simulated["transcripts"].compute()
    kept = points[points["qv"] >= 20]
    of_genes = ~kept["feature_name"].map(XENIUM.is_control).astype(bool)
    assert int(image.sum()) == of_genes.sum()


def test_chunks_are_tiles_of_all_genes(sdata):
    image = ucs.pp.rasterize(sdata, tile_size=40)
    assert image.chunks == ((image.sizes["c"],), (40, 32), (40, 40, 16))


def test_chunks_of_some_genes(sdata):
    whole = ucs.pp.rasterize(sdata)
    image = ucs.pp.rasterize(sdata, tile_size=40, gene_chunk=15)
    assert image.chunks == ((15, 15, image.sizes["c"] - 30), (40, 32), (40, 40, 16))
    np.testing.assert_array_equal(image, whole)
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match=rf"gene_chunk={wrong} must be a whole number, 1 or above"):
            ucs.pp.rasterize(sdata, gene_chunk=wrong)


@pytest.mark.parametrize("genes", [["GENE0007", "GENE0003"], "GENE000[37]", 5])
def test_some_genes(sdata, genes):
    whole, image = ucs.pp.rasterize(sdata), ucs.pp.rasterize(sdata, read={"genes": genes})
    names = image.coords["c"].to_numpy().tolist()
    assert len(names) == (5 if genes == 5 else 2)
    assert names == sorted(names)
    np.testing.assert_array_equal(image, whole.sel(c=names))
    assert image.sizes["y"] == whole.sizes["y"]


def test_chunks_have_as_many_genes_as_32_mib(simulated):
    image = ucs.pp.rasterize(simulated, resolution=0.1, tile_size=700)
    n_genes = 2**25 // (4 * 700 * 700)
    assert n_genes < image.sizes["c"]
    assert image.chunks[0][0] == n_genes
    assert image.data.blocks[0, 0, 0].nbytes <= 2**25
    assert ucs.pp.rasterize(simulated, tile_size=10**9).chunks[1:] == tuple((n,) for n in image_shape(simulated))


def image_shape(sdata):
    return ucs.pp.rasterize(sdata).shape[1:]


@pytest.mark.parametrize("name", AFFINES)
def test_it_lies_where_the_points_are(name):
    sdata = scene().sdata(points_systems={"global": AFFINES[name], "um": np.eye(3)})
    image = ucs.pp.rasterize(sdata, resolution=0.5)
    of_image = get_transformation(image, get_all=True)
    assert set(of_image) == {"global", "um"}
    # Pixel (0, 0) begins at the lowest multiple of the resolution.
    to_um = of_image["um"].to_affine_matrix(("x", "y"), ("x", "y"))
    points = sdata["transcripts"].compute()
    start = [np.floor(points[axis].min() / 0.5) * 0.5 for axis in "xy"]
    np.testing.assert_allclose(to_um, [[0.5, 0, start[0]], [0, 0.5, start[1]], [0, 0, 1]])
    to_global = of_image["global"].to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(to_global, AFFINES[name] @ to_um)


def test_coordinates_are_pixel_centres(sdata):
    image = ucs.pp.rasterize(sdata)
    np.testing.assert_array_equal(image.coords["x"], np.arange(96) + 0.5)
    np.testing.assert_array_equal(image.coords["y"], np.arange(72) + 0.5)


def test_spatialdata_takes_it_as_an_image(sdata, tmp_path):
    image = ucs.pp.rasterize(sdata, tile_size=40)
    Image2DModel().validate(image)
    sdata.images["map"] = image
    extent = sd.get_extent(sdata["map"])
    assert (extent["x"], extent["y"]) == ((-37, 59), (-13, 59))
    sdata.write(tmp_path / "store.zarr")
    read = sd.read_zarr(tmp_path / "store.zarr")["map"]
    np.testing.assert_array_equal(read, image)
    assert read.coords["c"].to_numpy().tolist() == image.coords["c"].to_numpy().tolist()


def test_spatialdata_crops_it(sdata):
    image = ucs.pp.rasterize(sdata)
    part = sd.bounding_box_query(
        image, axes=("x", "y"), min_coordinate=[-30, 0], max_coordinate=[-10, 8], target_coordinate_system="global"
    )
    points = sdata["transcripts"].compute()
    inside = points[points["x"].between(-30, -10, "left") & points["y"].between(0, 8, "left")]
    assert int(part.sum()) == inside["feature_name"].isin(image.coords["c"].to_numpy()).sum()


def test_counts_are_honoured():
    rng = np.random.default_rng(0)
    points = scene().points.drop(columns="qv").assign(counts=rng.integers(0, 6, len(scene().points)))
    # The corners hold the grid open.
    points.loc[points.index[-2:], "counts"] = 1
    sdata = scene().with_points(points).sdata()
    image = ucs.pp.rasterize(sdata, platform="generic")
    genes = image.coords["c"].to_numpy().tolist()
    np.testing.assert_array_equal(image, expected_map(sdata, genes, weights="counts"))


def test_points_in_other_units(sdata):
    points = scene().points
    halves = scene().with_points(points.assign(x=points["x"] * 2, y=points["y"] * 2)).sdata()
    image = ucs.pp.rasterize(halves, read={"um_per_unit": 0.5})
    np.testing.assert_array_equal(image, ucs.pp.rasterize(sdata))
    extent = sd.get_extent(image)
    assert (extent["x"], extent["y"]) == ((-74, 118), (-26, 118))


def test_points_are_left_as_they_were(sdata):
    before = sdata["transcripts"].compute()
    ucs.pp.rasterize(sdata).compute()
    pd.testing.assert_frame_equal(sdata["transcripts"].compute(), before)
    assert list(sdata.images) == []


def test_the_example_runs():
    (example,) = (one for one in doctest.DocTestFinder(recurse=False).find(ucs.pp.rasterize) if one.examples)
    result = doctest.DocTestRunner().run(example)
    assert result.attempted >= 5
    assert result.failed == 0


class TestBadInput:
    def test_keys(self, sdata):
        with pytest.raises(KeyError, match=r"points_key='spots' is not in this SpatialData"):
            ucs.pp.rasterize(sdata, "spots")
        with pytest.raises(KeyError, match=r"looked for 'symbol', found"):
            ucs.pp.rasterize(sdata, read={"gene_key": "symbol"})

    @pytest.mark.parametrize("tile_size", [0, -5, 2.5, "64", None])
    def test_tile_size(self, sdata, tile_size):
        with pytest.raises(ValueError, match=r"tile_size=.* must be a whole number, 1 or above"):
            ucs.pp.rasterize(sdata, tile_size=tile_size)

    def test_positions(self, sdata):
        points = scene().points.copy()
        points.loc[5, "x"] = np.nan
        sdata["broken"] = make_points(points, {"global": affine(np.eye(3))})
        with pytest.raises(ValueError, match="NaN or infinite x"):
            ucs.pp.rasterize(sdata, "broken")

    def test_resolution(self, sdata):
        with pytest.raises(ValueError, match=r"resolution=-1 must be a positive number"):
            ucs.pp.rasterize(sdata, resolution=-1)
        with pytest.raises(MemoryError, match=r"resolution=1e-07 um gives a grid of"):
            ucs.pp.rasterize(sdata, resolution=1e-7)
