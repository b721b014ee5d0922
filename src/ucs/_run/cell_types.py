"""Cell types of the nuclei that the user gives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ucs._utils.checks import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spatialdata import SpatialData

    from ucs._read.sample import Sample


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
