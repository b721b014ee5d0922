"""Elements of SpatialData objects: sharing copies, replacing one, its levels, and the tables that annotate it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray
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


def levels_of(element: DataArray | DataTree) -> list[DataArray]:
    """Return the arrays of an image or of labels, finest first; one if it is not multiscale."""
    from xarray import DataTree

    if not isinstance(element, DataTree):
        return [element]
    return [next(iter(level.to_dataset().values())) for level in element.children.values()]


def finest_level(element: DataArray | DataTree) -> DataArray:
    """Return the array of a labels element, the finest one of a multiscale element."""
    return levels_of(element)[0]


def coarsest_level(
    levels: list[DataArray], to_finest: NDArray[np.float64], *, least: float
) -> tuple[DataArray, NDArray[np.float64]]:
    """Return the coarsest level with enough pixels for a grid, or the finest, and the matrix to its pixels.

    Parameters
    ----------
    levels
        Finest first, their last axes y and x.
    to_finest
        ``(3, 3)`` from pixels ``(column, row, 1)`` of the grid to those of the finest level.
    least
        Side of a pixel of the grid in pixels of the level.
    """
    chosen, matrix = levels[0], to_finest
    for level in levels[1:]:
        along_y, along_x = map(downsampling, levels[0].shape[-2:], level.shape[-2:])
        scaled = np.diag([1 / along_x, 1 / along_y, 1.0]) @ to_finest
        if np.sqrt(abs(np.linalg.det(scaled[:2, :2]))) < least:
            break
        chosen, matrix = level, scaled
    return chosen, matrix


def downsampling(full: int, size: int) -> float:
    """Return how many pixels of the finest level a pixel of a level spans.

    It is a whole number wherever that explains the size: writers leave out or fill up an incomplete last pixel, so that
    the ratio of the sizes is not exact.
    """
    whole = round(full / size)
    return whole if size in (full // whole, -(-full // whole)) else full / size


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
