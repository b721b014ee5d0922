"""Adding results to a SpatialData object and to its store: all or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ucs._files.store import write_elements
from ucs._utils.elements import put, shallow_copy
from ucs._utils.log import logger

if TYPE_CHECKING:
    from spatialdata import SpatialData


@dataclass(frozen=True)
class Elements:
    """New elements by key, and elements of points that replace those of the same key."""

    new: dict[str, Any]
    points: dict[str, Any] = field(default_factory=dict)


def add_elements(
    sdata: SpatialData, elements: Elements, *, write: bool = False, overwrite: bool = False
) -> None:
    """Add elements; if one cannot be added or written, the object is restored.

    An interruption when all is in the store already leaves it in the object too.

    Parameters
    ----------
    sdata
        Object to add to.
    elements
        Elements to add.
    write
        Whether to write the new elements (never the points) to the object's Zarr store too.
    overwrite
        Whether elements of the same name in the store may be replaced, also such as came there meanwhile.
    """
    added = {**elements.new, **elements.points}
    before = {key: sdata[key] for key in added if key in sdata}
    committed: list[bool] = []
    try:
        for key, element in added.items():
            put(sdata, key, element)
        if write:
            write_elements(
                sdata.path, elements.new, overwrite=overwrite, committed=lambda: committed.append(True)
            )
            logger.info("Written to %s: %s.", sdata.path, ", ".join(elements.new))
    except BaseException:  # Ctrl-C too
        if committed:
            logger.warning("Interrupted when all was done: %s are in %s.", ", ".join(elements.new), sdata.path)
            raise
        for key in added:
            if key in before:
                if sdata.get(key) is not before[key]:
                    put(sdata, key, before[key])
            elif key in sdata:
                del sdata[key]
        raise


def with_elements(sdata: SpatialData, elements: Elements, *, inplace: bool) -> SpatialData | None:
    """Add elements to an object, or to a new one that shares its elements; return the new one, or None."""
    target = sdata if inplace else shallow_copy(sdata)
    add_elements(target, elements)
    return None if inplace else target
