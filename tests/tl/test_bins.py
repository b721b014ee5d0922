"""Transcripts counted in bins: squares of Visium HD and the table of Stereo-seq, as their readers leave them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import shapely
from bins import BIN_UM, UM_PER_PX, binned, stereoseq_sdata, visium_hd_sdata
from calls import segment, train
from geopandas import GeoDataFrame
from invariants import assert_outlines, assert_same_tables, assert_spatialdata_agrees
from scenes import SHORT, TINY, X0, Y0, labels_of, make_points, make_sdata, scene, segmented
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Image2DModel, Labels2DModel, ShapesModel
from spatialdata.transformations import get_transformation

import ucs
from ucs._read.bins import chunks_of_bins, lattice, named_size
from ucs._read.columns import TranscriptColumns
from ucs._read.platforms import PLATFORMS
from ucs._read.sample import find_source, prepare
from ucs._results.outlines import polygon_frame
from ucs.methods import UCSModel

SQUARES = "Visium_HD_Sample_square_002um"


@pytest.fixture(scope="module")
def nuclei() -> GeoDataFrame:
    """Those of the scene, off the centres of the bins so that no rounding decides on a pixel."""
    frame = polygon_frame(scene().nuclei, scene().to_um)
    return frame.set_geometry(frame.translate(0.31, 0.17))


@pytest.fixture(scope="module")
def reference(nuclei) -> SpatialData:
    """The same transcripts as points in the middle of the bins, in um from the corner of the array."""
    rows = binned(scene().points, BIN_UM)
    points = pd.DataFrame(
        {
            "x": (rows["column"] + 0.5) * BIN_UM,
            "y": (rows["row"] + 0.5) * BIN_UM,
            "feature_name": pd.Categorical(rows["gene"]),
            "count": rows["count"],
        }
    )
    return make_sdata(nuclei.set_geometry(nuclei.translate(-X0, -Y0)), points)


@pytest.fixture(scope="module")
def model(reference) -> UCSModel:
    return train(reference, resolution=BIN_UM, params=SHORT)


@pytest.fixture(scope="module")
def expected(reference, model) -> SpatialData:
    return segmented(reference, resolution=BIN_UM, model=model)


@pytest.fixture(scope="module")
def run(nuclei) -> SpatialData:
    return visium_hd_sdata(scene(), nuclei)[0]


class TestVisiumHD:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"degrees": 0.0, "flip": False},
            {"degrees": 91.0},
            {"degrees": -7.0, "flip": False, "array": False},
        ],
        ids=["3 degrees and flipped", "straight", "on its side", "without numbers"],
    )
    def test_cells_are_those_of_the_same_counts_as_points(self, nuclei, model, expected, options):
        sdata, to_px = visium_hd_sdata(scene(), nuclei, **options)
        out = segmented(sdata, model=model)
        np.testing.assert_array_equal(labels_of(out), labels_of(expected))
        table, other = out["ucs_table"], expected["ucs_table"]
        np.testing.assert_array_equal(table.X.toarray(), other.X.toarray())
        np.testing.assert_allclose(table.obs["area_um2"], other.obs["area_um2"])
        # Centroids are in um along the axes of the image; those of the reference from the corner of the array.
        um = other.obsm["spatial"] + [X0, Y0]
        placed = (um @ to_px[:2, :2].T + to_px[:2, 2]) * UM_PER_PX
        np.testing.assert_allclose(table.obsm["spatial"], placed, atol=1e-6)

    def test_what_is_added(self, run, model):
        before = {key: run[key] for key in (SQUARES, "square_002um")}
        out = segmented(run, model=model)
        assert all(run[key] is element for key, element in before.items())
        assert "ucs_cell_id" not in run[SQUARES]
        assert_spatialdata_agrees(out)
        ShapesModel.validate(out[SQUARES])
        systems = set(get_transformation(run[SQUARES], get_all=True))
        for key in ("ucs_cells", "ucs_boundaries", SQUARES):
            assert set(get_transformation(out[key], get_all=True)) == systems
        to_px = get_transformation(out["ucs_cells"], "Visium_HD_Sample").to_affine_matrix(("x", "y"), ("x", "y"))
        assert_outlines(labels_of(out), out["ucs_boundaries"], to_px)
        # Each bin has the cell that its centre lies in, and the counts of a cell are those of its bins.
        squares, cells = out[SQUARES], out["ucs_boundaries"]
        cell = squares["ucs_cell_id"].to_numpy()
        assert cell.dtype == np.int32
        within = shapely.contains(cells.geometry.loc[cell[cell > 0]].to_numpy(), squares.centroid[cell > 0].to_numpy())
        assert within.all()
        counts = np.asarray(run["square_002um"].X.sum(axis=1)).ravel()
        table = out["ucs_table"]
        assert counts[cell > 0].sum() == table.X.sum() + table.obsm["controls"].sum()
        assert table.uns["ucs"]["qc"]["n_kept"] == counts.sum()

    def test_it_runs_with_no_option_and_says_that_it_is_experimental(self, run, caplog):
        out = segment(run, params=TINY)
        parameters = out["ucs_table"].uns["ucs"]["parameters"]
        assert (parameters["platform"], parameters["resolution"]) == ("visium_hd", BIN_UM)
        assert parameters["nuclei_key"] == "Visium_HD_Sample_nucleus_segmentations"
        assert "is experimental" in caplog.text

    def test_aggregate_counts_what_segment_counts(self, run, model):
        out = segmented(run, model=model)
        ucs.tl.aggregate(out, "ucs_cells", table_key_added="again", points_column_added="cell_again")
        table, again = out["ucs_table"], out["again"]
        np.testing.assert_array_equal(again.X.toarray(), table.X.toarray())
        np.testing.assert_allclose(again.obs["area_um2"], table.obs["area_um2"])
        np.testing.assert_allclose(again.obsm["spatial"], table.obsm["spatial"], atol=1e-6)
        np.testing.assert_array_equal(out[SQUARES]["cell_again"], out[SQUARES]["ucs_cell_id"])

    def test_the_transcript_map_lies_along_the_squares(self, run):
        image = ucs.pp.rasterize(run)
        assert image.shape[1:] == (36, 48)
        to_px = get_transformation(image, "Visium_HD_Sample").to_affine_matrix(("x", "y"), ("x", "y"))
        angle = np.rad2deg(np.arctan2(to_px[1, 0], to_px[0, 0]))
        assert angle == pytest.approx(3.0)

    def test_it_can_be_written_and_read(self, run, model, tmp_path):
        segmented(run, model=model).write(tmp_path / "bins.zarr")
        again = read_zarr(tmp_path / "bins.zarr")
        assert (again[SQUARES]["ucs_cell_id"] > 0).any()
        assert find_source(again).elements[0].table_key == "square_002um"

    @pytest.mark.parametrize("key", [None, "square_002um", SQUARES])
    def test_the_table_or_its_bins_may_be_named(self, run, key):
        source = find_source(run, key)
        part = source.elements[0]
        assert (part.key, part.table_key, source.resolution, source.um_per_unit) == (SQUARES, "square_002um", 2.0, 1.0)

    def test_coarser_pixels_hold_several_bins_and_finer_ones_are_refused(self, run):
        sample = prepare(run, find_source(run, resolution=4.0), check_alignment=False)
        assert sample.transcripts.grid.shape == (18, 24)
        with pytest.raises(ValueError, match=r"resolution=1 um is finer than the bins .*, which have 2 um"):
            find_source(run, resolution=1.0)

    def test_squares_of_anybody(self, nuclei):
        """No reader's names: the unit is what tells the size of the squares, and the squares where the pixels are."""
        sdata, _ = visium_hd_sdata(scene(), nuclei, degrees=20, array=False)
        renamed = SpatialData(shapes={"squares": sdata[SQUARES]}, tables={"counts": sdata["square_002um"]})
        renamed["counts"].obs["region"] = pd.Categorical(["squares"] * renamed["counts"].n_obs)
        renamed["counts"].uns["spatialdata_attrs"]["region"] = "squares"
        source = find_source(renamed, "counts", um_per_unit=UM_PER_PX)
        assert source.resolution == pytest.approx(BIN_UM)
        matrix = lattice(renamed, "squares", "counts")
        assert np.sqrt(abs(np.linalg.det(matrix[:2, :2]))) == pytest.approx(UM_PER_PX / BIN_UM)

    def test_the_size_of_a_pixel_of_the_image_is_known(self, run):
        from ucs._read.nuclei.stain import pixel_size

        sdata = run.subset(list(run.shapes) + list(run.tables))
        sdata.attrs.update(run.attrs)
        sdata["stain"] = Image2DModel.parse(
            np.zeros((1, 8, 8), dtype=np.uint8), transformations=get_transformation(run[SQUARES], get_all=True)
        )
        assert pixel_size(sdata, "stain", None) == pytest.approx(UM_PER_PX)


