"""Elements of SpatialData objects: copies that share them, replacing one, and the tables that annotate one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
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


def annotated_by(table: AnnData) -> list[str]:
    """Return the elements that a table annotates, as SpatialData has it."""
    region = table.uns.get("spatialdata_attrs", {}).get("region", [])
    return [region] if isinstance(region, str) else list(region)


def tables_of(sdata: SpatialData, key: str) -> list[str]:
    """Return the tables that annotate an element; if none does, those of the cells that it was made with."""
    annotating = [name for name, table in sdata.tables.items() if key in annotated_by(table)]
    return annotating or [name for name, table in sdata.tables.items() if key in _made_with(table)]


def _made_with(table: AnnData) -> list[str]:
    keys = table.uns.get("ucs", {}).get("parameters", {}).get("key_added", {})
    return [keys[name] for name in ("labels", "shapes") if name in keys]
