from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import spatialdata as sd
from helpers import require_data
from scipy import ndimage
from skimage import filters, io
from spatialdata.transformations import get_transformation_between_coordinate_systems

from ucs._kernels.alignment import check_alignment
from ucs._kernels.labels.fill import fill_polygons
from ucs._kernels.labels.resample import sample_labels


def binned(x, y, shape):
    """Points per pixel; coordinates in pixels."""
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    inside = (i >= 0) & (j >= 0) & (i < shape[0]) & (j < shape[1])
    return np.bincount(i[inside] * shape[1] + j[inside], minlength=shape[0] * shape[1]).reshape(shape)


def xenium_folder(name):
    """Counts and nuclei on a grid of 1 um, from the vendor's parquet files."""
    path = require_data(name)
    points = pd.read_parquet(path / "transcripts.parquet", columns=["x_location", "y_location"]).to_numpy()
    vertices = pd.read_parquet(path / "nucleus_boundaries.parquet")
    origin = np.floor(points.min(axis=0))
    width, height = np.ceil(points.max(axis=0) - origin).astype(int)
    n_vertices = vertices.groupby("cell_id", sort=False).size().to_numpy()
    offsets = np.arange(len(n_vertices) + 1)
    nuclei = fill_polygons(
        vertices[["vertex_x", "vertex_y"]].to_numpy() - origin,
        np.append(0, np.cumsum(n_vertices)),
        offsets,
        offsets[1:],
        (height, width),
    )
    return binned(*(points - origin).T, (height, width)), nuclei > 0, 1.0


def breast():
    """Counts and `nucleus_labels` of the reader's SpatialData on a grid of 1 um."""
    sdata = sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr"))
    points = sdata["transcripts"][["x", "y"]].compute().to_numpy()
    origin = np.floor(points.min(axis=0))
    width, height = np.ceil(points.max(axis=0) - origin).astype(int)
    labels = sdata["nucleus_labels"]["scale0"]["image"]
    sdata = sd.SpatialData(points={"points": sdata["transcripts"]}, labels={"labels": labels})
    to_labels = get_transformation_between_coordinate_systems(sdata, sdata["points"], sdata["labels"])
    grid_to_points = np.array([[1, 0, origin[0]], [0, 1, origin[1]], [0, 0, 1]])
    matrix = to_labels.to_affine_matrix(("x", "y"), ("x", "y")) @ grid_to_points
    return binned(*(points - origin).T, (height, width)), sample_labels(labels.values, matrix, (height, width)) > 0, 1.0


def iss():
    """Sparse spots and nuclei over 1.8 x 2.5 mm, in pixels of 0.325 um."""
    path = require_data("iss_mouse_ca1")
    spots = pd.read_csv(path / "spots.csv")
    nuclei = scipy.sparse.load_npz(path / "label_image.coo.npz").toarray() > 0
    return binned(spots["x"], spots["y"], nuclei.shape), nuclei, 0.325