class TestBadInput:
    def test_h_and_e_is_no_nuclear_stain(self, run):
        sdata = run.subset([SQUARES, "square_002um"])
        sdata.attrs.update(run.attrs)
        sdata["Visium_HD_Sample_full_image"] = Image2DModel.parse(np.zeros((3, 40, 40), dtype=np.uint8))
        with pytest.raises(KeyError, match=r"H&E is no such stain: .*load_nucleus_segmentations=True.*ucs\.pp\.nuclei"):
            ucs.tl.segment(sdata, progress=False)

    def test_bins_that_are_too_coarse(self, run):
        tables = {"square_008um": run["square_002um"]}
        sdata = SpatialData(shapes={SQUARES: run[SQUARES]}, tables=tables, attrs=run.attrs)
        with pytest.raises(KeyError, match=r"Found no table of bins: .*'square_008um'.*hold several cells each"):
            find_source(sdata)

    def test_two_tables_of_bins(self, run):
        sdata = SpatialData(
            shapes={SQUARES: run[SQUARES]},
            tables={"a_square_002um": run["square_002um"], "b_square_002um": run["square_002um"].copy()},
            attrs=run.attrs,
        )
        with pytest.raises(ValueError, match=r"'a_square_002um', 'b_square_002um'. Name the right one with poi"):
            find_source(sdata)

    def test_bins_that_are_on_no_lattice(self, nuclei):
        sdata, _ = visium_hd_sdata(scene(), nuclei)
        sdata["square_002um"].obs.loc["5", "array_row"] += 1
        with pytest.raises(ValueError, match=r"do not lie on a regular lattice: the farthest is .* of a bin away"):
            find_source(sdata)

    def test_bins_that_the_element_has_not(self, nuclei):
        sdata, _ = visium_hd_sdata(scene(), nuclei)
        del sdata[SQUARES]
        sdata[SQUARES] = visium_hd_sdata(scene(), nuclei)[0][SQUARES].iloc[3:]
        with pytest.raises(ValueError, match=r"tables\['square_002um'\] has 3 bins that '.*' has not: 0, 1, 2"):
            find_source(sdata)

    def test_genes_of_the_same_name(self, nuclei):
        sdata, _ = visium_hd_sdata(scene(), nuclei)
        names = sdata["square_002um"].var_names.to_list()
        sdata["square_002um"].var_names = [names[1], *names[1:]]
        with pytest.raises(ValueError, match=r"genes under the same name: 'BLANK_.*var_names_make_unique\(\)"):
            prepare(sdata, find_source(sdata))

    def test_counts_that_are_not_whole(self, nuclei):
        sdata, _ = visium_hd_sdata(scene(), nuclei)
        sdata["square_002um"].X.data[7] = 0.5
        with pytest.raises(ValueError, match=r"tables\['square_002um'\], rows 0 to \d+: 1 of .* not whole"):
            prepare(sdata, find_source(sdata))

    def test_a_table_that_annotates_labels(self, run):
        sdata = SpatialData(
            labels={"bins": Labels2DModel.parse(np.ones((4, 4), dtype=np.int32), dims=("y", "x"))},
            tables={"square_002um": run["square_002um"].copy()},
            attrs=run.attrs,
        )
        table = sdata["square_002um"]
        table.obs["region"] = pd.Categorical(["bins"] * table.n_obs)
        table.uns["spatialdata_attrs"]["region"] = "bins"
        with pytest.raises(ValueError, match=r"must annotate one points or shapes .*annotate_table_by_labels=F"):
            find_source(sdata)


