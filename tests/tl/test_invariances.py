"""What must not matter to the cells: tiles, partitions, the order of things, the frame in which all is expressed."""

from __future__ import annotations

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scenes
import torch
from calls import segment
from helpers import cheap_copy
from invariants import assert_invariants, assert_same_cells, assert_same_tables
from scenes import (
    AFFINES,
    TINY,
    affine,
    labels_of,
    make_points,
    make_sdata,
    scaling,
    scene,
    segmented,
    translation,
)
from spatialdata.models import PointsModel
from spatialdata.transformations import get_transformation, set_transformation

import ucs


def trained(sdata, **options):
    """Cells of a run that trains too."""
    return segment(sdata, **{"params": TINY, **options})


@pytest.fixture(scope="module")
def one_tile(simulated):
    return trained(simulated, tile_size=10**6)


@pytest.fixture(scope="module")
def one_partition():
    return trained(scene().sdata(npartitions=1))


class TestTiles:
    """On a field of several blocks, whichever of the lattices."""

    def test_there_is_more_than_one_tile(self, one_tile):
        assert min(labels_of(one_tile).shape) > 128
        assert one_tile["ucs_cells"].data.npartitions == 1

    @pytest.mark.parametrize("tile_size", [96, 128])
    def test_their_size_has_no_say(self, tile_size, simulated, one_tile):
        assert_same_cells(trained(simulated, tile_size=tile_size), one_tile)

    def test_labels_are_chunked_by_tile(self):
        labels = segmented(scene().sdata(), tile_size=40)["ucs_cells"]
        assert labels.data.chunks == ((40, 32), (40, 40, 16))


class TestPartitionsAndOrder:
    @pytest.mark.parametrize(("npartitions", "shuffled"), [(3, False), (1, True), (17, True)])
    def test_of_points_have_no_say(self, npartitions, shuffled, one_partition):
        points = scene().points
        if shuffled:
            points = points.sample(frac=1, random_state=npartitions)
        result = trained(scene().with_points(points).sdata(npartitions=npartitions))
        assert_same_cells(result, one_partition)
        assert result["transcripts"].npartitions == npartitions
        of_points = result["transcripts"].compute()["ucs_cell_id"]
        expected = one_partition["transcripts"].compute()["ucs_cell_id"]
        np.testing.assert_array_equal(of_points.sort_index(), expected)

    def test_rows_need_no_index_of_their_own(self, cells):
        """As in files that were written in parts: every partition counts from 0 again, or all rows are called 0."""
        points = scene().points
        parts = [points.iloc[:1500].reset_index(drop=True), points.iloc[1500:].set_index(np.zeros(len(points) - 1500))]
        element = PointsModel.parse(
            dd.concat([dd.from_pandas(part, npartitions=2, sort=False) for part in parts]), feature_key="feature_name"
        )
        sdata = scene().sdata()
        del sdata["transcripts"]
        sdata["transcripts"] = element
        result = segmented(sdata)
        np.testing.assert_array_equal(labels_of(result), labels_of(cells))
        np.testing.assert_array_equal(
            result["transcripts"]["ucs_cell_id"].compute(), cells["transcripts"]["ucs_cell_id"].compute()
        )

    def test_of_polygons_have_no_say(self):
        outlines = ucs.tl.outlines(scene().sdata(), "nucleus_labels", inplace=False)["nucleus_labels_boundaries"]
        results = []
        for order in (np.arange(31), np.random.default_rng(0).permutation(31)):
            frame = outlines.iloc[order].copy()
            frame.attrs = {}
            results.append(segmented(make_sdata(frame, scene().points, labels_to_um=scene().to_um)))
        assert_same_cells(*results)


class TestSeed:
    def test_one_seed_gives_the_same_cells(self):
        assert_same_cells(trained(scene().sdata(), seed=7), trained(scene().sdata(), seed=7))

    def test_seeds_differ(self, cells):
        assert (labels_of(trained(scene().sdata(), seed=1, params=scenes.SHORT)) != labels_of(cells)).any()

    def test_what_was_drawn_before_has_no_say(self):
        one = trained(scene().sdata())
        torch.manual_seed(123)
        np.random.seed(5)  # noqa: NPY002 - someone else's global state
        before = torch.random.get_rng_state()
        assert_same_cells(trained(scene().sdata()), one)
        assert torch.equal(torch.random.get_rng_state(), before)


