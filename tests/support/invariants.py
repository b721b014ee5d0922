"""What must hold of the results of every run, checked against nothing but the results and slow, obvious counting."""

from __future__ import annotations

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy import ndimage, sparse
from skimage.measure import regionprops
from spatialdata import SpatialData, get_element_instances, join_spatialelement_table, match_element_to_table
from spatialdata.models import Labels2DModel, PointsModel, ShapesModel, TableModel, get_table_keys
from spatialdata.transformations import get_transformation

from ucs._results.table import control_counts_of

ROUNDED = 1e-6  # pixels: what is less before a border lies on it


def assert_invariants(
    sdata: SpatialData,
    *,
    points_key: str = "transcripts",
    um_per_unit: float = 1.0,
    count_key: str | None = None,
    nuclei: NDArray | None = None,
) -> None:
    """Every invariant of a segmentation under the default keys; `nuclei` are those on the grid, ids as in the table."""
    labels = np.asarray(sdata.labels["ucs_cells"])
    table, shapes = sdata.tables["ucs_table"], sdata.shapes["ucs_boundaries"]
    points = sdata.points[points_key].compute()
    to_units = matrix_between(sdata, "ucs_cells", points_key)
    assert_types(sdata, points)
    assert_same_ids(labels, table, shapes, points)
    moved = table.uns["ucs"]["qc"]["n_moved_transcripts"]
    assert_points_carry_the_label_beneath(labels, points, to_units, set(table.var_names), count_key, moved=moved)
    assert_counts_are_those_of_the_points(table, points, count_key)
    assert_measures(labels, table, to_units, um_per_unit)
    smooth = table.uns["ucs"]["parameters"]["key_added"]["outlines"] == "smooth"
    assert_outlines(labels, shapes, to_units, smooth=smooth)
    assert_transformations(sdata, points_key, to_units)
    assert_spatialdata_agrees(sdata)
    assert_one_part_per_cell(labels, nuclei)
    if nuclei is not None:
        assert_nuclei(labels, nuclei, table, points, to_units, count_key)


def matrix_between(sdata: SpatialData, source: str, target: str) -> NDArray:
    """From the intrinsic (x, y, 1) of one element to that of another, through a coordinate system that both share."""
    of_source, of_target = (get_transformation(sdata[key], get_all=True) for key in (source, target))
    system = sorted(set(of_source) & set(of_target))[0]
    return np.linalg.inv(matrix(of_target[system])) @ matrix(of_source[system])


def matrix(transformation) -> NDArray:
    return transformation.to_affine_matrix(("x", "y"), ("x", "y"))


def assert_types(sdata, points):
    assert sdata.labels["ucs_cells"].dtype == np.int32
    assert sdata.labels["ucs_cells"].dims == ("y", "x")
    assert hasattr(sdata.labels["ucs_cells"].data, "dask")
    assert points["ucs_cell_id"].dtype == np.int32
    table = sdata.tables["ucs_table"]
    for counts in (table.X, table.layers["nucleus"]):
        assert isinstance(counts, sparse.csr_matrix)
        assert np.issubdtype(counts.dtype, np.integer)
    assert table.obs["cell_id"].dtype == np.int32
    assert sdata.shapes["ucs_boundaries"].index.dtype == np.int32
    for column in ("area_um2", "nucleus_area_um2", "density", "eccentricity", "confidence"):
        assert table.obs[column].dtype == np.float64
        assert np.isfinite(table.obs[column]).all()
    for column in ("n_transcripts", "n_genes"):
        assert table.obs[column].dtype == np.int64
    assert table.obs["is_missing_cell"].dtype == bool
    assert table.obs["confidence"].between(0, 1).all()
    assert table.obsm["spatial"].shape == (table.n_obs, 2)


def assert_same_ids(labels, table, shapes, points):
    ids = np.unique(labels[labels > 0])
    np.testing.assert_array_equal(table.obs["cell_id"], ids)
    np.testing.assert_array_equal(shapes.index, ids)
    np.testing.assert_array_equal(table.obs_names, ids.astype(str))
    assert np.isin(points["ucs_cell_id"], [0, *ids]).all()


