from __future__ import annotations

from collections.abc import Iterator

import dask.array as da
import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pytest
import shapely
from helpers import cheap_copy
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, ShapesModel
from spatialdata.transformations import Affine, Identity

import ucs
from ucs.pl._crop import crop_polygons, crop_raster

UM_PER_PX = 0.2125
BOUNDS = (20.0, 30.0, 60.0, 55.0)


@pytest.fixture(scope="module")
def tissue() -> SpatialData:
    return ucs.datasets.simulate(width_um=80, height_um=80, seed=1)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def outlines(ax: Axes) -> list[np.ndarray]:
    """The cells' outlines, which are drawn last."""
    return [c for c in ax.collections if isinstance(c, LineCollection)][-1].get_segments()


def polygons(ax: Axes) -> np.ndarray:
    return shapely.polygons([shapely.linearrings(ring) for ring in outlines(ax)])


def dots(ax: Axes) -> np.ndarray:
    return np.concatenate([c.get_offsets() for c in ax.collections if isinstance(c, PathCollection)])


def test_cells_are_drawn_in_um(tissue: SpatialData):
    ax = ucs.pl.cells(tissue, shapes_key="true_cells")
    truth = np.asarray(tissue.labels["true_cells"])
    own = polygons(ax)
    assert shapely.area(own).sum() == pytest.approx((truth > 0).sum() * UM_PER_PX**2, rel=0.01)
    row, column = np.nonzero(truth == 1)
    middle = shapely.points((column.mean() + 0.5) * UM_PER_PX, (row.mean() + 0.5) * UM_PER_PX)
    assert shapely.contains(own, middle).sum() == 1
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # y downwards
    assert len(ax.images) == 2  # stain and density
    ax.figure.canvas.draw()


def test_bounds_are_what_is_shown(tissue: SpatialData):
    ax = ucs.pl.cells(tissue, shapes_key="true_cells", bounds=BOUNDS, color="gene")
    assert ax.get_xlim() == (20, 60)
    assert ax.get_ylim() == (55, 30)
    points = tissue.points["transcripts"].compute()
    inside = points["x"].between(20, 60) & points["y"].between(30, 55) & (points["qv"] >= 20)
    assert len(dots(ax)) == inside.sum()
    frame = shapely.box(*BOUNDS)
    assert all(shapely.LineString(ring).intersects(frame) for ring in outlines(ax) if len(ring) > 4)


def test_shapes_and_labels_give_the_same_outlines(tissue: SpatialData):
    sdata = cheap_copy(tissue)
    ucs.tl.outlines(sdata, "true_cells", shapes_key_added="cells")
    from_shapes, ids = crop_polygons(sdata["cells"], np.diag([UM_PER_PX, UM_PER_PX, 1]), (0, 0, 80, 80))
    from_labels, of_labels = crop_polygons(sdata["true_cells"], np.diag([UM_PER_PX, UM_PER_PX, 1]), (0, 0, 80, 80))
    assert list(ids) == list(of_labels)
    assert sorted(shapely.area(from_shapes)) == pytest.approx(sorted(shapely.area(from_labels)))


@pytest.mark.parametrize(
    "matrix",
    [[[0.5, 0, 7], [0, 0.5, -3], [0, 0, 1]], [[0, -1, 80], [1, 0, 0], [0, 0, 1]], [[1, 0.3, 0], [0, -2, 9], [0, 0, 1]]],
    ids=["scaled", "rotated", "sheared and flipped"],
)
def test_elements_are_brought_into_the_points_coordinates(tissue: SpatialData, matrix: list[list[float]]):
    # The same squares, written down in coordinates of their own.
    squares = shapely.box([30.0, 45.0], [35.0, 35.0], [40.0, 50.0], [42.0, 50.0])
    px_to_own = np.linalg.inv(np.array(matrix))
    own = shapely.transform(squares, lambda xy: xy / UM_PER_PX @ px_to_own[:2, :2].T + px_to_own[:2, 2])
    sdata = cheap_copy(tissue)
    to_global = {"global": Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))}
    sdata["squares"] = ShapesModel.parse(gpd.GeoDataFrame(geometry=own), transformations=to_global)
    drawn = polygons(ucs.pl.cells(sdata, shapes_key="squares", bounds=BOUNDS))
    assert shapely.area(shapely.symmetric_difference(drawn, squares)).max() == pytest.approx(0, abs=1e-6)
    # One of them lies outside of these bounds.
    assert len(outlines(ucs.pl.cells(sdata, shapes_key="squares", bounds=(20, 30, 42, 55)))) == 1


