"""Whether the keys of results are free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ucs._read.nuclei.of_sample import keys_of_nuclei
from ucs._results.lookup import check_free_column
from ucs._utils.checks import check_free_keys

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from ucs._read.source import Source
    from ucs.options import OutputKeys


def new_elements(keys: OutputKeys, *, find_missing: bool) -> dict[str, tuple[str, str]]:
    """Return kind and key of the elements that a segmentation adds, by the argument that names them."""
    named = {
        "key_added['labels']": ("labels", keys.labels),
        "key_added['shapes']": ("shapes", keys.shapes),
        "key_added['table']": ("tables", keys.table),
    }
    if find_missing:
        named["key_added['missing_nuclei']"] = ("labels", keys.missing_nuclei)
    if keys.foreground is not None:
        named["key_added['foreground']"] = ("images", keys.foreground)
    return named


def check_keys(
    keys: OutputKeys, sdata: SpatialData, source: Source, nuclei_key: str, *, find_missing: bool, overwrite: bool
) -> None:
    """Raise ``ValueError`` if a key is taken, and may not be overwritten or can never be."""
    named = new_elements(keys, find_missing=find_missing)
    for argument, (_, key) in named.items():
        if key in keys_of_nuclei(source, nuclei_key):
            msg = f"{argument}={key!r} is the key of the nuclei themselves; choose another."
            raise ValueError(msg)
    check_free_keys(sdata, named, overwrite=overwrite)
    if keys.confidence_column == keys.points_column:
        msg = f"Both columns of the points are called {keys.points_column!r} in key_added; they must differ."
        raise ValueError(msg)
    columns = {"key_added['points_column']": keys.points_column}
    if keys.confidence_column is not None:
        columns["key_added['confidence_column']"] = keys.confidence_column
    for element in source.elements:
        for argument, column in columns.items():
            check_free_column(sdata, element, column, overwrite=overwrite, argument=argument)
