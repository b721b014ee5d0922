"""Two neighbouring fields of a CosMx run of human lung, through the reader of spatialdata-io."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cosmx_run import write_cosmx_run, write_lung_run
from helpers import require_data
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import get_transformation

import ucs

QUICK = {"max_steps": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> SpatialData:
    """As the reader leaves it; not to be written to."""
    from spatialdata_io import cosmx

    return cosmx(write_lung_run(tmp_path_factory.mktemp("cosmx") / "Lung12", require_data("cosmx_lung12")))


@pytest.fixture(scope="module")
def result(run) -> SpatialData:
    """With cells, no option given but that training is short."""
    return ucs.tl.segment(run, inplace=False, progress=False, compute={"device": "cpu"})


def test_it_is_segmented_with_no_option(run, result):
    assert sorted(run.labels) == ["2_labels", "3_labels"]
    record = result["ucs_table"].uns["ucs"]
    assert (record["parameters"]["platform"], record["parameters"]["nuclei_key"]) == ("cosmx", "{fov}_ucs_nuclei")
    assert record["parameters"]["um_per_unit"] == pytest.approx(0.18)
    assert record["parameters"]["resolution"] == 0.5
    assert record["qc"]["alignment"] == "aligned"
    assert record["qc"]["n_rows"] == record["qc"]["n_kept"] == 25_825
    table = result["ucs_table"]
    assert 100 < table.n_obs < 200  # the vendor has 120 cells there
    assert table.n_vars == 960
    assert all(name.startswith("NegPrb") for name in table.uns["ucs"]["controls"])
    assert table.obs["fov"].value_counts().between(50, 110).all()
    assert 20 < table.obs["nucleus_area_um2"].median() < 80
    assert table.X.sum() > 0.5 * 25_825


def test_cells_lie_where_the_vendor_has_them(run, result):
    """Most of the vendor's cells (larger than nuclei) hold nuclei of ours, and few nuclei lie outside of all."""
    for fov in ("2", "3"):
        cells = np.asarray(run[f"{fov}_labels"])
        nuclei = np.asarray(result[f"{fov}_ucs_nuclei"])
        matrix = get_transformation(result[f"{fov}_ucs_nuclei"], fov).to_affine_matrix(("x", "y"), ("x", "y"))
        x0, y0 = (int(-v) for v in matrix[:2, 2])  # labels reach into the other field
        nuclei = nuclei[y0 : y0 + cells.shape[0], x0 : x0 + cells.shape[1]]
        assert (cells[nuclei > 0] > 0).mean() > 0.7
        held = np.unique(cells[nuclei > 0])
        assert len(held[held > 0]) > 0.85 * len(np.unique(cells[cells > 0]))


def test_cells_run_across_the_border_of_the_fields(result):
    """The border is at 2 x 5472 px; a nucleus that it cuts is one, and its cell has pixels on both sides."""
    labels = np.asarray(result["ucs_cells"])
    to_global = get_transformation(result["ucs_cells"], "global").to_affine_matrix(("x", "y"), ("x", "y"))
    border = int(np.floor((5966.667 - to_global[0, 2]) / to_global[0, 0]))
    across = np.intersect1d(labels[:, border - 1], labels[:, border + 1])
    across = across[across > 0]
    assert len(across) >= 1
    assert result["ucs_table"].obs["cell_id"].isin(across).any()
    for key in ("2_points", "3_points"):
        points = result[key].compute()
        assert points["ucs_cell_id"].isin(across).any()
    counted = sum((result[key].compute()["ucs_cell_id"] > 0).sum() for key in ("2_points", "3_points"))
    table = result["ucs_table"]
    assert counted == table.X.sum() + table.obsm["controls"].sum()