class TestStereoseq:
    def rows(self) -> pd.DataFrame:
        """What `ucs.io.read_gem` reads: a row for each gene in each bin."""
        rows = binned(scene().points, 0.5).rename(columns={"column": "x", "row": "y"})
        return rows.astype({"x": float, "y": float, "gene": "category"})

    def nuclei(self) -> object:
        return Labels2DModel.parse(np.kron(scene().nuclei, np.ones((2, 2), dtype=np.int32)), dims=("y", "x"))

    def test_the_table_of_the_reader_gives_what_the_rows_of_a_gem_give(self):
        gem = SpatialData(points={"bin1_genes": make_points(self.rows())}, labels={"nuclei": self.nuclei()})
        table = stereoseq_sdata(scene())
        table["nuclei"] = self.nuclei()
        of_gem, of_table = (segment(sdata, params=TINY) for sdata in (gem, table))
        assert of_table["ucs_table"].uns["ucs"]["parameters"]["platform"] == "stereoseq"
        np.testing.assert_array_equal(labels_of(of_gem), labels_of(of_table))
        assert_same_tables(of_gem["ucs_table"], of_table["ucs_table"])
        points = of_table["bin1_genes"].compute()
        assert list(points.columns) == ["x", "y", "ucs_cell_id"]
        counts = np.asarray(table["bin1_table"].X.sum(axis=1)).ravel()
        inside = points["ucs_cell_id"].to_numpy() > 0
        assert counts[inside].sum() == of_gem["bin1_genes"].compute().query("ucs_cell_id > 0")["count"].sum()

    def test_a_table_is_found_without_the_signature_of_the_reader(self):
        sdata = stereoseq_sdata(scene())
        sdata.attrs.clear()
        source = find_source(sdata)
        assert source.platform is PLATFORMS["stereoseq"]
        assert (source.elements[0].key, source.elements[0].table_key) == ("bin1_genes", "bin1_table")
        assert find_source(sdata, "bin1_genes").elements[0].table_key == "bin1_table"

    def test_the_registered_image_is_the_stain(self):
        from ucs._read.nuclei.stain import find_stain

        sdata = stereoseq_sdata(scene())
        sdata["SS200_regist"] = Image2DModel.parse(np.zeros((1, 40, 40), dtype=np.uint8))
        sdata["SS200_mask"] = Image2DModel.parse(np.zeros((1, 40, 40), dtype=np.uint8))
        assert find_stain(sdata, None, None).key == "SS200_regist"

    def test_points_of_a_store_may_number_each_partition_anew(self):
        sdata = stereoseq_sdata(scene())
        columns = TranscriptColumns("gene", "count")
        once = pd.concat([read() for _, read in chunks_of_bins(sdata, "bin1_genes", "bin1_table", columns)])
        points = sdata["bin1_genes"].repartition(npartitions=3).map_partitions(lambda part: part.reset_index(drop=True))
        points.attrs.update(sdata["bin1_genes"].attrs)
        del sdata["bin1_genes"]
        sdata["bin1_genes"] = points
        again = pd.concat([read() for _, read in chunks_of_bins(sdata, "bin1_genes", "bin1_table", columns)])
        pd.testing.assert_frame_equal(again, once)


