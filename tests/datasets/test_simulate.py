from __future__ import annotations

import numpy as np
import pytest
import spatialdata as sd
from helpers import require_data
from scipy import ndimage
from skimage.measure import label as connected_components
from skimage.measure import regionprops_table
from spatialdata.transformations import get_transformation

from ucs.datasets import LAYOUTS, REGIMES, SimulationParams, simulate
from ucs.datasets._raster import Outlines, draw
from ucs.metrics import expand_nuclei, match, transcript_assignment

UM_PER_PX = 0.2125


@pytest.fixture(scope="module")
def sdata():
    return simulate(width_um=150, height_um=110, seed=3)


@pytest.fixture(scope="module")
def transcripts(sdata):
    return sdata.points["transcripts"].compute()


def raster(sdata, key):
    element = sdata.labels[key]
    return np.asarray(element["scale0"].image if hasattr(element, "children") else element)


def at(labels, transcripts):
    row = np.floor(transcripts["y"].to_numpy(np.float64) / UM_PER_PX).astype(int)
    column = np.floor(transcripts["x"].to_numpy(np.float64) / UM_PER_PX).astype(int)
    return labels[np.minimum(row, labels.shape[0] - 1), np.minimum(column, labels.shape[1] - 1)]


def is_gene(transcripts):
    return ~transcripts["feature_name"].astype(str).str.startswith(("NegControlProbe_", "BLANK_"))


def test_layout_is_that_of_the_reader(sdata, transcripts):
    assert dict(transcripts.dtypes.astype(str)) == {
        "x": "float32",
        "y": "float32",
        "z": "float32",
        "feature_name": "category",
        "cell_id": "string",
        "transcript_id": "uint64",
        "overlaps_nucleus": "uint8",
        "qv": "float32",
        "true_cell_id": "int32",
    }
    points = sdata.points["transcripts"]
    assert points["feature_name"].cat.known
    assert points.attrs["spatialdata_attrs"] == {"feature_key": "feature_name", "instance_key": "cell_id"}
    for key in ("nucleus_labels", "cell_labels"):
        assert len(sdata.labels[key].children) == 5
        assert raster(sdata, key).dtype == np.uint32
    assert raster(sdata, "true_cells").dtype == np.uint32
    image = sdata.images["morphology_focus"]["scale0"].image
    assert image.dtype == np.uint16
    assert image.dims == ("c", "y", "x")
    assert image.coords["c"].values.tolist() == ["DAPI"]
    assert image.shape[1:] == raster(sdata, "true_cells").shape == (518, 706)
    assert set(sdata.coordinate_systems) == {"global"}


def test_transformations_are_those_of_the_reader(sdata):
    real = sd.read_zarr(require_data("xenium_breast_rep1_crop.zarr"))
    for name in ("transcripts", "nucleus_boundaries"):
        ours, theirs = (get_transformation(s[name]).to_affine_matrix(("x", "y"), ("x", "y")) for s in (sdata, real))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    common = ["x", "y", "z", "feature_name", "overlaps_nucleus", "qv", "transcript_id"]
    assert (sdata.points["transcripts"].dtypes[common].astype(str) == real.points["transcripts"].dtypes[common]).all()


def test_a_nucleus_lies_in_its_cell_under_the_same_id(sdata):
    cells, nuclei = raster(sdata, "true_cells"), raster(sdata, "nucleus_labels")
    n = len(sdata.tables["true_table"])
    np.testing.assert_array_equal(cells[nuclei > 0], nuclei[nuclei > 0])
    np.testing.assert_array_equal(np.unique(cells), np.arange(n + 1))
    np.testing.assert_array_equal(np.unique(nuclei), np.arange(n + 1))
    assert connected_components(nuclei, connectivity=1).max() == n
    assert connected_components(cells, connectivity=1).max() == n