class TestAffines:
    """The same tissue through other transformations, with the coordinates of points and nuclei as they were."""

    @pytest.mark.parametrize("name", AFFINES)
    def test_of_both(self, name, cells):
        result = segmented(scene().sdata(um_to_global=AFFINES[name]))
        assert_same_cells(result, cells)
        assert_invariants(result, nuclei=scene().nuclei)

    @pytest.mark.parametrize("name", ["flip", "all"])
    def test_set_afterwards_in_a_system_of_another_name(self, name, cells):
        sdata = scene().sdata()
        set_transformation(sdata["transcripts"], {"slide": affine(AFFINES[name])}, set_all=True)
        set_transformation(sdata["nucleus_labels"], {"slide": affine(AFFINES[name] @ scene().to_um)}, set_all=True)
        np.testing.assert_array_equal(labels_of(segmented(sdata, coordinate_system="slide")), labels_of(cells))


h, w = 72, 96
FRAMES = {
    "rows reversed": (lambda a: a[::-1], np.array([[1.0, 0, 0], [0, -1, h], [0, 0, 1]])),
    "columns reversed": (lambda a: a[:, ::-1], np.array([[-1.0, 0, w], [0, 1, 0], [0, 0, 1]])),
    "turned by 90 degrees": (np.rot90, np.array([[0, -1.0, w], [1, 0, 0], [0, 0, 1]])),
    "turned by 180 degrees": (lambda a: np.rot90(a, 2), np.array([[-1.0, 0, w], [0, -1, h], [0, 0, 1]])),
    "transposed": (lambda a: a.T, np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, 1]])),
    "three times finer": (lambda a: np.kron(a, np.ones((3, 3), dtype=a.dtype)), scaling(1 / 3)),
    "finer along x": (lambda a: np.kron(a, np.ones((1, 5), dtype=a.dtype)), scaling(1 / 5, 1)),
    "four times finer, of whose pixels borders hit the centres": (
        lambda a: np.kron(a, np.ones((4, 4), dtype=a.dtype)),
        scaling(1 / 4),
    ),
    "with a margin": (lambda a: np.pad(a, ((4, 7), (9, 3))), translation(-9, -4)),
}


class TestFramesOfTheNuclei:
    """The same nuclei in arrays of other frames, each with the transformation that belongs to it."""

    @pytest.mark.parametrize("name", FRAMES)
    def test_of_labels(self, name, cells):
        change, to_original = FRAMES[name]
        nuclei = np.ascontiguousarray(change(scene().nuclei))
        sdata = make_sdata(nuclei, scene().points, labels_to_um=scene().to_um @ to_original)
        assert_same_cells(segmented(sdata), cells)

    @pytest.mark.parametrize("name", ["turned by 90 degrees", "three times finer"])
    def test_together_with_an_affine(self, name, cells):
        change, to_original = FRAMES[name]
        nuclei = np.ascontiguousarray(change(scene().nuclei))
        sdata = make_sdata(
            nuclei, scene().points, labels_to_um=scene().to_um @ to_original, um_to_global=AFFINES["all"]
        )
        assert_same_cells(segmented(sdata), cells)

    def test_cropped(self, cells):
        rows, columns = (np.flatnonzero(scene().nuclei.any(axis=axis)) for axis in (1, 0))
        top, left = rows[0], columns[0]
        nuclei = scene().nuclei[top : rows[-1] + 1, left : columns[-1] + 1]
        sdata = make_sdata(nuclei, scene().points, labels_to_um=scene().to_um @ translation(left, top))
        assert_same_cells(segmented(sdata), cells)

    def test_multiscale(self, cells):
        fine = np.kron(scene().nuclei, np.ones((8, 8), dtype=np.int32))
        sdata = make_sdata(
            fine, scene().points, labels_to_um=scene().to_um @ scaling(1 / 8), labels_options={"scale_factors": [2, 2]}
        )
        assert_same_cells(segmented(sdata), cells)

    def test_as_polygons(self, cells):
        frame = ucs.tl.outlines(scene().sdata(), "nucleus_labels", inplace=False)["nucleus_labels_boundaries"]
        frame.attrs = {}
        sdata = make_sdata(frame, scene().points, labels_to_um=scene().to_um, um_to_global=AFFINES["all"])
        assert_same_cells(segmented(sdata), cells)

    def test_connected_by_a_third_element(self, cells):
        sdata = scene().sdata(points_systems={"a": scaling(3)}, nuclei_systems={"b": scene().to_um})
        image = make_sdata(np.ones((3, 3), dtype=int), scene().points)["nucleus_labels"]
        set_transformation(image, {"a": affine(scaling(3)), "b": affine(np.eye(3))}, set_all=True)
        sdata["image"] = image
        assert_same_cells(segmented(sdata, nuclei_key="nucleus_labels"), cells)

    def test_half_a_pixel_off_moves_them_as_worked_out_by_hand(self):
        """Centres lie at +0.5: 0.49 px change nothing, 0.51 px move every nucleus by one."""
        for shift, moved in ((0.49, 0), (0.51, 1), (-0.49, 0), (-0.51, -1)):
            nuclei = scene().nuclei.copy()
            nuclei[:, [0, -1]] = 0  # so that none is rolled round
            rolled = np.roll(nuclei, moved, axis=1)
            by_hand = segmented(make_sdata(rolled, scene().points, labels_to_um=scene().to_um))
            shifted = scene().to_um @ translation(shift, 0)
            assert_same_cells(segmented(make_sdata(nuclei, scene().points, labels_to_um=shifted)), by_hand)