def assert_points_carry_the_label_beneath(labels, points, to_units, genes, count_key, *, moved):
    """Each row has the label beneath it, but for so many transcripts of genes that are given by their gene."""
    kept = points["qv"].to_numpy() >= 20 if "qv" in points else np.ones(len(points), dtype=bool)
    n = np.ones(len(points), dtype=int) if count_key is None else points[count_key].to_numpy()
    inside, row, column = pixels_of(points, to_units, labels.shape)
    assert inside[kept & (n > 0)].all()
    expected = np.zeros(len(points), dtype=int)
    expected[inside] = labels[row, column]
    differs = points["ucs_cell_id"].to_numpy() != np.where(kept, expected, 0)
    assert n[differs].sum() <= moved
    assert kept[differs].all()
    assert points["feature_name"][differs].astype(str).isin(genes).all()


def pixels_of(points, to_units, shape):
    """Which points lie on the grid, and rows and columns of these."""
    position = points[["x", "y"]].to_numpy(dtype=np.float64) - to_units[:2, 2]
    column, row = np.floor(np.linalg.inv(to_units[:2, :2]) @ position.T + ROUNDED).astype(int)
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    return inside, row[inside], column[inside]


def assert_counts_are_those_of_the_points(table, points, count_key):
    points = points.assign(n=1 if count_key is None else points[count_key])
    assigned = points[points["ucs_cell_id"] > 0]
    counts = pd.DataFrame(table.X.toarray(), index=table.obs["cell_id"].to_numpy(), columns=table.var_names)
    if "controls" in table.obsm:
        controls = control_counts_of(table)
        assert not set(controls.columns) & set(table.var_names)
        np.testing.assert_array_equal(table.obs["n_controls"], controls.sum(axis=1))
        counts = counts.join(controls.set_axis(counts.index, axis=0))
    assert int(counts.to_numpy().sum()) == int(assigned["n"].sum())
    by_hand = assigned.assign(feature_name=assigned["feature_name"].astype(str)).pivot_table(
        index="ucs_cell_id", columns="feature_name", values="n", aggfunc="sum", fill_value=0
    )
    by_hand = by_hand.reindex(index=counts.index, columns=counts.columns, fill_value=0)
    np.testing.assert_array_equal(counts, by_hand)
    kept = points[points["qv"] >= 20] if "qv" in points else points
    occurring = set(kept.loc[kept["n"] > 0, "feature_name"].astype(str))
    assert set(counts.columns) >= occurring
    assert not (counts.loc[:, ~counts.columns.isin(list(occurring))] > 0).any(axis=None)
    assert list(table.var_names) == sorted(table.var_names)
    np.testing.assert_array_equal(table.obs["n_transcripts"], table.X.toarray().sum(axis=1))
    np.testing.assert_array_equal(table.obs["n_genes"], (table.X.toarray() > 0).sum(axis=1))


def assert_measures(labels, table, to_units, um_per_unit):
    um2_per_px = abs(np.linalg.det(to_units[:2, :2])) * um_per_unit**2
    regions = regionprops(labels)
    np.testing.assert_allclose(table.obs["area_um2"], [r.num_pixels * um2_per_px for r in regions])
    # scikit-image takes pixels for points; a unit square has a second moment of 1/12 more.
    axes = np.array([r.inertia_tensor_eigvals for r in regions]) + 1 / 12
    np.testing.assert_allclose(table.obs["eccentricity"], np.sqrt(1 - axes[:, 1] / axes[:, 0]), atol=1e-6)
    np.testing.assert_allclose(table.obs["density"], table.obs["n_transcripts"] / table.obs["area_um2"])
    centre = np.array([[r.centroid[1] + 0.5, r.centroid[0] + 0.5, 1] for r in regions]) @ to_units[:2].T
    np.testing.assert_allclose(table.obsm["spatial"], centre * um_per_unit, atol=1e-9)


def assert_outlines(labels, shapes, to_units, *, smooth=False):
    polygons = shapes.geometry.to_numpy()
    assert shapely.is_valid(polygons).all()
    px_area = abs(np.linalg.det(to_units[:2, :2]))
    pixels = np.bincount(labels.ravel())[shapes.index]
    area = shapely.area(polygons)
    if smooth:
        assert abs(np.median(area / (pixels * px_area)) - 1) < 0.02
    else:
        np.testing.assert_allclose(area, pixels * px_area)
    np.testing.assert_allclose(shapely.union_all(polygons).area, area.sum())  # only if no two overlap
    i, j = np.nonzero(labels)
    x, y = to_units[:2] @ np.stack([j + 0.5, i + 0.5, np.ones(len(i))])
    beneath = polygons[shapes.index.get_indexer(labels[i, j])]
    assert shapely.contains_xy(beneath, x, y).all()


