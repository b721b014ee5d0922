"""Exports are read back by other packages and compared with the object."""

from __future__ import annotations

import json
import sys

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import zarr
from exported import UM_PER_PX, exported

import ucs


@pytest.fixture
def sdata():
    return exported()


def in_um(sdata):
    """Outlines in um: the raster begins at the origin of the transcripts."""
    return shapely.transform(sdata["ucs_boundaries"].geometry.to_numpy(), lambda xy: xy * UM_PER_PX)


class TestGeoJson:
    def test_in_um_it_is_what_the_table_says(self, sdata, tmp_path):
        ucs.io.to_geojson(sdata, tmp_path / "cells.geojson", type_key="type")
        read = geopandas.read_file(tmp_path / "cells.geojson").set_crs(None, allow_override=True)
        obs = sdata["ucs_table"].obs
        assert read["cell_id"].tolist() == obs["cell_id"].tolist()
        np.testing.assert_allclose(read.area, obs["area_um2"], rtol=1e-3)
        centroids = np.stack([read.centroid.x, read.centroid.y], axis=1)
        np.testing.assert_allclose(centroids, sdata["ucs_table"].obsm["spatial"], atol=1e-3)
        assert (read.geom_type == "MultiPolygon").tolist() == (obs["n_parts"] > 1).tolist()
        assert (obs["n_parts"] > 1).sum() == 1
        assert read["objectType"].unique().tolist() == ["cell"]
        assert read["id"].is_unique
        features = json.loads((tmp_path / "cells.geojson").read_text())["features"]
        assert [one["properties"]["classification"]["name"] for one in features] == obs["type"].tolist()
        measured = [one["properties"]["measurements"]["n_transcripts"] for one in features]
        assert measured == obs["n_transcripts"].tolist()

    def test_in_pixels_of_the_image(self, sdata, tmp_path):
        path = tmp_path / "cells.geojson"
        ucs.io.to_geojson(sdata, path, image_key="morphology_focus", measurements=["n_parts"])
        read = geopandas.read_file(path).set_crs(None, allow_override=True)
        apart = shapely.symmetric_difference(read.geometry.to_numpy(), sdata["ucs_boundaries"].geometry.to_numpy())
        assert shapely.area(apart).max() < 1e-3
        said = json.loads(path.read_text())["features"][0]["properties"]["measurements"]
        assert list(said) == ["n_parts"]

    def test_bad_input(self, sdata, tmp_path):
        path = tmp_path / "cells.geojson"
        with pytest.raises(KeyError, match="shapes_key='cells' is not in this SpatialData"):
            ucs.io.to_geojson(sdata, path, shapes_key="cells")
        with pytest.raises(KeyError, match="type_key='kind' is no column of the cells' table"):
            ucs.io.to_geojson(sdata, path, type_key="kind")
        with pytest.raises(ValueError, match="the column holds no numbers but category"):
            ucs.io.to_geojson(sdata, path, measurements=["type"])
        assert not list(tmp_path.iterdir())
        path.write_text("mine")
        with pytest.raises(FileExistsError, match="pass overwrite=True"):
            ucs.io.to_geojson(sdata, path)
        assert path.read_text() == "mine"
        ucs.io.to_geojson(sdata, path, overwrite=True)
        assert [one.name for one in tmp_path.iterdir()] == ["cells.geojson"]


class TestXeniumRanger:
    def test_both_files_have_the_same_cells(self, sdata, tmp_path, caplog):
        ucs.io.to_xenium_ranger(sdata, tmp_path)
        assert "1 cells have no transcript" in caplog.text
        assert "of 1 cells in several parts the largest part is drawn" in caplog.text
        points = sdata["transcripts"].compute()
        points = points[points["ucs_cell_id"] > 0]
        read = pd.read_csv(tmp_path / "transcripts.csv", dtype={"transcript_id": np.uint64})
        assert read.columns.tolist() == ["transcript_id", "cell", "is_noise"]
        assert read["transcript_id"].tolist() == points["transcript_id"].tolist()
        assert read["cell"].tolist() == [f"ucs-{cell}" for cell in points["ucs_cell_id"]]
        assert not read["is_noise"].any()
        features = json.loads((tmp_path / "cells.geojson").read_text())["features"]
        assert {one["id"] for one in features} == set(read["cell"])
        assert len(features) == sdata["ucs_table"].n_obs - 1
        polygons = geopandas.read_file(tmp_path / "cells.geojson").set_index("cell_id").geometry
        assert (polygons.geom_type == "Polygon").all()
        assert (shapely.get_num_interior_rings(polygons.to_numpy()) == 0).all()
        whole = pd.Series(in_um(sdata), sdata["ucs_boundaries"].index).loc[polygons.index]
        single = sdata["ucs_table"].obs.set_index("cell_id").loc[polygons.index, "n_parts"] == 1
        filled = shapely.area(shapely.polygons(shapely.get_exterior_ring(whole[single].to_numpy())))
        np.testing.assert_allclose(shapely.area(polygons[single].to_numpy()), filled, rtol=1e-3)
        assert 0.3 < shapely.area(polygons[~single].to_numpy())[0] / shapely.area(whole[~single].to_numpy())[0] < 1

    def test_for_older_versions(self, sdata, tmp_path):
        ucs.io.to_xenium_ranger(sdata, tmp_path, legacy=True)
        read = json.loads((tmp_path / "cells.geojson").read_text())
        assert read["type"] == "GeometryCollection"
        cells = pd.read_csv(tmp_path / "transcripts.csv")["cell"]
        assert {f"ucs-{one['cell']}" for one in read["geometries"]} == set(cells)

    def test_bad_input(self, sdata, tmp_path):
        with pytest.raises(KeyError, match="has no column 'other'.*name the column of cells with points_column="):
            ucs.io.to_xenium_ranger(sdata, tmp_path, points_column="other")
        sdata["ucs_table"].obs["n_parts"] = 1
        sdata["again"] = sdata["ucs_table"].copy()
        with pytest.raises(ValueError, match="Several tables annotate .* Name one with table_key="):
            ucs.io.to_xenium_ranger(sdata, tmp_path)