class TestFramesOfThePoints:
    @pytest.mark.parametrize("name", ["scale", "all"])
    def test_half_um_as_unit(self, name, cells):
        points = scene().points.assign(x=scene().points["x"] * 2, y=scene().points["y"] * 2)
        sdata = make_sdata(
            scene().nuclei,
            points,
            labels_to_um=scene().to_um,
            points_to_um=scaling(0.5),
            um_to_global=AFFINES[name],
        )
        result = segmented(sdata, um_per_unit=0.5)
        np.testing.assert_array_equal(labels_of(result), labels_of(cells))
        assert_same_tables(result["ucs_table"], cells["ucs_table"])
        assert_invariants(result, um_per_unit=0.5, nuclei=scene().nuclei)
        extent = result["ucs_boundaries"].total_bounds
        np.testing.assert_allclose(extent, cells["ucs_boundaries"].total_bounds * 2)

    def test_another_origin(self, cells):
        points = scene().points.assign(x=scene().points["x"] - 1000, y=scene().points["y"] + 77)
        sdata = make_sdata(scene().nuclei, points, labels_to_um=scene().to_um, points_to_um=translation(1000, -77))
        result = segmented(sdata)
        np.testing.assert_array_equal(labels_of(result), labels_of(cells))
        np.testing.assert_allclose(
            result["ucs_table"].obsm["spatial"], cells["ucs_table"].obsm["spatial"] + [-1000, 77]
        )
        assert_invariants(result, nuclei=scene().nuclei)

    def test_single_precision(self, cells):
        points = scene().points.astype({"x": np.float32, "y": np.float32})
        assert_same_cells(segmented(scene().with_points(points).sdata()), cells)

    def test_z_is_of_no_concern(self, cells):
        points = scene().points.assign(z=np.random.default_rng(0).normal(size=len(scene().points)))
        assert_same_cells(segmented(scene().with_points(points).sdata()), cells)


class TestCoordinateSystems:
    def test_the_one_asked_for_decides_where_the_nuclei_are(self, cells):
        systems = {"global": np.eye(3), "moved": np.eye(3)}
        of_nuclei = {"global": scene().to_um @ translation(3, 2), "moved": scene().to_um}
        sdata = scene().sdata(points_systems=systems, nuclei_systems=of_nuclei)
        assert_same_cells(segmented(sdata, coordinate_system="moved"), cells)
        assert (labels_of(segmented(sdata)) != labels_of(cells)).any()

    def test_results_are_in_all_those_of_the_points(self):
        systems = {"global": np.eye(3), "a": AFFINES["all"], "b": AFFINES["flip"]}
        result = segmented(scene().sdata(points_systems=systems))
        assert_invariants(result)
        assert {"a", "b", "global"} == set(result.coordinate_systems)


def test_other_elements_have_no_say(simulated):
    """Images, vendor's cells and tables may be there or not."""
    rich = cheap_copy(simulated)
    bare = cheap_copy(simulated)
    for key in ("morphology_focus", "cell_labels", "true_cells", "nucleus_boundaries", "true_table"):
        del bare[key]
    points = rich["transcripts"].compute()
    points = points[(points["x"] < 60) & (points["y"] < 60)]
    for sdata in (rich, bare):
        element = make_points(points, get_transformation(sdata["transcripts"], get_all=True))
        del sdata["transcripts"]
        sdata["transcripts"] = element
    assert_same_cells(trained(rich), trained(bare))


def test_columns_that_are_not_read_have_no_say(cells):
    points = scene().points.assign(cell_id="UNASSIGNED", count=7, other=pd.Categorical(["x"] * len(scene().points)))
    # Xenium has no count column, so one of that name is somebody's own.
    assert_same_cells(segmented(scene().with_points(points).sdata()), cells)