def test_circles_are_drawn(tissue: SpatialData):
    sdata = cheap_copy(tissue)
    points = gpd.GeoDataFrame({"geometry": shapely.points([[200, 200]]), "radius": [20.0]})
    sdata["circles"] = ShapesModel.parse(points, transformations={"global": Identity()})
    (ring,) = outlines(ucs.pl.cells(sdata, shapes_key="circles", bounds=BOUNDS))
    assert np.hypot(*(ring - 200 * UM_PER_PX).T) == pytest.approx(20 * UM_PER_PX, rel=0.01)


def test_a_crop_of_a_large_slide_reads_a_part_of_it(tissue: SpatialData):
    sdata, read = cheap_copy(tissue), []

    def chunk(block_info: dict) -> np.ndarray:
        location = block_info[None]["array-location"]
        read.append(location)
        return np.ones([stop - start for start, stop in location], dtype=np.uint16)

    chunks = ((1,), (1000,) * 50, (1000,) * 50)
    slide = da.map_blocks(chunk, chunks=chunks, dtype=np.uint16, meta=np.ones((0, 0, 0), np.uint16))
    sdata["slide"] = Image2DModel.parse(slide, dims=("c", "y", "x"), transformations={"global": Identity()})
    sdata["slide_cells"] = Labels2DModel.parse(slide[0], dims=("y", "x"), transformations={"global": Identity()})
    read.clear()
    ucs.pl.cells(sdata, shapes_key="slide_cells", image_key="slide", bounds=BOUNDS)
    assert {tuple(start for start, _ in location) for location in read} == {(0, 0, 0)}


def test_raster_is_cropped_at_the_scale_of_the_figure():
    pixels = np.arange(6000 * 6000, dtype=np.int32).reshape(6000, 6000)
    labels = Labels2DModel.parse(pixels, dims=("y", "x"), scale_factors=[2, 2], chunks=(3000, 3000))
    to_points = np.array([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1.0]])
    fine, matrix = crop_raster(labels, to_points, (110, 220, 120, 225))
    assert fine.shape == (12, 22)  # one pixel more on each side
    np.testing.assert_array_equal(fine, pixels[399:411, 199:221])
    np.testing.assert_allclose(matrix @ [0, 0, 1], [10 + 199 / 2, 20 + 399 / 2, 1])
    coarse, matrix = crop_raster(labels, to_points, (10, 20, 3010, 3020))
    assert coarse.shape == (3000, 3000)
    np.testing.assert_allclose(matrix, to_points @ np.diag([2, 2, 1]))
    thinned, matrix = crop_raster(labels["scale0"]["image"], to_points, (10, 20, 3010, 3020))
    assert thinned.shape == (2000, 2000)
    np.testing.assert_allclose(matrix, to_points @ np.diag([3, 3, 1]))
    nothing, _ = crop_raster(labels, to_points, (-500, 0, -400, 50))
    assert nothing.size == 0


def test_colors_of_transcripts(tissue: SpatialData):
    by_gene = tissue.points["transcripts"].compute().query("qv >= 20")["feature_name"].astype(str).value_counts()
    first, second = by_gene.index[:2]
    draw = {"show": ["transcripts"], "shapes_key": "true_cells"}

    def colors(ax: Axes) -> np.ndarray:
        faces = [(c.get_facecolor(), len(c.get_offsets())) for c in ax.collections if isinstance(c, PathCollection)]
        return np.concatenate([np.broadcast_to(face, (n, 4)) for face, n in faces])

    one = colors(ucs.pl.cells(tissue, color="red", **draw))
    assert len(one) == by_gene.sum()
    assert (one == to_rgba("red")).all()
    chosen = ucs.pl.cells(tissue, color={first: "red", second: "blue"}, **draw)
    assert (colors(chosen) == to_rgba("red")).all(axis=1).sum() == by_gene[first]
    assert (colors(chosen) == to_rgba("blue")).all(axis=1).sum() == by_gene[second]
    assert [text.get_text() for text in chosen.get_legend().get_texts()] == [first, second]
    assert len(ucs.pl.cells(tissue, color=[first], **draw).get_legend().get_texts()) == 1
    every = ucs.pl.cells(tissue, color="gene", **draw)
    assert every.get_legend() is None
    assert len(np.unique(colors(every), axis=0)) > 100