def test_transcripts_and_labels_tell_the_same(sdata, transcripts):
    nuclei = raster(sdata, "nucleus_labels")
    np.testing.assert_array_equal(transcripts["overlaps_nucleus"], at(nuclei, transcripts) > 0)
    vendor = raster(sdata, "cell_labels")
    np.testing.assert_array_equal(vendor, expand_nuclei(nuclei, 5, um_per_px=UM_PER_PX))
    np.testing.assert_array_equal(transcripts["cell_id"] == "UNASSIGNED", at(vendor, transcripts) == 0)
    names = sdata.shapes["nucleus_boundaries"]["cell_id"]
    assigned = transcripts["cell_id"] != "UNASSIGNED"
    np.testing.assert_array_equal(transcripts["cell_id"][assigned], names[at(vendor, transcripts)[assigned]])
    assert transcripts["transcript_id"].is_unique
    assert (transcripts["true_cell_id"][~is_gene(transcripts)] == 0).all()
    assert 0 < (~is_gene(transcripts)).sum() < 0.01 * len(transcripts)
    assert 0.1 < (transcripts["qv"] < 20).mean() < 0.2
    assert transcripts["qv"].max() == 40


def test_polygons_trace_the_nuclei(sdata):
    nuclei, polygons = raster(sdata, "nucleus_labels"), sdata.shapes["nucleus_boundaries"]
    area = np.bincount(nuclei.ravel())[polygons.index] * UM_PER_PX**2
    np.testing.assert_allclose(polygons.area, area, rtol=0.08)
    assert polygons.is_valid.all()
    centres = np.array(ndimage.center_of_mass(nuclei > 0, nuclei, polygons.index))[:, ::-1]
    middle = (centres + 0.5) * UM_PER_PX
    assert np.abs(np.column_stack([polygons.centroid.x, polygons.centroid.y]) - middle).max() < 0.1


def test_table_counts_what_came_from_each_cell(sdata, transcripts):
    table = sdata.tables["true_table"]
    from_cell = transcripts[transcripts["true_cell_id"] > 0]
    assert table.X.sum() == len(from_cell)
    expected = np.bincount(from_cell["true_cell_id"], minlength=table.n_obs + 1)[1:]
    np.testing.assert_array_equal(np.asarray(table.X.sum(axis=1)).ravel(), expected)
    gene = table.var_names[5]
    np.testing.assert_array_equal(
        table[:, gene].X.toarray().ravel(),
        np.bincount(from_cell["true_cell_id"][from_cell["feature_name"] == gene], minlength=table.n_obs + 1)[1:],
    )
    cells = raster(sdata, "true_cells")
    np.testing.assert_allclose(table.obs["area_um2"], np.bincount(cells.ravel())[1:] * UM_PER_PX**2)


def test_the_seed_decides_everything(sdata, transcripts):
    again = simulate(width_um=150, height_um=110, seed=3)
    for key in ("true_cells", "nucleus_labels"):
        np.testing.assert_array_equal(raster(again, key), raster(sdata, key))
    assert again.points["transcripts"].compute().equals(transcripts)
    image = (s.images["morphology_focus"]["scale0"].image.values for s in (again, sdata))
    np.testing.assert_array_equal(*image)
    other = simulate(width_um=150, height_um=110, seed=4)
    assert not np.array_equal(raster(other, "true_cells"), raster(sdata, "true_cells"))


def test_the_molecules_leave_the_tissue_alone(sdata):
    other = simulate(width_um=150, height_um=110, seed=3, n_genes=40, transcripts_per_cell=10, diffusion_share=0)
    np.testing.assert_array_equal(raster(other, "true_cells"), raster(sdata, "true_cells"))
    np.testing.assert_array_equal(raster(other, "nucleus_labels"), raster(sdata, "nucleus_labels"))


def test_without_background_and_diffusion_transcripts_lie_in_their_cells():
    pure = simulate(width_um=60, height_um=80, background_per_um2=0, diffusion_share=0, control_share=0)
    transcripts = pure.points["transcripts"].compute()
    np.testing.assert_array_equal(transcripts["true_cell_id"], at(raster(pure, "true_cells"), transcripts))
    assert (transcripts["true_cell_id"] > 0).all()


def test_background_lies_everywhere():
    noisy = simulate(width_um=120, height_um=120, background_per_um2=0.5, empty_share=0.5, seed=1)
    transcripts = noisy.points["transcripts"].compute()
    cells = raster(noisy, "true_cells")
    background = transcripts[(transcripts["true_cell_id"] == 0) & is_gene(transcripts)]
    assert len(background) == pytest.approx(0.5 * 120**2, rel=0.05)
    assert (at(cells, background) == 0).mean() == pytest.approx((cells == 0).mean(), abs=0.03)