def merscope():
    """Spots and thresholded DAPI, in pixels of five camera pixels."""
    path = require_data("merscope_mousebrain")
    dapi = io.imread(path / "images" / "mini_dataset_dapi_z0.jpg").astype(float)
    dapi = filters.gaussian(dapi[: len(dapi) // 5 * 5].reshape(-1, 5, dapi.shape[1]).mean(axis=1)[:, 2::5], 1)
    nuclei = (dapi > filters.threshold_otsu(dapi)) & (dapi > filters.threshold_local(dapi, 101))
    spots = pd.read_csv(path / "vizgen_transcripts_crop500x450.csv.gz")
    um_per_px = 5 * 0.10863
    counts = binned((spots["global_x"] - 6400.03) / um_per_px, (spots["global_y"] - 4699.967) / um_per_px, nuclei.shape)
    return counts, nuclei, um_per_px


SAMPLES = {
    "breast": breast,
    "prostate": lambda: xenium_folder("xenium5k_prostate_west"),
    "lung": lambda: xenium_folder("xenium_v1_lung"),
    "iss": iss,
    "merscope": merscope,
}


@cache
def load(name):
    return SAMPLES[name]()


def moved(mask, rows, columns):
    """The mask moved by whole pixels; what leaves the raster is lost, what enters it is background."""
    out = np.zeros_like(mask)
    h, w = mask.shape
    out[max(0, rows) : h + min(0, rows), max(0, columns) : w + min(0, columns)] = mask[
        max(0, -rows) : h - max(0, rows), max(0, -columns) : w - max(0, columns)
    ]
    return out


def swapped(mask):
    """Transposed, in the frame of the mask."""
    out = np.zeros_like(mask)
    n = min(mask.shape)
    out[:n, :n] = mask.T[:n, :n]
    return out


# Each undoes itself, except for the shifts: what to do to the mask is the other way round.
MISPLACED = {
    "flipped along x": lambda mask, px: mask[:, ::-1],
    "flipped along y": lambda mask, px: mask[::-1],
    "flipped along x and y": lambda mask, px: mask[::-1, ::-1],
    "x and y swapped": lambda mask, px: swapped(mask),
    "shifted by (-20, 0) um": lambda mask, px: moved(mask, 0, round(20 / px)),
    "shifted by (0, 20) um": lambda mask, px: moved(mask, -round(20 / px), 0),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_real_data_as_given_are_aligned(name):
    counts, mask, um_per_px = load(name)
    result = check_alignment(counts, mask, um_per_px=um_per_px)
    assert (result.verdict, result.best) == ("aligned", "as given")
    assert result.score == result.best_score > 0.1
    assert result.enrichment == pytest.approx(counts[mask].mean() / counts[~mask].mean())


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("placement", MISPLACED)
def test_real_data_misplaced_are_found_out(name, placement):
    counts, mask, um_per_px = load(name)
    result = check_alignment(counts, MISPLACED[placement](mask, um_per_px), um_per_px=um_per_px)
    assert (result.verdict, result.best) == ("misaligned", placement)
    assert result.best_score > 2 * result.score


@pytest.mark.parametrize("name", SAMPLES)
def test_shifts_within_a_nucleus_are_no_misalignment(name):
    counts, mask, um_per_px = load(name)
    for rows, columns in ((2, 0), (0, -2)):
        mask_moved = moved(mask, round(rows / um_per_px), round(columns / um_per_px))
        assert check_alignment(counts, mask_moved, um_per_px=um_per_px).verdict == "aligned"


@pytest.mark.parametrize("name", ["breast", "prostate", "lung", "merscope"])
def test_fewer_transcripts_never_give_the_wrong_verdict(name):
    counts, mask, um_per_px = load(name)
    rng = np.random.default_rng(0)
    for share in (0.3, 0.1, 0.03, 0.01, 0.001):
        thinned = rng.binomial(counts, share)
        assert check_alignment(thinned, mask, um_per_px=um_per_px).verdict != "misaligned"
        assert check_alignment(thinned, mask[::-1], um_per_px=um_per_px).verdict != "aligned"


def test_nuclei_of_other_tissue_fit_nowhere():
    rng = np.random.default_rng(0)
    for first, second in itertools.permutations(["breast", "prostate", "lung"], 2):
        (counts, _, _), (_, mask, _) = load(first), load(second)
        for _ in range(5):
            shape = rng.integers(80, np.minimum(counts.shape, mask.shape) + 1)
            crops = []
            for array in (counts, mask):
                i, j = rng.integers(0, np.array(array.shape) - shape + 1)
                crops.append(array[i : i + shape[0], j : j + shape[1]])
            assert check_alignment(*crops, um_per_px=1.0).verdict == "undecided"


def discs(centres, radius, shape):
    mask = np.ones(shape, dtype=bool)
    rows, columns = np.round(centres).astype(int).T
    inside = (rows >= 0) & (columns >= 0) & (rows < shape[0]) & (columns < shape[1])
    mask[rows[inside], columns[inside]] = False
    return ndimage.distance_transform_edt(mask) <= radius


@pytest.mark.parametrize("jitter", [0.0, 0.7])
def test_repetitive_tissue_raises_no_false_alarm(jitter):
    # A crystal of nuclei: shifted by a period it fits as well, and all flips of it do.
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(6, 300, 14), np.arange(6, 300, 14)), axis=-1).reshape(-1, 2)
    mask = discs(centres + rng.normal(0, jitter, centres.shape), 4, (300, 300))
    counts = rng.poisson(0.2 + 0.6 * mask)
    assert check_alignment(counts, mask, um_per_px=1.0).verdict == "aligned"
    assert check_alignment(counts, moved(mask, 0, 14), um_per_px=1.0).verdict in {"aligned", "undecided"}


def test_transcripts_around_nuclei_only_are_undecided():
    rng = np.random.default_rng(0)
    nuclei, cells = (discs(c, r, (300, 300)) for c, r in [(rng.uniform(0, 300, (150, 2)), 4)] for r in (r, r + 5))
    result = check_alignment(rng.poisson(0.05 + 1.0 * (cells & ~nuclei)), nuclei, um_per_px=1.0)
    assert result.verdict == "undecided"
    assert result.enrichment < 1


def test_chance_and_clusters_are_undecided():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = discs(rng.uniform(0, 200, (100, 2)), 4, (200, 200))
        clusters = discs(rng.uniform(0, 200, (40, 2)), 3, (200, 200))
        counts = rng.poisson(0.2 + 3 * clusters)
        assert check_alignment(counts, mask, um_per_px=1.0).verdict == "undecided"


def test_tissue_edges_alone_are_no_evidence():
    # Transcripts and nuclei fill one half of the frame, but do not know of each other.
    rng = np.random.default_rng(0)
    tissue = np.zeros((300, 300), dtype=bool)
    tissue[:, :150] = True
    mask = discs(rng.uniform(0, 300, (400, 2)), 4, (300, 300)) & tissue
    assert check_alignment(rng.poisson(1.0 * tissue), mask, um_per_px=1.0).verdict != "misaligned"


@pytest.mark.parametrize("um_per_px", [0.5, 1.0, 2.0])
def test_any_resolution_and_odd_shapes(um_per_px):
    rng = np.random.default_rng(0)
    n = round(301 / um_per_px)
    shape = (n, n + 11)
    mask = discs(rng.uniform(0, n, (300, 2)), 4 / um_per_px, shape)
    counts = rng.poisson((0.2 + 0.8 * mask) * um_per_px**2)
    assert check_alignment(counts, mask, um_per_px=um_per_px).verdict == "aligned"
    result = check_alignment(counts, mask[::-1, ::-1], um_per_px=um_per_px)
    assert (result.verdict, result.best) == ("misaligned", "flipped along x and y")
    rotated = check_alignment(counts[:n, :n], np.rot90(mask[:n, :n]), um_per_px=um_per_px)
    assert (rotated.verdict, rotated.best) == ("misaligned", "x and y swapped, then flipped along x")


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 5), (41, 30)])
def test_no_evidence_at_all(shape):
    rng = np.random.default_rng(0)
    for counts, mask in (
        (np.zeros(shape, dtype=int), rng.random(shape) < 0.3),
        (rng.poisson(1, shape), np.zeros(shape, dtype=bool)),
        (rng.poisson(1, shape), np.ones(shape, dtype=bool)),
    ):
        result = check_alignment(counts, mask, um_per_px=1.0)
        assert (result.verdict, result.best) == ("undecided", "as given")


def test_one_nucleus_is_no_evidence():
    mask = discs(np.array([[50, 50]]), 5, (100, 100))
    counts = np.random.default_rng(0).poisson(0.05 + 3.0 * mask)
    assert check_alignment(counts, mask, um_per_px=1.0).verdict == "undecided"
    assert check_alignment(counts, moved(mask, 20, 0), um_per_px=1.0).verdict == "undecided"


def test_bad_input():
    counts, mask = np.ones((4, 5)), np.zeros((4, 5), dtype=bool)
    with pytest.raises(ValueError, match=r"\(4, 5\) and mask \(5, 4\)"):
        check_alignment(counts, mask.T, um_per_px=1.0)
    with pytest.raises(ValueError, match="must be bool, not int"):
        check_alignment(counts, mask.astype(int), um_per_px=1.0)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="um_per_px must be positive"):
            check_alignment(counts, mask, um_per_px=bad)
    for bad in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite and not negative"):
            check_alignment(np.where(np.eye(4, 5) > 0, bad, counts), mask, um_per_px=1.0)