@pytest.mark.slow  # as in test_merscope.py, with larger images
def test_images_upside_down_are_refused_and_nothing_is_written(run):
    sdata = run.subset(["2_points", "3_points", "2_labels", "3_labels"])
    for key in ("2_image", "3_image"):
        # About the middle of the crops, which is where the transcripts are.
        pixels = np.asarray(run[key])
        pixels[:, 3000:] = pixels[:, 3000:][:, ::-1].copy()
        sdata[key] = Image2DModel.parse(
            pixels, dims=("c", "y", "x"), transformations=get_transformation(run[key], get_all=True)
        )
    with pytest.raises(ValueError, match=r"flipped along y they would fit much better"):
        ucs.tl.segment(sdata, progress=False, compute={"device": "cpu"})
    assert sorted(sdata.labels) == ["2_labels", "3_labels"]
    assert "ucs_cell_id" not in sdata["2_points"].columns


def test_without_images_nuclei_come_from_nuclear_transcripts(run):
    sdata = run.subset(["2_points", "3_points", "2_labels", "3_labels"])
    out = ucs.tl.segment(sdata, inplace=False, progress=False, compute={"device": "cpu"})
    record, table = out["ucs_table"].uns["ucs"], out["ucs_table"]
    assert record["qc"]["alignment"] == "aligned"
    assert 80 < table.n_obs <= 120
    for fov in ("2", "3"):
        nuclei, cells = np.asarray(out[f"{fov}_ucs_nuclei"]), np.asarray(run[f"{fov}_labels"])
        assert ((nuclei == 0) | (nuclei == cells)).all()
    # What the vendor calls nuclear lies in them.
    for key in ("2_points", "3_points"):
        points = out[key].compute()
        nuclear = points["CellComp"] == "Nuclear"
        assert (points.loc[nuclear, "ucs_cell_id"] > 0).mean() > 0.9


def test_one_field_alone(run, result):
    sdata = run.subset(["3_points", "3_labels", "3_image"])
    out = ucs.tl.segment(sdata, inplace=False, progress=False, compute={"device": "cpu"})
    assert set(out["ucs_table"].obs["fov"]) == {"3"}
    assert out["ucs_table"].uns["ucs"]["parameters"]["um_per_unit"] == 0.18
    assert set(get_transformation(out["ucs_cells"], get_all=True)) == {"3", "global", "global_only_labels"}
    assert abs(out["ucs_table"].n_obs - (result["ucs_table"].obs["fov"] == "3").sum()) <= 6


def test_picture(result):
    from matplotlib import pyplot as plt

    ax = ucs.pl.cells(result, bounds=(5800, -157240, 6130, -156900))
    assert len(ax.images) == 2
    plt.close(ax.figure)


def test_a_newer_export_states_its_size(tmp_path):
    """Areas in um2 beside those in px, as later versions have them."""
    from spatialdata_io import cosmx

    rng = np.random.default_rng(0)
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.pad(np.ones((20, 20)), 10)).astype(np.uint16)
    x, y = rng.uniform(0, 160, (2, 400))
    transcripts = pd.DataFrame(
        {
            "fov": 1,
            "cell_ID": labels[np.floor(160 - y).astype(int), np.floor(x).astype(int)],
            "x_global_px": x + 1000,
            "y_global_px": y,
            "x_local_px": x,
            "y_local_px": y,
            "z": 0,
            "target": rng.choice(["A", "B", "SystemControl1", "FalseCode2"], 400),
            "CellComp": "Cytoplasm",
        }
    )
    positions = pd.DataFrame({"fov": [1], "x_global_px": [1000.0], "y_global_px": [0.0]})
    images = {1: np.zeros((160, 160, 3), dtype=np.uint8)}
    path = write_cosmx_run(
        tmp_path / "newer", transcripts, {1: labels}, images, positions, metadata={"Area.um2": 0.12028**2}
    )
    source = ucs._read.sample.find_source(cosmx(path))
    assert source.um_per_unit == 0.12028
    assert source.platform.is_control("FalseCode2")
    assert source.platform.is_control("SystemControl1")
