"""What other programs write is read as elements that can be compared."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from exported import UM_PER_PX, exported
from helpers import require_data

import ucs

IDS = [3, 4, 8]


@pytest.fixture
def sdata():
    return exported()


@pytest.fixture
def assigned(sdata):
    """Transcripts with the cell that a program assigns them to; every other one is left out by it."""
    points = sdata["transcripts"].compute()[["transcript_id", "x", "y", "ucs_cell_id"]].iloc[::2]
    points.attrs = {}  # Parquet takes no transformations
    return points.assign(cell=points["ucs_cell_id"].where(points["ucs_cell_id"].isin(IDS), 0))


def polygons(sdata):
    """Outlines of some cells in um."""
    frame = sdata["ucs_boundaries"].geometry.loc[IDS]
    return shapely.transform(frame.to_numpy(), lambda xy: xy * UM_PER_PX)


def check(sdata, prefix, assigned=None, ids=IDS):
    """The shapes are where the outlines in um are, and the column is what the program says."""
    shapes = sdata[f"{prefix}_boundaries"]
    assert sorted(shapes.index) == ids
    there = shapely.symmetric_difference(shapes.geometry.loc[ids].to_numpy(), polygons(sdata))
    assert (shapely.area(there) < 1e-6).all()
    if assigned is not None:
        of_cell = dict(zip([0, *IDS], [0, *ids], strict=True))
        points = sdata["transcripts"].compute()
        expected = assigned.set_index("transcript_id")["cell"].map(of_cell).reindex(points["transcript_id"]).fillna(0)
        assert points[f"{prefix}_cell_id"].tolist() == expected.astype(int).tolist()
        assert (points[f"{prefix}_cell_id"] > 0).any()


def test_baysor(sdata, assigned, tmp_path):
    names = assigned["cell"].map(lambda cell: f"cell_{cell}" if cell else "0")
    assigned.assign(cell=names).to_csv(tmp_path / "segmentation.csv", index=False)
    features = [
        {"type": "Feature", "id": f"cell_{cell}", "geometry": shapely.geometry.mapping(one), "properties": {}}
        for cell, one in zip(IDS, polygons(sdata), strict=True)
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (tmp_path / "segmentation_polygons_2d.json").write_text(text)
    ucs.io.read_segmentation(tmp_path, "baysor", sdata=sdata)
    check(sdata, "baysor", assigned)
    assert sdata["baysor_boundaries"]["name"].tolist() == ["cell_3", "cell_4", "cell_8"]
    with pytest.raises(ValueError, match="exists; pass overwrite=True"):
        ucs.io.read_segmentation(tmp_path, "baysor", sdata=sdata)


def test_older_baysor_numbers_polygons_and_names_transcripts(sdata, assigned, tmp_path, caplog):
    names = assigned["cell"].map(lambda cell: f"CR5a2b-{cell}" if cell else "")
    assigned.assign(cell=names).to_csv(tmp_path / "segmentation.csv", index=False)
    geometries = [
        {**shapely.geometry.mapping(one), "cell": cell} for cell, one in zip(IDS, polygons(sdata), strict=True)
    ]
    geometries.append({"type": "Polygon", "coordinates": [[[1, 1], [2, 2], [1, 1]]], "cell": 9})
    text = json.dumps({"type": "GeometryCollection", "geometries": geometries})
    (tmp_path / "segmentation_polygons_2d.json").write_text(text)
    ucs.io.read_segmentation(tmp_path, "baysor", sdata=sdata, key_added="old")
    check(sdata, "old", assigned)
    assert "1 of 4 polygons are empty or belong to no cell" in caplog.text


def test_proseg_counts_from_zero(sdata, assigned, tmp_path):
    several = [shapely.MultiPolygon(list(getattr(one, "geoms", [one]))) for one in polygons(sdata)]
    features = [
        {"type": "Feature", "properties": {"cell": k}, "geometry": shapely.geometry.mapping(one)}
        for k, one in enumerate(several)
    ]
    with gzip.open(tmp_path / "cell-polygons.geojson.gz", "wt") as file:
        json.dump({"type": "FeatureCollection", "features": features}, file)
    number = assigned["cell"].map({cell: k for k, cell in enumerate(IDS)})
    assigned.drop(columns="cell").assign(assignment=number).to_parquet(tmp_path / "transcript-metadata.parquet")
    ucs.io.read_segmentation(tmp_path, "proseg", sdata=sdata)
    check(sdata, "proseg", assigned, ids=[1, 2, 3])


def test_real_results_of_proseg(breast):
    folder = require_data("peers") / "proseg-3.1.1" / "breast"
    ucs.io.read_segmentation(folder, "proseg", sdata=breast)
    cells = pd.read_parquet(folder / "cells.parquet", columns=["nucleus_id"])["nucleus_id"]
    assert set(breast["proseg_boundaries"].index) == set(cells)
    assigned = pd.read_parquet(folder / "transcripts.parquet")["proseg_id"]
    points = breast["transcripts"].compute()
    expected = assigned.where(assigned.isin(cells), 0)
    assert points["proseg_cell_id"].tolist() == expected.tolist()
    # Most of what it assigns lies within the polygon of its cell.
    some = points[points["proseg_cell_id"] > 0].iloc[::20]
    outline = breast["proseg_boundaries"].geometry.loc[some["proseg_cell_id"]].to_numpy()
    assert shapely.contains_xy(outline, some["x"], some["y"]).mean() > 0.7


def test_xenium_names_cells_by_letters(sdata, assigned, tmp_path):
    names = dict(zip(IDS, ["aaaaaaad-1", "aaaaaaae-1", "aaaaaaai-1"], strict=True))
    rings = [
        pd.DataFrame(shapely.get_coordinates(one), columns=["vertex_x", "vertex_y"]).assign(cell_id=names[cell])
        for cell, one in zip(IDS, polygons(sdata), strict=True)
    ]
    pd.concat(rings).to_parquet(tmp_path / "cell_boundaries.parquet")
    cell = assigned["cell"].map(names).fillna("UNASSIGNED")
    assigned.drop(columns="cell").assign(cell_id=cell).to_parquet(tmp_path / "transcripts.parquet")
    ucs.io.read_segmentation(tmp_path, "xenium", sdata=sdata, key_added="ranger")
    check(sdata, "ranger", assigned, ids=[1, 2, 3])


class TestMasks:
    def test_of_the_image(self, sdata, tmp_path):
        mask = np.asarray(sdata["ucs_cells"])
        np.save(tmp_path / "image_seg.npy", {"masks": mask, "outlines": None}, allow_pickle=True)
        ucs.io.read_segmentation(tmp_path, "cellpose", sdata=sdata, image_key="morphology_focus")
        table = ucs.tl.compare(sdata, {"cellpose": "cellpose_cells"}, truth="ucs_cells", resolution=0.5)
        assert table.loc["cellpose", "f1_0.7"] == 1

    def test_of_pixels_of_a_size(self, sdata, tmp_path):
        """Each pixel of the mask is two of the image wide."""
        mask = np.asarray(sdata["ucs_cells"])[:282:2, :282:2]
        tifffile.imwrite(tmp_path / "cells.tif", mask.astype(np.uint16))
        options = {"um_per_unit": 2 * UM_PER_PX, "origin_um": (-UM_PER_PX / 2, -UM_PER_PX / 2)}
        ucs.io.read_segmentation(tmp_path / "cells.tif", "mask", sdata=sdata, **options)
        f1 = ucs.metrics.match("mask_cells", "ucs_cells", sdata=ucs.metrics.Tissue(sdata, resolution=0.5))["f1"]
        assert f1.iloc[0] > 0.9

    def test_their_place_must_be_told(self, sdata, tmp_path):
        np.save(tmp_path / "cells.npy", np.ones((4, 4), int))
        with pytest.raises(ValueError, match="Where a mask lies is told by image_key="):
            ucs.io.read_segmentation(tmp_path, "mask", sdata=sdata)
        np.save(tmp_path / "cells.npy", np.zeros((4, 4), int))
        with pytest.raises(ValueError, match="cells are a 2D raster of ids"):
            ucs.io.read_segmentation(tmp_path, "mask", sdata=sdata, um_per_unit=1.0)


def test_bad_input(sdata, tmp_path):
    with pytest.raises(ValueError, match="kind='watershed' is unknown; pass 'baysor' or"):
        ucs.io.read_segmentation(tmp_path, "watershed", sdata=sdata)
    with pytest.raises(FileNotFoundError, match="has no cells of kind='proseg': looked for 'cell-polygons.geojson"):
        ucs.io.read_segmentation(tmp_path, "proseg", sdata=sdata)
    (tmp_path / "cells.json").write_text("{")
    with pytest.raises(ValueError, match="is no GeoJSON"):
        ucs.io.read_segmentation(tmp_path, "polygons", sdata=sdata)
    (tmp_path / "cells.json").write_text('{"features": [{"geometry": {}, "properties": {"label": 1}}]}')
    with pytest.raises(KeyError, match="a polygon has none of 'cell_id', 'cell', 'id'"):
        ucs.io.read_segmentation(tmp_path, "polygons", sdata=sdata)
