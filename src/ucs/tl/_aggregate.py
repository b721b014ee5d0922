"""Counts per label, for anybody's labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ucs._checks import check_any_label, check_free_column, check_free_keys, choose_one
from ucs._core.ids import densify
from ucs._core.measure import centroids, eccentricities, moments
from ucs.pp._nuclei import transformation_matrix
from ucs.pp._sample import find_source
from ucs.pp._transcripts import check_frame
from ucs.tl._lookup import LabelLookup, with_label_column
from ucs.tl._outlines import finest_level
from ucs.tl._table import build_table
from ucs.tl._write import Elements, add_elements

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from ucs._platforms import Platform
    from ucs.pp._sample import Source


def aggregate(
    sdata: SpatialData,
    labels_key: str,
    points_key: str | None = None,
    *,
    platform: str | Platform = "auto",
    coordinate_system: str | None = None,
    gene_key: str | None = None,
    um_per_unit: float | None = None,
    table_key_added: str | None = None,
    points_column_added: str | None = None,
    overwrite: bool = False,
    inplace: bool = True,
) -> AnnData | None:
    """Count the transcripts in every label of any labels element: the vendor's, another program's, or ours.

    Parameters
    ----------
    sdata
        Object with labels and points.
    labels_key
        Key of a 2D labels element; of a multiscale element the finest level is taken.
    points_key, platform, coordinate_system, gene_key, um_per_unit
        As in :func:`ucs.tl.segment`.
    table_key_added
        Key of the table; ``f"{labels_key}_table"`` if None.
    points_column_added
        If given, the points get this column with the label under each transcript (0 = none); needs ``inplace``.
    overwrite
        Whether a table under that key, or that column, may be replaced.
    inplace
        Whether to add the results to ``sdata`` or to return the table.

    Returns
    -------
    None, or the table: CSR int counts (label x gene, all kept genes in alphabetical order), a row for each label that
    occurs; ``obs``: instance id, area_um2, n_transcripts, n_genes, density (transcripts per um2), eccentricity;
    ``obsm["spatial"]``: centroids in um in the points' intrinsic frame; ``obsm["controls"]``. Its rows annotate the
    labels.

    Raises
    ------
    KeyError, ValueError
        If an element or column is not there, a key is taken, the elements are not connected, or the points are invalid.
    """
    labels_key = choose_one(labels_key, list(sdata.labels), (), argument="labels_key", what="labels element")
    table_key_added = table_key_added or f"{labels_key}_table"
    if inplace:
        check_free_keys(sdata, {"table_key_added": ("tables", table_key_added)}, overwrite=overwrite)
    elif points_column_added is not None:
        msg = f"points_column_added={points_column_added!r} needs inplace=True: only the table is returned."
        raise ValueError(msg)
    source = find_source(sdata, points_key, platform=platform, gene_key=gene_key, um_per_unit=um_per_unit)
    points = sdata.points[source.points_key]
    if points_column_added is not None:
        used = source.columns.names()
        check_free_column(points, points_column_added, points_key=source.points_key, used=used, overwrite=overwrite)
    to_points = transformation_matrix(sdata, labels_key, source.points_key, coordinate_system=coordinate_system)
    labels = np.asarray(finest_level(sdata.labels[labels_key]))
    dense, ids = densify(labels)
    check_any_label(ids, labels_key)
    lookup = LabelLookup(dense, np.linalg.inv(to_points))
    counts, genes, controls = _count(sdata, source, lookup, len(ids))
    cells = moments(dense, len(ids))
    um2_per_px = abs(np.linalg.det(to_points[:2, :2])) * source.um_per_unit**2
    table = build_table(
        counts,
        genes=genes,
        controls=controls,
        ids=ids,
        region=labels_key,
        area_um2=cells[:, 0] * um2_per_px,
        centroid_um=(centroids(cells) @ to_points[:2, :2].T + to_points[:2, 2]) * source.um_per_unit,
        obs={"eccentricity": eccentricities(cells)},
        layers={},
        uns={"labels_key": labels_key, "points_key": source.points_key},
    )
    if not inplace:
        return table
    replaced = {}
    if points_column_added is not None:
        original = LabelLookup(labels, lookup.placement)
        replaced[source.points_key] = with_label_column(points, original, source.columns, points_column_added)
    add_elements(sdata, Elements({table_key_added: table}, replaced))
    return None


def _count(
    sdata: SpatialData, source: Source, lookup: LabelLookup, n: int
) -> tuple[csr_matrix, list[str], list[str]]:
    """Count in one pass over the partitions: ``(n, n_features)``, the genes and the controls."""
    from scipy.sparse import coo_matrix

    columns = source.columns
    codes: dict[str, int] = {}
    cells: list[NDArray] = []
    features: list[NDArray] = []
    counts: list[NDArray] = []
    for number, partition in enumerate(sdata.points[source.points_key][columns.names()].to_delayed()):
        frame = partition.compute()
        check_frame(frame, columns, where=f"points[{source.points_key!r}], partition {number}")
        frame = frame[columns.kept(frame)]
        gene = frame[columns.gene].astype("category")
        code = np.array([codes.setdefault(str(c), len(codes)) for c in gene.cat.categories], dtype=np.int32)
        features.append(code[gene.cat.codes.to_numpy()])
        cells.append(lookup.at(frame["x"].to_numpy(), frame["y"].to_numpy()))
        counts.append(np.ones(len(frame)) if columns.count is None else frame[columns.count].to_numpy())
    cell, feature, count = (np.concatenate(parts) for parts in (cells, features, counts))
    occurring = np.bincount(feature, weights=count, minlength=len(codes)) > 0
    order = sorted((source.platform.is_control(name), name) for name, code in codes.items() if occurring[code])
    new_code = np.full(len(codes), -1)
    new_code[[codes[name] for _, name in order]] = np.arange(len(order))
    assigned = (cell > 0) & (count > 0)
    entries = (count[assigned].astype(np.int32), (cell[assigned] - 1, new_code[feature[assigned]]))
    matrix = coo_matrix(entries, shape=(n, len(order)), dtype=np.int32).tocsr()
    return matrix, [name for control, name in order if not control], [name for control, name in order if control]
