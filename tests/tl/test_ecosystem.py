"""The results go through scanpy, squidpy, spatialdata and spatialdata-plot as they are."""

from __future__ import annotations

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pytest
import spatialdata as sd
from analysis import analyse
from helpers import cheap_copy, require_data
from matplotlib.image import imread
from scenes import labels_of, make_points, scene
from spatialdata import get_values, match_sdata_to_table, polygon_query

import ucs

sc = pytest.importorskip("scanpy")
sq = pytest.importorskip("squidpy")


pytestmark = [
    pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format"),
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
]


@pytest.fixture(scope="module")
def analysed():
    """The table of a real sample, some 130 cells, from counts to clusters and neighbourhoods."""
    breast = sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr"))
    ucs.tl.segment(breast, progress=False)
    analyse(breast["ucs_table"])
    return breast


class TestAnalysis:
    def test_cells_cluster(self, analysed):
        table = analysed["ucs_table"]
        assert table.obs["leiden"].nunique() > 1
        assert table.obsm["X_pca"].shape == (table.n_obs, 10)

    def test_neighbours_are_near(self, analysed):
        table = analysed["ucs_table"]
        graph = table.obsp["spatial_connectivities"].tocoo()
        assert graph.nnz > 2 * table.n_obs
        distance = np.linalg.norm(table.obsm["spatial"][graph.row] - table.obsm["spatial"][graph.col], axis=1)
        assert np.median(distance) < 30
        enrichment = table.uns["leiden_nhood_enrichment"]["zscore"]
        n = table.obs["leiden"].nunique()
        assert enrichment.shape == (n, n)

    def test_nuclear_counts_serve_as_a_layer(self, cells):
        table = cells["ucs_table"].copy()
        sc.pp.normalize_total(table, layer="nucleus")
        sc.pp.log1p(table, layer="nucleus")
        assert table.layers["nucleus"].shape == table.shape
        sc.pp.calculate_qc_metrics(table, percent_top=None, inplace=True)
        np.testing.assert_array_equal(table.obs["total_counts"], table.obs["n_transcripts"])

    def test_it_is_stored_again(self, analysed, tmp_path):
        analysed["ucs_table"].write_h5ad(tmp_path / "table.h5ad")
        analysed.write(tmp_path / "store.zarr")
        read = sd.read_zarr(tmp_path / "store.zarr")
        assert (read["ucs_table"].obs["leiden"].astype(str) == analysed["ucs_table"].obs["leiden"].astype(str)).all()


class TestSpatialData:
    def test_values_are_found_by_outline_and_by_label(self, cells):
        values = get_values("n_transcripts", sdata=cells, element_name="ucs_boundaries", table_name="ucs_table")
        np.testing.assert_array_equal(values["n_transcripts"], cells["ucs_table"].obs["n_transcripts"])
        gene = cells["ucs_table"].var_names[3]
        values = get_values(gene, sdata=cells, element_name="ucs_boundaries", table_name="ucs_table")
        np.testing.assert_array_equal(values[gene], cells["ucs_table"][:, gene].X.toarray().ravel())

    def test_a_region_takes_its_cells_along(self, cells):
        part = cells.query.bounding_box(
            axes=("x", "y"), min_coordinate=[-30, -5], max_coordinate=[10, 30], target_coordinate_system="global"
        )
        assert 0 < len(part["ucs_boundaries"]) < 31
        np.testing.assert_array_equal(part["ucs_table"].obs["cell_id"], part["ucs_boundaries"].index)
        assert set(np.unique(labels_of(part))) - {0} <= set(part["ucs_boundaries"].index)
        assert (part["transcripts"]["x"].compute() >= -30).all()
        assert "ucs_cell_id" in part["transcripts"].columns

    def test_transcripts_within_an_outline_are_those_of_its_cell(self, cells):
        """By spatialdata's own query."""
        outline = cells["ucs_boundaries"].geometry.loc[12]
        inside = polygon_query(cells["transcripts"], outline, target_coordinate_system="global").compute()
        points = cells["transcripts"].compute()
        assert set(inside.index) >= set(points.index[points["ucs_cell_id"] == 12]) - on_an_edge(points)
        assert (inside.loc[~inside.index.isin(on_an_edge(points)), "ucs_cell_id"] == 12).all()

    def test_aggregation_by_outline_gives_the_counts(self, cells):
        points = cells["transcripts"].compute()
        off_edges = points[~points.index.isin(on_an_edge(points))]
        genes = cells["ucs_table"].var_names
        off_edges = off_edges[off_edges["feature_name"].isin(genes)]
        off_edges = off_edges.assign(feature_name=off_edges["feature_name"].cat.remove_unused_categories())
        by = sd.aggregate(
            values=make_points(off_edges.reset_index(drop=True)),
            by=cells["ucs_boundaries"],
            value_key="feature_name",
            agg_func="count",
        )["table"]
        counts = by[:, genes].X.toarray()
        ours = cells["ucs_table"].X.toarray()
        of_edges = points[points.index.isin(on_an_edge(points)) & (points["ucs_cell_id"] > 0)]
        assert np.abs(ours - counts).sum() == of_edges["feature_name"].isin(genes).sum()

    def test_subsets_of_the_table_take_their_elements_along(self, cells):
        table = cells["ucs_table"][cells["ucs_table"].obs["n_transcripts"] > 150].copy()
        part = match_sdata_to_table(cells, table=table, table_name="ucs_table", how="inner")
        np.testing.assert_array_equal(part["ucs_boundaries"].index, table.obs["cell_id"])

    def test_the_table_can_be_turned_to_the_labels(self, cells):
        sdata = cheap_copy(cells)
        table = sdata["ucs_table"]
        table.obs["region"] = "ucs_cells"
        table.obs["region"] = table.obs["region"].astype("category")
        sdata.set_table_annotates_spatialelement("ucs_table", region="ucs_cells")
        values = get_values("area_um2", sdata=sdata, element_name="ucs_cells", table_name="ucs_table")
        assert len(values) == 31