def test_too_many_transcripts_are_thinned(tissue: SpatialData, caplog: pytest.LogCaptureFixture):
    ax = ucs.pl.cells(tissue, shapes_key="true_cells", max_transcripts=500, color="gene")
    assert len(np.unique(dots(ax), axis=0)) == 500
    assert "Drawing 500 of" in caplog.text
    every = dots(ucs.pl.cells(tissue, shapes_key="true_cells", color="gene"))
    assert dots(ax)[:, 0].std() == pytest.approx(every[:, 0].std(), rel=0.1)


def test_what_is_not_there_is_left_out(tissue: SpatialData):
    sdata = SpatialData(points={"transcripts": tissue["transcripts"]}, labels={"true_cells": tissue["true_cells"]})
    ax = ucs.pl.cells(sdata, shapes_key="true_cells")
    assert len(ax.images) == 1  # density
    drawn = [c for c in ax.collections if isinstance(c, LineCollection) and c.get_segments()]
    assert len(drawn) == 1


def test_the_image_is_known_by_its_channel_where_its_name_says_nothing(tissue: SpatialData):
    """As MERSCOPE's mosaics are: `{dataset}_z3` with channels DAPI and PolyT."""
    sdata = SpatialData(points={"transcripts": tissue["transcripts"]}, labels={"true_cells": tissue["true_cells"]})
    sdata["dataset_z3"] = tissue["morphology_focus"]
    assert len(ucs.pl.cells(sdata, shapes_key="true_cells", show=["image"]).images) == 1


def test_layers_and_axes(tissue: SpatialData):
    _, ax = plt.subplots()
    assert ucs.pl.cells(tissue, shapes_key="true_cells", show=(), ax=ax, outline={"colors": "red"}) is ax
    assert not ax.images
    assert not ax.artists
    assert not any(isinstance(collection, PathCollection) for collection in ax.collections)
    assert to_rgba("red") in [tuple(color) for c in ax.collections for color in c.get_edgecolor()]
    full = ucs.pl.cells(tissue, shapes_key="true_cells")
    (bar,) = full.artists
    assert (bar.dx, bar.units) == (1.0, "um")
    in_px = ucs.pl.cells(tissue, shapes_key="true_cells", um_per_unit=0.1)
    assert in_px.artists[0].dx == 0.1


def test_density_is_in_transcripts_per_um2(tissue: SpatialData):
    points = tissue.points["transcripts"].compute().query("qv >= 20")
    every, some = (
        ucs.pl.cells(tissue, shapes_key="true_cells", show=["transcripts"], max_transcripts=n).images[0].get_array()
        for n in (10**6, 3000)
    )
    assert every.mean() == pytest.approx(len(points) / 80**2, rel=0.02)
    assert some.mean() == pytest.approx(len(points) / 80**2, rel=0.02)


def test_cells_are_filled_by_a_column_or_a_gene(tissue: SpatialData):
    ax = ucs.pl.cells(tissue, shapes_key="true_cells", fill="cell_type", show=())
    obs = tissue.tables["true_table"].obs
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == list(obs["cell_type"].cat.categories)
    (filled,) = [c for c in ax.collections if isinstance(c, PathCollection) and len(c.get_paths()) == len(obs)]
    shown = [tuple(color[:3]) for color in filled.get_facecolor()]
    # One colour to each type: cells are matched with their rows by id.
    pairs = {(kind, color) for kind, color in zip(obs["cell_type"], shown, strict=True)}
    assert len(pairs) == len({color for _, color in pairs}) == obs["cell_type"].nunique()
    area = ucs.pl.cells(tissue, shapes_key="true_cells", fill="area_um2", show=())
    values = next(c.get_array() for c in area.collections if isinstance(c, PathCollection))
    np.testing.assert_allclose(values, obs["area_um2"])
    assert area.child_axes[0].get_ylabel() == "area um2"
    gene = ucs.pl.cells(tissue, shapes_key="true_cells", fill="GENE0003", show=())
    counts = next(c.get_array() for c in gene.collections if isinstance(c, PathCollection))
    np.testing.assert_array_equal(counts, tissue.tables["true_table"][:, "GENE0003"].X.toarray().ravel())


