"""Stains as evidence: true ones help, others have no say, and both whatever the tiles are."""

from __future__ import annotations

import logging

import dask.array as da
import numpy as np
import pytest
from cosmx_run import write_lung_run
from helpers import cheap_copy, require_data
from invariants import matrix_between
from spatialdata.models import Image2DModel
from spatialdata.transformations import Identity

import ucs
from ucs.methods.pretrained.stains import StainTables, _log_odds, _revise

MEMBRANE, INTERIOR = "morphology_focus/membrane", "morphology_focus/interior"


def segmented(sdata, keys=None, **options):
    read = {"read": {"stain_keys": keys}} if keys else {}
    return ucs.tl.segment(sdata, inplace=False, progress=False, resolution=0.5, **read, **options)


@pytest.fixture(scope="module")
def stained():
    """Poor tissue, 100 x 100 um, with a membrane, the inside of cells, and an image of noise."""
    stains = {"membrane_contrast": 5, "interior_contrast": 3}
    sdata = ucs.datasets.simulate(width_um=100, height_um=100, seed=40, transcripts_per_cell=50, **stains)
    noise = np.random.default_rng(0).poisson(200, (470, 470)).astype(np.uint16)
    sdata["noise"] = Image2DModel.parse(
        da.from_array(noise[None]), dims=("c", "y", "x"), c_coords=["stain"], transformations={"global": Identity()}
    )
    return sdata


@pytest.fixture(scope="module")
def plain(stained):
    return segmented(stained)


@pytest.fixture(scope="module")
def with_membrane(stained):
    return segmented(stained, [MEMBRANE])


def found(out, iou):
    """Share of the true cells that are found."""
    truth = np.asarray(out["true_cells"])
    at = ((np.arange(truth.shape[0]) + 0.5) * 0.2125 / 0.5).astype(int)
    cells = np.asarray(out["ucs_cells"])
    at = np.minimum(at, min(cells.shape) - 1)
    return ucs.metrics.match(truth, cells[at[:, None], at], thresholds=[iou])["f1"].iloc[0]


def test_a_membrane_helps(plain, with_membrane):
    assert found(with_membrane, 0.7) > found(plain, 0.7) + 0.05
    assert found(with_membrane, 0.5) >= found(plain, 0.5)


def test_the_inside_of_cells_helps(stained, plain):
    assert found(segmented(stained, [INTERIOR]), 0.7) > found(plain, 0.7)
    assert found(segmented(stained, [MEMBRANE, INTERIOR]), 0.7) > found(plain, 0.7) + 0.05


def test_noise_has_no_say_and_is_named(stained, plain, caplog):
    with caplog.at_level(logging.WARNING, logger="ucs"):
        out = segmented(stained, ["noise"])
    assert (np.asarray(out["ucs_cells"]) == np.asarray(plain["ucs_cells"])).all()
    assert "Stains are not used" in caplog.text
    assert "noise/stain" in caplog.text
    assert any("Stains are not used" in one for one in out["ucs_table"].uns["ucs"]["warnings"])


@pytest.mark.parametrize("tile_size", [96, 130])
def test_tiles_have_no_say(stained, with_membrane, tile_size):
    out = segmented(stained, [MEMBRANE], compute={"tile_size": tile_size})
    assert (np.asarray(out["ucs_cells"]) == np.asarray(with_membrane["ucs_cells"])).all()
    assert (out["ucs_table"].X != with_membrane["ucs_table"].X).nnz == 0


def test_with_missing_nuclei_and_with_a_model(stained, with_membrane):
    model = ucs.tl.train(stained, resolution=0.5, progress=False)
    out = segmented(stained, [MEMBRANE], model=model, find_missing=True)
    missing = out["ucs_table"].obs["is_missing_cell"].to_numpy()
    seen = np.asarray(out["ucs_cells"])
    of_missing = np.isin(seen, out["ucs_table"].obs["cell_id"][missing])
    assert ((seen == np.asarray(with_membrane["ucs_cells"])) | of_missing).mean() > 0.98


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda sdata, read: ucs.tl.segment(sdata, method="density", read=read), "method='density'"),
        (lambda sdata, read: ucs.tl.train(sdata, read=read), "ucs.tl.train"),
        (lambda sdata, read: ucs.tl.aggregate(sdata, "true_cells", read=read), "ucs.tl.aggregate"),
        (lambda sdata, read: ucs.pp.rasterize(sdata, read=read), "ucs.pp.rasterize"),
    ],
)
def test_where_they_have_no_effect_they_are_refused(stained, call, said):
    with pytest.raises((TypeError, ValueError), match="stain_keys") as error:
        call(cheap_copy(stained), {"stain_keys": [MEMBRANE]})
    assert said in str(error.value)


