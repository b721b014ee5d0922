"""Elements of SpatialData objects: copies that share them, and replacing one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spatialdata import SpatialData


def shallow_copy(sdata: SpatialData, replaced: Mapping[str, Any] | None = None) -> SpatialData:
    """Return an object with the same elements and attributes, without a store.

    Parameters
    ----------
    sdata
        The object.
    replaced
        Elements by key that the copy has in place of those of ``sdata``, or beside them.
    """
    from spatialdata import SpatialData

    elements = {name: element for _, name, element in sdata.gen_elements()}
    return SpatialData.init_from_elements(elements | dict(replaced or {}), attrs=dict(sdata.attrs))


def put(sdata: SpatialData, key: str, element: Any) -> None:
    """Add an element, or replace the one of this key."""
    if key in sdata:  # spatialdata warns of a key that is set twice
        del sdata[key]
    sdata[key] = element