def test_diffusion_moves_the_share_asked_for():
    moved = simulate(width_um=150, height_um=150, diffusion_share=0.4, diffusion_um=20, background_per_um2=0, seed=2)
    still = simulate(width_um=150, height_um=150, diffusion_share=0.0, background_per_um2=0, seed=2)
    share = []
    for s in (moved, still):
        transcripts = s.points["transcripts"].compute()
        transcripts = transcripts[transcripts["true_cell_id"] > 0]
        share.append((at(raster(s, "true_cells"), transcripts) != transcripts["true_cell_id"]).mean())
    assert share[1] == 0
    assert 0.3 < share[0] < 0.4  # some stay within their cell, some leave the field


def test_genes_follow_type_and_compartment():
    rich = simulate(
        width_um=120, height_um=120, n_genes=30, n_cell_types=3, transcripts_per_cell=2000, diffusion_share=0, seed=5
    )
    table = rich.tables["true_table"]
    counts = np.array(
        [table[table.obs["cell_type"] == t].X.sum(axis=0).A1 for t in table.obs["cell_type"].cat.categories]
    )
    share = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(share, table.varm["profiles"].T, atol=0.01)
    transcripts = rich.points["transcripts"].compute()
    transcripts = transcripts[transcripts["true_cell_id"] > 0]
    nuclear = transcripts.groupby("feature_name", observed=True)["overlaps_nucleus"].mean()[table.var_names]
    assert np.corrcoef(np.log(nuclear / (1 - nuclear)), np.log(table.var["nuclear_ratio"]))[0, 1] > 0.98


def test_spindle_cells_are_long_and_their_nuclei_point_the_same_way():
    spindles = simulate(width_um=200, height_um=200, spindle_share=1.0, cells_per_mm2=2500, seed=1)
    columns = ("orientation", "axis_major_length", "axis_minor_length")
    cell, nucleus = (
        regionprops_table(raster(spindles, k), properties=columns) for k in ("true_cells", "nucleus_labels")
    )
    angle = cell["orientation"] - nucleus["orientation"]
    assert np.median(cell["axis_major_length"] / cell["axis_minor_length"]) > 2
    assert np.median(nucleus["axis_major_length"] / nucleus["axis_minor_length"]) > 1.4
    assert np.median(np.abs(np.sin(angle))) < 0.15
    assert simulate(width_um=100, height_um=100, spindle_share=0).tables["true_table"].obs["is_spindle"].sum() == 0


def test_types_keep_to_their_niches():
    def neighbours_alike(strength):
        obs = simulate(width_um=300, height_um=300, niche_strength=strength, seed=0)
        table = obs.tables["true_table"].obs
        centres = np.array(
            ndimage.center_of_mass(raster(obs, "true_cells") > 0, raster(obs, "true_cells"), table["cell_id"])
        )
        distance = np.linalg.norm(centres[:, None] - centres[None], axis=2) + np.diag(np.full(len(centres), np.inf))
        return (table["cell_type"].cat.codes.to_numpy()[distance.argmin(axis=1)] == table["cell_type"].cat.codes).mean()

    assert neighbours_alike(3.0) > neighbours_alike(0.0) + 0.15


def test_missing_nuclei_are_missing_everywhere_but_in_the_truth():
    s = simulate(width_um=120, height_um=120, missing_nuclei=0.4, seed=2)
    obs = s.tables["true_table"].obs
    present = np.unique(raster(s, "nucleus_labels"))[1:]
    assert 0.3 < (~obs["has_nucleus_label"]).mean() < 0.5
    np.testing.assert_array_equal(present, obs["cell_id"][obs["has_nucleus_label"]])
    np.testing.assert_array_equal(s.shapes["nucleus_boundaries"].index, present)
    assert (obs["nucleus_area_um2"] > 0).all()


def test_empty_tissue():
    full, half = (raster(simulate(seed=1, empty_share=share), "true_cells") > 0 for share in (0.0, 0.5))
    assert full.mean() > 1.5 * half.mean()


