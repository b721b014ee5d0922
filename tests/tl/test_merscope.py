"""A MERSCOPE run has no nuclei: its DAPI image or its cells stand for them; by default see test_platform_runs.py."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from helpers import cheap_copy, merscope_sdata, require_data
from real_samples import read_merscope
from spatialdata.models import Image2DModel, ShapesModel
from spatialdata.transformations import get_transformation

import ucs


@pytest.fixture(scope="module")
def merscope():
    return merscope_sdata(require_data("merscope_mousebrain"))


def test_merscope_with_its_image_upside_down_is_refused(merscope):
    image = merscope["brain_region_0_z0"]
    flipped = Image2DModel.parse(
        np.asarray(image)[:, ::-1].copy(), dims=("c", "y", "x"), c_coords=image.coords["c"].to_numpy().tolist()
    )
    sdata = merscope.subset(list(merscope.points))
    sdata["brain_region_0_z0"] = flipped
    with pytest.raises(ValueError, match="flipped along y they would fit much better"):
        ucs.tl.segment(sdata, progress=False)
    assert list(sdata.labels) == []


def test_without_nuclei_and_without_a_stain_both_are_said_to_be_missing(merscope):
    sdata = merscope.subset(list(merscope.points))
    with pytest.raises(KeyError, match=r"Found no labels or shapes element with nuclei.*Nor can nuclei be found"):
        ucs.tl.segment(sdata, progress=False)


POLYGONS = "mouse_brain_region_0_polygons"


@pytest.fixture(scope="module")
def with_cells(tmp_path_factory):
    """As the reader has it: the vendor's cells too."""
    return read_merscope(tmp_path_factory.mktemp("merscope"))


def test_the_vendors_cells_are_taken_for_nuclei_when_they_are_named(with_cells):
    """As the paper does: cells that are too small, in place of nuclei, grow."""
    result = ucs.tl.segment(with_cells, nuclei_key=POLYGONS, inplace=False, progress=False)
    table, cells = result["ucs_table"], with_cells[POLYGONS]
    assert table.uns["ucs"]["qc"]["alignment"] == "aligned"
    assert 0.97 * len(cells) < table.n_obs <= len(cells)
    assert set(table.obs["nucleus_id"]) <= set(cells.index)
    areas = cells.loc[table.obs["nucleus_id"]].area.to_numpy()
    inside = table.obs["nucleus_area_um2"].to_numpy()
    assert np.median(np.abs(inside / areas - 1)) < 0.03
    assert (table.obs["area_um2"] >= table.obs["nucleus_area_um2"]).all()
    assert "ucs_nuclei" not in result.labels
    assert not table.var_names.str.startswith("Blank-").any()
    assert all(name.startswith("Blank-") for name in table.uns["ucs"]["controls"])


def test_the_vendors_cells_upside_down_are_refused(with_cells):
    """Their file has y negated: who forgets it, and moves them back into the field, is told."""
    sdata = cheap_copy(with_cells)
    cells = sdata[POLYGONS]
    low, high = cells.total_bounds[[1, 3]]
    geometry = shapely.transform(cells.geometry.to_numpy(), lambda xy: xy * [1, -1] + [0, low + high])
    flipped = cells.set_geometry(geometry)
    flipped.attrs.clear()
    sdata[POLYGONS] = ShapesModel.parse(flipped, transformations=get_transformation(cells, get_all=True))
    with pytest.raises(ValueError, match="flipped along y they would fit much better"):
        ucs.tl.segment(sdata, nuclei_key=POLYGONS, progress=False)


def test_one_plane_of_two(with_cells):
    """The transcripts of the other plane belong to no cell."""
    result = ucs.tl.segment(with_cells, nuclei_key=POLYGONS, inplace=False, progress=False, read={"z_planes": [0]})
    points = result["mouse_brain_region_0_transcripts"].compute()
    assert (points.loc[points["z"] != 0, "ucs_cell_id"] == 0).all()
    assert (points.loc[points["z"] == 0, "ucs_cell_id"] > 0).mean() > 0.2
    record = result["ucs_table"].uns["ucs"]
    assert record["parameters"]["z_planes"] == [0.0]
    assert record["qc"]["n_kept"] == (points["z"] == 0).sum()
    assert record["qc"]["n_other_planes"] == (points["z"] != 0).sum()