def test_pictures_in_colour_keep_their_colours(tissue: SpatialData):
    sdata = cheap_copy(tissue)
    rgb = np.random.default_rng(0).integers(0, 255, (3, 380, 380), dtype=np.uint8)
    sdata["he"] = Image2DModel.parse(rgb, dims=("c", "y", "x"), c_coords=["r", "g", "b"])
    sdata["stains"] = Image2DModel.parse(rgb.astype(np.uint16), dims=("c", "y", "x"), c_coords=["DAPI", "RNA", "IF"])
    he = ucs.pl.cells(sdata, shapes_key="true_cells", image_key="he")
    assert len(he.images) == 1  # no density on a picture in colours
    np.testing.assert_array_equal(he.images[0].get_array()[:376, :376], np.moveaxis(rgb, 0, -1)[:376, :376])
    two = ucs.pl.cells(sdata, shapes_key="true_cells", image_key="stains", channel=["DAPI", "IF"])
    assert two.images[0].get_array().shape[2] == 3
    lines = [c for c in two.collections if isinstance(c, LineCollection)][-1]
    assert tuple(lines.get_edgecolor()[0]) == to_rgba("white")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"shapes_key": "cells"}, KeyError, "shapes_key='cells'.*'nucleus_boundaries', .*'true_cells'"),
        ({}, KeyError, "shapes_key='ucs_boundaries'"),
        ({"shapes_key": "true_cells", "nuclei_key": "a"}, KeyError, "nuclei_key='a'.*'nucleus_labels'"),
        ({"shapes_key": "true_cells", "image_key": "a"}, KeyError, "image_key='a'.*'morphology_focus'"),
        ({"shapes_key": "true_cells", "points_key": "a"}, KeyError, "points_key='a'.*'transcripts'"),
        ({"shapes_key": "true_cells", "channel": "RNA"}, KeyError, "channel='RNA'.*'DAPI'"),
        ({"shapes_key": "true_cells", "gene_key": "a"}, KeyError, "'feature_name'"),
        ({"shapes_key": "true_cells", "show": ["sky"]}, ValueError, "'sky'.*'image'"),
        ({"shapes_key": "true_cells", "color": "nocolor"}, ValueError, "color='nocolor'"),
        ({"shapes_key": "true_cells", "color": ["gene0001", "X"]}, KeyError, "'gene0001', 'X'. Near: 'GENE0001'"),
        ({"shapes_key": "true_cells", "fill": "kind"}, KeyError, "fill='kind'.*'cell_type'"),
        ({"shapes_key": "cell_labels", "fill": "kind"}, KeyError, "No table annotates 'cell_labels'.*'true_table'"),
        ({"shapes_key": "true_cells", "fill": "area_um2", "table_key": "t"}, KeyError, "table_key='t'.*'true_table'"),
        ({"shapes_key": "true_cells", "bounds": (1, 2, 3)}, ValueError, "x_min, y_min"),
        ({"shapes_key": "true_cells", "bounds": (5, 2, 3, 4)}, ValueError, "x_min < x_max"),
        ({"shapes_key": "true_cells", "bounds": (500, 500, 600, 600)}, ValueError, "neither.*the transcripts lie in"),
        ({"shapes_key": "true_cells", "coordinate_system": "a"}, ValueError, "coordinate_system='a'.*'global'"),
    ],
)
def test_bad_input(tissue: SpatialData, options: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        ucs.pl.cells(tissue, **options)
    assert plt.get_fignums() == []
