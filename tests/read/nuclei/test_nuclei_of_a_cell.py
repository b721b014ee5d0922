"""Several nuclei of one cell: each by itself, or fused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import shapely
from calls import segment
from invariants import assert_invariants
from scenes import TINY, boxes, make_sdata, scene
from spatialdata.models import ShapesModel
from spatialdata.transformations import Scale, get_transformation

from ucs._read.nuclei.onto_grid import (
    Nuclei,
    cells_of_nuclei,
    fuse_nuclei_of_cells,
    number_repeated,
    with_nuclei_numbered,
)
from ucs._read.platforms import GENERIC, XENIUM

RNG = np.random.default_rng(0)
POINTS = pd.DataFrame(
    {
        "x": RNG.uniform(0, 60, 900),
        "y": RNG.uniform(0, 40, 900),
        "feature_name": pd.Categorical(RNG.choice(["A", "B", "C"], 900)),
        "qv": np.float32(30),
    }
)
SQUARES = ((5, 5, 11, 11), (13, 5, 19, 11), (40, 20, 46, 26), (30, 5, 36, 11))
CELLS = ["cell-a", "cell-a", "cell-b", "cell-c"]


@pytest.fixture
def by_cell():
    """Nuclei whose index is the id of their cell."""
    return boxes(*SQUARES, index=CELLS)


@pytest.fixture
def by_nucleus():
    """Nuclei with an id of their own and a column with that of their cell, as the reader has them from version 2 on."""
    return boxes(*SQUARES, index=[11, 12, 13, 14]).assign(cell_id=CELLS)


def segmented(nuclei, **options):
    return segment(make_sdata(nuclei, POINTS), params=TINY, **options)


class TestNumbers:
    def test_each_of_several_gets_its_own(self, by_cell):
        scaled = ShapesModel.parse(by_cell.copy(), transformations={"global": Scale([2, 2], ("x", "y"))})
        numbered = number_repeated(scaled)
        assert numbered.index.tolist() == ["cell-a:1", "cell-a:2", "cell-b", "cell-c"]
        assert numbered["cell_id"].tolist() == CELLS
        assert numbered.loc["cell-a:2"].geometry.bounds == (13, 5, 19, 11)
        assert get_transformation(numbered) == get_transformation(scaled)
        assert scaled.index.tolist() == CELLS

    def test_the_order_of_rows_does_not_matter(self, by_cell):
        numbered = number_repeated(by_cell.iloc[[3, 1, 2, 0]])
        pd.testing.assert_frame_equal(numbered, number_repeated(by_cell))

    def test_numbers_become_text(self):
        numbered = number_repeated(boxes(*SQUARES, index=[7, 7, 8, 10]))
        assert numbered.index.tolist() == ["10", "7:1", "7:2", "8"]

    def test_those_that_do_not_repeat_stay(self, by_nucleus):
        assert number_repeated(by_nucleus) is by_nucleus

    def test_only_where_the_platform_lets_them_share_an_id(self, by_cell):
        sdata = make_sdata(by_cell, POINTS)
        assert with_nuclei_numbered(sdata, "nucleus_boundaries", GENERIC) is sdata
        other = with_nuclei_numbered(sdata, "nucleus_boundaries", XENIUM)
        assert other["nucleus_boundaries"].index.is_unique
        assert sdata["nucleus_boundaries"].index.tolist() == CELLS


class TestCells:
    def test_from_the_column_or_from_the_index(self, by_cell, by_nucleus):
        of_nucleus = cells_of_nuclei(make_sdata(by_nucleus, POINTS), "nucleus_boundaries", XENIUM)
        assert of_nucleus.to_dict() == {11: "cell-a", 12: "cell-a", 13: "cell-b", 14: "cell-c"}
        of_cell = cells_of_nuclei(make_sdata(by_cell, POINTS), "nucleus_boundaries", XENIUM)
        assert of_cell.to_dict() == {"cell-a:1": "cell-a", "cell-a:2": "cell-a", "cell-b": "cell-b", "cell-c": "cell-c"}

    def test_of_labels_from_the_shapes_of_the_same_nuclei(self, by_nucleus):
        sdata = make_sdata(by_nucleus, POINTS)
        sdata["nucleus_labels"] = scene().sdata()["nucleus_labels"]
        assert cells_of_nuclei(sdata, "nucleus_labels", XENIUM).loc[12] == "cell-a"

    def test_fusing_in_arrays(self):
        nuclei = Nuclei(np.array([[1, 2, 0, 3, 4]], dtype=np.int32), np.array([11, 12, 13, 15]), 2)
        fused = fuse_nuclei_of_cells(nuclei, pd.Series(["b", "b", "a"], index=[11, 12, 13]))
        assert fused.ids.tolist() == ["15", "a", "b"]  # that of no cell stays as it is
        assert fused.labels.tolist() == [[3, 3, 0, 2, 1]]
        assert (fused.labels.dtype, fused.n_outside) == (np.int32, 2)

    def test_ids_that_no_cell_knows_are_left_alone(self, caplog):
        nuclei = Nuclei(np.array([[1, 2]], dtype=np.int32), np.array([1, 2]), 0)
        assert fuse_nuclei_of_cells(nuclei, pd.Series(["a", "b"], index=["a", "b"])) is nuclei
        assert "each nucleus is taken as one cell" in caplog.text


@pytest.mark.parametrize("layout", ["by_cell", "by_nucleus"])
def test_each_nucleus_makes_a_cell_unless_they_are_fused(layout, request):
    nuclei = request.getfixturevalue(layout)
    apart = segmented(nuclei.copy())
    assert_invariants(apart)
    assert apart["ucs_table"].n_obs == 4
    assert apart["ucs_table"].obs["nucleus_area_um2"].tolist() == [36.0] * 4
    fused = segmented(nuclei, fuse_nuclei=True)
    table = fused["ucs_table"]
    assert table.obs["nucleus_id"].tolist() == ["cell-a", "cell-b", "cell-c"]
    assert table.obs["nucleus_area_um2"].tolist() == [72.0, 36.0, 36.0]
    assert (table.obs["area_um2"] >= table.obs["nucleus_area_um2"]).all()
    cell = fused["ucs_boundaries"].geometry.loc[1]
    assert cell.contains(shapely.box(5, 5, 11, 11))
    assert cell.contains(shapely.box(13, 5, 19, 11))
