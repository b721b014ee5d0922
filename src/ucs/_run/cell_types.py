"""Cell types of the nuclei of a sample, for the marker option of segmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._kernels.count import count_in_labels
from ucs._read.markers import marker_table, markers_by_type
from ucs._utils.checks import listed
from ucs._utils.log import logger
from ucs.methods.cell_types import types_by_markers
from ucs.methods.paper.marks import Marks, mark_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from ucs._read.markers import Markers
    from ucs._read.sample import Sample

_LEAST_PROBABILITY = 0.5  # of a type for a nucleus to be marked by it


def read_markers(
    markers: Markers | None, cell_type_key: str | None, background: str | float
) -> dict[str, list[str]] | None:
    """Return the genes of each type; None without markers.

    Raises
    ------
    TypeError, ValueError
        If the markers are of no form that is known, or types are given for the published nets without markers.
    """
    if markers is not None:
        return markers_by_type(markers)
    if cell_type_key is not None and background != "auto":
        msg = f"cell_type_key={cell_type_key!r} needs markers= with background={background!r}."
        raise ValueError(msg)
    return None


def with_given_types(
    sdata: SpatialData, sample: Sample, cell_type_key: str | None, markers: Mapping[str, Sequence[str]] | None
) -> Sample:
    """Return a sample whose nuclei have the types of a column of their shapes, or of a table that annotates them.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If no nucleus of the sample has a type in it, or one with markers (if there are markers).
    """
    if cell_type_key is None:
        return sample
    key, columns = sample.nuclei_key, []
    if key in sdata.shapes and cell_type_key in sdata.shapes[key].columns:
        columns.append(sdata.shapes[key][cell_type_key])
    for table in sdata.tables.values():
        link = table.uns.get("spatialdata_attrs", {})
        if cell_type_key in table.obs and key in np.atleast_1d(link.get("region", [])):
            rows = table.obs[table.obs[link["region_key"]] == key]
            columns.append(rows.set_index(link["instance_key"])[cell_type_key])
    if not columns:
        msg = (
            f"cell_type_key={cell_type_key!r} is no column of shapes[{key!r}], nor of a table that annotates {key!r}; "
            "ucs.tl.annotate_nuclei makes such a table."
        )
        raise KeyError(msg)
    column = columns[0].astype(object)
    column.index = column.index.astype(str)
    column = column[~column.index.duplicated()].reindex(pd.Index(sample.nuclei.ids.astype(str)))
    types = np.where(column.isna() | (column.astype(str) == "unknown"), "", column.astype(str)).astype(object)
    if not (types != "").any():
        msg = f"None of the {len(types)} nuclei of {key!r} has a type in column {cell_type_key!r}: do the ids match?"
        raise ValueError(msg)
    given = set(types) - {""}
    if markers is not None and not given & set(markers):
        msg = f"None of the types in {cell_type_key!r} ({listed(sorted(given))}) has markers: {listed(markers)} have."
        raise ValueError(msg)
    return replace(sample, cell_types=types)


def memberships(
    samples: Sequence[Sample], genes: Sequence[str], markers: Mapping[str, Sequence[str]] | None
) -> list[Callable[[csr_matrix], NDArray[np.float64]]] | None:
    """Return what tells, for each sample, how likely each nucleus is of each type.

    From counts ``(n, genes)`` it makes ``(n, types + 1)``; the last column is that of no type. None if there are
    neither markers nor types.
    """
    given = [sample.cell_types for sample in samples if sample.cell_types is not None]
    if len(given) == len(samples):
        names = np.array(sorted(set().union(*given) - {""}), dtype=object)
        members = [(types[:, None] == names).astype(np.float64) for types in given]
        members = [np.hstack([member, 1 - member.sum(axis=1, keepdims=True)]) for member in members]
        return [lambda _counts, member=member: member for member in members]  # type: ignore[misc]
    if markers is None:
        return None
    _, is_marker = marker_table(markers, genes)
    return [lambda counts: types_by_markers(counts, is_marker) for _ in samples]


def marks_of(sample: Sample, markers: Mapping[str, Sequence[str]] | None) -> Marks | None:
    """Return where markers are and the type of each nucleus, given or told by markers; None without markers."""
    if not markers:
        return None
    features = sample.transcripts.genes + sample.transcripts.controls
    types, is_marker = marker_table(markers, features)
    if sample.cell_types is None:
        counts = count_in_labels(sample.transcripts.map, sample.nuclei.labels, len(sample.nuclei.ids))
        n_genes = len(sample.transcripts.genes)
        probability = types_by_markers(counts[:, :n_genes], is_marker[:, :n_genes])
        best = probability[:, :-1].argmax(axis=1)
        kind = np.where(probability[:, :-1].max(axis=1) >= _LEAST_PROBABILITY, best, -1)
    else:
        number = {name: k for k, name in enumerate(types)}
        kind = np.array([number.get(name, -1) for name in sample.cell_types])
    logger.info("Markers of %d types; %d of %d nuclei have one of them.", len(types), (kind >= 0).sum(), len(kind))
    type_of = np.concatenate([[-1], kind]).astype(np.int16)
    return Marks(mark_pixels(sample.transcripts.map, is_marker, types), type_of)