def test_default_tissue_has_the_sizes_and_scores_it_was_calibrated_to():
    s = simulate(width_um=600, height_um=600, seed=0)
    obs = s.tables["true_table"].obs
    assert 1500 < len(obs) < 1700
    assert 35 < obs["nucleus_area_um2"].median() < 45
    assert 100 < obs["area_um2"].median() < 180
    assert 100 < s.tables["true_table"].X.sum() / len(obs) < 150
    assert s.points["transcripts"].npartitions > 1
    centres = ((np.arange(600) + 0.5) / UM_PER_PX).astype(int)
    truth, nuclei = (raster(s, key)[np.ix_(centres, centres)] for key in ("true_cells", "nucleus_labels"))
    grown = expand_nuclei(nuclei, 4)
    f1 = match(truth, grown)["f1"]
    assert f1[0.5] == pytest.approx(0.94, abs=0.03)
    assert f1[0.7] == pytest.approx(0.42, abs=0.03)
    transcripts = s.points["transcripts"].compute()
    transcripts = transcripts[is_gene(transcripts)]
    row, column = (np.minimum(transcripts[axis].to_numpy().astype(int), 599) for axis in "yx")
    scores = transcript_assignment(transcripts["true_cell_id"].to_numpy(), grown[row, column], matching="id")
    assert scores["f1"] == pytest.approx(0.77, abs=0.05)


@pytest.mark.parametrize("layout", ["necrosis", "neurons", "muscle", "several_tissues"])
def test_layouts_hold_whole_cells_of_classes(layout):
    s = simulate(width_um=100, height_um=80, seed=4, layout=layout)
    cells, nuclei = raster(s, "true_cells"), raster(s, "nucleus_labels")
    assert ((nuclei == 0) | (nuclei == cells)).all()
    assert connected_components(cells, connectivity=1).max() == cells.max()
    obs = s.tables["true_table"].obs
    assert np.array_equal(np.unique(nuclei[nuclei > 0]), obs["cell_id"][obs["has_nucleus_label"]])
    assert (obs["cell_class"].astype(str) != "").all()
    assert s.attrs["ucs_simulation"]["layout"] == layout
    points = s.points["transcripts"].compute()
    from_cells = points["true_cell_id"] > 0
    assert (at(cells, points[from_cells]) == points["true_cell_id"][from_cells]).mean() > 0.6


def test_layouts_follow_the_seed():
    one, same, other = (simulate(width_um=60, height_um=60, seed=k, layout="neurons") for k in (1, 1, 2))
    assert np.array_equal(raster(one, "true_cells"), raster(same, "true_cells"))
    assert one.points["transcripts"].compute().equals(same.points["transcripts"].compute())
    assert not np.array_equal(raster(one, "true_cells"), raster(other, "true_cells"))


def test_the_poor_core_has_a_tenth_of_the_transcripts():
    table = simulate(width_um=150, height_um=150, seed=4, layout="depth_0.1").tables["true_table"]
    density = np.asarray(table.X.sum(axis=1)).ravel() / table.obs["area_um2"]
    median = density.groupby(table.obs["cell_class"], observed=True).median()
    assert median["poor"] / median["rich"] == pytest.approx(0.1, abs=0.03)


def test_layouts_refuse_what_they_would_ignore():
    with pytest.raises(TypeError, match="a layout decides shapes and places itself"):
        simulate(layout="neurons", packing=0.5)
    with pytest.raises(ValueError, match="layout='neuron' is unknown"):
        simulate(layout="neuron")