@pytest.mark.parametrize("keys", ["morphology_focus", [], [3]])
def test_keys_that_are_no_list_of_names(stained, keys):
    with pytest.raises((TypeError, ValueError), match="stain_keys"):
        ucs.tl.segment(cheap_copy(stained), read={"stain_keys": keys})


def test_a_check_names_an_image_that_is_not_there(stained):
    check = ucs.pp.check(stained, read={"stain_keys": ["membranes"]})
    assert not check.ok
    assert any("membranes" in one["message"] for one in check["problems"])


def test_lines_are_walked_as_they_are_meant():
    """The kernel against the formula, for one place and one nucleus."""
    nuclei = np.zeros((1, 20), dtype=np.int32)
    nuclei[0, :4] = 1
    stain = np.ones((2, 1, 20), dtype=np.uint8)
    stain[0, 0, 8:10] = 2  # a membrane between the nucleus and what lies beyond
    borders, level = np.full(32, 0.1), np.zeros(32)
    borders[2] = 2.0
    owner = np.zeros((2, 1, 20), dtype=np.int32)
    owner[0] = 1
    probability = np.zeros((2, 3, 1, 20), dtype=np.float32)
    probability[:, 0], probability[:, 2] = 0.5, 0.5
    middles = np.array([[0.0, 0.0], [0.0, 1.5]])
    _revise(owner, probability, (0, 0), 1, 0.5, nuclei, middles, stain, borders, 0.15, level)
    for column in (6, 15):
        # Pixels from the place to the border of the nucleus, the first and the last in part.
        length = column - 1.5
        at = (np.arange(np.ceil(length)) + 0.5) / np.ceil(length)
        walked = np.floor(column - length * at + 0.5).astype(int)
        walked = walked[: np.argmax(walked < 4)]
        step = length / np.ceil(length) * 0.5
        change = _log_odds(borders[stain[0, 0, walked]].sum() * step) - _log_odds(0.15 * len(walked) * step)
        assert probability[0, 0, 0, column] == pytest.approx(1 / (1 + np.exp(-change)), rel=1e-5)
    assert probability[0, 0, 0, 15] < 0.2 < 0.5 < probability[0, 0, 0, 6]
    assert (probability[:, 0, 0, :4] == 0.5).all()  # in the nucleus nothing is crossed


def test_a_stain_that_tells_nothing_changes_nothing():
    tables = StainTables(np.full(32, 0.15), 0.15, np.zeros(32))
    nuclei = np.zeros((6, 6), dtype=np.int32)
    nuclei[2:4, 2:4] = 1
    probability = np.random.default_rng(0).dirichlet([1, 1, 1], (2, 6, 6)).transpose(0, 3, 1, 2).astype(np.float32)
    owner = np.zeros((2, 6, 6), dtype=np.int32)
    owner[0] = 1
    stain = np.random.default_rng(1).integers(1, 32, (2, 6, 6)).astype(np.uint8)
    middles = np.array([[0.0, 0.0], [2.5, 2.5]])
    revised = tables.revised(owner, probability, (0, 0), nuclei, middles, stain, factor=1, um_per_px=0.5)
    assert np.allclose(revised, probability, atol=1e-6)


def test_the_composite_of_a_real_run(tmp_path):
    """CosMx: a channel of the fields' composites shows the inside of cells; ours come nearer to the vendor's."""
    from spatialdata_io import cosmx

    run = cosmx(write_lung_run(tmp_path / "Lung12", require_data("cosmx_lung12")))
    plain = segmented(run)
    stained = segmented(plain, ["{fov}_image"], nuclei_key="{fov}_ucs_nuclei", overwrite=True)
    without, with_stains = (np.mean([agreement(out, f"{fov}_labels") for fov in (2, 3)]) for out in (plain, stained))
    assert with_stains > without + 0.03


def agreement(out, vendor_key):
    """F1 at IoU 0.5 with the vendor's cells of a field of view, on its pixels."""
    vendor = np.asarray(out[vendor_key])
    to_cells = matrix_between(out, vendor_key, "ucs_cells")
    row, column = np.indices(vendor.shape)
    x, y, _ = to_cells @ np.stack([column.ravel() + 0.5, row.ravel() + 0.5, np.ones(row.size)])
    h, w = out["ucs_cells"].shape
    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    ours = np.zeros(row.size, dtype=int)
    ours[inside] = np.asarray(out["ucs_cells"])[y[inside].astype(int), x[inside].astype(int)]
    return ucs.metrics.match(vendor, ours.reshape(vendor.shape), thresholds=[0.5])["f1"].iloc[0]