def assert_transformations(sdata, points_key, to_units):
    of_points, of_labels, of_shapes = (
        get_transformation(sdata[key], get_all=True) for key in (points_key, "ucs_cells", "ucs_boundaries")
    )
    assert set(of_labels) == set(of_shapes) == set(of_points)
    for system, transformation in of_points.items():
        np.testing.assert_allclose(matrix(of_shapes[system]), matrix(transformation))
        np.testing.assert_allclose(matrix(of_labels[system]), matrix(transformation) @ to_units, atol=1e-9)


def assert_spatialdata_agrees(sdata):
    labels, shapes, table = sdata["ucs_cells"], sdata["ucs_boundaries"], sdata["ucs_table"]
    Labels2DModel().validate(labels)
    ShapesModel.validate(shapes)
    ShapesModel.validate_shapes_not_mixed_types(shapes)
    TableModel().validate(table)
    for points in sdata.points.values():
        PointsModel.validate(points)
    assert get_table_keys(table) == ("ucs_boundaries", "region", "cell_id")
    sdata.validate_table_in_spatialdata(table)
    np.testing.assert_array_equal(get_element_instances(labels, return_background=False), shapes.index)
    matched, joined = join_spatialelement_table(
        sdata=sdata, spatial_element_names="ucs_boundaries", table_name="ucs_table", how="inner"
    )
    assert len(matched["ucs_boundaries"]) == joined.n_obs == table.n_obs
    _, of_shapes = match_element_to_table(sdata, "ucs_boundaries", "ucs_table")
    np.testing.assert_array_equal(of_shapes.obs["cell_id"], shapes.index)


def assert_one_part_per_cell(labels, nuclei):
    for k, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        n_parts = ndimage.label(labels[box] == k)[1]
        n_of_nucleus = 1 if nuclei is None else ndimage.label(nuclei[box] == k)[1]
        assert n_parts <= n_of_nucleus


def assert_nuclei(labels, nuclei, table, points, to_units, count_key):
    """A nucleus lies in its cell, unless the cell was left out; its counts and area are its own."""
    left = np.isin(nuclei, table.obs["cell_id"])
    np.testing.assert_array_equal(labels[left], nuclei[left])
    assert (labels[(nuclei > 0) & ~left] == 0).all()
    um2 = table.obs["area_um2"].iloc[0] / np.count_nonzero(labels == table.obs["cell_id"].iloc[0])
    pixels = np.bincount(nuclei.ravel(), minlength=labels.max() + 1)[table.obs["cell_id"]]
    np.testing.assert_allclose(table.obs["nucleus_area_um2"], pixels * um2)
    assert (table.layers["nucleus"] > table.X).nnz == 0
    kept = points[points["qv"] >= 20] if "qv" in points else points
    if count_key is not None:
        kept = kept[kept[count_key] > 0]
    inside, row, column = pixels_of(kept, to_units, nuclei.shape)
    assert inside.all()
    of = nuclei[row, column]
    n = np.ones(len(kept)) if count_key is None else kept[count_key]
    is_gene = kept["feature_name"].isin(table.var_names).to_numpy()
    by_hand = np.bincount(of[is_gene], weights=n[is_gene], minlength=labels.max() + 1)[table.obs["cell_id"]]
    np.testing.assert_array_equal(np.asarray(table.layers["nucleus"].sum(axis=1)).ravel(), by_hand)


def assert_same_cells(a: SpatialData, b: SpatialData) -> None:
    """Labels, outlines, table and points column are the same, bit by bit; `nucleus_id` may be of another type."""
    np.testing.assert_array_equal(np.asarray(a.labels["ucs_cells"]), np.asarray(b.labels["ucs_cells"]))
    assert_same_tables(a.tables["ucs_table"], b.tables["ucs_table"])
    assert shapely.equals_identical(
        a.shapes["ucs_boundaries"].geometry.to_numpy(), b.shapes["ucs_boundaries"].geometry.to_numpy()
    ).all()


def assert_same_tables(a, b) -> None:
    pd.testing.assert_frame_equal(a.obs, b.obs, check_dtype=False)
    assert list(a.var_names) == list(b.var_names)
    for of_a, of_b in ((a.X, b.X), (a.layers["nucleus"], b.layers["nucleus"])):
        np.testing.assert_array_equal(of_a.toarray(), of_b.toarray())
    np.testing.assert_array_equal(a.obsm["spatial"], b.obsm["spatial"])
    if "controls" in a.obsm:
        pd.testing.assert_frame_equal(control_counts_of(a), control_counts_of(b))
