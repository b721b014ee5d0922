"""Elements of SpatialData objects: copies that share them, and replacing one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spatialdata import SpatialData
    from xarray import DataArray, DataTree


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


def finest_level(element: DataArray | DataTree) -> DataArray:
    """Return the array of a labels element, the finest one of a multiscale element."""
    from xarray import DataTree

    return next(iter(element["scale0"].to_dataset().values())) if isinstance(element, DataTree) else element
