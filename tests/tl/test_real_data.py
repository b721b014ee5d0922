"""Real samples from the reader's object to pictures, by the default method."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from helpers import cheap_copy, prostate_sdata, require_data
from invariants import assert_invariants, assert_same_tables, matrix_between
from matplotlib.image import imread
from scenes import labels_of

import ucs
from ucs._read.nuclei.of_sample import find_nuclei_key
from ucs._read.sample import find_source, prepare

pytestmark = [
    pytest.mark.filterwarnings("ignore:SpatialData is not stored in the most current format"),
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
]


@pytest.fixture(scope="module")
def breast_cells():
    sdata = sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr"))
    ucs.tl.segment(sdata, progress=False)
    return sdata


@pytest.fixture(scope="module")
def prostate_cells():
    """A part of the sample, for time's sake."""
    sdata = prostate_sdata(require_data("xenium5k_prostate_west"))
    part = sdata.query.bounding_box(
        axes=("x", "y"),
        min_coordinate=[2000 / 0.2125, 2000 / 0.2125],
        max_coordinate=[2120 / 0.2125, 2120 / 0.2125],
        target_coordinate_system="global",
        filter_table=False,
    )
    ucs.tl.segment(part, progress=False)
    return part


def nuclei_of(sdata):
    """Nuclei on the grid of the cells: some of the vendor's outlines have several parts there."""
    source = find_source(sdata, resolution=0.5)
    return prepare(sdata, source, find_nuclei_key(sdata, source, None)).nuclei.labels


@pytest.fixture(params=["breast", "prostate"])
def sample(request):
    return request.getfixturevalue(f"{request.param}_cells")


def test_invariants(sample):
    assert_invariants(sample, nuclei=nuclei_of(sample))


def test_most_transcripts_are_in_cells(sample):
    points = sample["transcripts"].compute()
    good = points[points["qv"] >= 20]
    assert 0.2 < (good["ucs_cell_id"] > 0).mean() < 1
    table = sample["ucs_table"]
    assert table.obs["n_transcripts"].median() > 20
    assert (table.obs["area_um2"] >= table.obs["nucleus_area_um2"]).all()
    assert (table.obs["area_um2"] > table.obs["nucleus_area_um2"]).mean() > 0.5
    assert 10 < table.obs["nucleus_area_um2"].median() < 60


def test_every_nucleus_has_its_cell(breast_cells):
    """Under the id that the vendor gave it."""
    labels = np.asarray(breast_cells["nucleus_labels"]["scale0"]["image"])
    table = breast_cells["ucs_table"]
    assert set(table.obs["nucleus_id"]) <= set(np.unique(labels))
    assert table.n_obs >= len(np.unique(labels)) - 1 - 3  # bits at the border may have no pixel
    # A nucleus of the vendor's overlaps the cell that is named after it.
    to_cells = matrix_between(breast_cells, "nucleus_labels", "ucs_cells")
    cells = labels_of(breast_cells)
    i, j = np.nonzero(labels)
    column, row = np.floor(to_cells[:2] @ np.stack([j + 0.5, i + 0.5, np.ones(len(i))])).astype(int)
    inside = (row >= 0) & (row < cells.shape[0]) & (column >= 0) & (column < cells.shape[1])
    found = pd.Series(cells[row[inside], column[inside]]).groupby(labels[i, j][inside]).agg(lambda s: s.mode().iloc[0])
    cell_of = table.obs.set_index("nucleus_id")["cell_id"]
    assert (found.reindex(cell_of.index) == cell_of).mean() > 0.95


def test_vendors_things_stay(breast_cells):
    fresh = sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr"))
    before, after = fresh["transcripts"].compute(), breast_cells["transcripts"].compute()
    pd.testing.assert_frame_equal(after.drop(columns="ucs_cell_id"), before)
    for name in ("table", "cell_boundaries", "nucleus_boundaries", "cell_circles"):
        assert name in breast_cells
    pd.testing.assert_frame_equal(fresh["table"].obs, breast_cells["table"].obs)
    np.testing.assert_array_equal(
        np.asarray(fresh["cell_labels"]["scale0"]["image"]), np.asarray(breast_cells["cell_labels"]["scale0"]["image"])
    )


def test_what_was_found_is_what_is_there(sample):
    record = sample["ucs_table"].uns["ucs"]
    assert record["parameters"]["platform"] == "xenium"
    assert record["qc"]["alignment"] == "aligned"
    assert record["qc"]["n_rows"] == len(sample["transcripts"])
    assert record["parameters"]["method"] == "pretrained"


def test_nuclei_come_from_labels_if_there_are_any(breast_cells, prostate_cells):
    assert breast_cells["ucs_table"].uns["ucs"]["parameters"]["nuclei_key"] == "nucleus_labels"
    assert prostate_cells["ucs_table"].uns["ucs"]["parameters"]["nuclei_key"] == "nucleus_boundaries"


def test_through_a_store(sample, tmp_path):
    copied = cheap_copy(sample)
    copied.write(tmp_path / "store.zarr")
    read = sd.read_zarr(tmp_path / "store.zarr")
    np.testing.assert_array_equal(labels_of(read), labels_of(sample))
    assert_same_tables(read["ucs_table"], sample["ucs_table"])
    assert_invariants(read, nuclei=nuclei_of(read))


@pytest.mark.filterwarnings("ignore")
def test_through_spatialdata_plot(sample, tmp_path):
    pytest.importorskip("spatialdata_plot")
    plt.switch_backend("agg")
    figure, axes = plt.subplots(1, 2, figsize=(8, 4))
    sample.pl.render_shapes("ucs_boundaries", color="n_transcripts", table_name="ucs_table").pl.show(
        coordinate_systems="global", ax=axes[0]
    )
    sample.pl.render_labels("ucs_cells").pl.show(coordinate_systems="global", ax=axes[1])
    figure.savefig(tmp_path / "cells.png", dpi=60)
    plt.close(figure)
    picture = imread(tmp_path / "cells.png")
    assert all(picture[:, half, :3].std() > 0.05 for half in (slice(0, 240), slice(240, 480)))


def test_another_resolution_is_another_raster_of_the_same_tissue(breast):
    ucs.tl.segment(breast, resolution=0.8, progress=False)
    assert_invariants(breast)
    assert breast["ucs_table"].uns["ucs"]["parameters"]["resolution"] == 0.8
