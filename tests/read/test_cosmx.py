"""CosMx: the size of a pixel, fields that are missing, and nuclei from images or from transcripts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from calls import segment
from fields import cut_fields
from scenes import affine, scene
from scipy.ndimage import gaussian_filter
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, TableModel
from spatialdata.transformations import get_transformation

import ucs
from ucs._read.nuclei.rows import continue_to_border, fill_hulls
from ucs._read.platforms import COSMX
from ucs._read.sample import find_nuclei_key, find_source, prepare
from ucs._read.unit import find_unit

HALVES = [(0, 0, 48, 72), (48, 0, 96, 72)]


@pytest.fixture
def sdata() -> SpatialData:
    """Two fields without anything but transcripts."""
    cut = cut_fields(scene(), HALVES)
    return cut.subset(["2_points", "3_points"])


def add_labels(sdata, sizes, raster=None):
    for fov, (width, height) in sizes.items():
        transformations = get_transformation(sdata[f"{fov}_points"], get_all=True)
        filled = np.zeros((height, width), dtype=np.uint16) if raster is None else raster
        sdata[f"{fov}_labels"] = Labels2DModel.parse(filled, dims=("y", "x"), transformations=transformations)


def add_table(sdata, **columns):
    n = 20
    obs = pd.DataFrame(
        {"fov": np.repeat(["2", "3"], n // 2), "cell_ID": np.arange(n), "region": "2_labels", **columns},
        index=np.arange(n).astype(str),
    )
    obs["region"] = obs["region"].astype("category")
    table = AnnData(np.zeros((n, 1)), obs=obs)
    table.obsm["global"] = np.random.default_rng(0).uniform(0, 4000, (n, 2))
    sdata["table"] = TableModel.parse(table, region="2_labels", region_key="region", instance_key="cell_ID")
    return table


class TestUnit:
    def test_the_size_of_a_field_tells_the_first_instruments_from_the_later(self, sdata):
        for size, um in (((5472, 3648), 0.18), ((4256, 4256), 0.12028), ((4245, 4245), 0.12028)):
            add_labels(sdata, {"2": size, "3": size})
            assert find_source(sdata).um_per_unit == um
            del sdata["2_labels"], sdata["3_labels"]

    def test_an_image_will_do(self, sdata):
        sdata["2_image"] = Image2DModel.parse(np.zeros((3, 3648, 5472), dtype=np.uint8), scale_factors=[2])
        assert find_source(sdata).um_per_unit == 0.18

    def test_areas_in_px_and_um2_go_before_it(self, sdata):
        add_labels(sdata, {"2": (5472, 3648), "3": (5472, 3648)})
        area = np.linspace(2000, 9000, 20)
        add_table(sdata, **{"Area": area, "Area.um2": area * 0.1203**2})
        assert find_source(sdata).um_per_unit == 0.12028
        del sdata["table"]
        add_table(sdata, **{"Area": area, "Area.um2": area * 0.15**2})
        assert find_source(sdata).um_per_unit == pytest.approx(0.15)

    def test_positions_in_px_and_mm_too(self, sdata):
        table = add_table(sdata)
        mm = table.obsm["global"] * 0.18e-3 + [3.2, -7]
        sdata["table"].obs["x_slide_mm"], sdata["table"].obs["y_slide_mm"] = mm.T
        assert find_source(sdata).um_per_unit == 0.18

    def test_so_does_a_transcript_where_later_fields_have_ended(self, sdata):
        assert find_source(sdata).um_per_unit == COSMX.um_per_unit
        far = sdata["3_points"].assign(x=sdata["3_points"]["x"] + 4800)
        far.attrs.update(sdata["3_points"].attrs)
        del sdata["3_points"]
        sdata["3_points"] = far
        assert find_source(sdata).um_per_unit == 0.18

    def test_that_nothing_tells_is_said(self, sdata, caplog):
        find_source(sdata)
        assert "nothing in the object tells the size of its pixels; 0.12028 um is assumed" in caplog.text
        caplog.clear()
        assert find_source(sdata, um_per_unit=0.18).um_per_unit == 0.18
        sdata.attrs["cosmx"] = {"um_per_unit": 0.17}
        assert find_unit(sdata, COSMX, None).um == 0.17
        assert "assumed" not in caplog.text

    def test_fields_that_differ_are_an_error(self, sdata):
        add_labels(sdata, {"2": (5472, 3648), "3": (4256, 4256)})
        with pytest.raises(ValueError, match=r"not have the same unit: .* of '3' has 0\.1203 um and one of '2' 0\.18"):
            find_source(sdata)
        assert find_source(sdata, ["3_points"]).um_per_unit == 0.12028
        assert find_source(sdata, um_per_unit=0.12).um_per_unit == 0.12

    def test_areas_that_differ_are_an_error(self, sdata):
        area = np.full(20, 5000.0)
        add_table(sdata, **{"Area": area, "Area.um2": area * np.repeat([0.12, 0.18], 10) ** 2})
        with pytest.raises(ValueError, match=r"by the areas of cells in px and um2, a pixel of '2' has 0\.12 um"):
            find_source(sdata)


class TestFields:
    def test_a_field_that_the_table_lists_but_that_is_absent(self, sdata):
        add_table(sdata)
        del sdata["2_points"]
        with pytest.raises(KeyError, match=r"lists 2 fields of view, but there are no transcripts of '2': '3_points'"):
            find_source(sdata)
        assert [part.name for part in find_source(sdata, ["3_points"]).elements] == ["3"]

    def test_they_are_ordered_by_number(self, sdata):
        sdata["10_points"] = sdata["2_points"].copy()
        assert [part.name for part in find_source(sdata).elements] == ["2", "3", "10"]


def stained(sdata, *, channels=None, dark=0):
    """Add images in which nuclei are bright in the channel of DAPI, as the composite picture has them."""
    for fov, (x0, y0, x1, y1) in zip(("2", "3"), HALVES, strict=True):
        nuclei = np.kron(scene().nuclei[y0:y1, x0:x1][::-1] > 0, np.ones((6, 6)))
        image = np.zeros((3, *nuclei.shape), dtype=np.uint8)
        image[2] = gaussian_filter(nuclei * 200.0, 3) + 5
        if dark:
            image[:, :, -dark:] = image[:, :, :dark] = 0
        transformations = get_transformation(sdata[f"{fov}_points"], get_all=True)
        shrink = np.diag([1 / 6, 1 / 6, 1.0])
        sdata[f"{fov}_image"] = Image2DModel.parse(
            image,
            dims=("c", "y", "x"),
            c_coords=channels,
            transformations={
                key: affine(t.to_affine_matrix(("x", "y"), ("x", "y")) @ shrink) for key, t in transformations.items()
            },
        )
    return sdata


UNIT = {"um_per_unit": 1.0, "resolution": 1.0}


class TestImages:
    @pytest.mark.parametrize("dark", [0, 5])
    def test_nuclei_are_found_in_blue_and_cut_ones_are_whole(self, sdata, dark):
        stained(sdata, dark=dark)
        source = find_source(sdata, **UNIT)
        assert find_nuclei_key(sdata, source, None) == "{fov}_ucs_nuclei"
        sample = prepare(sdata, source)
        assert sorted(sample.found) == ["2_ucs_nuclei", "3_ucs_nuclei"]
        assert "2_ucs_nuclei" not in sdata
        true, found = scene().nuclei, sample.nuclei.labels
        across = np.intersect1d(true[:, 47], true[:, 48])
        across = across[across > 0]
        assert len(across) > 0
        for nucleus in across:
            on_it = found[true == nucleus]
            most = np.bincount(on_it[on_it > 0]).argmax()
            assert (on_it == most).mean() > 0.6
            assert {"2", "3"} == {sample.fov_names[k - 1] for k in np.unique(sample.fov[found == most])}
        assert abs(len(sample.nuclei.ids) - len(np.unique(true)) + 1) <= 4

    def test_names_of_channels_go_before_the_colour(self, sdata):
        stained(sdata, channels=["Membrane", "PanCK", "DNA"])
        assert find_nuclei_key(sdata, find_source(sdata, **UNIT), None) == "{fov}_ucs_nuclei"

    def test_channels_of_other_names_are_an_error_that_says_what_to_do(self, sdata):
        stained(sdata, channels=["Membrane", "PanCK", "CD45"])
        source = find_source(sdata, **UNIT)
        with pytest.raises(KeyError, match=r"'2_image'.*'Membrane', 'PanCK', 'CD45'.*ucs\.pp\.nuclei\(sdata"):
            find_nuclei_key(sdata, source, None)
        ucs.pp.nuclei(sdata, "{fov}_image", channel="CD45", um_per_px=1 / 6, progress=False)
        assert find_nuclei_key(sdata, source, None) == "{fov}_ucs_nuclei"
        assert len(prepare(sdata, source).nuclei.ids) > 20

    def test_a_field_without_an_image_is_named(self, sdata):
        del stained(sdata)["3_image"]
        with pytest.raises(KeyError, match=r"1 of 2 fields of view have none: '3'.*points_key=\['2_points'\]"):
            find_nuclei_key(sdata, find_source(sdata, **UNIT), None)

    def test_a_field_without_nuclei_is_named_and_nothing_is_written(self, sdata):
        stained(sdata)
        flat = np.zeros((3, 432, 288), dtype=np.uint8) + np.arange(288, dtype=np.uint8) // 60
        transformations = get_transformation(sdata["3_image"], get_all=True)
        del sdata["3_image"]
        sdata["3_image"] = Image2DModel.parse(flat, dims=("c", "y", "x"), transformations=transformations)
        with pytest.raises(ValueError, match=r"1 of 2 fields of view, from the images: '3'\. .*=\['2_points'\]"):
            segment(sdata, inplace=True, **UNIT)
        with pytest.raises(ValueError, match=r"no nuclei in 1 of 2 fields of view: '3'"):
            ucs.pp.nuclei(sdata, um_per_px=1 / 6, progress=False)
        assert list(sdata.labels) == []

    def test_a_channel_that_is_not_there(self, sdata):
        with pytest.raises(KeyError, match=r"channel='DAPI' is not a channel of images\['2_image'\]"):
            ucs.pp.nuclei(stained(sdata), channel="DAPI", um_per_px=1 / 6, progress=False)

    def test_images_of_all_fields_are_taken(self, sdata):
        out = ucs.pp.nuclei(stained(sdata), um_per_px=1 / 6, inplace=False, progress=False)
        assert sorted(out.labels) == ["2_ucs_nuclei", "3_ucs_nuclei"]
        one = ucs.pp.nuclei(sdata, "3_image", labels_key_added="mine", um_per_px=1 / 6, inplace=False, progress=False)
        assert list(one.labels) == ["mine"]
        with pytest.raises(ValueError, match=r"labels\['2_ucs_nuclei'\] exists; pass overwrite=True"):
            ucs.pp.nuclei(out, um_per_px=1 / 6, progress=False)


class TestRows:
    def cells(self, sdata):
        """The vendor's cells: squares of 12 um around everything."""
        y, x = np.indices((72, 48))
        add_labels(sdata, {"2": (48, 72), "3": (48, 72)}, raster=(1 + y // 12 * 4 + x // 12).astype(np.uint16))
        return sdata

    def test_hulls_of_nuclear_transcripts_within_the_vendors_cells(self, sdata):
        for key in ("2_points", "3_points"):
            nuclear = sdata[key]["x"].gt(20)
            points = sdata[key].assign(CellComp=nuclear.astype(str).replace({"True": "Nuclear", "False": "Membrane"}))
            points.attrs.update(sdata[key].attrs)
            del sdata[key]
            sdata[key] = points
        self.cells(sdata)
        source = find_source(sdata, **UNIT)
        sample = prepare(sdata, source, check_alignment=False)
        assert sorted(sample.found) == ["2_ucs_nuclei", "3_ucs_nuclei"]
        for key, cells in (("2_ucs_nuclei", "2_labels"), ("3_ucs_nuclei", "3_labels")):
            nuclei, cell = np.asarray(sample.found[key]), np.asarray(sdata[cells])
            assert nuclei.any()
            assert ((nuclei == cell) | (nuclei == 0)).all()
            assert not nuclei[:, :19].any()

    def test_no_nuclear_transcripts(self, sdata):
        with pytest.raises(ValueError, match=r"2 of 2 fields of view, from the nuclear transcripts"):
            prepare(self.cells(sdata), find_source(sdata, **UNIT))

    def test_what_is_missing_is_said(self, sdata):
        with pytest.raises(KeyError, match=r"no images '2_image', '3_image'.*no labels '2_labels', '3_labels'"):
            find_nuclei_key(sdata, find_source(sdata, **UNIT), None)

    def test_the_vendors_cells_are_no_nuclei_unless_named(self, sdata, caplog):
        self.cells(sdata)
        source = find_source(sdata, **UNIT)
        assert find_nuclei_key(sdata, source, None) == "{fov}_ucs_nuclei"
        assert find_nuclei_key(sdata, source, "{fov}_labels") == "{fov}_labels"
        assert "are the vendor's cells, taken for nuclei because you name them" in caplog.text

    def test_hulls_stay_in_their_cells_and_need_enough_transcripts(self):
        cells = np.zeros((20, 40), dtype=np.uint16)
        cells[:, 1:20], cells[:, 20:39] = 7, 3
        square = np.array([[4, 4], [16, 4], [16, 16], [4, 16], [10, 10]], dtype=float)
        x, y = np.concatenate([square, square[:4] + [20, 0]]).T
        labels = fill_hulls(cells, x, y, smallest=5)
        assert set(np.unique(labels)) == {0, 7}
        assert (labels == 7).sum() == 144
        assert not fill_hulls(cells, x, y, smallest=200).any()
        assert not fill_hulls(cells, x[:0], y[:0], smallest=5).any()

    def test_overlapping_hulls_share_pixels_by_cell(self):
        y, x = (v.ravel() + 0.5 for v in np.indices((30, 30)))
        for inner, outer in ((1, 2), (2, 1)):
            cells = np.full((30, 30), outer)
            cells[10:20, 10:20] = inner
            labels = fill_hulls(cells, x, y, smallest=1)
            np.testing.assert_array_equal(labels[1:29, 1:10], cells[1:29, 1:10])
            np.testing.assert_array_equal(labels[11:19, 11:19], cells[11:19, 11:19])

    def test_what_lies_next_to_an_emptied_strip_reaches_the_border(self):
        x, y = np.array([3.0, 9.0, 50.0, 96.0]), np.array([50.0, 50.0, 50.0, 50.0])
        more_x, more_y = continue_to_border(x, y, (x, y), (100, 100), 0.5)
        assert sorted(zip(more_x[4:].tolist(), more_y[4:].tolist(), strict=True)) == [(0.0, 50.0), (100.0, 50.0)]
        assert len(continue_to_border(x + 20, y, (x + 20, y), (1000, 100), 0.5)[0]) == 4