@pytest.mark.parametrize("regime", [name for name in REGIMES if name not in LAYOUTS])
def test_regimes(regime):
    s = simulate(**{"width_um": 80, "height_um": 80, **REGIMES[regime]})
    assert len(s.tables["true_table"]) > 5
    assert s.tables["true_table"].n_vars == REGIMES[regime].get("n_genes", 300)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_genes": 1, "n_cell_types": 1},
        {"transcripts_per_cell": 0},
        {"packing": 0, "irregularity": 0, "nucleus_offset": 0, "cell_area_spread": 0},
        {"n_cell_types": 50, "n_genes": 20},
        {"cells_per_mm2": 50_000},
        {"cells_per_mm2": 1, "empty_share": 0, "seed": 2},  # one cell
        {"low_quality_share": 0, "nuclear_spread": 0},
    ],
    ids=str,
)
def test_extremes(parameters):
    s = simulate(width_um=50, height_um=40, **parameters)
    cells, nuclei = raster(s, "true_cells"), raster(s, "nucleus_labels")
    np.testing.assert_array_equal(cells[nuclei > 0], nuclei[nuclei > 0])


def test_survives_a_zarr_store(sdata, transcripts, tmp_path):
    sdata.write(tmp_path / "simulated.zarr")
    back = sd.read_zarr(tmp_path / "simulated.zarr")
    np.testing.assert_array_equal(raster(back, "true_cells"), raster(sdata, "true_cells"))
    np.testing.assert_array_equal(back.points["transcripts"].compute()["true_cell_id"], transcripts["true_cell_id"])
    assert back.attrs["ucs_simulation"] == sdata.attrs["ucs_simulation"]
    assert back.attrs["ucs_simulation"]["seed"] == 3


def test_outlines_are_drawn_as_defined():
    rng = np.random.default_rng(0)
    n, um_per_px, shape = 6, 0.5, (40, 60)
    o = Outlines(
        x=rng.uniform(-2, 32, n),
        y=rng.uniform(-2, 22, n),
        major=rng.uniform(3, 8, n),
        minor=rng.uniform(2, 3, n),
        angle=rng.uniform(0, 2 * np.pi, n),
        waves=rng.uniform(-0.1, 0.1, (n, 4)),
    )
    y, x = (np.mgrid[: shape[0], : shape[1]] + 0.5) * um_per_px
    depth = np.zeros((n + 1, *shape))
    for k in range(n):
        turned = ((x - o.x[k]) + 1j * (y - o.y[k])) * np.exp(-1j * o.angle[k])
        scaled = turned.real / o.major[k] + 1j * turned.imag / o.minor[k]
        phi = np.angle(scaled)
        limit = 1 + np.tensordot(o.waves[k], [np.cos(2 * phi), np.sin(2 * phi), np.cos(3 * phi), np.sin(3 * phi)], 1)
        depth[k + 1] = (1 - np.abs(scaled) / limit) * np.sqrt(o.major[k] * o.minor[k])
    np.testing.assert_array_equal(draw(o, shape, um_per_px), depth.argmax(axis=0))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"spindle": 0.5}, TypeError, "no parameter 'spindle'. Did you mean 'spindle_share'"),
        ({"width_um": 5}, ValueError, "width_um=5 given: it must be a number from 20 to 5000"),
        ({"n_genes": 2.5}, ValueError, "n_genes=2.5 given: it must be a whole number"),
        ({"empty_share": float("nan")}, ValueError, "empty_share=nan"),
        ({"diffusion_um": "far"}, TypeError, "diffusion_um='far' given: it must be a number"),
        ({"n_cell_types": True}, TypeError, "n_cell_types=True"),
        ({"seed": -1}, ValueError, "seed=-1 given"),
        ({"seed": 1.5}, ValueError, "seed=1.5 given"),
        ({"missing_nuclei": 1.0}, ValueError, "No cell with a nucleus lies in 200 x 200 um"),
        ({"cells_per_mm2": 1, "empty_share": 0.95}, ValueError, "raise the density"),
    ],
    ids=str,
)
def test_bad_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        simulate(**parameters)


def test_defaults_are_stated_once():
    defaults = simulate.__kwdefaults__
    params = SimulationParams()
    assert all(getattr(params, name) == value for name, value in defaults.items() if name not in ("seed", "layout"))


def test_tissue_without_a_layout_is_drawn_as_ever():
    points = simulate(width_um=40, height_um=40, seed=3).points["transcripts"].compute()
    gene = points["feature_name"].cat.codes.to_numpy(int)
    # Figures of results name seeds: what a seed draws must not change.
    assert (len(points), int(points["true_cell_id"].sum()), int(gene.sum())) == (903, 3938, 141793)