def test_bins_are_read_in_pieces(run, monkeypatch):
    columns = TranscriptColumns("gene", "count")
    whole = pd.concat([read() for _, read in chunks_of_bins(run, SQUARES, "square_002um", columns)], ignore_index=True)
    monkeypatch.setattr("ucs._read.bins._ROWS_OF_CHUNK", 37)
    pieces = [read() for _, read in chunks_of_bins(run, SQUARES, "square_002um", columns)]
    assert max(len(piece) for piece in pieces) <= 37
    pd.testing.assert_frame_equal(pd.concat(pieces, ignore_index=True), whole)
    assert whole["count"].sum() == run["square_002um"].X.sum()


def test_names_tell_the_size_of_bins():
    assert named_size("square_002um") == 2
    assert named_size("counts", "Sample_square_016um") == 16
    assert named_size("bin1_table", "squares") is None


def test_generic_points_without_genes_but_with_a_table():
    sdata = stereoseq_sdata(scene())
    elements = {"spots": sdata["bin1_genes"], "counts": sdata["bin1_table"]}
    elements["counts"].obs["region"] = pd.Categorical(["spots"] * elements["counts"].n_obs)
    elements["counts"].uns["spatialdata_attrs"]["region"] = "spots"
    renamed = SpatialData.init_from_elements(elements)
    source = find_source(renamed, "spots", um_per_unit=0.5)
    assert source.elements[0].table_key == "counts"