class TestXeniumExplorer:
    def test_files_hold_the_object(self, sdata, tmp_path):
        pytest.importorskip("sopa")
        ucs.io.to_xenium_explorer(sdata, tmp_path, image_key="morphology_focus", max_vertices=200)
        table, ids = sdata["ucs_table"], sdata["ucs_table"].obs["cell_id"].to_numpy()
        said = json.loads((tmp_path / "experiment.xenium").read_text())
        assert said["num_cells"] == len(ids)
        assert said["pixel_size"] == pytest.approx(UM_PER_PX)
        names = pd.read_csv(tmp_path / "cell_ids.csv")
        assert names["cell_id"].tolist() == ids.tolist()
        assert names["explorer_id"][0] == f"aaaaaaa{'abcdefghij'[ids[0]]}-1"
        cells = open_zip(tmp_path / "cells.zarr.zip")
        assert cells["cell_id"][:, 0].tolist() == ids.tolist()
        rings = cells["polygon_vertices"][1].reshape(len(ids), -1, 2)
        single = (table.obs["n_parts"] == 1).to_numpy()
        bounds = np.concatenate([rings.min(axis=1), rings.max(axis=1)], axis=1)
        np.testing.assert_allclose(bounds[single], shapely.bounds(in_um(sdata))[single], atol=1e-4)
        counts = open_zip(tmp_path / "cell_feature_matrix.zarr.zip")["cell_features"]
        by_gene = np.add.reduceat(counts["data"][:], counts["indptr"][:-1].astype(int)[: table.n_vars])
        assert counts.attrs["feature_keys"][: table.n_vars] == table.var_names.tolist()
        assert by_gene[:-1].tolist() == np.asarray(table.X.sum(axis=0)).ravel()[:-1].tolist()
        groups = open_zip(tmp_path / "analysis.zarr.zip")["cell_groups"]
        assert groups.attrs["group_names"][groups.attrs["grouping_names"].index("type")] == ["even", "odd"]

    def test_transcripts_are_where_they_were(self, sdata, tmp_path, caplog):
        """Without an image too."""
        pytest.importorskip("sopa")
        del sdata.images["morphology_focus"]
        ucs.io.to_xenium_explorer(sdata, tmp_path)
        assert "There is no image: the Explorer shows the density" in caplog.text
        points = sdata["transcripts"].compute()
        points = points[points["qv"] >= 20]
        read = open_zip(tmp_path / "transcripts.zarr.zip")
        level = read["grids/0"]
        location = np.concatenate([level[tile]["location"][:] for tile in level.group_keys()])[:, :2]
        gene = np.concatenate([level[tile]["gene_identity"][:, 0] for tile in level.group_keys()])
        corner = points[["x", "y"]].to_numpy().min(axis=0)
        theirs = pd.DataFrame(location + corner, columns=["x", "y"])
        theirs["gene"] = np.array(read.attrs["gene_names"])[gene]
        ours = points[["x", "y"]].assign(gene=points["feature_name"].astype(str))
        theirs, ours = (one.sort_values(["gene", "x"]).reset_index(drop=True) for one in (theirs, ours))
        assert theirs["gene"].tolist() == ours["gene"].tolist()
        np.testing.assert_allclose(theirs[["x", "y"]], ours[["x", "y"]], atol=1e-3)

    def test_without_sopa(self, sdata, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "sopa.io.explorer", None)
        with pytest.raises(ImportError, match=r"needs sopa: pip install \"spatialdata-ucs\[explorer\]\""):
            ucs.io.to_xenium_explorer(sdata, tmp_path)

    def test_normalised_counts_are_refused(self, sdata, tmp_path):
        pytest.importorskip("sopa")
        table = sdata["ucs_table"].copy()
        table.X = table.X * 0.5
        del sdata.tables["ucs_table"]
        sdata["ucs_table"] = table
        with pytest.raises(ValueError, match="X of the table holds no counts. Name a layer"):
            ucs.io.to_xenium_explorer(sdata, tmp_path)
        assert not list(tmp_path.iterdir())


def open_zip(path):
    return zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")
