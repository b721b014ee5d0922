"""Counts of transcripts in the labels of any element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ucs._kernels.count import split_columns, sum_entries
from ucs._kernels.labels.measure import centroids, eccentricities, moments
from ucs._read.columns import (
    check_frame,
    counts_of,
    encode_features,
    names_in_tables,
    order_features,
    panel_of,
)
from ucs._read.fields import find_fields
from ucs._read.sample import find_source
from ucs._results.lookup import LabelLookup, PointColumns, check_free_column, with_label_column
from ucs._results.outlines import dense_view
from ucs._results.table import at_home, build_table
from ucs._results.write import Elements, with_elements
from ucs._utils.checks import check_any_label, check_free_keys, choose_one
from ucs._utils.elements import finest_level
from ucs.options import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from ucs._read.fields import Fields
    from ucs._read.platforms import Platform
    from ucs._read.sample import Source

# Options of reading without effect here.
_UNUSED = ("genes", "stain_keys", "genes_per_region", "outlier_um", "fuse_nuclei", "check_alignment")


def aggregate(
    sdata: SpatialData,
    labels_key: str,
    points_key: str | Sequence[str] | None = None,
    *,
    platform: str | Platform = "auto",
    read: ReadOptions | Mapping[str, Any] | None = None,
    table_key_added: str | None = None,
    points_column_added: str | None = None,
    overwrite: bool = False,
    inplace: bool = True,
) -> SpatialData | None:
    """Count the transcripts in every label of a labels element, whichever program made it.

    Parameters
    ----------
    sdata
        Object with labels and points.
    labels_key
        Key of a 2D labels element; of a multiscale element the finest level is used.
    points_key, platform
        As in :func:`ucs.tl.segment`.
    read
        How the points are read: :class:`ucs.options.ReadOptions`, or a mapping of its ``coordinate_system``,
        ``um_per_unit``, ``gene_key`` and ``z_planes``.
    table_key_added
        Key of the table; ``f"{labels_key}_table"`` if None.
    points_column_added
        Column of the points to add, with the label under each transcript (0 = none); none if None.
    overwrite
        Whether an existing table or column of these names may be replaced.
    inplace
        Whether to add the results to ``sdata``, or to return a new object that shares its elements.

    Returns
    -------
    None, or the new object. The table has CSR int counts, labels x genes (in alphabetical order), a row for each label
    that occurs. Its
    rows annotate the labels. ``obs`` has the instance id, ``area_um2``, ``n_transcripts``, ``n_genes``, ``density``
    (transcripts per um2) and ``eccentricity``; ``obsm["spatial"]`` the centroids in um along the points' intrinsic axes
    (those of the common coordinate system of several points elements); ``obsm["controls"]`` sparse counts of
    controls, whose names are in ``uns["ucs"]["controls"]``.

    Raises
    ------
    KeyError, TypeError, ValueError
        If an element or a column is missing, a key is taken, an option is wrong or without effect, the elements share
        no coordinate system, or the points are invalid.

    Examples
    --------
    >>> import ucs
    >>> sdata = ucs.datasets.simulate(width_um=60, height_um=60, n_genes=30, seed=0)
    >>> ucs.tl.aggregate(sdata, "true_cells")
    >>> sdata["true_cells_table"].n_vars
    30
    """
    labels_key = choose_one(labels_key, list(sdata.labels), (), argument="labels_key", what="labels element")
    table_key_added = table_key_added or f"{labels_key}_table"
    check_free_keys(sdata, {"table_key_added": ("tables", table_key_added)}, overwrite=overwrite)
    reading = ReadOptions.resolve_part(read, _UNUSED, "in ucs.tl.aggregate")
    source = find_source(
        sdata,
        points_key,
        platform=platform,
        coordinate_system=reading.coordinate_system,
        gene_key=reading.gene_key,
        um_per_unit=reading.um_per_unit,
        z_planes=reading.z_planes,
    )
    if points_column_added is not None:
        for part in source.elements:
            check_free_column(sdata, part, points_column_added, overwrite=overwrite)
    to_frame = source.to_frame(sdata, labels_key, coordinate_system=reading.coordinate_system)
    fields = find_fields(sdata, source)
    labels = np.asarray(finest_level(sdata.labels[labels_key]))
    dense, number, ids = dense_view(labels)
    check_any_label(ids, labels_key)
    to_labels = np.linalg.inv(to_frame)
    lookup = LabelLookup(dense, to_labels) if number is None else LabelLookup(labels, to_labels, number)
    counts, genes, controls, panel = _count(sdata, source, fields, lookup, len(ids))
    cells = moments(dense, len(ids))
    centroid_um = (centroids(cells) @ to_frame[:2, :2].T + to_frame[:2, 2]) * source.um_per_unit
    um2_per_px = abs(np.linalg.det(to_frame[:2, :2])) * source.um_per_unit**2
    table = build_table(
        *split_columns(counts, len(genes)),
        genes=genes,
        controls=controls,
        panel=panel,
        ids=ids,
        region=labels_key,
        area_um2=cells[:, 0] * um2_per_px,
        centroid_um=at_home(centroid_um, source.output_frame(sdata)[0], source.um_per_unit),
        obs={"eccentricity": eccentricities(cells)},
        layers={},
        uns={"labels_key": labels_key, "points_key": source.points_key},
    )
    replaced = {}
    if points_column_added is not None:
        original = LabelLookup(labels, to_labels)
        for k, part in enumerate(source.elements):
            owner = None if fields is None else fields.owner(k)
            columns = PointColumns(part, owner, original, points_column_added)
            replaced[part.key] = with_label_column(sdata, columns)
    return with_elements(sdata, Elements({table_key_added: table}, replaced), inplace=inplace)


def _count(
    sdata: SpatialData, source: Source, fields: Fields | None, lookup: LabelLookup, n: int
) -> tuple[csr_matrix, tuple[str, ...], tuple[str, ...], tuple[tuple[str, ...], tuple[str, ...]]]:
    """Count in one pass over the partitions: ``(n, n_features)``, the genes, the controls, and all that are listed."""
    codes: dict[str, int] = {}
    votes: dict[str, int] = {}
    n_seen = np.zeros(0, dtype=np.int64)
    pieces: list[tuple[NDArray, NDArray, NDArray]] = []
    for k, part in enumerate(source.elements):
        owner = None if fields is None else fields.owner(k)
        for where, frame in part.frames(sdata):
            check_frame(frame, part.columns, where=where)
            part.columns.add_votes(frame, votes)
            encode_features(frame[part.columns.gene], codes)
            kept = frame[part.columns.kept(frame)]
            x, y = part.place(kept)
            if owner is not None:
                owned = owner.owns(x, y)
                kept, x, y = kept[owned], x[owned], y[owned]
            feature, count = encode_features(kept[part.columns.gene], codes), counts_of(kept, part.columns)
            n_seen = _with_room(n_seen, len(codes)) + np.bincount(feature, weights=count, minlength=len(codes))
            cell = lookup.at(x, y)
            assigned = (cell > 0) & (count > 0)
            pieces.append(_summed(cell[assigned], feature[assigned], count[assigned]))
    new_code, genes, controls = order_features(codes, n_seen > 0, source.platform, votes)
    matrix = sum_entries(
        lambda: ((cell, new_code[feature], count) for cell, feature, count in pieces), n, len(genes) + len(controls)
    )
    panel = panel_of({*codes, *names_in_tables(sdata, genes)}, genes, controls, source.platform, votes)
    return matrix, genes, controls, panel


def _with_room(totals: NDArray, n: int) -> NDArray:
    return np.concatenate([totals, np.zeros(n - len(totals), dtype=totals.dtype)])


def _summed(cell: NDArray, feature: NDArray, count: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Sum equal entries of a partition, so that what is kept of it is no larger than it has to be."""
    n_features = int(feature.max(initial=0)) + 1
    counts = sum_entries(lambda: [(cell, feature, count)], int(cell.max(initial=0)), n_features)
    rows = np.flatnonzero(np.diff(counts.indptr)).astype(np.int32)
    return np.repeat(rows + 1, np.diff(counts.indptr)[rows]), counts.indices, counts.data