def on_an_edge(points):
    """Transcripts exactly on an edge between pixels, which a polygon may count as in or out."""
    on = (points["x"] % 1 == 0) | (points["y"] % 1 == 0)
    return set(points.index[on])


class TestPlots:
    @pytest.fixture(autouse=True)
    def _agg(self):
        pytest.importorskip("spatialdata_plot")
        plt.switch_backend("agg")
        yield
        plt.close("all")

    @pytest.mark.filterwarnings("ignore")
    def test_cells_are_drawn(self, analysed, tmp_path):
        figure, axes = plt.subplots(1, 3, figsize=(12, 4))
        analysed.pl.render_images("morphology_focus").pl.render_shapes(
            "ucs_boundaries", fill_alpha=0, outline_alpha=1, outline_color="white"
        ).pl.show(coordinate_systems="global", ax=axes[0])
        analysed.pl.render_shapes("ucs_boundaries", color="leiden", table_name="ucs_table").pl.show(
            coordinate_systems="global", ax=axes[1]
        )
        analysed.pl.render_labels("ucs_cells").pl.show(coordinate_systems="global", ax=axes[2])
        figure.savefig(tmp_path / "cells.png", dpi=60)
        picture = imread(tmp_path / "cells.png")
        assert picture.shape[:2] == (240, 720)
        for k in range(3):
            assert picture[:, 240 * k : 240 * (k + 1), :3].std() > 0.05

    @pytest.mark.filterwarnings("ignore")
    def test_cells_by_gene_over_transcripts(self, cells, tmp_path):
        gene = cells["ucs_table"].var_names[0]
        figure, axis = plt.subplots(figsize=(4, 4))
        cells.pl.render_shapes("ucs_boundaries", color=gene, table_name="ucs_table").pl.render_points(
            "transcripts", size=1
        ).pl.show(ax=axis)
        figure.savefig(tmp_path / "gene.png", dpi=50)
        assert imread(tmp_path / "gene.png").std() > 0.05

    @pytest.mark.filterwarnings("ignore")
    def test_labels_take_colours_once_the_table_annotates_them(self, cells_copy, tmp_path):
        """As docs/looking.md has it; what looks for the table of the outlines still finds it."""
        sdata = cells_copy()
        table = sdata["ucs_table"]
        table.obs["region"] = "ucs_cells"
        sdata.set_table_annotates_spatialelement("ucs_table", region="ucs_cells")
        _, axis = plt.subplots()
        sdata.pl.render_labels("ucs_cells", color="n_transcripts").pl.show(ax=axis)
        shown = np.asarray(axis.get_images()[-1].get_array())
        colors = np.unique(shown.reshape(-1, shown.shape[-1]), axis=0)
        assert len(colors) > len(np.unique(table.obs["n_transcripts"])) / 2
        ucs.io.to_geojson(sdata, tmp_path / "cells.geojson", measurements=["n_transcripts"])
        exported = gpd.read_file(tmp_path / "cells.geojson")
        assert len(exported) == table.n_obs
        assert "n_transcripts" in str(exported["measurements"].iloc[0])
        assert ucs.pl.cells(sdata, fill="n_transcripts", show=()).collections


def test_points_stay_lazy(cells):
    column = cells["transcripts"]["ucs_cell_id"]
    assert hasattr(column, "dask")
    assert len(column.compute()) == len(scene().points)
